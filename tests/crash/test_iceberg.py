"""A driver dies at any step of a run into an Iceberg table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import only_in_chaos
from tests.waiting import said_by

LEAST = {"append": 14, "replace": 14, "merge": 14}


def _killed(folder: Path, mode: str, *twin: str) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.crash.iceberg_points", str(folder), mode, *twin]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = said_by(program)
    assert program.returncode == 0, said
    return json.loads(said[0])


@pytest.mark.parametrize("mode", LEAST)
def test_no_row_is_lost_or_doubled_wherever_the_driver_is_killed(mode: str, tmp_path: Path) -> None:
    found = _killed(tmp_path, mode)
    assert found["wrong"] == []
    assert found["points"] >= LEAST[mode]


@only_in_chaos  # the conformance suite has a head that does not move
def test_a_head_that_does_not_move_is_caught(tmp_path: Path) -> None:
    assert _killed(tmp_path, "append", "head apart")["wrong"]
