"""A flow around its move: what it refuses, how a commit is retried, and what the report says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowStore, ConfigError, Flow, FlowFailed, Home, ParquetHome, SQLHome, SQLStore
from hygge.engine.inline import InlineEngine
from hygge.errors import Rejected, Transient, Unknown
from hygge.model import Limits
from tests.engine.ends import Counted


def stored(path: Path) -> int:
    import pyarrow.dataset as ds

    return ds.dataset(path, format="arrow").count_rows()


def run(home, store, **more):
    return Flow(home, store, name=more.pop("name", "f"), engine="inline", **more).run()


class Stumbling(ArrowStore):
    """Its first commit ends as told; the rows may have moved before."""

    class Settings(ArrowStore.Settings):
        ending: str = ""
        moved: bool = False

    tries = 0

    def commit(self, run, base, receipts, watermark):
        self.tries += 1
        if self.tries > 1:
            return super().commit(run, base, receipts, watermark)
        if self.settings.moved:
            super().commit(run, base, receipts, watermark)
        raise {"unknown": Unknown, "transient": Transient, "rejected": Rejected}[
            self.settings.ending
        ]("the line was cut")


@pytest.mark.parametrize("ending", ["unknown", "transient"])
@pytest.mark.parametrize("moved", [True, False])
def test_a_commit_that_stumbles_is_settled_and_appends_once(tmp_path, ending, moved):
    store = Stumbling(path=tmp_path / "out", ending=ending, moved=moved)
    report = run(Counted(), store, mode="append")
    assert report.status == "done"
    assert stored(tmp_path / "out") == report.rows == 400
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_rejected_commit_is_not_tried_again(tmp_path):
    store = Stumbling(path=tmp_path / "out", ending="rejected")
    with pytest.raises(FlowFailed, match="the line was cut"):
        run(Counted(), store)
    assert store.tries == 1
    assert not (tmp_path / "out").exists()


class CannotTidy(ArrowStore):
    def discard(self, run):
        raise OSError("no right to remove")


def test_what_fails_after_the_commit_is_a_note_and_not_a_failure(tmp_path):
    report = run(Counted(), CannotTidy(path=tmp_path / "out"), mode="append")
    assert report.status == "done"
    assert "committed, and then: OSError: no right to remove" in report.note


class Wrong(ArrowStore):
    """Takes only some of its rows, in one way or another."""

    class Settings(ArrowStore.Settings):
        how: str

    def stage(self, ticket, schema, batches):
        if self.settings.how == "stops early":
            return super().stage(ticket, schema, iter([next(batches)]))
        if self.settings.how == "drops rows":
            return super().stage(ticket, schema, (batch.slice(1) for batch in batches))
        receipt = super().stage(ticket, schema, batches)
        return replace(receipt, rows=receipt.rows + 1)


@pytest.mark.parametrize("how", ["stops early", "drops rows", "counts wrong"])
def test_a_store_that_does_not_take_every_row_fails_before_anything_is_visible(tmp_path, how):
    with pytest.raises(FlowFailed, match="sealed split|was handed"):
        run(Counted(), Wrong(path=tmp_path / "out", how=how))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def table(tmp_path):
    with closing(sqlite3.connect(tmp_path / "s.db")) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, seq INTEGER)")
        db.executemany("INSERT INTO t VALUES (?, ?)", [(n, n % 3) for n in range(1, 6)])
        db.commit()
    return {"table": "t", "connection": f"sqlite:///{tmp_path}/s.db"}


def test_an_append_by_cursor_reads_what_is_new(table, tmp_path):
    for rows in (5, 0):
        report = run(SQLHome(**table, cursor="id"), ArrowStore(path=tmp_path / "o"), mode="append")
        assert report.rows == rows
    assert stored(tmp_path / "o") == 5


def test_a_cursor_that_changes_between_runs_is_refused_before_rows_come_twice(table, tmp_path):
    store = ArrowStore(path=tmp_path / "out")
    run(SQLHome(**table, cursor="id"), store, mode="append")
    for home in (SQLHome(**table, cursor="seq"), SQLHome(**table)):
        with pytest.raises(FlowFailed, match="the watermark of 'id'.*rows would come twice"):
            run(home, store, mode="append")
    assert stored(tmp_path / "out") == 5


def test_a_cursor_over_rows_that_came_without_one_is_refused(table, tmp_path):
    store = ArrowStore(path=tmp_path / "out")
    run(SQLHome(**table), store)
    with pytest.raises(FlowFailed, match="rows without a watermark"):
        run(SQLHome(**table, cursor="id"), store, mode="append")
    assert stored(tmp_path / "out") == 5


def test_a_cursor_needs_a_name_to_keep_its_watermark_under(table):
    with pytest.raises(ConfigError, match="no name of its own"):
        Flow(SQLHome(**table, cursor="id"), ArrowStore(path="x"), mode="append")


def test_a_store_in_its_home_is_refused(tmp_path):
    pq.write_table(pa.table({"n": [1]}), tmp_path / "n.parquet")
    from hygge import ParquetStore

    for path in (tmp_path, f"{tmp_path}/**/*.parquet"):
        with pytest.raises(ConfigError, match="inside the home"):
            Flow(ParquetHome(path=path), ParquetStore(path=tmp_path / "copy"))
    Flow(ParquetHome(path=tmp_path), ArrowStore(path=tmp_path / "copy"))  # read by nobody


def test_a_named_index_of_pandas_is_a_column(tmp_path):
    class Indexed(Home):
        async def read_batches(self):
            yield pd.DataFrame({"v": [1, 2]}, index=pd.Index([7, 8], name="k"))

    run(Indexed(), ArrowStore(path=tmp_path / "out"))
    import pyarrow.dataset as ds

    table = ds.dataset(tmp_path / "out", format="arrow").to_table()
    assert table.to_pydict() == {"v": [1, 2], "k": [7, 8]}


def test_flows_take_their_names_from_their_ends(table, tmp_path):
    flow = Flow(SQLHome(**table), ParquetHomeless(path=tmp_path / "lake" / "users"))
    assert flow.name == "t_to_users"


class ParquetHomeless(ArrowStore):
    pass


def test_merge_over_another_cursor_reads_everything_again(table, tmp_path):
    store = SQLStore("t", connection=f"sqlite:///{tmp_path}/out.db")
    for cursor in ("id", "seq", None):
        home = SQLHome(**table, cursor=cursor)
        report = run(home, store, mode="merge", key=["id"], limits=Limits(lanes=1))
        assert report.rows == 5


def test_a_metric_that_cannot_be_counted_does_not_undo_a_commit(tmp_path):
    class Uncounted(InlineEngine):
        def record_commit(self, home, store, seconds):
            raise ConnectionError("Ray has ended")

    flow = Flow(Counted(), ArrowStore(path=tmp_path / "out"), name="f", engine=Uncounted())
    assert flow.run().status == "done"
    assert stored(tmp_path / "out") == 400
