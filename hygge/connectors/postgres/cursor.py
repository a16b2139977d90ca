"""The cursor column of PostgreSQL: its highest value now, and the rows between two runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from hygge.connectors.postgres import session
from hygge.connectors.postgres.catalog import Column
from hygge.connectors.postgres.session import quoted
from hygge.connectors.postgres.splits import typed_literal
from hygge.connectors.sql.ask import Ask, null_note, tie_note
from hygge.connectors.sql.lag import lowered
from hygge.connectors.sql.watermarks import check_end, check_forms, check_uuid, forms_query
from hygge.model import Watermark

if TYPE_CHECKING:
    import psycopg

_PARSERS: dict[int, Callable[[str], Watermark]] = {
    20: int, 21: int, 23: int, 700: float, 701: float,
    1082: lambda text: _iso(date, text), 1083: lambda text: _iso(time, text),
    1114: lambda text: _iso(datetime, text), 1184: lambda text: _iso(datetime, text),
}  # fmt: skip
"""Turns the database's text into a watermark, by the number of the type; other types stay text."""


_TEXTS = (18, 19, 25, 1042, 1043)
_NUMERIC, _UUID = 1700, 2950


class Cursor:
    """The cursor column of one table or query."""

    def __init__(self, ask: Ask, column: Column) -> None:
        self.ask, self.column, self.name = ask, column, quoted(column.name)

    def between(self, since: Watermark, upper: Watermark, leaves_upper: bool = False) -> str:
        """Return the SQL condition of the rows that a run reads: above `since`, up to `upper`.

        `leaves_upper`: the rows at `upper` are left out, since the boundary has them.
        """
        is_null = f"{self.name} IS NULL"
        if upper is None:
            return f"({is_null})"
        below, high = ("<", lowered(self.ask, upper)) if leaves_upper else ("<=", upper)
        condition = f"{self.name} {below} {typed_literal(high, self.column)}"
        if since is not None:
            above, low = (">=", lowered(self.ask, since)) if self.ask.reads_ties else (">", since)
            condition = f"{self.name} {above} {typed_literal(low, self.column)} AND {condition}"
        if since is None or self.ask.options.null_cursor == "read":
            condition = f"{condition} OR {is_null}"
        return f"({condition})"

    def at(self, value: Watermark, since: Watermark = None) -> str:
        """Return the SQL condition of the rows at a watermark: down to the lag, above `since`."""
        low, column = lowered(self.ask, value), self.column
        if low == value:
            return f"{self.name} = {typed_literal(value, column)}"
        beyond = "" if since is None else f"{self.name} > {typed_literal(since, column)} AND "
        within = f"BETWEEN {typed_literal(low, column)} AND {typed_literal(value, column)}"
        return f"{beyond}{self.name} {within}"


def watermark(
    connection: psycopg.Connection,
    cursor: Cursor,
    source: str,
    conditions: Sequence[str],
    since: Watermark,
) -> tuple[Watermark, list[str]]:
    """Return the highest cursor value now, and notes for whoever reads the plan.

    It looks beyond `since` only, so that deleted rows do not take the watermark back.
    """
    ask, name, column = cursor.ask, cursor.name, cursor.column
    beyond = [] if since is None else [f"{name} > {typed_literal(since, column)}"]

    def select(expression: str, more: Sequence[str], order: str = "") -> Any:
        where = " AND ".join([*conditions, *more])
        statement = f"SELECT {expression} FROM {source}" + (f" WHERE {where}" if where else "")
        rows = session.fetch_all(connection, f"{statement}{order} LIMIT 1")
        return rows[0][0] if rows else None

    oid = column.oid
    if oid == _UUID:
        present = [*beyond, f"{name} IS NOT NULL"]
        check_uuid(ask, select(f"{name}::text", [*present, f"substr({name}::text, 15, 1) <> '7'"]))
        highest = select(f"{name}::text", present, f" ORDER BY {name} DESC")
    else:
        highest = select(f"max({name})::text", beyond)
        if oid not in _PARSERS and oid != _NUMERIC:
            _check_forms(connection, cursor, source, conditions, since)
    null_rows = select("count(*)", [f"{name} IS NULL"]) if column.nullable else 0
    upper = since if highest is None else _PARSERS.get(oid, str)(highest)
    check_end(ask, upper, oid in _TEXTS)
    return upper, [*null_note(ask, since, null_rows), *tie_note(ask, upper)]


def _check_forms(
    connection: psycopg.Connection,
    cursor: Cursor,
    source: str,
    conditions: Sequence[str],
    since: Watermark,
) -> None:
    """Raise HomeError if the texts of the cursor do not sort as what they mean."""
    text = f"{cursor.name}::text"
    condition = " AND ".join([*conditions, f"{cursor.name} IS NOT NULL"])
    form = f"translate({text}, '123456789', '000000000')"

    def zones(at: int) -> tuple[str, str]:
        end = f"substr({text}, {at})"
        select = f"SELECT min({end}), max({end}) FROM {source} WHERE {condition}"
        low, high = session.fetch_one(connection, select)
        return low, high

    rows = session.fetch_all(connection, forms_query(form, text, source, condition))
    check_forms(cursor.ask, rows, since, zones)


def _iso(kind: type[date] | type[time], text: str) -> str:
    """The value as ISO 8601; the database's own text where that cannot say it (BC, infinity)."""
    try:
        return kind.fromisoformat(text).isoformat()
    except ValueError:
        return text
