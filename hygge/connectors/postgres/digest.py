"""One number for all rows that a Home would give, computed by the server: `hygge verify`."""

from __future__ import annotations

from typing import Any

from hygge.connectors.postgres import session
from hygge.connectors.postgres.snapshot import begin, reading
from hygge.connectors.sql.ask import Ask
from hygge.model import Plan

_SUM = """SELECT count(*),
  coalesce(sum(hashtextextended(ROW("_hygge_row".*)::text COLLATE "C", 0)::numeric), 0)
FROM (
{}
) AS "_hygge_row\""""


def digest(ask: Ask, plan: Plan) -> tuple[int, int]:
    """Return the number of rows, and the sum of the 64-bit hashes of their texts.

    The text of a row says each value exactly: sessions pin how values are written. So equal rows of
    equal types give equal sums, in any order.
    """
    rows = total = 0
    for split in plan.splits:
        name = session.application_name(ask.flow, "verify", split.index)
        with reading(ask.url, ask.who, name) as connection:
            begin(connection, ask.who, split.where["snapshot"])
            found = session.fetch_one(connection, _SUM.format(_rows(split.where)))
        rows, total = rows + int(found[0]), total + int(found[1])
    return rows, total


def _rows(where: dict[str, Any]) -> str:
    """Return a SELECT of the rows of a split, and of those that all splits leave out."""
    upper = where.get("boundary", {}).get("upper")
    return "\nUNION ALL\n".join(filter(None, (where["sql"], upper)))
