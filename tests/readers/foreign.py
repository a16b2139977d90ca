"""Readers and writers that know nothing of hygge, for the contracts of file connectors."""

from __future__ import annotations

from pathlib import Path


def dataset_rows(kind):
    """`rows` of a StoreContract: what pyarrow.dataset sees in a directory."""
    import pyarrow.dataset as ds

    def rows(self, store):
        files = ds.dataset(store.path, format=kind).files if Path(store.path).is_dir() else []
        return ds.dataset(files, format=kind).to_table() if files else None

    return rows


def plant_file(self, store):
    """`plant_foreign` of a StoreContract: a file that somebody else put there."""
    file = Path(store.path) / "theirs.txt"
    file.parent.mkdir(parents=True)
    file.write_text("theirs")
    return lambda: file.exists() and file.read_text() == "theirs"


def sqlite_rows(self, store):
    """`rows` of a StoreContract: whether sqlite3 sees the table, and what it declares is in it."""
    import sqlite3
    from contextlib import closing

    import pyarrow as pa

    from hygge import SQLHome

    path = store.settings.connection.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        found = "SELECT count(*) FROM sqlite_master WHERE name = ?"
        if not database.execute(found, [store.table]).fetchone()[0]:
            return None
    # SQLite's own types are too few to compare by: the declared ones are read as hygge reads them.
    with SQLHome(store.table, connection=store.settings.connection).open() as plan:
        home = SQLHome(store.table, connection=store.settings.connection)
        tables = [batch for split in plan.splits for batch in home.read(split)]
        schema = pa.schema([(column.name, column.type) for column in plan.columns])
    return pa.concat_tables([schema.empty_table(), *tables])


def plain(scalar):
    """A value as JSON has it; what JSON has no form for, as text."""
    import base64
    import math

    import pyarrow as pa

    t, kind = pa.types, scalar.type
    if not scalar.is_valid:
        return None
    if t.is_struct(kind):
        return {kind.field(at).name: plain(scalar[at]) for at in range(kind.num_fields)}
    if t.is_nested(kind):
        return [plain(each) for each in scalar.values]
    if t.is_timestamp(kind) and kind.tz:
        scalar = scalar.cast(pa.timestamp(kind.unit, "UTC"))
    if t.is_temporal(kind):
        return str(scalar.value) if t.is_duration(kind) else scalar.cast(pa.string()).as_py()
    value = scalar.as_py()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if t.is_decimal(kind):
        return f"{value:f}"
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def write_csv(table, path):
    """What a plain program writes: every text in quotes, NULL as nothing."""
    import json

    def cell(scalar):
        value = plain(scalar)
        if isinstance(scalar.as_py() if value else value, str):
            return '"' + value.replace('"', '""') + '"'
        return "" if value is None else value if isinstance(value, str) else json.dumps(value)

    rows = (",".join(map(cell, row)) + "\n" for row in zip(*table.columns, strict=True))
    path.write_text("".join([",".join(table.column_names) + "\n", *rows]), newline="")


def write_jsonl(table, path):
    import json

    rows = (map(plain, row) for row in zip(*table.columns, strict=True))
    lines = (json.dumps(dict(zip(table.column_names, row, strict=True))) + "\n" for row in rows)
    path.write_text("".join(lines))


def type_words(schema):
    """The words of `types:` for a schema, for formats of text that hold none themselves."""
    words = {"float": "float32", "date64[ms]": "date", "time32[s]": "time", "time32[ms]": "time"}
    return {f.name: words.get(str(f.type), str(f.type).replace("large_", "")) for f in schema}


def text_options(table, batch_rows):
    """Options of a Home over a file of text that holds this table: several splits, stated types."""
    split_bytes = table.nbytes // 8 + 999
    return {"batch_size": batch_rows, "split_bytes": split_bytes, "types": type_words(table.schema)}


def without_a_row(home):
    """`change` of a HomeContract: the second line is taken out of its file."""
    lines = Path(home.path).read_bytes().splitlines(keepends=True)
    Path(home.path).write_bytes(b"".join([lines[0], *lines[2:]]))


def text_rows(home, records):
    """`rows` of a StoreContract for a format without types.

    The file tells no types: they are stated, as whoever reads it would, and hygge's own Home reads
    it. `records` reads each file as lists of cells, and must find the same rows and texts.
    """
    import base64
    import json

    import pyarrow as pa

    def rows(self, store):
        heads = sorted(Path(store.path).rglob("_hygge.json"))
        files = sorted(each for each in Path(store.path).rglob("part-*"))
        if not files:
            return None
        sealed = base64.b64decode(json.loads(heads[0].read_bytes())["schema"])
        schema = pa.ipc.read_schema(pa.py_buffer(sealed))
        reading = home(path=store.path, options={"types": type_words(schema)})
        with reading.open() as plan:
            tables = [batch for split in plan.splits for batch in reading.read(split)]
            kinds = pa.schema([(column.name, column.type) for column in plan.columns])
        table = pa.concat_tables([kinds.empty_table(), *tables])
        found = [record for file in files for record in records(file)]
        assert len(found) == table.num_rows, f"{len(found)} records, {table.num_rows} rows"
        for at, field in enumerate(table.schema):
            if pa.types.is_string(field.type):
                texts = [text or "" for text in table.column(at).to_pylist()]
                assert [record[at] or "" for record in found] == texts
        return table.cast(schema)

    return rows


def csv_records(path):
    import csv

    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def jsonl_records(path):
    import json

    lines = path.read_bytes().split(b"\n")[:-1]
    return [list(json.loads(line).values()) for line in lines]


def duckdb_rows(self, store):
    """`rows` of a StoreContract: what DuckDB sees of the table, as it gives it to Arrow."""
    import os

    import duckdb

    path = store.settings.connection.removeprefix("duckdb:///")
    if not os.path.exists(path):
        return None
    with duckdb.connect(path, read_only=True) as database:
        database.execute("SET TimeZone = 'UTC'")
        found = "SELECT 1 FROM duckdb_tables() WHERE table_name = ?"
        if not database.execute(found, [store.table]).fetchall():
            return None
        return database.sql(f'SELECT * FROM "{store.table}"').to_arrow_reader().read_all()
