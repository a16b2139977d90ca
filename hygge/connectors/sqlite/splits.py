"""Ranges of a key of SQLite: which key, and the bounds between them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge.connectors.sql import splits as sql_splits
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sqlite import catalog, session
from hygge.connectors.sqlite.database import table_name


def split_key(connection: Any, kept: list[catalog.Kept], ask: Ask) -> tuple[str | None, str]:
    """The SQL name to split by, and what to call it."""
    if ask.options.splits == 1:
        return None, ""
    if ask.split_by is not None:
        return session.quote(ask.split_by), ask.split_by
    table = table_name(ask.table or "")
    if ask.query is not None or catalog.kind_of(connection, table) != "table":
        return None, ""
    rowid = catalog.rowid_of(connection, table)
    if rowid:
        return rowid, rowid
    primary = [each for each in kept if each.key]
    return (session.quote(primary[0].name), primary[0].name) if len(primary) == 1 else (None, "")


def is_long(kind: Any) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def size_of(
    connection: Any,
    source: str,
    lengths: list[str],
    conditions: list[str],
    values: list[Any],
    ask: Ask,
) -> tuple[int, float]:
    """Rows, and bytes of a row's long values as the first ones have them."""
    rows = session.one(
        connection, f"SELECT count(*) FROM {source} AS h{where_clause(conditions)}", *values
    )
    if not lengths or not rows:
        return rows, 0.0
    total = " + ".join(f"coalesce({each}, 0)" for each in lengths)
    first = f"SELECT {total} AS size FROM {source} AS h{where_clause(conditions)} LIMIT 500"
    return rows, session.one(connection, f"SELECT avg(size) FROM ({first})", *values) or 0.0


def bounds_between(
    connection: Any,
    source: str,
    key: str,
    conditions: list[str],
    values: list[Any],
    rows: int,
    count: int,
) -> list[Any]:
    """Inner bounds of `count` ranges; none where the key has no values that can be compared."""
    present = [*conditions, f"h.{key} IS NOT NULL"]
    low, high, classes, held = connection.execute(
        f"SELECT min(h.{key}), max(h.{key}), group_concat(DISTINCT typeof(h.{key})), count(*) "
        f"FROM {source} AS h{where_clause(present)}",
        values,
    ).fetchone()
    if classes == "integer" and sql_splits.dense(low, high, held):
        return sql_splits.even(low, high, count)
    if classes not in ("integer", "text"):
        return []
    at = sql_splits.places(held, count)
    if not at:
        return []
    numbered = f"SELECT h.{key} AS k, row_number() OVER (ORDER BY h.{key}) AS n FROM {source} AS h"
    picked = connection.execute(
        f"SELECT k FROM ({numbered}{where_clause(present)}) WHERE n IN ({', '.join(map(str, at))}) "
        "ORDER BY n",
        values,
    )
    return sql_splits.bounds_of([bound for (bound,) in picked])


def where_clause(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
