"""What files say about their rows beside the rows survives where it still holds true."""

from __future__ import annotations

import base64
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowHome, ArrowStore, CsvStore, Flow, FlowFailed, ParquetHome, ParquetStore
from hygge.report.text import plan_text

pd = pytest.importorskip("pandas")

PERIOD = {b"ARROW:extension:name": b"pandas.period", b"ARROW:extension:metadata": b'{"freq": "M"}'}
GEO = {
    "version": "1.1.0",
    "primary_column": "shape",
    "columns": {
        "shape": {"encoding": "WKB", "geometry_types": ["Point"], "bbox": [0, 0, 1, 1]},
        "other": {"encoding": "WKB", "geometry_types": [], "crs": None},
    },
}
TEXTS = {b"geo": json.dumps(GEO).encode(), b"made by": b"\xff us"}
TABLE = pa.table(
    [pa.array([648, 649]), pa.array([b"x", b"y"]), pa.array([b"x", None])],
    schema=pa.schema(
        [
            pa.field("month", pa.int64(), metadata=PERIOD),
            pa.field("shape", pa.binary(), metadata={b"unit": b"degree"}),
            pa.field("other", pa.binary()),
        ],
        metadata=TEXTS,
    ),
)
HOMES = {"parquet": ParquetHome, "arrow": ArrowHome}
STORES = {"parquet": ParquetStore, "arrow": ArrowStore}


def write(table, path):
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=1)
        return path
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    return path


def schema_of(path):
    if path.suffix == ".parquet":
        return pq.read_schema(path)
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).schema


def move(home, store, **more):
    return Flow(home, store, name="f", engine="inline", **more)


def texts(schema):
    """What a schema says beside its types; the same where pandas has told Arrow of its types."""
    return dict(schema.metadata or {}), {f.name: field_texts(f) for f in schema}


def field_texts(field):
    said = dict(field.metadata or {})
    if isinstance(field.type, pa.ExtensionType):
        said[b"ARROW:extension:name"] = field.type.extension_name.encode()
        said[b"ARROW:extension:metadata"] = field.type.__arrow_ext_serialize__()
    return said


@pytest.mark.parametrize("source", HOMES)
@pytest.mark.parametrize("target", STORES)
def test_metadata_of_schema_and_fields_survives_byte_for_byte(tmp_path, source, target):
    home = HOMES[source](path=write(TABLE, tmp_path / f"in.{source}"),
                         options={"split_bytes": 1})  # fmt: skip
    one, many = tmp_path / f"one.{target}", tmp_path / "many"
    for path in (one, many):  # one is joined from the parts of two splits
        move(home, STORES[target](path=path)).run()
    parts = sorted(many.glob(f"part-*.{target}"))
    assert len(parts) == 2 or source == "arrow"
    for path in (one, *parts):
        assert texts(schema_of(path)) == texts(TABLE.schema)


@pytest.mark.parametrize("kind", HOMES)
def test_metadata_survives_where_no_row_comes(tmp_path, kind):
    home = HOMES[kind](path=write(TABLE.slice(0, 0), tmp_path / f"in.{kind}"))
    move(home, STORES[kind](path=tmp_path / "out")).run()
    (part,) = (tmp_path / "out").glob(f"part-*.{kind}")
    assert texts(schema_of(part)) == texts(TABLE.schema)


def test_a_period_of_pandas_comes_back_as_one(tmp_path):
    frame = pd.DataFrame({"month": pd.period_range("2024-01", periods=2, freq="M")},
                         index=pd.Index([5, 7], name="id"))  # fmt: skip
    frame.to_parquet(tmp_path / "in.parquet")
    move(ParquetHome(path=tmp_path / "in.parquet"), ParquetStore(path=tmp_path / "o.parquet")).run()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "o.parquet"), frame)


def test_pandas_metadata_is_cut_down_to_the_columns_that_are_read(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=pd.Index([5, 7], name="id"))
    frame.to_parquet(tmp_path / "in.parquet")
    home = ParquetHome(path=tmp_path / "in.parquet", columns=["a"])
    move(home, ParquetStore(path=tmp_path / "o.parquet")).run()
    about = json.loads(pq.read_schema(tmp_path / "o.parquet").metadata[b"pandas"])
    assert [column["name"] for column in about["columns"]] == ["a"]
    assert about["index_columns"] == []
    assert pd.read_parquet(tmp_path / "o.parquet").to_dict("list") == {"a": [1, 2]}


def test_metadata_about_a_column_that_is_left_out_does_not_come(tmp_path):
    table = TABLE.replace_schema_metadata({**TEXTS, b"about": b'{"fields": ["other"]}'})
    path = write(table, tmp_path / "in.parquet")
    flow = move(ParquetHome(path=path, columns=["shape"]), ParquetStore(path=tmp_path / "o"))
    with flow.home.open() as plan:
        assert list(json.loads(plan.metadata[b"geo"])["columns"]) == ["shape"]
        assert set(plan.metadata) == {b"geo", b"made by"}
        assert "metadata 'about': it is about other columns" in plan_text(flow, plan)
    with ParquetHome(path=path, columns=["other"]).open() as plan:
        assert b"geo" not in plan.metadata  # its primary column is gone


def test_geo_metadata_of_several_files_is_joined(tmp_path):
    (tmp_path / "t").mkdir()
    other = json.loads(json.dumps(GEO))
    other["columns"]["shape"].update(bbox=[5, 5, 6, 6], geometry_types=["Polygon"])
    for name, about in (("a", GEO), ("b", other)):
        texts = {b"geo": json.dumps(about).encode()}
        write(TABLE.replace_schema_metadata(texts), tmp_path / "t" / f"{name}.parquet")
    with ParquetHome(path=tmp_path / "t").open() as plan:
        about = json.loads(plan.metadata[b"geo"])["columns"]["shape"]
        assert about == {"encoding": "WKB", "geometry_types": ["Point", "Polygon"]}
    other["columns"]["shape"]["crs"] = {"id": {"code": 3857}}
    texts = {b"geo": json.dumps(other).encode()}
    write(TABLE.replace_schema_metadata(texts), tmp_path / "t" / "b.parquet")
    with ParquetHome(path=tmp_path / "t").open() as plan:
        assert b"geo" not in plan.metadata
        assert plan.lost == ("'geo': the files differ in it",)


def test_values_that_mean_others_are_not_mixed(tmp_path):
    days = {**PERIOD, b"ARROW:extension:metadata": b'{"freq": "D"}'}
    other = pa.table([TABLE["month"]],
                     schema=pa.schema([pa.field("month", pa.int64(), metadata=days)]))  # fmt: skip
    (tmp_path / "t").mkdir()
    months = write(TABLE.select(["month"]), tmp_path / "t" / "a.parquet")
    store = ParquetStore(path=tmp_path / "o")
    move(ParquetHome(path=months), store, mode="append").run()
    days_file = write(other, tmp_path / "t" / "b.parquet")
    with pytest.raises(FlowFailed, match="another extension type"):
        move(ParquetHome(path=tmp_path / "t"), CsvStore(path=tmp_path / "o.csv")).run()
    with pytest.raises(FlowFailed, match=r"'month' is of extension type pandas.period"):
        move(ParquetHome(path=days_file), store, mode="append").run()


def test_plan_says_what_a_store_has_no_place_for(tmp_path):
    home = ParquetHome(path=write(TABLE, tmp_path / "in.parquet"))
    flow = move(home, CsvStore(path=tmp_path / "o.csv"))
    with home.open() as plan:
        (line,) = [each for each in plan_text(flow, plan).splitlines() if "  loses" in each]
        assert line == (
            "  loses   metadata 'geo', metadata 'made by', extension type pandas.period of column "
            "'month', metadata unit of column 'shape': this store has no place for it"
        )
        kept = plan_text(move(home, ParquetStore(path=tmp_path / "o")), plan)
        assert "  loses" not in kept


def test_a_file_cannot_pose_as_a_passthrough(tmp_path):
    table = TABLE.replace_schema_metadata({b"hygge.format": b"pg", b"hygge.key": b'["month"]'})
    home = ParquetHome(path=write(table, tmp_path / "in.parquet"))
    assert move(home, ParquetStore(path=tmp_path / "o")).run().rows == 2
    with home.open() as plan:
        assert not plan.metadata


def test_splits_have_the_names_that_they_had_without_metadata(tmp_path):
    """So a run that was begun by a hygge that dropped metadata is gone on with."""
    bare = pa.schema([pa.field(field.name, field.type) for field in TABLE.schema])
    with ParquetHome(path=write(TABLE, tmp_path / "in.parquet")).open() as plan:
        (split,) = plan.splits
    assert base64.b64decode(split.where["schema"]) == bare.serialize().to_pybytes()
