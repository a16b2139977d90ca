"""Flows that set bad rows aside: counts, places, limits, and deaths."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hygge import CsvHome, Flow, ParquetStore
from hygge.bad_rows import SCHEMA
from hygge.cli.main import main
from hygge.errors import FlowFailed
from hygge.journal.bad_files import BadFiles
from hygge.model import Limits
from hygge.places.place import place_at
from tests.crash.points import numbered

FLOWS = """
flows:
  people:
    home: {path: in/*.csv, options: {types: {id: int64, n: int64}, split_bytes: 1}}
    store: out
    on_bad_row: set_aside
    max_bad_share: 50%
"""
ROWS = 8


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four files of which each is a split; in the second and the third one row is bad."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYGGE_STATE", raising=False)
    Path("in").mkdir()
    for number in range(4):
        second = "many" if number in (1, 2) else number
        rows = f"{number * 10},{number}\n{number * 10 + 1},{second}\n"
        Path(f"in/f{number}.csv").write_text(f"id,n\n{rows}")
    Path("flows.yml").write_text(FLOWS)
    return tmp_path


def flow(folder: Path, **limits: object) -> Flow:
    options = {"types": {"id": "int64", "n": "int64"}, "split_bytes": 1}
    given = {"on_bad_row": "set_aside", "max_bad_share": 0.5, **limits}
    home = CsvHome(path=folder / "in/*.csv", options=options)
    store, state = ParquetStore(path=folder / "out"), folder / ".hygge"
    return Flow(home, store, name="people", engine="inline", limits=Limits(**given), state=state)


def moved(folder: Path) -> list[int]:
    return sorted(
        n for path in folder.glob("out/*.parquet") for n in pq.read_table(path)["id"].to_pylist()
    )


def set_aside(folder: Path) -> list[int]:
    """The ids of the bad rows of all committed runs."""
    files = (folder / ".hygge/bad/people").glob("*.parquet")
    return sorted(
        int(raw.split(b",")[0]) for path in files for raw in pq.read_table(path)["raw"].to_pylist()
    )


def test_a_row_read_is_applied_or_set_aside_and_the_report_says_where(folder, capsys):
    assert main(["flows.yml", "--inline"]) == 0
    said = capsys.readouterr().out
    assert "8 rows read = 6 applied + 2 set aside" in said
    assert "`hygge bad` lists them, and moves them again" in said
    assert (moved(folder), set_aside(folder)) == ([0, 1, 10, 20, 30, 31], [11, 21])
    (path,) = (folder / ".hygge/bad/people").iterdir()
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    row = table.to_pylist()[0]
    assert (row["flow"], row["run"]) == ("people", path.stem)
    assert (row["column"], row["value"], row["line"], row["text"]) == ("n", "many", 3, "11,many")
    assert row["reason"] == "column 'n': 'many' is no int64"


def test_hygge_bad_lists_them_as_a_table_and_as_json(folder, capsys):
    assert main(["bad", "flows.yml"]) == 0
    assert "no row is set aside" in capsys.readouterr().out
    main(["flows.yml", "--inline"])
    capsys.readouterr()
    assert main(["bad", "flows.yml"]) == 0
    said = capsys.readouterr().out
    assert "people" in said
    assert "in/f1.csv" in said
    assert "3     n       many   column 'n': 'many' is no int64" in said
    assert main(["bad", "flows.yml", "--json", "--select", "people"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["11,many", "21,many"]


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"max_bad_rows": 1}, r"2 rows cannot be moved, which is more than max_bad_rows: 1"),
        ({"max_bad_rows": 0}, r"1 row cannot be moved, which is more than max_bad_rows: 0"),
        ({"max_bad_share": 0.2}, r"2 rows of 8 cannot be moved.*max_bad_share: 20% allows"),
        ({"on_bad_row": "fail"}, r"line 3, column 'n': 'many' is no int64"),
    ],
)
def test_above_the_limit_of_the_whole_run_it_fails_and_nothing_is_visible(folder, limits, why):
    with pytest.raises(FlowFailed, match=why):
        flow(folder, **limits).run()
    assert (moved(folder), set_aside(folder)) == ([], [])
    assert not [*folder.glob(".hygge/bad/people/*/*")]  # of an abandoned run nothing is left
    report = flow(folder).run()
    assert (report.rows_read, report.applied, report.set_aside) == (ROWS, 6, 2)


def test_what_was_set_aside_does_not_count_for_a_flow_that_now_fails_on_it(folder):
    stopped = flow(folder)
    stopped.home.read = broken_at(stopped.home.read, 3)
    with pytest.raises(FlowFailed, match="broken"):
        stopped.run()
    with pytest.raises(FlowFailed, match="'many' is no int64"):
        flow(folder, on_bad_row="fail").run()
    assert moved(folder) == []


def test_a_resumed_run_keeps_the_bad_rows_of_its_splits_unless_their_file_is_gone(folder):
    for is_lost in (False, True):
        stopped = flow(folder)
        stopped.home.read = broken_at(stopped.home.read, 3)
        with pytest.raises(FlowFailed, match="broken"):
            stopped.run()
        assert moved(folder) == []
        staged = sorted((folder / ".hygge/bad/people").glob("*/*.parquet"))
        assert len(staged) == 2
        if is_lost:
            staged[0].unlink()
        report = flow(folder).run()
        assert (report.resumed, report.applied, report.set_aside) == (3 - is_lost, 6, 2)
        bad = BadFiles(place_at(str(folder / ".hygge")), "people").read(report.run)
        assert sorted(bad["text"].to_pylist()) == ["11,many", "21,many"]
        for path in folder.glob("out/*.parquet"):
            path.unlink()


def broken_at(read, index: int):
    def reading(split):
        if split.index == index:
            raise OSError("broken")
        yield from read(split)

    return reading


def test_killed_anywhere_no_bad_row_is_lost_and_none_comes_twice(folder):
    count = forked(folder, {})
    assert count > 60
    assert (moved(folder), set_aside(folder)) == ([0, 1, 10, 20, 30, 31], [11, 21])
    step = 1 if os.environ.get("HYGGE_CRASH") == "all" else count // 10
    # The first run makes folders and so on: later ones have fewer points, and the last outlives.
    for point in itertools.count(3, step):
        ended = forked(folder, {str(point): "kill"})
        report = flow(folder).run()
        assert report.rows_read == ROWS, point
        bad = BadFiles(place_at(str(folder / ".hygge")), "people").read(report.run)
        texts = sorted(bad["text"].to_pylist())
        assert (moved(folder), texts) == ([0, 1, 10, 20, 30, 31], ["11,many", "21,many"]), point
        if ended is not None:
            assert 60 < ended <= point
            break


def test_lanes_on_ray_count_for_one_limit_and_the_driver_writes_what_they_set_aside(
    folder, ray_here
):
    on_ray = flow(folder, lanes=2, cpus_per_lane=0.5)
    on_ray.engine = "ray"
    report = on_ray.run()
    assert (report.rows_read, report.applied, report.set_aside) == (ROWS, 6, 2)
    assert (moved(folder), set_aside(folder)) == ([0, 1, 10, 20, 30, 31], [11, 21])
    too_many = flow(folder, lanes=2, cpus_per_lane=0.5, max_bad_rows=1)
    too_many.engine = "ray"
    with pytest.raises(FlowFailed, match="2 rows cannot be moved"):
        too_many.run()
    assert set_aside(folder) == [11, 21]


def forked(folder: Path, at: dict[str, str], run=None) -> int | None:
    """Run the flow in a child that dies at these points; its count of points, None if it died."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            points = numbered(at, lambda _: None)
            (run or flow(folder).run)()
            (folder / "points").write_text(str(points()))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    assert os.waitstatus_to_exitcode(status) == 0
    return int((folder / "points").read_text())
