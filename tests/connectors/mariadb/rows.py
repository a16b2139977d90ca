"""Tables of MariaDB for its tests: written and read by pymysql alone, and by hygge.

`create_table` and `read_directly` know nothing of hygge, so that they can check it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from hygge import SQLHome, SQLStore
from hygge.model import Run, Ticket
from hygge.store import new_run_id


def column_type(kind: pa.DataType) -> str:
    """Return the column type that holds all values of an Arrow type; ValueError if none does."""
    t: Any = pa.types
    names = {
        pa.bool_(): "tinyint(1)", pa.int8(): "tinyint", pa.int16(): "smallint",
        pa.int32(): "int", pa.int64(): "bigint", pa.uint8(): "tinyint unsigned",
        pa.uint16(): "smallint unsigned", pa.uint32(): "int unsigned",
        pa.uint64(): "bigint unsigned", pa.float16(): "float", pa.float32(): "float",
        pa.float64(): "double", pa.date32(): "date", pa.date64(): "date",
    }  # fmt: skip
    if kind in names:
        return names[kind]
    if t.is_string(kind) or t.is_large_string(kind):
        return "longtext character set utf8mb4 collate utf8mb4_bin"
    if t.is_binary(kind) or t.is_large_binary(kind):
        return "longblob"
    if t.is_decimal(kind) and kind.precision <= 65:
        return f"decimal({kind.precision},{kind.scale})"
    if t.is_time(kind) and kind.unit != "ns":
        return "time(6)"
    if t.is_timestamp(kind) and kind.unit != "ns" and kind.tz is None:
        return "datetime(6)"
    raise ValueError(f"MariaDB has no {kind}")


def parameter(item: pa.Scalar) -> object:
    """Return a value as pymysql takes it, without loss."""
    if not item.is_valid:
        return None
    found = item.as_py()
    if isinstance(found, Decimal):
        return str(found)
    return repr(found) if isinstance(found, float) else found


def create_table(server: Any, schema: str, name: str, table: pa.Table) -> None:
    """Create a table with these rows."""
    columns = ", ".join(f"`{each.name}` {column_type(each.type)}" for each in table.schema)
    marks = ", ".join(["%s"] * table.num_columns)
    with server.connect(database=schema) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'STRICT_ALL_TABLES'")
        cursor.execute(f"CREATE TABLE `{name}` ({columns})")
        rows = [[parameter(each) for each in row] for row in zip(*table.columns, strict=True)]
        cursor.execute("START TRANSACTION")
        cursor.executemany(f"INSERT INTO `{name}` VALUES ({marks})", rows)
        cursor.execute("COMMIT")


_SEEN = {
    1: pa.int8(), 2: pa.int16(), 3: pa.int32(), 4: pa.float32(), 5: pa.float64(),
    7: pa.timestamp("us"), 8: pa.int64(), 9: pa.int32(), 10: pa.date32(), 11: pa.time64("us"),
    12: pa.timestamp("us"),
}  # fmt: skip
_UNSIGNED = {1: pa.uint8(), 2: pa.uint16(), 3: pa.uint32(), 8: pa.uint64(), 9: pa.uint32()}


def read_directly(server: Any, schema: str, name: str) -> pa.Table | None:
    """Return a table as pymysql reads it, in the types of its result; None if there is no table."""
    there = server.ask(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
        schema, name,
    )  # fmt: skip
    if not there:
        return None
    table = "`" + name.replace("`", "``") + "`"
    with server.connect(database=schema) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        fields, rows = cursor._result.fields, cursor.fetchall()
        narrow = [f"CAST(`{each.name}` AS DOUBLE)" for each in fields if each.type_code == 4]
        exact: list[Any] = []
        if narrow:
            cursor.execute(f"SELECT {', '.join(narrow)} FROM {table}")
            exact = list(zip(*cursor.fetchall(), strict=True))
    told = server.ask(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = %s "
        "AND table_name = %s AND column_comment = 'UTC'",
        schema, name,
    )  # fmt: skip
    arrays = []
    for at, field in enumerate(fields):
        values = [row[at] for row in rows]
        if field.type_code == 246:
            precision = field.length - (field.scale > 0) - (not field.flags & 32)
            make = pa.decimal128 if precision <= 38 else pa.decimal256
            kind: Any = make(precision, field.scale)
        elif field.type_code == 1 and field.length == 1:
            kind, values = pa.bool_(), [None if v is None else bool(v) for v in values]
        elif field.flags & 32 and field.type_code in _UNSIGNED:
            kind = _UNSIGNED[field.type_code]
        elif field.type_code == 4:
            kind, values = pa.float32(), list(exact.pop(0)) if exact else []
        elif (field.name,) in told:
            kind = pa.timestamp("us", "UTC")
        elif field.type_code in _SEEN:
            kind = _SEEN[field.type_code]
            if field.type_code == 11:
                values = [
                    None if v is None else (datetime(1970, 1, 1) + v).time()
                    for v in values
                    if v is None or isinstance(v, timedelta)
                ]
        else:
            kind = pa.binary() if field.charsetnr == 63 else pa.string()
        arrays.append(pa.array(values, kind))
    return pa.table(arrays, names=[each.name for each in fields])


ROWS = pa.table({"id": [1, 2, 3], "v": ["a", "b", None]})


def home_at(my, schema, table="t", **more):
    return SQLHome(table, connection=my.url(schema), **more)


def read(home, since=None):
    """Return the rows that a Home gives, and its plan."""
    with home.open(since) as plan:
        tables = [table for split in plan.splits for table in home.read(split)]
        schema = pa.schema([(each.name, each.type) for each in plan.columns])
        return pa.concat_tables([schema.empty_table(), *[t.cast(schema) for t in tables]]), plan


def store_at(my, schema, table="t", **more):
    return SQLStore(table, connection=my.url(schema), **more)


def commit_run(store, *splits, mode="replace", flow="f", key=(), cursor=None, base=...):
    """Prepare, stage and commit one run of these splits; return the Commit."""
    run = Run(new_run_id(), flow, mode, tuple(key), cursor)
    base = store.head(flow) if base is ... else base
    try:
        store.prepare(run, splits[0].schema)
        receipts = [
            store.stage(Ticket(run.id, at), rows.schema, iter([rows]))
            for at, rows in enumerate(splits)
        ]
        return store.commit(run, base, receipts, None)
    finally:
        store.discard(run)


def table_names(my, schema):
    """Return the tables of a schema, without heads and ledger."""
    found = my.ask(
        f"SELECT table_name FROM information_schema.tables WHERE table_schema='{schema}'"
    )
    return sorted(name for (name,) in found if name not in ("_hygge_heads", "_hygge_ledger"))
