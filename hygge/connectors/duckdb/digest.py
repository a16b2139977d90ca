"""One number for all rows that a Home would give, computed by DuckDB: `hygge verify`."""

from __future__ import annotations

import re

from hygge.connectors.duckdb import catalog, session
from hygge.connectors.duckdb.cursor import filters_of, where_clause
from hygge.connectors.duckdb.session import path_of, quoted
from hygge.connectors.sql.ask import Ask
from hygge.model import Column, Plan

_TOLD_BY_HASH = re.compile(
    r"U?(TINY|SMALL|BIG)INT|U?INTEGER|FLOAT|DOUBLE|BOOLEAN|BLOB|DATE|TIME"
    r"|TIMESTAMP(_S|_MS|_NS)?|TIMESTAMP WITH TIME ZONE"
)
"""Types whose values have equal hashes only where they are equal; -0.0 is 0.0, as in `verify`."""
_TOLD_BY_TEXT = re.compile(r"U?HUGEINT|DECIMAL\(\d+,\d+\)|UUID")
"""DuckDB hashes the two halves of 128 bits alike: it takes 1 and 2**64 for one value."""


def digest(ask: Ask, plan: Plan) -> tuple[int, int] | None:
    """Return the number of rows, and the sum of the 64-bit hashes of the rows.

    All splits of `plan` are read at once: nobody can write while it is open. None where a column is
    of a type whose hash does not tell values apart: a month and 30 days, an empty list and NULL.
    """
    values = [_told(column) for column in plan.columns or ()]
    if not values or None in values:
        return None
    with session.reading(path_of(ask.url), ask.who) as connection:
        # The outer hash makes the sum tell a value that moved to another row.
        found = connection.execute(
            f"SELECT count(*), coalesce(sum(hash(hash({', '.join(filter(None, values))}))"
            f"::HUGEINT), 0) FROM {catalog.source_of(ask)} AS h{where_clause(filters_of(ask))}"
        )
        ((rows, total),) = found.fetchall()
    return rows, total


def _told(column: Column) -> str | None:
    """Return what tells the values of a column apart, as SQL; None: nothing that is quick."""
    name, native = f"h.{quoted(column.name)}", column.native or ""
    if native == "VARCHAR":
        return f"encode({name})"  # a text with COLLATE NOCASE has the hash of its small letters
    if _TOLD_BY_TEXT.fullmatch(native):
        return f"CAST({name} AS VARCHAR)"
    return name if _TOLD_BY_HASH.fullmatch(native) else None
