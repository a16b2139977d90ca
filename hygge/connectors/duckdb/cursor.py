"""The cursor of a DuckDB Home: the upper bound of a run, and the conditions of its SELECT.

A watermark is a number, or the text that DuckDB writes of any other value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.duckdb.catalog import ReadColumn
from hygge.connectors.duckdb.session import fetch_value, quoted, text
from hygge.connectors.sql.ask import Ask, null_note, tie_note
from hygge.connectors.sql.lag import lowered
from hygge.connectors.sql.ties import MOST_ROWS
from hygge.connectors.sql.watermarks import (
    check_end,
    check_forms,
    check_uuid,
    forms_query,
    zeroed,
)
from hygge.errors import ConfigError
from hygge.model import Watermark

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Cursor:
    """The cursor of one run: its column, and the condition of `where`."""

    def __init__(self, ask: Ask, source: str, native: str) -> None:
        self.ask, self.source, self.native = ask, source, native
        self.column = f"h.{quoted(ask.cursor or '')}"
        self.filters = filters_of(ask)

    def upper_bound(
        self, connection: DuckDBPyConnection, since: Watermark
    ) -> tuple[Watermark, list[str]]:
        """Return the highest cursor value now, and notes about rows that the cursor misses.

        Raises ConfigError or HomeError if the column's values have no order that a cursor follows.
        """
        ask, column = self.ask, self.column
        if _has_no_order(self.native):
            raise ConfigError(
                f"{ask.who}: cursor '{ask.cursor}' is {self.native}, which is no order of time",
                "use an integer or timestamp column as the cursor",
            )
        is_text = self.native in ("VARCHAR", "JSON")
        present = where_clause([*self.filters, f"{column} IS NOT NULL"]).removeprefix(" WHERE ")
        if is_text:
            select = forms_query(zeroed(column), column, f"{self.source} AS h", present)

            def zones(at: int) -> Sequence[str]:
                end = f"substr({column}, {at})"
                low_and_high = f"SELECT min({end}), max({end}) FROM {self.source} AS h"
                return connection.execute(f"{low_and_high} WHERE {present}").fetchall()[0]

            check_forms(ask, connection.execute(select).fetchall(), since, zones)
        elif self.native == "UUID":
            other = f"SELECT {column}::VARCHAR FROM {self.source} AS h WHERE {present} AND "
            check_uuid(
                ask, fetch_value(connection, f"{other} substr({column}::VARCHAR, 15, 1) <> '7'")
            )
        # Deleted rows must not take the watermark back: only values beyond `since` count.
        beyond = f"{column} IS NOT NULL" if since is None else f"{column} > {self.literal(since)}"
        is_number = self.native.endswith(("INT", "INTEGER")) or self.native in ("FLOAT", "DOUBLE")
        highest = f"max({column})" if is_number else f"CAST(max({column}) AS VARCHAR)"
        clause = where_clause([*self.filters, beyond])
        found = fetch_value(connection, f"SELECT {highest} FROM {self.source} AS h{clause}")
        clause = where_clause([*self.filters, f"{column} IS NULL"])
        nulls = fetch_value(connection, f"SELECT count(*) FROM {self.source} AS h{clause}")
        upper: Watermark = since if found is None else found
        check_end(ask, upper, is_text)
        return upper, [*null_note(ask, since, nulls or 0), *tie_note(ask, upper)]

    def literal(self, value: Watermark) -> str:
        """Return a watermark as SQL."""
        return literal(value, self.native)

    def window(
        self, since: Watermark, upper: Watermark, reads_ties: bool, leaves_upper: bool
    ) -> list[str]:
        """Return the condition of the rows in (since, upper]; none where there is no end.

        `reads_ties`: the rows at `since` are in it; `leaves_upper`: those at `upper` are not, since
        the boundary has them.
        """
        if since is None and upper is None:
            return []
        ends = []
        if since is not None:
            above, low = (">=", lowered(self.ask, since)) if reads_ties else (">", since)
            ends.append(f"{self.column} {above} {self.literal(low)}")
        if upper is not None:
            below, high = ("<", lowered(self.ask, upper)) if leaves_upper else ("<=", upper)
            ends.append(f"{self.column} {below} {self.literal(high)}")
        inside = " AND ".join(ends)
        if since is None or self.ask.options.null_cursor == "read":
            inside = f"({inside} OR {self.column} IS NULL)"
        return [inside]

    def at(self, value: Watermark, since: Watermark = None) -> str:
        """Return the condition of the rows at a watermark: down to the lag, above `since`."""
        beyond = "" if since is None else f"{self.column} > {self.literal(since)} AND "
        low = self.literal(lowered(self.ask, value))
        return f"{beyond}{self.column} >= {low} AND {self.column} <= {self.literal(value)}"

    def remembers(self, connection: DuckDBPyConnection, since: Watermark, upper: Watermark) -> bool:
        """Return whether the rows at the next watermark are remembered: the boundary has them."""
        if not self.ask.remembers_ties or upper in (None, since):
            return False
        clause = where_clause([*self.filters, self.at(upper, since)])
        rows = f"SELECT 1 FROM {self.source} AS h{clause} LIMIT {MOST_ROWS + 1}"
        return bool(fetch_value(connection, f"SELECT count(*) FROM ({rows})") <= MOST_ROWS)


def _has_no_order(native: str) -> bool:
    is_nested = native.endswith((")", "]")) and not native.startswith("DECIMAL")
    return is_nested or native in ("BLOB", "BIT", "BOOLEAN", "INTERVAL", "VARIANT")


def literal(value: Watermark, native: str) -> str:
    """Return a value as SQL, of a column of the type `native`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"CAST({value} AS {native})"
    return f"CAST({text(str(value))} AS {native})"


def filters_of(ask: Ask) -> list[str]:
    """Return the condition `where` of a Home, as a list."""
    return [f"({ask.where}\n)"] if ask.where else []


def where_clause(conditions: Sequence[str]) -> str:
    """Return ` WHERE …`, or nothing if there are no conditions."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def expression(column: ReadColumn, sets_null: bool) -> str:
    """Return SQL of a column as it is read; `sets_null`: what Arrow has not becomes NULL."""
    name = f"h.{quoted(column.name)}"
    if column.is_cast:
        return f"CAST({name} AS {column.cast}) AS {quoted(column.name)}"
    if sets_null:
        is_kept = f"isfinite({name})"
        if column.native.startswith("TIME") and not column.native.startswith("TIMESTAMP"):
            is_kept = f"{name} < '24:00:00'"
        return f"CASE WHEN {is_kept} THEN {name} END AS {quoted(column.name)}"
    return name


def is_long(kind: pa.DataType) -> bool:
    """Whether the values of a type have no fixed length."""
    return bool(kind in (pa.string(), pa.binary()) or pa.types.is_nested(kind))
