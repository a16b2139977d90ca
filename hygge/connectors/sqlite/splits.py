"""Ranges of a SQLite table's rowid or key: which column to use, and the bounds between ranges."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import pyarrow as pa

from hygge.connectors.sql import splits
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sqlite.catalog import Column, kind_of, rowid_of
from hygge.connectors.sqlite.cursor import where_clause
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.session import Value, fetch_value, quoted

_MEASURED_ROWS = 500


def split_key(
    connection: sqlite3.Connection, columns: Sequence[Column], ask: Ask
) -> tuple[str | None, str]:
    """Return the column to split by, as SQL and for people; (None, "") where there is none."""
    if ask.options.splits == 1:
        return None, ""
    if ask.split_by is not None:
        return quoted(ask.split_by), ask.split_by
    table = table_name(ask.table or "")
    if ask.query is not None or kind_of(connection, table) != "table":
        return None, ""
    rowid = rowid_of(connection, table)
    if rowid:
        return rowid, rowid
    key = [column.name for column in columns if column.key]
    if len(key) == 1:
        return quoted(key[0]), key[0]
    return None, ""


def is_long(kind: pa.DataType) -> bool:
    """Whether the values of a type have no fixed length."""
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def measure(
    connection: sqlite3.Connection,
    source: str,
    lengths: Sequence[str],
    conditions: Sequence[str],
    values: Sequence[Value],
) -> tuple[int, float]:
    """Return the number of rows, and the mean bytes of a row's long values in the first rows.

    `lengths` are SQL expressions, one for each long column.
    """
    where = where_clause(conditions)
    rows = fetch_value(connection, f"SELECT count(*) FROM {source} AS h{where}", *values)
    if not lengths or not rows:
        return rows, 0.0
    total = " + ".join(f"coalesce({length}, 0)" for length in lengths)
    first = f"SELECT {total} AS size FROM {source} AS h{where} LIMIT {_MEASURED_ROWS}"
    return rows, fetch_value(connection, f"SELECT avg(size) FROM ({first})", *values) or 0.0


def bounds(
    connection: sqlite3.Connection,
    source: str,
    key: str,
    conditions: Sequence[str],
    values: Sequence[Value],
    count: int,
) -> list[Value]:
    """Return the inner bounds of `count` ranges; none where the key's values have no order."""
    where = where_clause([*conditions, f"h.{key} IS NOT NULL"])
    low, high, classes, present = connection.execute(
        f"SELECT min(h.{key}), max(h.{key}), group_concat(DISTINCT typeof(h.{key})), count(*) "
        f"FROM {source} AS h{where}",
        values,
    ).fetchone()
    if classes == "integer" and splits.dense(low, high, present):
        return list(splits.even(low, high, count))
    if classes not in ("integer", "text"):
        return []
    positions = splits.places(present, count)
    if not positions:
        return []
    # The keys at equal steps of their order: each begins a range.
    numbered = f"SELECT h.{key} AS k, row_number() OVER (ORDER BY h.{key}) AS n FROM {source} AS h"
    picked = connection.execute(
        f"SELECT k FROM ({numbered}{where}) WHERE n IN ({', '.join(map(str, positions))}) "
        "ORDER BY n",
        values,
    )
    return splits.bounds_of([bound for (bound,) in picked])
