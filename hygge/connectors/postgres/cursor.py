"""The cursor of PostgreSQL: the highest value now, and what lies between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any

from hygge.connectors.postgres.catalog import Field
from hygge.connectors.postgres.session import quoted
from hygge.connectors.postgres.splits import typed
from hygge.connectors.sql.ask import Ask, null_note, tie_note
from hygge.model import Watermark

_READ_BY: dict[int, Any] = {
    20: int, 21: int, 23: int, 700: float, 701: float,
    1082: lambda text: _iso(date, text), 1083: lambda text: _iso(time, text),
    1114: lambda text: _iso(datetime, text), 1184: lambda text: _iso(datetime, text),
}  # fmt: skip


class Cursor:
    """The column `field` as the cursor of `ask`."""

    def __init__(self, ask: Ask, field: Field) -> None:
        self.ask, self.field, self.name = ask, field, quoted(field.name)

    def between(self, since: Watermark, upper: Watermark) -> str:
        """SQL of the rows that a run reads."""
        absent = f"{self.name} IS NULL"
        if upper is None:
            return f"({absent})"
        inside = f"{self.name} <= {typed(upper, self.field)}"
        if since is not None:
            above = ">=" if self.ask.options.cursor_ties == "read" else ">"
            inside = f"{self.name} {above} {typed(since, self.field)} AND {inside}"
        if since is None or self.ask.options.null_cursor == "read":
            inside = f"{inside} OR {absent}"
        return f"({inside})"


def watermark(
    connection: Any, cursor: Cursor, source: str, conditions: Sequence[str], since: Watermark
) -> tuple[Watermark, list[str]]:
    """The highest cursor value now, and what a reader of the plan should know.

    Beyond `since` only, so that deleted rows do not take the watermark back.
    """
    name, field = cursor.name, cursor.field
    beyond = [] if since is None else [f"{name} > {typed(since, field)}"]

    def asked(what: str, more: Sequence[str]) -> Any:
        where = " AND ".join([*conditions, *more])
        select = f"SELECT {what} FROM {source}" + (f" WHERE {where}" if where else "")
        return connection.execute(select).fetchone()[0]

    highest = asked(f"max({name})::text", beyond)
    absent = asked("count(*)", [f"{name} IS NULL"]) if field.nullable else 0
    upper = since if highest is None else _READ_BY.get(field.oid, str)(highest)
    return upper, [*null_note(cursor.ask, since, absent), *tie_note(cursor.ask, upper)]


def _iso(kind: Any, text: str) -> str:
    """ISO 8601 where it can say the value; else (BC, infinity) the database's own text."""
    try:
        return str(kind.fromisoformat(text).isoformat())
    except ValueError:
        return text
