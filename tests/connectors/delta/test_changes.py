"""The change data feed of one Delta table keeps another one, or a database, the same."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from hygge import ConfigError, DeltaHome, DeltaStore, Flow
from hygge.changes import marked
from hygge.errors import HomeError, Rejected
from hygge.model import Limits, Report, Run, Ticket
from hygge.testing.values import difference
from tests.connectors.delta.staged import by_id, ids, read, staged

FEED = {"delta.enableChangeDataFeed": "true"}


def rows(*pairs: tuple[int, str]) -> pa.Table:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("v", pa.string())])
    return pa.table({"id": [n for n, _ in pairs], "v": [v for _, v in pairs]}, schema)


def test_a_copy_follows_inserts_updates_deletes_and_replaces(tmp_path):
    source, copy = str(tmp_path / "source"), DeltaStore(path=tmp_path / "copy")
    write_deltalake(source, rows(*((n, "a") for n in range(6))), configuration=FEED)

    def moved() -> int:
        home = DeltaHome(path=source, changes=True)
        flow = Flow(home, copy, name="f", mode="merge", key=["id"], engine="inline",
                    state=tmp_path / "state")  # fmt: skip
        report = flow.run()
        whole = pa.table(DeltaTable(source).scan().read_all())
        assert difference(read(copy), whole) is None
        return report.rows

    assert moved() == 6
    assert moved() == 0
    DeltaTable(source).delete("id = 1")
    DeltaTable(source).update({"v": "'b'"}, predicate="id = 2")
    DeltaTable(source).update({"id": "30"}, predicate="id = 3")
    write_deltalake(source, rows((1, "again"), (7, "new")), mode="append")
    DeltaTable(source).delete("id = 7")
    DeltaTable(source).optimize.compact()
    assert moved() == 1 + 2 + 2 + 2 + 1
    write_deltalake(source, rows((2, "z"), (8, "y")), mode="overwrite")
    assert moved() == 6 + 2
    table = DeltaTable(source)
    assert copy.head("f").watermark == f"{table.version()}:{table.metadata().id}"
    assert read(copy).schema.field("id").nullable is False


def test_rows_that_leave_a_condition_are_deleted(tmp_path):
    source, copy = str(tmp_path / "source"), DeltaStore(path=tmp_path / "copy")
    write_deltalake(source, rows((1, "in"), (2, "in"), (3, "out")), configuration=FEED)
    for _ in range(2):
        home = DeltaHome(path=source, changes=True)
        Flow(home, copy, name="f", mode="merge", key=["id"], engine="inline",
             state=tmp_path / "state", shape={"where": "v = 'in'"}).run()  # fmt: skip
        expected = pa.table(DeltaTable(source).scan().read_all()).to_pylist()
        assert sorted(row["id"] for row in read(copy).to_pylist()) == [
            row["id"] for row in sorted(expected, key=lambda row: row["id"]) if row["v"] == "in"
        ]
        DeltaTable(source).update({"v": "'out'"}, predicate="id = 1")
        DeltaTable(source).update({"v": "'in'"}, predicate="id = 3")


def test_columns_of_any_name_are_followed(tmp_path):
    source, copy = str(tmp_path / "source"), DeltaStore(path=tmp_path / "copy")
    names = ["ID", "a b", "a.b", 'q"x', "A`t", "select", "ü", "_Op"]
    before, after = (pa.table({name: [at, 5] for name in names}) for at in (1, 2))
    write_deltalake(source, before, configuration=FEED)
    for _ in range(2):
        home = DeltaHome(path=source, changes=True)
        Flow(home, copy, name="f", mode="merge", key=["ID"], engine="inline",
             state=tmp_path / "state").run()  # fmt: skip
        assert difference(read(copy), pa.table(DeltaTable(source).scan().read_all())) is None
        write_deltalake(source, after, mode="overwrite")


def test_changes_are_masked_and_named_and_bring_new_columns(tmp_path):
    source = str(tmp_path / "source")
    copy = DeltaStore(path=tmp_path / "copy", options={"schema": "evolve"})
    write_deltalake(source, rows((1, "a@x"), (2, "b@x"), (3, "c@x")), configuration=FEED)
    shape = {"mask": {"v": {"keep_last": 2}}, "add": {"shop": "'north'"}, "names": "snake"}

    def moved() -> Report:
        home = DeltaHome(path=source, changes=True)
        return Flow(home, copy, name="f", mode="merge", key=["id"], engine="inline",
                    state=tmp_path / "state", shape=shape).run()  # fmt: skip

    moved()
    shop = {"shop": "north"}
    assert by_id(copy) == {n: {"v": "*@x", **shop} for n in (1, 2, 3)}
    more = rows((4, "d@x")).append_column("MoreOf", pa.array(["new"]))
    write_deltalake(source, more, mode="append", schema_mode="merge")
    DeltaTable(source).delete("id = 1")
    DeltaTable(source).update({"MoreOf": "'up'"}, predicate="id = 2")
    report = moved()
    assert "changes: 2 inserted or updated, 1 deleted" in report.note
    assert by_id(copy) == {
        2: {"v": "*@x", **shop, "more_of": "up"},
        3: {"v": "*@x", **shop, "more_of": None},
        4: {"v": "*@x", **shop, "more_of": "new"},
    }


def test_an_update_that_is_set_aside_takes_the_row_that_it_updates(tmp_path):
    source, copy = str(tmp_path / "source"), DeltaStore(path=tmp_path / "copy")
    write_deltalake(source, rows((1, "a"), (2, "b")), configuration=FEED)
    strict = pa.schema([pa.field("id", pa.int64()), pa.field("v", pa.string(), nullable=False)])
    write_deltalake(copy.path, rows().cast(strict))
    limits = Limits(on_bad_row="set_aside", max_bad_share=1.0)
    for aside in (0, 1):
        home = DeltaHome(path=source, changes=True)
        report = Flow(home, copy, name="f", mode="merge", key=["id"], engine="inline",
                      state=tmp_path / "state", limits=limits).run()  # fmt: skip
        assert report.set_aside == aside
        DeltaTable(source).update({"v": "NULL"}, predicate="id = 2")
    assert ids(copy) == [1]


def test_a_table_that_does_not_tell_its_changes_is_refused(tmp_path):
    write_deltalake(str(tmp_path / "t"), rows((1, "a")))
    with pytest.raises(HomeError, match="keeps no change data feed"):
        DeltaHome(path=tmp_path / "t", changes=True).open().__enter__()
    with pytest.raises(ConfigError, match="up to the newest"):
        DeltaHome(path=tmp_path / "t", changes=True, version=0)


def test_changes_that_nobody_knows_any_more_are_an_error_before_a_row_moves(tmp_path):
    path = str(tmp_path / "t")

    def planned(since: object) -> None:
        DeltaHome(path=path, changes=True).open(since).__enter__()

    write_deltalake(path, rows((1, "a")), configuration=FEED)
    former = f"0:{DeltaTable(path).metadata().id}"
    with pytest.raises(HomeError, match="is at version 0, and was read up to 5: it was made anew"):
        planned(5)
    shutil.rmtree(path)
    write_deltalake(path, rows((1, "a")), configuration=FEED)
    with pytest.raises(HomeError, match="is not the table that was read up to version 0"):
        planned(former)
    since = f"0:{DeltaTable(path).metadata().id}"
    for is_on in ("false", "true"):
        DeltaTable(path).alter.set_table_properties({"delta.enableChangeDataFeed": is_on})
    with pytest.raises(HomeError, match="version 1 kept no change data feed, so its changes are"):
        planned(since)
    planned(2)  # as a head of before the id was in it
    DeltaTable(path).delete("id = 1")
    with DeltaHome(path=path, changes=True).open(2) as plan:
        pass
    shutil.rmtree(tmp_path / "t" / "_change_data")
    with pytest.raises(HomeError, match="t: somebody has vacuumed files of the changes"):
        list(DeltaHome(path=path, changes=True).read(plan.splits[0]))
    DeltaTable(path).create_checkpoint()
    (tmp_path / "t" / "_delta_log" / f"{2:020d}.json").unlink()
    with pytest.raises(HomeError, match="version 2 is no longer in the log, so its changes are"):
        planned(1)


def changes(schema, *each) -> pa.Table:
    marks = marked(pa.schema([*schema, pa.field("_op", pa.string())]), "the changes")
    columns = zip(*each, strict=True)
    return pa.Table.from_arrays([pa.array(c) for c in columns], names=marks.names).cast(marks)


def test_of_two_changes_of_a_key_with_one_cursor_nobody_knows_the_last(tmp_path):
    copy = DeltaStore(path=tmp_path / "copy")
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("seq", pa.int64())])
    good = changes(schema, (1, 7, "insert"), (2, 3, "delete"), (2, 1, "insert"), (1, 5, "delete"))
    staged(copy, good, mode="merge", key=["id"], cursor="seq")()
    assert ids(copy) == [1]
    tie = changes(schema, (1, 8, "delete"), (2, 8, "insert"), (1, 8, "insert"))
    with pytest.raises(Rejected, match=r"of 1 row nobody can tell which change of a key"):
        staged(copy, tie, mode="merge", key=["id"], cursor="seq")()


def test_a_table_may_have_a_column_op_of_its_own(tmp_path):
    copy = DeltaStore(path=tmp_path / "copy", options={"schema": "evolve"})
    write_deltalake(copy.path, pa.table({"id": [1, 2], "_op": ["theirs", "delete"]}))
    schema = pa.schema([pa.field("id", pa.int64())])
    staged(copy, changes(schema, (1, "delete"), (3, "insert")), mode="merge", key=["id"])()
    assert by_id(copy) == {2: {"_op": "delete"}, 3: {"_op": None}}


def test_changes_whose_columns_are_known_late_make_no_column_of_op(tmp_path):
    copy, run = DeltaStore(path=tmp_path / "copy"), Run("r1", "f", "merge", ("id",))
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    copy.prepare(run, None)
    rows = changes(schema, (1, "insert"), (2, "delete"))
    receipt = copy.stage(Ticket("r1", 0), None, iter([rows]))
    assert (
        copy.commit(run, None, [receipt], None).note == "changes: 1 inserted or updated, 1 deleted"
    )
    assert by_id(copy) == {1: {}}


def test_null_in_a_row_that_is_written_is_refused_and_not_in_one_that_deletes(tmp_path):
    strict = pa.schema([pa.field("id", pa.int64()), pa.field("v", pa.string(), nullable=False)])
    copy = DeltaStore(path=tmp_path / "copy")
    write_deltalake(copy.path, rows((1, "a"), (2, "b")).cast(strict))
    schema = pa.schema([pa.field("id", pa.int64()), pa.field("v", pa.string())])
    for kind, words in (("delete", None), ("update", "'v' is NOT NULL")):
        table = changes(schema, (1, None, kind))
        if words is None:
            staged(copy, table, mode="merge", key=["id"])()
            assert ids(copy) == [2]
            continue
        with pytest.raises(Exception, match=words):
            staged(copy, table, mode="merge", key=["id"])
