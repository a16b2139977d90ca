"""The rows at the watermarks of an append with a cursor, as SQL beside that of a split.

One COPY reads a split, also in the server's own format, in which no row can be looked at. So the
rows at the watermarks are read before it, in the same transaction, as texts of which the digests
are made: text holds every value, also those that Arrow does not. Rows at the last watermark are
numbered in the order of their texts; equal rows may change places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from hygge.connectors.postgres.session import quoted
from hygge.connectors.sql.ask import Ask, unpack
from hygge.connectors.sql.ties import Ties
from hygge.model import Watermark

_NUMBER = "_hygge_number"

Texts = Callable[[str], Iterator[pa.Table]]
"""Reads a SELECT of texts, with the names of the plan's columns."""


def statements(
    names: Sequence[str],
    selected: str,
    source: str,
    conditions: Sequence[str],
    since: str | None,
    upper: str | None,
) -> dict[str, str]:
    """Return the SELECTs for a split's `where`.

    `names` are those of the columns, `selected` is their SQL. `since` and `upper` are conditions of
    the rows at the last and at the next watermark.
    """
    found = {}
    columns = ", ".join(map(quoted, names))
    texts = ", ".join(f"({quoted(name)})::text AS {quoted(name)}" for name in names)
    order = ", ".join(f'({quoted(name)})::text COLLATE "C"' for name in names)
    if since is not None:
        rows = f"FROM {source} WHERE {' AND '.join([*conditions, since])}"
        numbered = f"SELECT {selected}, row_number() OVER (ORDER BY {order}) AS {_NUMBER} {rows}"
        found["since"] = f"SELECT {columns} FROM ({numbered}) AS h"
        found["since texts"] = f"SELECT {texts} {rows} ORDER BY {order}"
    if upper is not None:
        rows = f"FROM {source} WHERE {' AND '.join([*conditions, upper])}"
        found["upper"] = f"SELECT {selected} {rows}"
        found["upper texts"] = f"SELECT {texts} {rows}"
    return found


class Boundary:
    """The boundary of a run, which one of its splits reads."""

    def __init__(self, ask: Ask, where: dict[str, Any]) -> None:
        self.ties = Ties(ask, where["since"], unpack(where["schema"]))
        self.statements: dict[str, str] = where["boundary"]
        self.upper: Watermark = where["upper"]

    def selects(self, texts: Texts) -> list[str]:
        """Return the SELECTs of the rows at the watermarks that did not come before."""
        ties, sql, found = self.ties, self.statements, []
        if ties.reads_since:
            known, rows = ties.known_rows(texts(sql["since texts"]))
            if not known and rows:
                found.append(sql["since"])
            elif len(known) < rows:
                numbers = ", ".join(map(str, known))
                found.append(f"{sql['since']} WHERE {_NUMBER} NOT IN ({numbers})")
        if "upper" in sql:
            for _ in ties.at_upper(texts(sql["upper texts"])):
                pass
            found.append(sql["upper"])
        elif self.upper != ties.since:
            ties.forget_upper()
        return found

    def end(self) -> pa.Table:
        """Return the table that ends the boundary."""
        return self.ties.end(self.upper)
