"""The cursor of a SQLite Home: the upper bound of a run, and the conditions of its SELECT.

A cursor is compared as SQLite compares the stored values, and the watermark is a stored value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import pyarrow as pa

from hygge.connectors.sql.ask import Ask, null_note, tie_note
from hygge.connectors.sql.lag import lowered
from hygge.connectors.sql.ties import MOST_ROWS
from hygge.connectors.sql.watermarks import check_end, check_forms, forms_query, zeroed
from hygge.connectors.sqlite.catalog import Column
from hygge.connectors.sqlite.session import Value, fetch_value, quoted
from hygge.connectors.sqlite.types import arrow_for
from hygge.errors import ConfigError, HomeError
from hygge.model import Watermark


def upper_bound(
    connection: sqlite3.Connection,
    source: str,
    columns: Sequence[Column],
    ask: Ask,
    since: Watermark,
) -> tuple[Watermark, list[str]]:
    """Return the highest cursor value now, and notes about rows that the cursor misses.

    Raises ConfigError or HomeError if the column's values have no order that a cursor can follow.
    """
    if ask.cursor is None:
        return None, []
    cursor = f"h.{quoted(ask.cursor)}"
    declared = next(column.declared for column in columns if column.name == ask.cursor)
    if declared.upper().startswith(("U64_TEXT", "DECIMAL")) and "TEXT" in declared.upper():
        raise ConfigError(
            f"{ask.who}: cursor '{ask.cursor}' is kept as text ({declared}), which does not sort "
            "as a number",
            "use an integer or timestamp column as the cursor",
        )
    filtered = f" AND ({ask.where})" if ask.where else ""
    classes = connection.execute(
        f"SELECT DISTINCT typeof({cursor}) FROM {source} AS h WHERE {cursor} IS NOT NULL{filtered}"
    ).fetchall()
    if len(classes) > 1 and {name for (name,) in classes} != {"integer", "real"}:
        raise HomeError(
            f"{ask.who}: cursor '{ask.cursor}' holds {' and '.join(n for (n,) in classes)} values, "
            "which have no common order",
            "mend the values, or move the table with `mode: replace` and no cursor",
        )
    if classes == [("text",)]:
        present = f"{cursor} IS NOT NULL{filtered}"
        select = forms_query(zeroed(cursor), cursor, f"{source} AS h", present)

        def zones(at: int) -> Sequence[str]:
            end = f"substr({cursor}, {at})"
            low_and_high = f"SELECT min({end}), max({end}) FROM {source} AS h WHERE {present}"
            (row,) = connection.execute(low_and_high).fetchall()
            return tuple(row)

        check_forms(ask, connection.execute(select).fetchall(), since, zones)
    # Deleted rows must not take the watermark back: only values beyond `since` count.
    beyond = f"{cursor} > ?" if since is not None else f"{cursor} IS NOT NULL"
    highest = fetch_value(
        connection,
        f"SELECT max({cursor}) FROM {source} AS h WHERE {beyond}{filtered}",
        *([since] if since is not None else []),
    )
    nulls = fetch_value(
        connection, f"SELECT count(*) FROM {source} AS h WHERE {cursor} IS NULL{filtered}"
    )
    check_end(ask, since if highest is None else highest, holds_texts(columns, ask.cursor))
    assert not isinstance(highest, bytes)  # check_end refuses it
    upper: Watermark = since if highest is None else highest
    return upper, [*null_note(ask, since, nulls or 0), *tie_note(ask, upper)]


def holds_texts(columns: Sequence[Column], cursor: str) -> bool:
    """Return whether a text in the cursor's column is a text, and no moment."""
    declared = next(column.declared for column in columns if column.name == cursor)
    kind = arrow_for(declared)
    return kind is None or not pa.types.is_temporal(kind)


class Reached:
    """The upper bound of a split that is read in one SELECT, by that very SELECT."""

    def __init__(self, ask: Ask, since: Watermark, is_text: bool) -> None:
        self.ask, self.since, self.is_text = ask, since, is_text
        self.upper: Watermark = since

    def column(self, source: str, values: list[Value]) -> str:
        """Return SQL of a column: the cursor in the rows that have its highest value, else NULL.

        The values of its placeholders are appended to `values`.
        """
        ask, cursor = self.ask, f"h.{quoted(self.ask.cursor or '')}"
        filters = [f"({ask.where})"] if ask.where else []
        if self.since is not None:  # deleted rows must not take the watermark back
            filters.append(f"{cursor} > {binder(values)(self.since)}")
        highest = f"SELECT max({cursor}) FROM {source} AS h{where_clause(filters)}"
        return f"CASE WHEN {cursor} = ({highest}) THEN {cursor} END"

    def marks(self, values: list[Value], upper: Watermark) -> str:
        """Return SQL of two columns that are 1 in some rows, else NULL: see `Ties.keep`.

        One marks the rows up to `since`, one those that are remembered: at least those at `upper`
        as of the plan. The values of their placeholders are appended to `values`.
        """
        bind, cursor = binder(values), f"h.{quoted(self.ask.cursor or '')}"
        at_since = f"CASE WHEN {cursor} <= {bind(self.since)} THEN 1 END"
        low = f"{cursor} IS NOT NULL"
        if upper is not None:
            low = f"{cursor} >= {bind(lowered(self.ask, upper))}"
        return f"{at_since}, CASE WHEN {low} THEN 1 END"

    def add(self, values: Sequence[Value]) -> None:
        """Take that column of some rows. Raises HomeError where nothing can come above it."""
        upper = next((value for value in values if value is not None), None)
        if upper is None or self.upper == upper:
            return
        check_end(self.ask, upper, self.is_text)
        assert not isinstance(upper, bytes)  # check_end refuses it
        self.upper = upper

    def facts(self) -> dict[str, Watermark]:
        """Return the facts for `hygge.batches.reached_table`."""
        return {"watermark": self.upper}


def conditions(
    ask: Ask,
    since: Watermark,
    upper: Watermark,
    values: list[Value],
    reads_ties: bool,
    leaves_upper: bool = False,
) -> list[str]:
    """Return the conditions of a run's rows: `where`, and the cursor's window (since, upper].

    Without `upper` the window has no end. `reads_ties`: the rows at `since` are in the window;
    `leaves_upper`: those at `upper` are not, since the boundary has them. The values of the
    placeholders are appended to `values`, in the order of the placeholders.
    """
    filters = [f"({ask.where})"] if ask.where else []
    if ask.cursor is None or (since is None and upper is None):
        return filters
    bind, cursor = binder(values), f"h.{quoted(ask.cursor)}"
    ends = []
    if since is not None:
        above, low = (">=", lowered(ask, since)) if reads_ties else (">", since)
        ends.append(f"{cursor} {above} {bind(low)}")
    if upper is not None:
        below, high = ("<", lowered(ask, upper)) if leaves_upper else ("<=", upper)
        ends.append(f"{cursor} {below} {bind(high)}")
    window = " AND ".join(ends)
    if since is None or ask.options.null_cursor == "read":
        window = f"({window} OR {cursor} IS NULL)"
    return [*filters, window]


def remembers(
    connection: sqlite3.Connection, source: str, ask: Ask, since: Watermark, upper: Watermark
) -> bool:
    """Return whether the rows at the next watermark are remembered: the boundary has them."""
    if not ask.remembers_ties or upper in (None, since):
        return False
    filters = [f"({ask.where})"] if ask.where else []
    values: list[Value] = []
    where = where_clause([*filters, at(ask, upper, values, since)])
    rows = f"SELECT 1 FROM {source} AS h{where} LIMIT {MOST_ROWS + 1}"
    count: int = fetch_value(connection, f"SELECT count(*) FROM ({rows})", *values)
    return count <= MOST_ROWS


def at(ask: Ask, value: Watermark, values: list[Value], since: Watermark = None) -> str:
    """Return the condition of the rows at a watermark: down to the lag, above `since`."""
    bind, cursor = binder(values), f"h.{quoted(ask.cursor or '')}"
    beyond = "" if since is None else f"{cursor} > {bind(since)} AND "
    low = bind(lowered(ask, value))
    return f"{beyond}{cursor} >= {low} AND {cursor} <= {bind(value)}"


def binder(values: list[Value]) -> Callable[[Value], str]:
    """Return a function that appends a value to `values`, and gives its placeholder."""

    def bind(value: Value) -> str:
        values.append(value)
        return "?"

    return bind


def where_clause(conditions: Sequence[str]) -> str:
    """Return ` WHERE …`, or nothing if there are no conditions."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
