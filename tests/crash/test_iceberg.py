"""A driver dies at any step of a run into an Iceberg table."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chaos import only_in_chaos
from tests.connectors.iceberg import lakes
from tests.crash.side_by_side import run_each
from tests.servers import s3

LEAST = {"append": 14, "replace": 14, "merge": 14}


def _killed(folder: Path, *scenarios: tuple[str, ...]) -> list[dict]:
    runs = [(folder / mode, mode, *twin) for mode, *twin in scenarios]
    return [json.loads(said) for said in run_each("tests.crash.iceberg_points", runs)]


def test_no_row_is_lost_or_doubled_wherever_the_driver_is_killed(tmp_path: Path) -> None:
    found = _killed(tmp_path, *[(mode,) for mode in LEAST])
    assert [each["wrong"] for each in found] == [[]] * len(LEAST)
    for each, least in zip(found, LEAST.values(), strict=True):
        assert each["points"] >= least


@only_in_chaos
def test_so_it_is_where_the_files_lie_in_an_object_store(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(lakes.OBJECTS, s3.started())
    test_no_row_is_lost_or_doubled_wherever_the_driver_is_killed(tmp_path)


@only_in_chaos  # the conformance suite has a head that does not move
def test_a_head_that_does_not_move_is_caught(tmp_path: Path) -> None:
    (found,) = _killed(tmp_path, ("append", "head apart"))
    assert found["wrong"]
