"""The cursor of a MariaDB Home: how far a run reads, and the condition that says so."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge.connectors.mariadb.catalog import Known
from hygge.connectors.mariadb.session import literal, one, quoted
from hygge.connectors.sql.ask import Ask, null_note, tie_note
from hygge.connectors.sql.types import from_json, to_json
from hygge.errors import ConfigError
from hygge.model import Watermark

_GROWS = (
    "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "date",
    "datetime", "datetime utc", "timestamp", "year", "char", "varchar", "tinytext", "text",
    "mediumtext", "longtext", "uuid",
)  # fmt: skip
"""Columns that may be a cursor."""


def upper_bound(
    connection: Any, ask: Ask, by_name: dict[str, Known], source: str, since: Watermark
) -> tuple[Watermark, list[str]]:
    if ask.cursor is None:
        return None, []
    cursor = by_name[ask.cursor]
    if cursor.kind not in _GROWS:
        raise ConfigError(
            f"{ask.who}: cursor '{cursor.name}' is {cursor.native}",
            "a cursor is a number, a date, a timestamp or a text",
        )
    column = value_of(cursor)
    # The highest beyond `since`, so that deleted rows do not take the watermark back.
    beyond = f"CASE WHEN {column} > {literal(_typed(cursor, since))} THEN {column} END"
    found = column if since is None else beyond
    where = f" WHERE ({ask.where}\n)" if ask.where else ""
    highest, absent = one(
        connection, f"SELECT MAX({found}), COUNT(*) - COUNT({column}) FROM {source}{where}"
    )
    upper = since if highest is None else to_json(highest)
    return upper, [*null_note(ask, since, int(absent)), *tie_note(ask, upper)]


def window(ask: Ask, cursor: Known, since: Watermark, upper: Watermark) -> str:
    """What a run reads: beyond the last one's watermark, up to its own."""
    column = value_of(cursor)
    inside = f"{column} <= {literal(_typed(cursor, upper))}"
    if since is not None:
        beyond = ">=" if ask.options.cursor_ties == "read" else ">"
        inside = f"({column} {beyond} {literal(_typed(cursor, since))} AND {inside})"
    if since is None or ask.options.null_cursor == "read":
        inside = f"({inside} OR {column} IS NULL)"
    return inside


def _typed(known: Known, value: Watermark) -> Any:
    """A watermark as the value that its column compares with."""
    kinds = {"date": pa.date32(), "decimal": pa.decimal128(38, 0)}
    return from_json(value, kinds[known.kind]) if known.kind in kinds else value


def value_of(known: Known) -> str:
    """A column as a condition or an aggregate compares it."""
    name = quoted(known.name)
    return f"CAST({name} AS DOUBLE)" if known.kind == "float" else name
