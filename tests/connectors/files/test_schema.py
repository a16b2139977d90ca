"""`schema: freeze | evolve` of files: each cell of the table in docs/schema.md, in each format."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowStore, CsvStore, JsonlStore, ParquetStore
from hygge.connectors.files.arrow import ArrowHome
from hygge.connectors.files.csv import CsvHome
from hygge.connectors.files.jsonl import JsonlHome
from hygge.connectors.files.parquet import ParquetHome
from hygge.errors import StoreError
from hygge.model import Run
from tests.connectors.sql.own_tables import moved
from tests.servers.s3 import BUCKET, s3  # noqa: F401  # fixtures

STORES = {"parquet": ParquetStore, "arrow": ArrowStore, "csv": CsvStore, "jsonl": JsonlStore}
HOMES = {"parquet": ParquetHome, "arrow": ArrowHome, "csv": CsvHome, "jsonl": JsonlHome}
FORMATS = sorted(STORES)
UNITING = ["arrow", "jsonl", "parquet"]
OLD = pa.table({"id": [1], "v": ["a"]})


def store(kind, path, **options):
    return STORES[kind]("t", path=str(path / "t"), options=options)


def evolved(kind, path, rows, run="r2"):
    return moved(store(kind, path, schema="evolve"), rows, "append", run)


def refused(kind, path, rows, match, **options):
    """The rows are refused before they move."""
    with pytest.raises(StoreError, match=match) as caught:
        store(kind, path, **options).prepare(Run("r2", "f", "append"), rows.schema)
    return caught.value.hint


@pytest.mark.parametrize("kind", FORMATS)
def test_a_new_column(kind, tmp_path):
    moved(store(kind, tmp_path), OLD, "append", "r1")
    rows = pa.table({"w": [1.5], "id": [2], "v": ["b"]})
    assert "schema: evolve" in refused(kind, tmp_path, rows, "has the columns|'w'")
    if kind == "csv":
        moved(
            store(kind, tmp_path / "s"), pa.table({"id": pa.array([1], pa.int32())}), "append", "r1"
        )
        # A wider type is no trouble, and not named.
        rows = pa.table({"id": [2], "w": [1.5]})
        refused(kind, tmp_path / "s", rows, "column 'w' .float64. is added, but", schema="evolve")
        return
    run = Run("r2", "f", "append")
    state = store(kind, tmp_path, schema="evolve").examine(run, rows.schema)
    assert state.changes == ("column 'w' (float64) is added",)
    assert evolved(kind, tmp_path, rows).changes == state.changes
    assert evolved(kind, tmp_path, rows, "r3").changes == ()
    if kind == "parquet":
        files = sorted((tmp_path / "t").rglob("part-*.parquet"))
        assert [pq.read_schema(file).names for file in files][-1] == ["id", "v", "w"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_column_that_is_gone(kind, tmp_path):
    moved(store(kind, tmp_path), OLD, "append", "r1")
    rows = pa.table({"id": [2]})
    if kind == "csv":
        hint = refused(kind, tmp_path, rows, "'v' .*, but all of its files", schema="evolve")
        assert hint.startswith("give the rows that column")
        return
    commit = evolved(kind, tmp_path, rows)
    assert "'v' (string) is not in the rows any more" in commit.note
    assert evolved(kind, tmp_path, rows, "r3").changes == ()  # it was said once
    with HOMES[kind]("t", path=str(tmp_path / "t")).open() as plan:
        assert [column.name for column in plan.columns] == ["id", "v"]
    must = pa.table(
        [[1], ["a"]], schema=pa.schema([("id", pa.int64()), pa.field("v", pa.string(), False)])
    )
    moved(store(kind, tmp_path / "must"), must, "append", "r1")
    refused(kind, tmp_path / "must", rows, "'v' .* without NULLs", schema="evolve")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_wider_a_narrower_and_another_type(kind, tmp_path):
    small, large = (pa.table({"n": pa.array([7], kind)}) for kind in (pa.int32(), pa.int64()))
    moved(store(kind, tmp_path), small, "append", "r1")
    refused(kind, tmp_path, large, "'n' is int32 .* int64")
    refused(kind, tmp_path, pa.table({"n": ["x"]}), "'n' is int32 .* string", schema="evolve")
    if kind in ("parquet", "arrow"):
        refused(kind, tmp_path, large, "'n' is int32 .* int64", schema="evolve")
    else:
        changes = evolved(kind, tmp_path, large).changes
        assert changes == ("column 'n' was int32 and is int64",)
    moved(store(kind, tmp_path / "large"), large, "append", "r1")
    refused(kind, tmp_path / "large", small, "'n' is int64 .* int32")
    assert evolved(kind, tmp_path / "large", small).changes == ()
    if kind == "parquet":
        files = sorted((tmp_path / "large").rglob("part-*.parquet"))
        assert {pq.read_schema(file).field("n").type for file in files} == {pa.int64()}


@pytest.mark.parametrize("kind", UNITING)
def test_a_column_that_seems_to_be_renamed_is_an_error(kind, tmp_path):
    moved(store(kind, tmp_path), OLD, "append", "r1")
    hint = refused(
        kind, tmp_path, OLD.rename_columns(["id", "u"]), "'v' is gone and 'u'", schema="evolve"
    )
    assert "run once without it" in hint
    evolved(kind, tmp_path, OLD.select(["id"]))
    commit = evolved(kind, tmp_path, OLD.rename_columns(["id", "u"]), "r3")
    assert commit.changes == ("column 'u' (string) is added",)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_column_may_be_null_from_now_on(kind, tmp_path):
    must = pa.table([[1]], schema=pa.schema([pa.field("n", pa.int64(), False)]))
    moved(store(kind, tmp_path), must, "append", "r1")
    commit = evolved(kind, tmp_path, pa.table({"n": pa.array([None, 2], pa.int64())}))
    assert commit.changes == ("column 'n' may be NULL from now on",)
    assert evolved(kind, tmp_path, must, "r3").changes == ()


def test_a_prefix_of_a_bucket_follows_too(s3, tmp_path):  # noqa: F811
    def at(**options):
        return ParquetStore("t", path=f"s3://{BUCKET}/{tmp_path.name}/t", options=options)

    moved(at(), OLD, "append", "20260101T000000-00000001")
    rows = pa.table({"id": [2], "w": [1.5]})
    commit = moved(at(schema="evolve"), rows, "append", "20260101T000000-00000002")
    assert len(commit.changes) == 2
    again = moved(at(schema="evolve"), rows, "append", "20260101T000000-00000003")
    assert again.changes == ()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("single", [False, True])
def test_a_replace_freezes_or_evolves(kind, single, tmp_path):
    def there(**options):
        path = f"one.{kind}" if single else "many"
        return STORES[kind]("t", path=str(tmp_path / path), options=options)

    def replaced(rows, run, schema="evolve"):
        return moved(there(schema=schema), rows, "replace", run)

    first = pa.table({"id": pa.array([1], pa.int32()), "v": ["a"]})
    second = pa.table({"id": pa.array([2], pa.int64()), "w": [1.5]})
    replaced(first, "r1", "freeze")
    assert replaced(first, "r2", "freeze").changes == ()
    run = Run("no", "f", "replace")
    for rows in (second, first.select(["id"]), first.set_column(0, "id", [["x"]])):
        with pytest.raises(StoreError, match="in this run|this run has") as caught:
            there(schema="freeze").examine(run, rows.schema)
        assert "take `schema: freeze` out" in caught.value.hint
    with pytest.raises(StoreError, match="'id' is int32 .* string"):
        there(schema="evolve").prepare(run, first.set_column(0, "id", [["x"]]).schema)
    changes = there(schema="evolve").examine(run, second.schema).changes
    assert [change.partition(" (")[0] for change in changes] == [
        "column 'id' was int32 and is int64", "column 'v'", "column 'w'",
    ]  # fmt: skip
    commit = replaced(second, "r3")
    assert commit.changes == changes
    assert "'v' (string) is not in the rows any more: it stays, NULL from now on" in commit.note
    assert read_back(kind, there().path) == [{"id": 2, "v": None, "w": 1.5}]
    assert replaced(first.select(["id"]), "r4").changes[0].startswith("column 'w'")
    assert read_back(kind, there().path) == [{"id": 1, "v": None, "w": None}]
    moved(there(), first, "replace", "r5")  # without `schema`: what comes
    assert read_back(kind, there().path) == first.to_pylist()


def read_back(kind, path):
    """Return the rows of the files at a path, by a Home."""
    home = HOMES[kind]("t", path=path)
    with home.open() as plan:
        return [row for split in plan.splits for t in home.read(split) for row in t.to_pylist()]


def test_a_replace_in_a_bucket_freezes_or_evolves(s3, tmp_path):  # noqa: F811
    def there(schema):
        path = f"s3://{BUCKET}/{tmp_path.name}/t"
        return ParquetStore("t", path=path, options={"schema": schema})

    moved(there("freeze"), OLD, "replace", "20260101T000000-00000001")
    rows = pa.table({"id": [2], "w": [1.5]})
    with pytest.raises(StoreError, match="this run has"):
        there("freeze").prepare(Run("20260101T000000-00000002", "f", "replace"), rows.schema)
    commit = moved(there("evolve"), rows, "replace", "20260101T000000-00000003")
    assert len(commit.changes) == 2
    again = moved(there("evolve"), rows, "replace", "20260101T000000-00000004")
    assert again.changes == ()
