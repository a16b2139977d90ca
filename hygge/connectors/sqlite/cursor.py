"""The cursor of a SQLite Home: how far a run reads, and the condition that says so."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge.connectors.sql.ask import Ask, null_note, tie_note
from hygge.connectors.sqlite import catalog, session
from hygge.connectors.sqlite.types import arrow_for
from hygge.errors import ConfigError, HomeError
from hygge.model import Watermark


def upper_bound(
    connection: Any, source: str, kept: list[catalog.Kept], ask: Ask, since: Watermark
) -> tuple[Watermark, list[str]]:
    """The highest cursor now, and what is to be said about rows that have none."""
    if ask.cursor is None:
        return None, []
    cursor = f"h.{session.quote(ask.cursor)}"
    declared = next(each.declared for each in kept if each.name == ask.cursor)
    if declared.upper().startswith(("U64_TEXT", "DECIMAL")) and "TEXT" in declared.upper():
        raise ConfigError(
            f"{ask.who}: cursor '{ask.cursor}' is kept as text ({declared}), which does not sort "
            "as a number",
            "use an integer or timestamp column as the cursor",
        )
    filtered = f" AND ({ask.where})" if ask.where else ""
    kinds = connection.execute(
        f"SELECT DISTINCT typeof({cursor}) FROM {source} AS h WHERE {cursor} IS NOT NULL{filtered}"
    ).fetchall()
    if len(kinds) > 1 and {kind for (kind,) in kinds} != {"integer", "real"}:
        raise HomeError(
            f"{ask.who}: cursor '{ask.cursor}' holds {' and '.join(k for (k,) in kinds)} values, "
            "which have no common order",
            "mend the values, or move the table with `mode: replace` and no cursor",
        )
    if kinds == [("text",)]:
        _check_one_form(connection, source, cursor, ask, arrow_for(declared))
    beyond = f"{cursor} > ?" if since is not None else f"{cursor} IS NOT NULL"
    upper = session.one(
        connection,
        f"SELECT max({cursor}) FROM {source} AS h WHERE {beyond}{filtered}",
        *([since] if since is not None else []),
    )
    if isinstance(upper, bytes):
        raise ConfigError(f"{ask.who}: cursor '{ask.cursor}' holds blobs", "use another column")
    without = session.one(
        connection, f"SELECT count(*) FROM {source} AS h WHERE {cursor} IS NULL{filtered}"
    )
    upper = since if upper is None else upper
    return upper, [*null_note(ask, since, without or 0), *tie_note(ask, upper)]


def _check_one_form(connection: Any, source: str, cursor: str, ask: Ask, kind: Any) -> None:
    """Moments compared as text sort rightly only where all have one form."""
    if kind is None or not pa.types.is_temporal(kind):
        return
    forms = connection.execute(
        f"SELECT DISTINCT substr({cursor}, 5, 1) || substr({cursor}, 8, 1) || "
        f"substr({cursor}, 11, 1) || CASE WHEN {cursor} LIKE '%Z' THEN 'Z' "
        f"WHEN substr({cursor}, -6, 1) IN ('+', '-') AND length({cursor}) > 11 "
        f"THEN substr({cursor}, -6) ELSE '' END FROM {source} AS h WHERE {cursor} IS NOT NULL"
        + (f" AND ({ask.where})" if ask.where else "")
    ).fetchall()
    if len(forms) > 1 and not pa.types.is_time(kind):
        raise HomeError(
            f"{ask.who}: cursor '{ask.cursor}' holds moments written in {len(forms)} forms, which "
            "do not sort as text",
            "write all of them as 'YYYY-MM-DD HH:MM:SS', or use another cursor",
        )


def cursor_conditions(ask: Ask, since: Any, upper: Any, values: list[Any]) -> list[str]:
    conditions = [f"({ask.where})"] if ask.where else []
    if ask.cursor is None:
        return conditions
    bind, cursor = binder(values), f"h.{session.quote(ask.cursor)}"
    if upper is None:
        return conditions  # no row has a cursor value
    # Values are bound in the order of their marks.
    more = ">=" if ask.options.cursor_ties == "read" else ">"
    beyond = f"{cursor} {more} {bind(since)} AND " if since is not None else ""
    inside = f"{beyond}{cursor} <= {bind(upper)}"
    if since is None or ask.options.null_cursor == "read":
        inside = f"({inside} OR {cursor} IS NULL)"
    return [*conditions, inside]


def binder(values: list[Any]) -> Any:
    def bind(value: Any) -> str:
        values.append(value)
        return "?"

    return bind
