"""Bad rows are moved again after the mend: all of them once, or none."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from hygge import CsvHome, Flow, Home, JsonlHome, ParquetHome, ParquetStore, SQLStore
from hygge.cli.main import main
from hygge.errors import ConfigError, FlowFailed
from hygge.journal.bad_files import BadFiles, flows_with_bad_rows
from hygge.model import Limits
from hygge.places.place import place_at
from hygge.run.replay import replay
from hygge.run.watch import Silent
from tests.crash.points import numbered

LIMITS = Limits(on_bad_row="set_aside", max_bad_share=1.0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "year=2026").mkdir()
    (tmp_path / "year=2026/in.csv").write_text('id,n\n1,1\n2,"-"\n3,3\n4,4,4\n5,5\n')
    return tmp_path


def flow(folder: Path, store, mode="append", nulls=(), **options: object) -> Flow:
    types = {"id": "int64", "n": "int64"}
    given = {"types": types, "null_values": list(nulls), "quoted_nulls": bool(nulls), **options}
    home = CsvHome(path=folder / "year=*/*.csv", options=given)
    return Flow(
        home, store, name="f", engine="inline", limits=LIMITS, mode=mode, key="id",
        state=folder / "state",
    )  # fmt: skip


def again(of: Flow, run: str):
    return replay(of, run, Silent(), threading.Event())


def ids(folder: Path) -> list[int]:
    with ParquetHome(path=folder / "out").open() as plan:
        home = ParquetHome(path=folder / "out")
        return sorted(n for s in plan.splits for t in home.read(s) for n in t["id"].to_pylist())


def without_the_long_line(folder: Path, run: str) -> None:
    """Only the row with the odd value is left; no option mends the other one."""
    from hygge.bad_rows import as_parquet

    place = place_at(str(folder / "state"))
    rows = BadFiles(place, "f").read(run)
    assert rows.num_rows == 2
    place.put(f"bad/f/{run}.parquet", as_parquet(rows.slice(0, 1)))


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_all_rows_are_moved_after_the_mend_and_once(folder, mode):
    store = ParquetStore(path=folder / "out")
    run = flow(folder, store, mode).run().run
    assert ids(folder) == [1, 3, 5]
    with pytest.raises(FlowFailed, match="year=2026/in.csv, line 5: 3 columns"):
        again(flow(folder, store, mode), run)
    assert ids(folder) == [1, 3, 5]
    without_the_long_line(folder, run)
    for _ in range(2):
        report = again(flow(folder, store, mode, nulls=["-"]), run)
        assert (report.applied, ids(folder)) == (1, [1, 2, 3, 5])
    assert "which is done" in report.note
    assert list(flows_with_bad_rows(place_at(str(folder / "state")))) == []
    ended = flow(folder, store, mode, nulls=["-"]).run()
    expected = [1, 2, 3, 5] if mode == "replace" else [1, 1, 2, 2, 3, 3, 5, 5]
    assert ids(folder) == expected
    assert ended.set_aside == 1


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_a_table_with_newer_rows_is_not_written_over(folder, mode):
    store = SQLStore("t", connection=f"sqlite:///{folder}/s.db", table="t")
    run = flow(folder, store, mode).run().run
    without_the_long_line(folder, run)
    (folder / "year=2026/in.csv").write_text("id,n\n2,22\n")
    flow(folder, store, mode).run()
    with pytest.raises(ConfigError, match="a later run of 'f'.* those of .* would lie over them"):
        again(flow(folder, store, mode, nulls=["-"]), run)


def test_a_merge_takes_them_by_its_key(folder):
    store = SQLStore("t", connection=f"sqlite:///{folder}/s.db", table="t")
    run = flow(folder, store, "merge").run().run
    without_the_long_line(folder, run)
    for _ in range(2):
        again(flow(folder, store, "merge", nulls=["-"]), run)
    with closing(sqlite3.connect(folder / "s.db")) as database:
        rows = database.execute("SELECT id, n, year FROM t ORDER BY id").fetchall()
    assert rows == [(1, 1, 2026), (2, None, 2026), (3, 3, 2026), (5, 5, 2026)]


def test_values_that_a_store_refused_come_back_exactly(tmp_path):
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (id INTEGER, v TEXT NOT NULL, b BLOB)")
    (tmp_path / "in.jsonl").write_text('{"id": 1, "v": "a", "b": "AA=="}\n{"id": 2, "b": "/w=="}\n')
    types = {"id": "int64", "v": "string", "b": "binary"}
    home = JsonlHome(path=tmp_path / "in.jsonl", options={"types": types})
    store = SQLStore("t", connection=f"sqlite:///{path}", table="t")
    given = {"name": "f", "engine": "inline", "limits": LIMITS, "state": tmp_path / "state"}
    moving = Flow(home, store, mode="append", **given)
    run = moving.run().run
    with pytest.raises(FlowFailed):
        again(moving, run)
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE t RENAME TO old")
        database.execute("CREATE TABLE t (id INTEGER, v TEXT, b BLOB)")
        database.execute("INSERT INTO t SELECT * FROM old")
        database.commit()
    assert again(moving, run).applied == 1
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT * FROM t").fetchall() == [
            (1, "a", b"\0"), (2, None, b"\xff"),
        ]  # fmt: skip


def test_the_command_moves_them_and_says_what_is_not_there(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HYGGE_STATE", raising=False)
    text = """
state: state
flows:
  f:
    home: {path: year=*/*.csv, options: {types: {id: int64, n: int64}}}
    store: {path: out, type: parquet}
    on_bad_row: set_aside
    max_bad_share: 100%
"""
    Path("flows.yml").write_text(text)
    assert main(["flows.yml", "--inline"]) == 0
    (run,) = (path.stem for path in Path("state/bad/f").glob("*.parquet"))
    assert main(["bad", "flows.yml", "--replay", "20260101T000000-00000000"]) == 2
    assert "has set rows aside" in capsys.readouterr().err
    assert main(["bad", "flows.yml", "--replay", run]) == 1
    said = capsys.readouterr().err
    assert "year=2026/in.csv, line 5: 3 columns" in said
    assert "has the columns and types of that run" in said
    without_the_long_line(folder, run)
    options = "types: {id: int64, n: int64}, null_values: ['-'], quoted_nulls: true"
    Path("flows.yml").write_text(text.replace("types: {id: int64, n: int64}", options))
    assert main(["bad", "flows.yml", "--replay", run]) == 0
    said = capsys.readouterr().out
    assert "1 row read = staged = applied" in said
    assert "each run adds" not in said
    assert ids(folder) == [1, 2, 3, 5]
    assert main(["bad", "flows.yml"]) == 0
    assert "no row is set aside" in capsys.readouterr().out


def test_a_replay_that_is_killed_anywhere_moves_each_row_once(folder):
    store = ParquetStore(path=folder / "out")
    run = flow(folder, store).run().run
    without_the_long_line(folder, run)
    step = 1 if os.environ.get("HYGGE_CRASH") == "all" else 9
    at, died = 3, True
    while died:
        child = os.fork()
        if child == 0:
            try:
                numbered({str(at): "kill"}, lambda _: None)
                again(flow(folder, store, nulls=["-"]), run)
            finally:
                os._exit(0)
        died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert ids(folder) in ([1, 3, 5], [1, 2, 3, 5])
        at += step
    again(flow(folder, store, nulls=["-"]), run)
    assert ids(folder) == [1, 2, 3, 5]


def test_a_home_that_has_no_lines_says_so():
    with pytest.raises(Exception, match="does not read rows again"):
        list(Simple().read_bad(pa.table({})))


class Simple(Home):
    async def read_batches(self):
        yield pa.table({"a": [1]})


def test_rows_take_the_shape_of_the_flow_before_and_after(tmp_path):
    """A line that does not parse, and a value that the stated type of the shape does not hold."""
    (tmp_path / "in.csv").write_text("id,n,k\n1,1,a\n2,-,b\n3,300,c\n4,4,d\n")

    def shaped(kind: str, nulls: list[str]) -> Flow:
        options = {"types": {"id": "int64", "n": "int64"}, "null_values": nulls}
        home = CsvHome(path=tmp_path / "in.csv", options=options)
        columns = ["id", {"name": "n", "as": "count", "type": kind}, {"name": "n", "as": "n"}]
        return Flow(
            home, ParquetStore(path=tmp_path / "out"), name="f", engine="inline", mode="append",
            limits=LIMITS, state=tmp_path / "state", shape={"columns": columns},
        )  # fmt: skip

    report = shaped("int8", []).run()
    assert (report.applied, report.set_aside, ids(tmp_path)) == (2, 2, [1, 4])
    place = place_at(str(tmp_path / "state"))
    reasons = sorted(BadFiles(place, "f").read(report.run)["reason"].to_pylist())
    assert "300" in reasons[0]
    assert reasons[1] == "column 'n': '-' is no int64"
    with pytest.raises(FlowFailed):
        again(shaped("int8", ["-"]), report.run)
    rows = BadFiles(place, "f").read(report.run)
    kept = rows.filter(pa.array(["csv" in form for form in rows["form"].to_pylist()]))
    assert kept.num_rows == 1
    from hygge.bad_rows import as_parquet

    place.put(f"bad/f/{report.run}.parquet", as_parquet(kept))
    again(shaped("int8", ["-"]), report.run)
    assert ids(tmp_path) == [1, 2, 4]
