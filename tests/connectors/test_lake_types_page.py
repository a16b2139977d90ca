"""Which types columns get in DuckDB, Delta Lake and Iceberg, and docs/types.md, which says so.

All types come in one table. A store that refuses names a column; it is left out, and the rest is
tried again. HYGGE_WRITE_DOCS=1 writes the table into the page.
"""

from __future__ import annotations

import json
import re

import duckdb
import pyarrow as pa
from deltalake import DeltaTable
from pyiceberg.catalog import load_catalog

from hygge import ArrowHome, DeltaStore, Flow, IcebergStore, SQLStore
from hygge.errors import FlowFailed
from hygge.type_words import word_of
from tests.connectors.sql.test_published_types import page

KINDS = [
    pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(),
    pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(12, 2),
    pa.decimal256(50, 2), pa.string(), pa.binary(), pa.binary(4), pa.date32(), pa.time64("us"),
    pa.time64("ns"), pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("ns"),
    pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Berlin"), pa.duration("us"),
    pa.list_(pa.int32()), pa.list_(pa.int32(), 3), pa.struct([("a", pa.int32())]),
    pa.map_(pa.string(), pa.int32()), pa.uuid(), pa.json_(), pa.null(),
]  # fmt: skip


def test_the_page_says_which_types_columns_get(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    catalog = {"uri": "sqlite:///catalog.db", "warehouse": str(tmp_path / "ice")}
    seen = [
        got(SQLStore("t", connection="duckdb:///t.duckdb"), of_duckdb),
        got(DeltaStore(path="delta"), of_delta),
        got(IcebergStore("a.t", catalog=catalog), lambda: of_iceberg(catalog)),
    ]
    lines = ["| Arrow | DuckDB | Delta Lake | Iceberg |", "|---|---|---|---|"]
    for number, kind in enumerate(KINDS):
        types = [columns.get(f"c{number}", "an error") for columns in seen]
        lines.append(f"| {' | '.join([word_of(kind), *types])} |")
    page("lakes", lines)


def got(store, types):
    """Write all types that the store takes; return the type of each column."""
    arrays = {f"c{number}": pa.nulls(1, kind) for number, kind in enumerate(KINDS)}
    while True:
        with pa.ipc.new_file("in.arrow", pa.table(arrays).schema) as file:
            file.write_table(pa.table(arrays))
        try:
            Flow(ArrowHome(path="in.arrow"), store, name="f", engine="inline").run()
        except FlowFailed as refused:
            del arrays[re.search(r"'(c\d+)[.']", str(refused))[1]]
        else:
            return types()


def of_duckdb():
    with duckdb.connect("t.duckdb") as database:
        return {name: kind for name, kind, *_ in database.execute("DESCRIBE t").fetchall()}


def of_delta():
    fields = json.loads(DeltaTable("delta").schema().to_json())["fields"]
    return {field["name"]: in_delta(field["type"]) for field in fields}


def in_delta(kind):
    """Return a type of Delta as SQL writes it."""
    if isinstance(kind, str):
        return kind
    inner = {
        "array": ["elementType"], "map": ["keyType", "valueType"], "struct": []
    }[kind["type"]]  # fmt: skip
    parts = [in_delta(kind[name]) for name in inner]
    parts += [f"{field['name']}: {in_delta(field['type'])}" for field in kind.get("fields", ())]
    return f"{kind['type']}<{', '.join(parts)}>"


def of_iceberg(catalog):
    fields = load_catalog("default", **catalog).load_table("a.t").schema().fields
    return {
        each.name: re.sub(r"\d+: (\w+): optional ", r"\1: ", str(each.field_type))
        for each in fields
    }
