"""An Iceberg table as a Store: partitions, columns that change, and what others do meanwhile."""

from __future__ import annotations

import builtins
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException, ServerError
from pyiceberg.expressions import EqualTo, GreaterThanOrEqual
from pyiceberg.types import LongType, StringType

from hygge import Flow, IcebergHome, IcebergStore, SQLHome
from hygge.connectors.iceberg.commit import check_writable
from hygge.engine.inline import InlineEngine
from hygge.errors import ConfigError, NotOurs, Rejected, StoreError, Superseded, UnfitValue, Unknown
from hygge.model import Run
from hygge.testing.staging import FLOW, copy_of, stage_run, tagged_rows
from hygge.testing.values import difference
from tests.connectors.iceberg import lakes


def _dated() -> pa.Table:
    days = [date(2024, 1, 31), date(2024, 2, 1), None, date(1969, 12, 31), date(2024, 1, 31)]
    times = [datetime(2024, 1, 31, 23, 59, 59, 999999, UTC), datetime(1969, 12, 31, 23, tzinfo=UTC)]
    return pa.table(
        {
            "n": pa.array(range(5), pa.int64()),
            "day": pa.array(days, pa.date32()),
            "at": pa.array([*times, None, *times], pa.timestamp("us", "UTC")),
            "land": ["de", None, "", "de", "de/…"],
        }
    )


@pytest.mark.parametrize(
    ("by", "files"),
    [
        (["land"], 4),
        (["year(day)"], 3),
        (["hour(at)"], 3),
        (["month(day)", "land"], 5),
        (["day(day)", "day(at)"], 5),
    ],
)
def test_partitions_hold_their_rows_alone(by: list[str], files: int, tmp_path: Path) -> None:
    store = lakes.store(tmp_path, partition_by=by)
    stage_run(store, _dated(), _dated().slice(0, 0), mode="append").commit()
    assert difference(lakes.rows(tmp_path), _dated()) is None
    with lakes.table(tmp_path) as table:
        tasks = list(table.scan().plan_files())
        assert len(tasks) == files
        found = table.scan(row_filter=EqualTo("land", "de")).to_arrow().column("n").to_pylist()
        assert sorted(found) == [0, 3], "the library skips files by their partition"
        late = table.scan(row_filter=GreaterThanOrEqual("day", "2024-02-01")).to_arrow()
        assert late.column("n").to_pylist() == [1]
    stage_run(lakes.store(tmp_path), _dated(), mode="append").commit()  # the table says it
    with pytest.raises(StoreError, match=r"is partitioned by .*'partition_by' says month\(at\)"):
        stage_run(lakes.store(tmp_path, partition_by=["month(at)"]), _dated(), mode="append")


def test_what_lies_on_a_disk_is_known_so_that_the_nodes_can_be_asked_for_it(tmp_path: Path) -> None:
    local, bucket, server = f"sqlite:///{tmp_path}/c.db", "s3://bucket/lake", "http://catalog:8181"
    for uri, warehouse, path in [
        (local, f"{tmp_path}/lake", f"{tmp_path}/lake"),
        (local, bucket, f"{tmp_path}/c.db"),
        (server, f"file://{tmp_path}/lake", f"{tmp_path}/lake"),
        (server, bucket, None),
    ]:
        catalog = {"uri": uri, "warehouse": warehouse}
        for kind in (IcebergStore, IcebergHome):
            assert kind("sales.lines", catalog=catalog).on_disk() == path
    assert IcebergHome(path=tmp_path / "t").on_disk() == str(tmp_path / "t")


def test_partitions_that_are_not_built_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'bucket"):
        lakes.store(tmp_path, partition_by=["bucket[4](n)"])
    with pytest.raises(StoreError, match="names 'nn', and the rows have n, text"):
        stage_run(lakes.store(tmp_path, partition_by=["nn"]), tagged_rows("a"))
    with pytest.raises(StoreError, match=r"does not partition a table as day\(text\)"):
        stage_run(lakes.store(tmp_path, partition_by=["day(text)"]), tagged_rows("a"))
    stage_run(lakes.store(tmp_path), tagged_rows("a"), mode="append").commit()
    with lakes.table(tmp_path) as table, table.update_spec() as update:
        update.add_field("n", "bucket[4]")
    with pytest.raises(StoreError, match=r"partitioned by bucket\[4\] of column 'n'"):
        stage_run(lakes.store(tmp_path), tagged_rows("a"), mode="append")


def test_a_namespace_that_another_flow_makes_at_the_same_moment_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists, asked = SqlCatalog.namespace_exists, []

    def made_just_after(self: SqlCatalog, namespace: Any) -> bool:
        asked.append(namespace)
        if len(asked) > 1:
            return exists(self, namespace)
        with lakes.catalog(tmp_path) as catalog:
            SqlCatalog.create_namespace(catalog, namespace)
        return False

    monkeypatch.setattr(SqlCatalog, "namespace_exists", made_just_after)
    stage_run(lakes.store(tmp_path), tagged_rows("a")).commit()
    assert len(asked) > 1


def test_a_column_with_the_name_of_a_field_is_refused(tmp_path: Path) -> None:
    rows = pa.table({"n": pa.array([{"v": 1}]), "n.v": [2]})
    with pytest.raises(StoreError, match=r"'n\.v' is a column, and a field of the column 'n'"):
        stage_run(lakes.store(tmp_path), rows)
    deep = IcebergStore("a.b.lines", catalog=lakes.settings(tmp_path))
    with pytest.raises(StoreError, match="this catalog has namespaces of one part alone"):
        stage_run(deep, tagged_rows("a"))


def _wider() -> pa.Table:
    return pa.table({"n": pa.array([9], pa.int64()), "more": ["x"], "text": ["y"]})


def test_columns_follow_in_the_commit_of_the_rows(tmp_path: Path) -> None:
    first = pa.table({"n": pa.array([1], pa.int32()), "text": ["a"]})
    stage_run(lakes.store(tmp_path), first, mode="append").commit()
    frozen = lakes.store(tmp_path)
    with pytest.raises(StoreError, match="column 'n' is int32 in .* and int64 in this run") as said:
        stage_run(frozen, _wider(), mode="append")
    assert said.value.hint.endswith("or write elsewhere")
    commit = stage_run(
        lakes.store(tmp_path, options={"schema": "evolve"}), _wider(), mode="append"
    ).commit()
    assert commit.changes == (
        "column 'n' was int32 and is int64",
        "column 'more' (string) is added",
    )
    seen = lakes.rows(tmp_path)
    expected = pa.table(
        {"n": pa.array([1, 9], pa.int64()), "text": ["a", "y"], "more": [None, "x"]}
    )
    assert difference(seen, expected) is None
    with lakes.table(tmp_path) as table:
        assert len(table.snapshots()) == 2
        assert table.snapshots()[-1].schema_id == table.schema().schema_id
    narrow = stage_run(
        lakes.store(tmp_path, options={"schema": "evolve"}), first, mode="append"
    ).commit()
    assert narrow.changes == ("column 'more' (string) is not in the rows any more: it stays, NULL "
                              "from now on",)  # fmt: skip
    with pytest.raises(StoreError, match="column 'text' is string .* and int64 in the rows"):
        retyped = pa.table({"n": pa.array([1], pa.int32()), "text": pa.array([1], pa.int64())})
        stage_run(lakes.store(tmp_path, options={"schema": "evolve"}), retyped, mode="append")


def test_a_replace_takes_the_new_columns(tmp_path: Path) -> None:
    stage_run(lakes.store(tmp_path), tagged_rows("a")).commit()
    other = pa.table({"text": pa.array([1, 2], pa.int64()), "new": ["x", None]})
    stage_run(lakes.store(tmp_path), other).commit()
    assert difference(lakes.rows(tmp_path), other) is None
    with lakes.table(tmp_path) as table:  # an old snapshot stays readable by the old columns
        old = table.scan(snapshot_id=table.snapshots()[0].snapshot_id).to_arrow()
        assert difference(old, tagged_rows("a")) is None
        with table.update_schema() as update:
            update.add_column("note", StringType())
    with pytest.raises(StoreError, match="has column 'note', which the rows lack and the last run"):
        stage_run(lakes.store(tmp_path), other)
    stage_run(lakes.store(tmp_path, options={"schema": "evolve"}), other).commit()
    assert lakes.rows(tmp_path).column_names == [*other.column_names, "note"]


def test_what_others_do_meanwhile(tmp_path: Path) -> None:
    store = lakes.store(tmp_path)
    stage_run(store, tagged_rows("a"), mode="append").commit()
    late = stage_run(store, tagged_rows("b", 100), mode="append")
    with lakes.table(tmp_path) as table:
        table.append(tagged_rows("foreign", 500).cast(table.schema().as_arrow()))
        table.delete("n < 10")
    late.commit()
    expected = [tagged_rows("a", 10, 10), tagged_rows("foreign", 500), tagged_rows("b", 100)]
    assert difference(lakes.rows(tmp_path), pa.concat_tables(expected)) is None
    more = stage_run(store, tagged_rows("c", 200), mode="append")
    with lakes.table(tmp_path) as table, table.update_schema() as update:
        update.add_column("extra", StringType())
    with pytest.raises(Rejected, match=r"has the columns n, text, extra"):
        more.commit()
    evolving = lakes.store(tmp_path, options={"schema": "evolve"})
    retyped = stage_run(evolving, tagged_rows("d", 300), mode="append")
    with lakes.table(tmp_path) as table, table.update_schema(True) as update:
        update.delete_column("text")
    with lakes.table(tmp_path) as table, table.update_schema() as update:
        update.add_column("text", StringType())
    with pytest.raises(Rejected, match="column 'text' was changed by others"):
        retyped.commit()


def test_a_table_that_others_partition_meanwhile_ends_the_run(tmp_path: Path) -> None:
    stage_run(lakes.store(tmp_path), tagged_rows("a"), mode="append").commit()
    staged = stage_run(lakes.store(tmp_path), tagged_rows("b"), mode="append")
    with lakes.table(tmp_path) as table:
        table.update_spec().add_identity("text").commit()
    with pytest.raises(Rejected, match="is partitioned by text now: it was changed by others"):
        staged.commit()
    stage_run(lakes.store(tmp_path), tagged_rows("b"), mode="append").commit()
    with lakes.table(tmp_path) as table:
        table.append(tagged_rows("foreign", 500, 7).cast(table.schema().as_arrow()))
        still = table.current_snapshot().snapshot_id
    note = stage_run(lakes.store(tmp_path), tagged_rows("c")).commit().note
    assert note == (
        f"7 rows that others wrote there since the last run went, too: snapshot {still} still has "
        "them"
    )
    assert difference(lakes.rows(tmp_path), tagged_rows("c")) is None


def test_a_table_that_was_dropped_ends_the_run(tmp_path: Path) -> None:
    store = lakes.store(tmp_path)
    stage_run(store, tagged_rows("a"), mode="append").commit()
    late = stage_run(store, tagged_rows("b", 100), mode="append")
    with lakes.catalog(tmp_path) as catalog:
        catalog.drop_table(lakes.TABLE)
    with pytest.raises(Superseded):
        late.commit()


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("kind", [CommitStateUnknownException, ServerError, ConnectionError])
def test_a_commit_without_an_answer_is_asked_for(
    landed: bool, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = lakes.store(tmp_path)
    run = stage_run(store, tagged_rows("a"), mode="append")
    real = SqlCatalog.commit_table

    def silent(self: SqlCatalog, *given: Any) -> Any:
        if landed:
            real(self, *given)
        raise kind("500: nobody knows")

    with monkeypatch.context() as patched:
        patched.setattr(SqlCatalog, "commit_table", silent)
        with pytest.raises(Unknown, match="no clear answer"):
            run.commit()
    store.discard(run.run)  # removes nothing that may be visible
    commit = run.commit(copy_of(store))
    assert commit.head == store.head(FLOW)
    assert difference(lakes.rows(tmp_path), tagged_rows("a")) is None


def test_files_of_a_run_that_lost_are_removed(tmp_path: Path) -> None:
    store = lakes.store(tmp_path)
    slow, quick = stage_run(store, tagged_rows("slow")), stage_run(store, tagged_rows("quick"))
    quick.commit()
    with pytest.raises(Superseded):
        slow.commit()
    for run in (slow, quick):
        store.discard(run.run)
        store.discard(run.run)
    folders = sorted(each.name for each in (tmp_path / "lake/sales/lines/data").iterdir())
    assert folders == [f"hygge-{quick.run.id}"]
    assert difference(lakes.rows(tmp_path), tagged_rows("quick")) is None


def test_what_cannot_be_kept_is_refused_before_rows_move(tmp_path: Path) -> None:
    rows = pa.table({"n": pa.array([1], pa.int64()), "lasted": pa.array([1], pa.duration("us"))})
    with pytest.raises(UnfitValue, match="column 'lasted' is duration"):
        lakes.store(tmp_path).remarks(rows.schema)
    unsigned = pa.schema([("a", pa.uint32()), ("b", pa.uint64()), ("c", pa.string())])
    assert lakes.store(tmp_path).remarks(unsigned) == [
        "column 'a' (uint32) is kept as int64",
        "column 'b' (uint64) is kept as decimal(20,0)",
    ]
    (said,) = lakes.store(tmp_path).remarks(pa.schema([("a", pa.int64()), ("A", pa.string())]))
    assert said.startswith("columns 'a' and 'A' differ in case only")
    newer = SimpleNamespace(metadata=SimpleNamespace(format_version=3))
    with pytest.raises(StoreError, match="format 3"):  # the library itself cannot write it yet
        check_writable(lakes.store(tmp_path).goal, newer, Run("r", FLOW), None)


def test_a_table_of_others_without_rows_may_be_replaced(tmp_path: Path) -> None:
    with lakes.catalog(tmp_path) as catalog:
        catalog.create_namespace("sales")
        table = catalog.create_table(lakes.TABLE, tagged_rows("a").schema)
        stage_run(lakes.store(tmp_path), tagged_rows("a")).commit()
        catalog.create_table("sales.other", tagged_rows("a").schema).append(tagged_rows("a"))
        assert table.properties.get("owner") is None
    other = IcebergStore("sales.other", catalog=lakes.settings(tmp_path))
    for ask in (lambda: stage_run(other, tagged_rows("b")), lambda: other.check_here("replace")):
        with pytest.raises(NotOurs, match="holds rows that hygge did not write"):
            ask()


@pytest.mark.parametrize(
    ("catalog", "said"),
    [
        ({}, "neither 'uri' nor 'type'"),
        ({"uri": "sqlite:///c.db"}, "has no 'warehouse'"),
        ({"uri": "sqlite://", "warehouse": "w"}, "names no file"),
        ({"uri": "sqlite:///c.db", "warehouse": "a#b"}, "has a '?', '#' or '%'"),
        ({"uri": "http://h", "py-io-impl": "x.Y"}, "through pyarrow"),
    ],
)
def test_wrong_settings_are_told(catalog: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        IcebergStore("sales.lines", catalog=catalog)
    with pytest.raises(ConfigError, match="is not a table in a namespace"):
        IcebergStore("lines", catalog={"uri": "http://h"})


def test_a_missing_package_prints_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any) -> Any:
        if name.startswith("pyiceberg"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="pyiceberg is not installed") as raised:
        lakes.store(tmp_path).check_here("append")
    assert raised.value.hint.startswith("pip install 'pyiceberg[sql-sqlite]>=0.12,<0.13'")


def test_the_library_still_has_what_is_not_public(tmp_path: Path) -> None:
    """The canary: these names are private to pyiceberg, which is pinned for them."""
    from pyiceberg.io import pyarrow as library
    from pyiceberg.schema import Schema
    from pyiceberg.table import Transaction
    from pyiceberg.types import NestedField

    assert library._read_all_delete_files(None, []) == {}
    assert library.ArrowScan._record_batches_from_scan_tasks_and_deletes
    with lakes.catalog(tmp_path) as catalog:
        catalog.create_namespace("sales")
        schema = Schema(NestedField(1, "n", LongType()))
        staged = catalog.create_table_transaction(lakes.TABLE, schema)
        assert staged._table.location().startswith("file://")
        assert [update.action for update in staged._updates][:1] == ["assign-uuid"]
        transaction = Transaction(catalog.create_table(lakes.TABLE, schema))
        with transaction.update_snapshot().fast_append():
            pass
        kinds = {requirement.type for requirement in transaction._requirements}
        assert kinds == {"assert-ref-snapshot-id"}
        actions = [update.action for update in transaction._updates]
        assert actions == ["add-snapshot", "set-snapshot-ref"]


def test_nodes_are_asked_for_the_catalog_and_for_the_warehouse(tmp_path: Path) -> None:
    """They may be on two disks, of which a node sees one."""

    class Asked(InlineEngine):
        def check_paths(self, read: Any, written: Any, *more: Any) -> str:
            asked.update({**read, **written})
            return ""

    asked: dict[str, str] = {}
    (tmp_path / "b").mkdir()
    with closing(sqlite3.connect(tmp_path / "s.db")) as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    store = lakes.store(tmp_path / "b")
    home = SQLHome("t", connection=f"sqlite:///{tmp_path}/s.db")
    Flow(home, store, engine=Asked(), state=str(tmp_path / "state")).run()
    there = {"'s catalog": f"{tmp_path}/b/catalog.db", "": f"{tmp_path}/b/lake"}
    assert asked == {
        "the home": f"{tmp_path}/s.db",
        "the state": f"{tmp_path}/state",
        **{f"the store{end}": path for end, path in there.items()},
    }
    assert IcebergHome(lakes.TABLE, catalog=lakes.settings(tmp_path / "b")).seen_by_nodes() == there
