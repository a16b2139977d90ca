"""An Iceberg table as a Home: its snapshots, files older than its columns, deleted rows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.types import LongType

from hygge import (
    ConfigError,
    Coordinator,
    Flow,
    Home,
    IcebergHome,
    SourceChanged,
    SourceMissing,
    SQLStore,
)
from hygge.cli.main import main
from hygge.connectors.iceberg.files import planned, read_task
from hygge.errors import FlowFailed, HomeError, Rejected, StoreError
from hygge.shape.settings import Shape
from hygge.testing.staging import stage_run, tagged_rows
from hygge.testing.values import difference
from tests.connectors.iceberg import lakes


def _home(folder: Path, **more: Any) -> IcebergHome:
    return IcebergHome(lakes.TABLE, catalog=lakes.settings(folder), **more)


def _read(home: Home) -> pa.Table:
    with home.open(None) as plan:
        schema = pa.schema([(column.name, column.type) for column in plan.columns or ()])
        batches = [batch for split in plan.splits for batch in home.read(split)]
        return pa.concat_tables([schema.empty_table(), *batches])


def _append(folder: Path, *tags: str) -> None:
    for at, tag in enumerate(tags):
        stage_run(lakes.store(folder), tagged_rows(tag, 100 * at), mode="append").commit()


def test_a_snapshot_is_read_whatever_comes_later(tmp_path: Path) -> None:
    _append(tmp_path, "a", "b")
    with lakes.table(tmp_path) as table:
        first, second = table.snapshots()
    home = _home(tmp_path)
    with home.open(None) as plan:
        assert {split.version for split in plan.splits} == {str(second.snapshot_id)}
        assert f"snapshot {second.snapshot_id}" in str(plan.snapshot)
        with lakes.table(tmp_path) as table:
            table.delete("n < 1000")
        rows = pa.concat_tables(batch for split in plan.splits for batch in home.read(split))
        expected = pa.concat_tables([tagged_rows("a"), tagged_rows("b", 100)])
        assert difference(rows, expected) is None
    assert _read(_home(tmp_path)).num_rows == 0
    assert difference(_read(_home(tmp_path, snapshot=first.snapshot_id)), tagged_rows("a")) is None
    then = datetime.fromtimestamp(second.timestamp_ms / 1000, UTC)
    assert difference(_read(_home(tmp_path, as_of=then.isoformat())), expected) is None
    with pytest.raises(SourceMissing, match="has nothing of snapshot 7"):
        _read(_home(tmp_path, snapshot=7))
    with pytest.raises(SourceMissing, match="has nothing of as of 2001-01-01"):
        _read(_home(tmp_path, as_of="2001-01-01"))
    with pytest.raises(ConfigError, match="'as_of' is 'yesterday', not a time"):
        _home(tmp_path, as_of="yesterday")


def test_a_snapshot_that_expired_is_a_changed_source(tmp_path: Path) -> None:
    _append(tmp_path, "a", "b")
    with lakes.table(tmp_path) as table:
        first = table.snapshots()[0].snapshot_id
    home = _home(tmp_path, snapshot=first)
    with home.open(None) as plan:
        with lakes.table(tmp_path) as table:
            table.maintenance.expire_snapshots().by_id(first).commit()
        with pytest.raises(SourceChanged, match=f"snapshot {first} has expired"):
            list(home.read(plan.splits[0]))
    home = _home(tmp_path)
    with home.open(None) as plan:
        (tmp_path / plan.splits[0].where["files"][0].removeprefix("file://")).unlink()
        with pytest.raises(SourceChanged, match="a file of the snapshot is gone"):
            list(home.read(plan.splits[0]))


def test_files_that_are_older_than_the_columns(tmp_path: Path) -> None:
    old = pa.table({"n": pa.array([1], pa.int32()), "gone": ["x"], "t": ["a"], "l": [[{"a": 1}]]})
    stage_run(lakes.store(tmp_path), old, mode="append").commit()
    with lakes.table(tmp_path) as table, table.update_schema(True) as update:
        update.update_column("n", LongType())
        update.delete_column("gone")
        update.rename_column("t", "text")
        update.add_column("more", LongType())
    rows = _read(_home(tmp_path))
    assert rows.to_pylist() == [{"n": 1, "text": "a", "l": [{"a": 1}], "more": None}]
    assert rows.schema.field("n").type == pa.int64()
    # A file that other programs wrote, without ids, is read by the library.
    foreign = tmp_path / "foreign.parquet"
    plain = {"n": pa.array([2], pa.int64()), "text": ["b"], "more": pa.array([3], pa.int64())}
    pq.write_table(pa.table(plain), foreign)
    with lakes.table(tmp_path) as table:
        table.add_files([f"file://{foreign}"])
    home = _home(tmp_path, columns=["more", "text"])
    assert sorted(_read(home).to_pylist(), key=str) == [
        {"more": 3, "text": "b"},
        {"more": None, "text": "a"},
    ]
    with pytest.raises(HomeError, match="column 'l' has structs within lists"):
        _read(_home(tmp_path))  # the library reads a NULL there as an empty list
    with pytest.raises(SourceMissing, match="has no column 'gone'"):
        _read(_home(tmp_path, columns=["gone"]))


@pytest.mark.parametrize(
    ("where", "read"),
    [
        ("n > 1", [2, 3]),
        ("n = 9000000000", [3]),
        ("t = 'a long text that no bound holds as a whole'", [1]),
        ("t < 'a'", []),
        ("t is null", [2]),
        ("d between '2024-01-02' and '2024-02-01'", [2]),
        ("x > 100", [1, 2, 3]),  # NaN is in no bounds
        ("n = 1 or x > 100", [1, 2, 3]),
        ("n = 1 and x > 100", [1]),
        ("p >= 2.5", [3]),
    ],
)
def test_files_whose_bounds_exclude_the_where_are_left_unread(
    bounded: Path, where: str, read: list[int]
) -> None:
    home = _home(bounded)
    home.shape = Shape(where=where)
    with home.open(None) as plan:
        assert sum(len(split.where["files"]) for split in plan.splits) == len(read)
        rows = [row for split in plan.splits for batch in home.read(split) for row in batch["n"]]
    assert sorted(n.as_py() for n in rows) == sorted({1: 1, 2: 2, 3: 9000000000}[n] for n in read)


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of a row; the first is older than the type of `n`."""
    folder = tmp_path_factory.mktemp("bounded")
    values = [
        (pa.int32(), 1, "a long text that no bound holds as a whole", date(2024, 1, 1), nan, "1"),
        (pa.int64(), 2, None, date(2024, 1, 31), 1.0, "2"),
        (pa.int64(), 9000000000, "b", date(2024, 3, 1), 2.0, "3"),
    ]
    for kind, n, text, day, number, price in values:
        rows = pa.table(
            {
                "n": pa.array([n], kind), "t": pa.array([text], pa.string()), "d": [day],
                "x": [number], "p": pa.array([Decimal(price)], pa.decimal128(9, 2)),
            }
        )  # fmt: skip
        store = lakes.store(folder, options={"schema": "evolve"})
        stage_run(store, rows, mode="append").commit()
    return folder


def test_rows_that_positional_deletes_name_are_left_out(tmp_path: Path) -> None:
    _append(tmp_path, "a")
    with lakes.table(tmp_path) as table:
        (task,) = table.scan().plan_files()
        path = f"file://{tmp_path}/deletes.parquet"
        positions = pa.table({"file_path": [task.file.file_path] * 3, "pos": [0, 7, 19]})
        pq.write_table(positions, tmp_path / "deletes.parquet")
        deletes = DataFile.from_args(
            content=DataFileContent.POSITION_DELETES, file_path=path, record_count=3,
            file_format=FileFormat.PARQUET,
        )  # fmt: skip
        deleted = SimpleNamespace(file=task.file, delete_files={deletes})
        schema = table.schema()
        rows = pa.concat_tables(read_task(table.metadata, table.io, deleted, schema, 4))
    kept = [n for n in range(20) if n not in (0, 7, 19)]
    assert rows.column("n").to_pylist() == kept


def test_what_has_changed_since_a_run_is_merged(tmp_path: Path) -> None:
    """Rows that came, that were deleted and written anew, a replace, and nothing at all."""

    def run() -> int:
        store = SQLStore("t", connection=f"sqlite:///{tmp_path}/copy.db")
        home = _home(tmp_path, changes=True)
        state = str(tmp_path / "state")
        report = Flow(
            home, store, name="f", mode="merge", key=["n"], engine="inline", state=state
        ).run()
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            seen = copy.execute("SELECT n, text FROM t ORDER BY n").fetchall()
        now = lakes.rows(tmp_path)
        assert now is not None
        assert seen == sorted(zip(*now.to_pydict().values(), strict=True))
        return report.rows_read

    _append(tmp_path, "a", "b")
    assert run() == 40
    assert run() == 0
    stage_run(lakes.store(tmp_path), tagged_rows("c", 200), mode="append").commit()
    with lakes.table(tmp_path) as table:
        table.delete("n < 10")
    changed = tagged_rows("changed", 15, 10)
    stage_run(lakes.store(tmp_path), changed, mode="merge").commit()
    run()
    stage_run(lakes.store(tmp_path), tagged_rows("new", 10, 30)).commit()
    run()
    with lakes.table(tmp_path) as table:
        before = table.current_snapshot().snapshot_id
    stage_run(lakes.store(tmp_path), tagged_rows("d", 300), mode="append").commit()
    with lakes.table(tmp_path) as table:
        table.maintenance.expire_snapshots().by_id(before).commit()
    with pytest.raises(FlowFailed, match=f"snapshot {before}, up to which the flow has read"):
        run()
    with pytest.raises(ConfigError, match="'changes' reads up to the newest snapshot"):
        _home(tmp_path, changes=True, snapshot=1)


def test_what_only_format_3_has(tmp_path: Path) -> None:
    """A value for files that lack a column is read; a type that pyiceberg lacks is told."""
    _append(tmp_path, "a")
    folder = tmp_path / "lake/sales/lines/metadata"
    (newest,) = folder.glob("00000-*.metadata.json")
    for number, more in enumerate(
        ({"type": "long", "initial-default": 7, "write-default": 8}, {"type": "variant"}), 1
    ):
        metadata = json.loads(newest.read_text())
        field = {"id": 3, "name": "extra", "required": False, **more}
        metadata["schemas"][-1]["fields"].append(field)
        metadata |= {"format-version": 3, "next-row-id": 20, "last-column-id": 3}
        (folder / f"0000{number}-x.metadata.json").write_text(json.dumps(metadata))
        home = IcebergHome(path=folder.parent)
        if more["type"] == "long":
            assert _read(home)["extra"].to_pylist() == [7] * 20
        else:
            with pytest.raises(HomeError, match=r"does not know what .* 'variant'"):
                _read(home)


def test_rows_that_were_deleted_by_their_values_are_refused() -> None:
    def plan_files() -> None:
        raise ValueError("PyIceberg does not yet support equality deletes: https://…")

    for side in (HomeError, StoreError):
        with pytest.raises(side, match="t has rows that were deleted by their values"):
            planned(SimpleNamespace(plan_files=plan_files), "t", side)


FLOWS = """
connections: {lake: {type: iceberg, catalog: {uri: "sqlite:///catalog.db", warehouse: lake}}}
flows:
  catalog:
    home: {connection: lake, table: sales.lines, columns: [n, {name: text, as: word}],
           where: "n >= 110"}
    store: out/catalog
  folder: {home: lake/sales/lines, store: lake#sales.copy}
"""


def test_flows_read_a_catalog_and_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _append(tmp_path, "a", "b")
    (tmp_path / "flows.yml").write_text(FLOWS)
    assert main(["plan", "flows.yml"]) == 0
    said = capsys.readouterr().out
    assert "snapshot " in said
    assert "2 data files in 1 split\n" in said
    assert "1 data file in 1 split; 1 more cannot match `where`" in said
    Coordinator("flows.yml", engine="inline").run()
    seen = pq.read_table(tmp_path / "out/catalog")
    expected = tagged_rows("b", 110, 10).rename_columns(["n", "word"])
    assert difference(seen, expected) is None
    both = pa.concat_tables([tagged_rows("a"), tagged_rows("b", 100)])
    assert difference(lakes.rows(tmp_path, "sales.copy"), both) is None
    assert main(["verify", "flows.yml", "--select", "folder"]) == 0
    assert main(["preview", "flows.yml", "--select", "catalog"]) == 0


def test_a_folder_of_two_newest_metadata_is_refused(tmp_path: Path) -> None:
    _append(tmp_path, "a")
    metadata = tmp_path / "lake/sales/lines/metadata"
    (one,) = metadata.glob("*.metadata.json")
    (metadata / "00000-other.metadata.json").write_text(one.read_text())
    with pytest.raises(HomeError, match="only its catalog knows which counts"):
        _read(IcebergHome(path=metadata.parent))
    with pytest.raises(SourceMissing, match="is no Iceberg table"):
        _read(IcebergHome(path=tmp_path / "lake"))


@pytest.mark.parametrize("text", ["{", "x", '{"format-version": 9}'])
def test_metadata_that_says_nothing_is_an_error_and_discover_goes_on(text, tmp_path, capsys):
    (tmp_path / "t" / "metadata").mkdir(parents=True)
    (tmp_path / "t" / "metadata" / "00000-x.metadata.json").write_text(text)
    with pytest.raises(HomeError, match=r"x\.metadata\.json: (the newest|pyiceberg does not)"):
        _read(IcebergHome(path=tmp_path / "t"))
    assert main(["discover", str(tmp_path)]) == 0
    assert "t is not readable as it is: " in capsys.readouterr().out


def test_what_is_not_there_is_told_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match=f"there is no catalog {tmp_path}/catalog.db"):
        _read(_home(tmp_path))
    assert not (tmp_path / "catalog.db").exists()
    _append(tmp_path, "a")
    settings = lakes.settings(tmp_path)
    with pytest.raises(SourceMissing, match=r"there is no table sales\.line in") as raised:
        _read(IcebergHome("sales.line", catalog=settings))
    assert "did you mean 'sales.lines'?" in str(raised.value.hint)
    with pytest.raises(ConfigError, match="needs either 'catalog' or 'path'"):
        IcebergHome("sales.lines")
    with pytest.raises(ConfigError, match="'snapshot' and 'as_of'"):
        _home(tmp_path, snapshot=1, as_of="2024-01-01")


def test_the_head_of_a_newer_version_is_not_guessed_at(tmp_path: Path) -> None:
    _append(tmp_path, "a")
    with lakes.table(tmp_path) as table, table.transaction() as transaction:
        transaction.set_properties({"hygge.head.f": json.dumps({"hygge": 2})})
        transaction.set_properties({"hygge.head.g": "{}"})
    with pytest.raises(Exception, match="was written by a newer hygge"):
        lakes.store(tmp_path).head("f")
    with pytest.raises(Exception, match="is not a head that hygge wrote"):
        lakes.store(tmp_path).head("g")


def _with_text(rows: pa.Table) -> pa.Table:
    """The rows with their first column as text, and with the same ids."""
    field = rows.schema.field(0)
    return rows.set_column(0, field.with_type(pa.string()), rows.column(0).cast(pa.string()))


def test_files_are_compared_with_what_the_metadata_says_of_them(tmp_path: Path) -> None:
    _append(tmp_path, "a")
    file = min((tmp_path / "lake").rglob("*.parquet"))
    rows = pq.read_table(file)
    for content, words in (
        (rows.slice(1), f"counts {rows.num_rows} rows in this file, and there are"),
        (pa.table({"other": [1]}), "is no file of the table"),
        (_with_text(rows), f"'{rows.column_names[0]}' is string in this file, and int64 in the"),
        (None, "cannot be read as Parquet"),
    ):
        if content is None:
            file.write_bytes(file.read_bytes()[:-9])
        else:
            pq.write_table(content, file)
        with pytest.raises(HomeError, match=words):
            _read(_home(tmp_path))
    rows = tagged_rows("b", 0)
    with pytest.raises(Rejected, match="cannot be read as Parquet"):
        stage_run(lakes.store(tmp_path), rows, mode="merge").commit()
    for name, words in (
        ("*-m0.avro", "a manifest of the snapshot cannot be read"),
        ("snap-*.avro", "a manifest of the snapshot cannot be read"),
    ):
        for path in (tmp_path / "lake").rglob(name):
            path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(HomeError, match=words):
            _read(_home(tmp_path))
    commit = stage_run(lakes.store(tmp_path), rows, mode="append").commit
    with pytest.raises(StoreError, match="a file of its metadata cannot be read"):
        commit()
    for path in (tmp_path / "lake").rglob("*.metadata.json"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(HomeError, match="the newest metadata file of the table is truncated"):
        _read(_home(tmp_path))
