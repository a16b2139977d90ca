"""A driver is killed before each of its calls: readers see old or new, the next run mends it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from crash_points import SCENARIOS

SCRIPT = Path(__file__).parent / "crash_points.py"
# A run makes at least this many calls that change something; fewer means that none were seen.
LEAST = 10


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_row_is_lost_or_doubled_whenever_the_driver_is_killed(scenario, tmp_path):
    outcome = killed_everywhere(scenario, tmp_path)
    assert outcome["wrong"] == []
    assert outcome["points"] >= LEAST


def test_a_publisher_in_two_steps_is_caught(tmp_path):
    outcome = killed_everywhere("directory replace", tmp_path, "in two steps")
    assert any("a reader saw" in each for each in outcome["wrong"])


def killed_everywhere(*arguments: object) -> dict:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
