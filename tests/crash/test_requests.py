"""A command of many flows dies at any point: the same command adds no row twice, and skips none."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.chaos import only_in_chaos
from tests.crash.points import ALL
from tests.waiting import said_by

PARTS = 8 if ALL else 1
"""Of all points: each part is a program, which has a limit of time."""
STEP = 8 if ALL else 193


def killed(folder, first=0, *twin):
    """Run the program of `request_points.py`; return its result."""
    command = [sys.executable, "-m", "tests.crash.request_points", str(folder)]
    command += [str(first), str(STEP), *twin]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = said_by(program)
    assert program.returncode == 0, said
    return json.loads(said[0])


@pytest.mark.parametrize("first", range(PARTS))
def test_no_kill_point_of_a_command_doubles_or_skips(tmp_path, first):
    result = killed(tmp_path, first)
    assert result["wrong"] == []
    assert result["points"] >= 200


@only_in_chaos  # the points that bite are those of the test above
@pytest.mark.parametrize("twin", ["forgets", "never done"])
def test_a_broken_twin_is_caught(tmp_path, twin):
    assert killed(tmp_path, 0, twin)["wrong"]
