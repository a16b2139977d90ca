"""Ranges of a key of MariaDB: disjoint, together complete, as the server itself compares.

Bounds are values of rows, found by walking the key's index in equal steps; integers that are dense
are cut evenly, at round numbers, without a look at the rows. A range is `low <= key AND key <
high`; the first has no low end and takes NULL, the last has no high end. A key of several columns
compares column by column, each by its own collation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, pairwise
from typing import Any

from hygge.connectors.mariadb.catalog import Known
from hygge.connectors.mariadb.session import listed, literal, one, quoted, rows
from hygge.connectors.sql import splits
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.connection import split_name
from hygge.errors import ConfigError

_ORDERED = (
    "tinyint", "smallint", "mediumint", "int", "bigint", "bool", "decimal", "date", "datetime",
    "datetime utc", "timestamp", "char", "varchar", "binary", "varbinary", "year", "uuid",
    "inet4", "inet6",
)  # fmt: skip
_WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint")

Ranges = list[tuple[str | None, str]]
"""A condition (None: all rows) and what to call it, each."""


def ranges(
    connection: Any,
    ask: Ask,
    by_name: dict[str, Known],
    primary: Sequence[str],
    source: str,
    conditions: Sequence[str],
) -> tuple[Ranges, str]:
    """The ranges, and why they are so, for `hygge plan`."""
    whole: Ranges = [(None, "")]
    if ask.split_by is not None:
        key: Sequence[str] = (ask.split_by,)
        if by_name[ask.split_by].kind not in _ORDERED:
            raise ConfigError(
                f"{ask.who}: split_by '{ask.split_by}' is {by_name[ask.split_by].native}",
                "split by an integer, decimal, date, timestamp, text or binary column",
            )
    elif ask.options.consistency == "snapshot" and ask.lanes < 2:
        return whole, "one split, of one moment: one lane reads it"
    elif not primary:
        return whole, "one split: there is no primary key to read ranges of; name `split_by`"
    elif any(by_name[name].kind not in _ORDERED for name in primary if name in by_name) or not set(
        primary
    ) <= set(by_name):
        return whole, "one split: its primary key has no order to read ranges of"
    else:
        key = primary
    bounds = _bounds(connection, ask, [by_name[name] for name in key], source, conditions)
    if not bounds:
        return whole, f"one split, of one moment: too few rows for ranges of {', '.join(key)}"
    ends = [None, *bounds, None]
    found: Ranges = []
    for low, high in pairwise(ends):
        parts = [] if low is None else [_from(key, low)]
        parts += [] if high is None else [_before(key, high, nulls=low is None)]
        found.append((" AND ".join(parts), _label(key, low, high)))
    return found, f"{len(found)} splits by {', '.join(key)}"


def _bounds(
    connection: Any, ask: Ask, key: list[Known], source: str, conditions: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Inner bounds, in the order of the key."""
    names = listed([each.name for each in key])
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    total, width = _size(connection, ask, source, where)
    lanes = None if ask.options.consistency == "split" else ask.lanes
    count = splits.how_many(ask.options.splits, total, width, lanes)
    if count < 2 or total < 2:
        return []
    if len(key) == 1 and key[0].kind in _WHOLE:
        low, high = one(connection, f"SELECT MIN({names}), MAX({names}) FROM {source}{where}")
        if low is not None and splits.dense(low, high, total):
            return [(bound,) for bound in _round(low, high, count)]
    return _walked(connection, [each.name for each in key], source, conditions, total, count)


def _round(low: int, high: int, count: int) -> list[int]:
    """Even bounds at multiples of 1, 2 or 5 · 10ⁿ, so that two plans cut alike while rows come."""
    wanted, step = -(-(high - low + 1) // count), 1
    for factor in cycle((2, 2.5, 2)):
        if step >= wanted:
            break
        step = int(step * factor)
    first = (low // step + 1) * step
    return list(range(first, high + 1, step))


def _walked(
    connection: Any, key: list[str], source: str, conditions: Sequence[str], total: int, count: int
) -> list[tuple[Any, ...]]:
    """Every so many rows of the index a bound; each once."""
    names, step = listed(key), max(1, total // count)
    order = f" ORDER BY {names} LIMIT 1 OFFSET {step}"
    present = [f"{quoted(name)} IS NOT NULL" for name in key]
    found: list[tuple[Any, ...]] = []
    while len(found) < count - 1:
        # NULL comes before all others, and belongs to the first range.
        after = [_from(key, found[-1])] if found else []
        where = " WHERE " + " AND ".join([*conditions, *present, *after])
        fresh = rows(connection, f"SELECT {names} FROM {source}{where}{order}")
        if not fresh:
            break
        if found and fresh[0] == found[-1]:  # more rows of one key than a range should have
            beyond = " AND ".join([*conditions, *present, f"NOT {_before(key, found[-1])}",
                                   f"NOT {_same(key, found[-1])}"])  # fmt: skip
            fresh = rows(
                connection,
                f"SELECT {names} FROM {source} WHERE {beyond} ORDER BY {names} LIMIT 1",
            )
            if not fresh:
                break
        found.append(fresh[0])
    return found


def _size(connection: Any, ask: Ask, source: str, where: str) -> tuple[int, float]:
    """Rows, and bytes of one; the server's own estimate where a number was given anyway."""
    total = int(one(connection, f"SELECT COUNT(*) FROM {source}{where}")[0])
    if ask.query is not None:
        return total, 0.0
    schema, name = split_name(ask.table or "")
    place = "DATABASE()" if schema is None else literal(schema)
    width = rows(
        connection,
        "SELECT avg_row_length FROM information_schema.tables "
        f"WHERE table_schema = {place} AND table_name = {literal(name)}",
    )
    return total, float(width[0][0] or 0) if width else 0.0


def _from(key: Sequence[str], low: Sequence[Any]) -> str:
    """key >= low, so that the server sees a range of its index."""
    column, value = quoted(key[0]), literal(low[0])
    if len(key) == 1:
        return f"{column} >= {value}"
    rest = _from(key[1:], low[1:])
    return f"({column} >= {value} AND ({column} > {value} OR {rest}))"


def _before(key: Sequence[str], high: Sequence[Any], nulls: bool = False) -> str:
    """key < high."""
    column, value = quoted(key[0]), literal(high[0])
    if len(key) == 1:
        return f"({column} < {value} OR {column} IS NULL)" if nulls else f"{column} < {value}"
    rest = _before(key[1:], high[1:])
    return f"({column} <= {value} AND ({column} < {value} OR {rest}))"


def _same(key: Sequence[str], value: Sequence[Any]) -> str:
    pairs = zip(key, value, strict=True)
    return "(" + " AND ".join(f"{quoted(name)} = {literal(each)}" for name, each in pairs) + ")"


def _label(key: Sequence[str], low: Sequence[Any] | None, high: Sequence[Any] | None) -> str:
    def words(bound: Sequence[Any] | None) -> str | None:
        return None if bound is None else ", ".join(str(each) for each in bound)

    return splits.label({"low": words(low), "high": words(high)}, ", ".join(key))
