"""Changes (`_op`) from every kind of home into SQLite: what is applied, and what is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge import Flow, ParquetStore, SQLHome
from hygge.coordinator.preview import preview
from hygge.coordinator.verify import verify_flow
from hygge.errors import ConfigError, FlowFailed
from hygge.home import Home
from hygge.model import HomeTraits, Limits
from hygge.run.replay import replay
from hygge.run.watch import Silent
from tests.changes.moving import AFTER, CHANGES, SCHEMA, ask, flow, home_of, sqlite_store, write

ASIDE = Limits(on_bad_row="set_aside", max_bad_share=1.0)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "jsonl", "sqlite"])
def test_changes_of_every_home_are_applied_in_their_order(kind, tmp_path):
    moving = flow(home_of(kind, tmp_path), sqlite_store(tmp_path), tmp_path)
    report = moving.run()
    assert ask(tmp_path) == AFTER
    assert ask(tmp_path, "SELECT name FROM pragma_table_info('t')") == [("seq",), ("id",), ("v",)]
    assert (report.rows, report.applied, report.superseded) == (8, 4, 4)
    assert "changes: 2 inserted or updated, 2 deleted" in report.note


@pytest.mark.usefixtures("ray_here")
def test_lanes_of_ray_keep_the_order(tmp_path):
    store = sqlite_store(tmp_path)
    assert flow(home_of("parquet", tmp_path), store, tmp_path, engine="ray").run().splits == 4
    assert ask(tmp_path) == AFTER


def test_a_table_that_follows_its_rows_follows_changes(tmp_path):
    ask(tmp_path, "CREATE TABLE t (seq INTEGER, id INTEGER NOT NULL)")
    ask(tmp_path, "INSERT INTO t VALUES (0, 2)")
    report = flow(
        home_of("parquet", tmp_path), sqlite_store(tmp_path, schema="evolve"), tmp_path
    ).run()
    assert ask(tmp_path) == AFTER
    assert [change for change in report.changes if "_op" in change] == []


def test_later_changes_are_applied_to_what_is_there(tmp_path):
    home = home_of("jsonl", tmp_path)
    flow(home, sqlite_store(tmp_path), tmp_path).run()
    more = [(9, "delete", 1, None), (10, "update", 3, "c3"), (11, "insert", 4, "d")]
    write("jsonl", tmp_path / "changes.jsonl" / "9.jsonl", more)
    flow(home, sqlite_store(tmp_path), tmp_path).run()
    assert ask(tmp_path) == [(3, "c3"), (4, "d")]


def test_a_cursor_reads_new_changes_alone(tmp_path):
    home = home_of("sqlite", tmp_path)
    flow(home, sqlite_store(tmp_path), tmp_path).run()
    (tmp_path / "changes.sqlite").unlink()
    home_of("sqlite", tmp_path, [*CHANGES, (9, "delete", 1, None)])
    report = flow(home, sqlite_store(tmp_path), tmp_path).run()
    assert ask(tmp_path) == [(3, "again")]
    assert report.rows == 2  # the one at the watermark is read again


def test_two_changes_of_a_key_with_one_cursor_are_refused(tmp_path):
    home = home_of("sqlite", tmp_path, [(1, "insert", 1, "a"), (1, "delete", 1, None)])
    with pytest.raises(FlowFailed, match="nobody can tell which change of a key is the last") as e:
        flow(home, sqlite_store(tmp_path), tmp_path).run()
    assert "another one in each change" in (e.value.hint or "")


def test_rows_that_have_no_order_are_refused():
    for more in ({"table": "c"}, {"query": "SELECT 1", "split_by": "id"}):
        with pytest.raises(ConfigError, match="have no order"):
            SQLHome("c", connection="sqlite:///x.db", changes=True, **more)


def test_a_query_may_say_the_order(tmp_path):
    home_of("sqlite", tmp_path)
    url, query = f"sqlite:///{tmp_path}/changes.sqlite", "SELECT * FROM c ORDER BY seq"
    home = SQLHome("c", connection=url, query=query, changes=True)
    flow(home, sqlite_store(tmp_path), tmp_path).run()
    assert ask(tmp_path) == AFTER


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((9, "upsert", 7, "x"), "'_op' is 'upsert' in the row of the key id 7 (seq 9, v 'x')"),
        ((9, None, 7, "x"), "'_op' is NULL in the row of the key id 7"),
        ((9, "Delete", 7, None), "'_op' is 'Delete'"),
        ((9, "update", None, "x"), "the key 'id' is NULL in the row of the key id NULL (seq 9"),
    ],
)
def test_a_row_that_is_no_change_fails_the_run_or_is_set_aside(row, said, tmp_path):
    home = home_of("jsonl", tmp_path, [*CHANGES, row])
    with pytest.raises(FlowFailed) as caught:
        flow(home, sqlite_store(tmp_path), tmp_path).run()
    assert said in str(caught.value)
    moving = flow(home, sqlite_store(tmp_path), tmp_path, limits=ASIDE)
    report = moving.run()
    assert (report.set_aside, report.applied) == (1, 4)
    assert ask(tmp_path) == AFTER
    with pytest.raises(ConfigError, match="an older one must not lie over it"):
        replay(moving, report.run, Silent(), None)


def test_a_rule_of_the_table_is_not_asked_of_a_delete(tmp_path):
    ask(tmp_path, "CREATE TABLE t (seq, id INTEGER, v TEXT NOT NULL CHECK (length(v) < 6))")
    ask(tmp_path, "INSERT INTO t VALUES (0, 2, 'old')")
    rows = [*CHANGES, (9, "insert", 5, "too long"), (10, "insert", 6, None)]
    home = home_of("parquet", tmp_path, rows)
    report = flow(home, sqlite_store(tmp_path), tmp_path, limits=ASIDE).run()
    assert ask(tmp_path) == AFTER
    assert report.set_aside == 2
    assert "a change that the table refuses in the commit is not set aside" in report.note
    assert "moves them again" not in report.note


def test_a_column_op_of_the_target_is_left_alone(tmp_path):
    ask(tmp_path, "CREATE TABLE t (seq INTEGER, id INTEGER, v TEXT, _op INTEGER DEFAULT 5)")
    flow(home_of("parquet", tmp_path), sqlite_store(tmp_path), tmp_path).run()
    assert ask(tmp_path, "SELECT id, _op FROM t ORDER BY id") == [(1, 5), (3, 5)]


def test_without_changes_op_is_a_column_like_any_other(tmp_path):
    home = home_of("parquet", tmp_path, CHANGES[:3], changes=False)
    flow(home, sqlite_store(tmp_path), tmp_path).run()
    assert ask(tmp_path, "SELECT _op FROM t") == [("insert",)] * 3


def test_a_trigger_that_keeps_rows_is_refused(tmp_path):
    flow(home_of("parquet", tmp_path), sqlite_store(tmp_path), tmp_path).run()
    ask(
        tmp_path,
        "CREATE TRIGGER kept BEFORE DELETE ON t BEGIN SELECT RAISE(IGNORE); END",
    )
    home = home_of("jsonl", tmp_path, [(9, "delete", 1, None)])
    with pytest.raises(FlowFailed, match="let go of 0 of 1 rows"):
        flow(home, sqlite_store(tmp_path), tmp_path).run()
    assert ask(tmp_path) == AFTER


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_other_modes_and_stores_are_refused_before_anything(mode, tmp_path):
    home = home_of("parquet", tmp_path)
    with pytest.raises(ConfigError, match=f"`mode: {mode}` cannot apply") as caught:
        flow(home, sqlite_store(tmp_path), tmp_path, mode=mode)
    assert "mode: merge" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match="ParquetStore cannot apply"):
        Flow(home, ParquetStore(path=tmp_path / "out"), mode=mode)


def test_op_must_be_a_text_that_comes_out(tmp_path):
    home = home_of("parquet", tmp_path)
    for shape, said in (
        ({"exclude": ["_op"]}, "they have no column '_op'"),
        ({"columns": ["id", {"name": "seq", "as": "_op"}]}, "'_op' is int64"),
        ({"mask": {"_op": "null"}}, "'_op' is masked"),
    ):
        with pytest.raises(FlowFailed, match=said):
            flow(home, sqlite_store(tmp_path), tmp_path, shape=shape).run()
    with pytest.raises(FlowFailed, match="neither its key nor its cursor"):
        flow(home, sqlite_store(tmp_path), tmp_path, key="_op").run()


def test_columns_are_renamed_and_masked_as_ever(tmp_path, monkeypatch):
    monkeypatch.setenv("HYGGE_MASK_KEY", "k" * 32)
    columns = ["_op", {"name": "id", "as": "n"}, {"name": "v", "as": "w"}]
    shape = {"columns": columns, "mask": {"n": "hash", "w": "null"}}
    flow(home_of("parquet", tmp_path), sqlite_store(tmp_path), tmp_path, shape=shape).run()
    rows = ask(tmp_path, "SELECT n, w FROM t")
    assert len({n for n, _ in rows}) == 2
    assert {w for _, w in rows} == {None}


class OwnHome(Home):
    """A simple Home, whose rows show their columns."""

    traits = HomeTraits(changes=True)

    async def read_batches(self):
        dicts = [dict(zip(SCHEMA.names, row, strict=True)) for row in CHANGES]
        yield pa.Table.from_pylist(dicts[:5], SCHEMA)
        yield pa.Table.from_pylist(dicts[5:], SCHEMA)


def test_a_home_of_your_own_says_so_in_its_traits(tmp_path):
    flow(OwnHome("own"), sqlite_store(tmp_path), tmp_path).run()
    assert ask(tmp_path) == AFTER


def test_preview_shows_op_and_verify_compares_nothing(tmp_path):
    moving = flow(home_of("parquet", tmp_path), sqlite_store(tmp_path), tmp_path)
    shown = preview(moving, 3, print)
    assert shown.rows.column("_op").to_pylist() == ["insert"] * 3
    moving.run()
    verdict = verify_flow(moving)
    assert verdict.status == "not compared"
    assert "gives changes" in verdict.notes[0]
