"""A driver dies at any step of a run into an Iceberg table; rivals race for one table."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from hygge.errors import Superseded, Transient
from hygge.testing.staging import FLOW, Staged, stage_run, tagged_rows
from hygge.testing.values import difference
from tests.chaos import only_in_chaos
from tests.connectors.iceberg import lakes
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


def _raced(runs: list[Staged]) -> list[int]:
    """Commit all at the same moment; return which of them won."""
    together = threading.Barrier(len(runs))

    def commit(at: int) -> int | None:
        together.wait()
        try:
            runs[at].commit()
        except (Superseded, Transient):
            return None
        return at

    with ThreadPoolExecutor(len(runs)) as pool:
        return [at for at in pool.map(commit, range(len(runs))) if at is not None]


def test_of_rivals_one_wins_and_of_flows_all(tmp_path: Path) -> None:
    """First creators of a table, then rivals of one flow, then three flows; each in a race."""
    store = lakes.store(tmp_path)
    expected = []
    for number in range(3):
        rivals = [
            stage_run(lakes.store(tmp_path), tagged_rows(f"r{at}", 1000 * number), mode="append")
            for at in range(3)
        ]
        won = _raced(rivals)
        assert len(won) == 1, f"round {number}: {won} committed over the same head"
        head = store.head(FLOW)
        assert head is not None
        assert head.run == rivals[won[0]].run.id
        expected.append(tagged_rows(f"r{won[0]}", 1000 * number))
    flows = []
    for at in range(3):
        staged = stage_run(
            lakes.store(tmp_path), tagged_rows("f", 10_000 + 100 * at), mode="append"
        )
        flows.append(replace(staged, run=replace(staged.run, flow=f"flow {at}"), base=None))
        expected.append(tagged_rows("f", 10_000 + 100 * at))
    assert _raced(flows) == [0, 1, 2]
    assert difference(lakes.rows(tmp_path), pa.concat_tables(expected)) is None
