"""The cursor of a MariaDB Home: the upper bound of a run, and the condition of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.mariadb.catalog import Column
from hygge.connectors.mariadb.session import fetch_all, fetch_one, literal, quoted
from hygge.connectors.sql.ask import Ask, null_note, tie_note
from hygge.connectors.sql.lag import lowered
from hygge.connectors.sql.ties import MOST_ROWS
from hygge.connectors.sql.types import from_json, to_json
from hygge.connectors.sql.watermarks import check_end, check_forms, forms_query, zeroed
from hygge.errors import ConfigError
from hygge.model import Watermark

if TYPE_CHECKING:
    from pymysql.connections import Connection

_ORDERED = (
    "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "date",
    "datetime", "datetime utc", "timestamp", "year", "char", "varchar", "tinytext", "text",
    "mediumtext", "longtext", "uuid",
)  # fmt: skip
"""Kinds of columns that may be a cursor."""
_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext")
_PARSED = {"date": pa.date32(), "decimal": pa.decimal128(38, 0)}
"""Kinds whose watermark, a text in JSON, is no literal of SQL."""


def upper_bound(
    connection: Connection, ask: Ask, columns: Mapping[str, Column], source: str, since: Watermark
) -> tuple[Watermark, list[str]]:
    """Return the highest cursor value now, and notes about rows that the cursor misses.

    Raises ConfigError if the column has no order that a cursor can follow.
    """
    if ask.cursor is None:
        return None, []
    cursor = columns[ask.cursor]
    if cursor.kind not in _ORDERED:
        raise ConfigError(
            f"{ask.who}: cursor '{cursor.name}' is {cursor.native}",
            "a cursor is a number, a date, a timestamp or a text",
        )
    value = compared(cursor)
    counted = value
    if since is not None:
        # Deleted rows must not take the watermark back: only values beyond `since` count.
        counted = f"CASE WHEN {value} > {_literal(cursor, since)} THEN {value} END"
    where = f" WHERE ({ask.where}\n)" if ask.where else ""
    highest, nulls = fetch_one(
        connection, f"SELECT MAX({counted}), COUNT(*) - COUNT({value}) FROM {source}{where}"
    )
    upper = since if highest is None else to_json(highest)
    check_end(ask, upper, cursor.kind in _TEXTS)
    return upper, [*null_note(ask, since, int(nulls)), *tie_note(ask, upper)]


def check_values(
    connection: Connection, ask: Ask, columns: Mapping[str, Column], source: str, since: Watermark
) -> None:
    """Raise HomeError if the cursor's texts do not sort as what they mean, or uuids do not grow."""
    if ask.cursor is None or columns[ask.cursor].kind not in (*_TEXTS, "uuid"):
        return
    name = quoted(ask.cursor)
    text = f"CAST({name} AS CHAR)" if columns[ask.cursor].kind == "uuid" else name
    filtered = f" AND ({ask.where}\n)" if ask.where else ""
    condition = f"{name} IS NOT NULL{filtered}"

    def zones(at: int) -> tuple[str, str]:
        end = f"SUBSTR({text}, {at})"
        select = f"SELECT MIN({end}), MAX({end}) FROM {source} WHERE {condition}"
        low, high = fetch_one(connection, select)
        return low, high

    rows = fetch_all(connection, forms_query(zeroed(text), text, source, condition))
    check_forms(ask, rows, since, zones)


def window(ask: Ask, cursor: Column, since: Watermark, upper: Watermark, leaves_upper: bool) -> str:
    """Return the condition of a run's rows: beyond `since`, and up to `upper`.

    `leaves_upper`: the rows at `upper` are left out, since the boundary has them.
    """
    value = compared(cursor)
    below, high = ("<", lowered(ask, upper)) if leaves_upper else ("<=", upper)
    condition = f"{value} {below} {_literal(cursor, high)}"
    if since is not None:
        above, low = (">=", lowered(ask, since)) if ask.reads_ties else (">", since)
        condition = f"({value} {above} {_literal(cursor, low)} AND {condition})"
    if since is None or ask.options.null_cursor == "read":
        condition = f"({condition} OR {value} IS NULL)"
    return condition


def remembers(
    connection: Connection,
    ask: Ask,
    cursor: Column,
    source: str,
    since: Watermark,
    upper: Watermark,
) -> bool:
    """Return whether the rows at the next watermark are remembered: the boundary has them."""
    if not ask.remembers_ties or upper in (None, since):
        return False
    filtered = f"({ask.where}\n) AND " if ask.where else ""
    condition = filtered + at(ask, cursor, upper, since)
    rows = f"SELECT 1 FROM {source} WHERE {condition} LIMIT {MOST_ROWS + 1}"
    (count,) = fetch_one(connection, f"SELECT COUNT(*) FROM ({rows}) AS h")
    return int(count) <= MOST_ROWS


def at(ask: Ask, cursor: Column, value: Watermark, since: Watermark = None) -> str:
    """Return the condition of the rows at a watermark: down to the lag, above `since`."""
    low, name = lowered(ask, value), compared(cursor)
    if low == value:
        return f"{name} = {_literal(cursor, value)}"
    beyond = "" if since is None else f"{name} > {_literal(cursor, since)} AND "
    return f"{beyond}{name} BETWEEN {_literal(cursor, low)} AND {_literal(cursor, value)}"


def compared(column: Column) -> str:
    """Return SQL of a column's value as it is compared: a FLOAT by its exact double."""
    name = quoted(column.name)
    return f"CAST({name} AS DOUBLE)" if column.kind == "float" else name


def _literal(column: Column, value: Watermark) -> str:
    if column.kind in _PARSED:
        return literal(from_json(value, _PARSED[column.kind]))
    return literal(value)
