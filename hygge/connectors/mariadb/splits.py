"""Ranges of a key of MariaDB: disjoint, together complete, as the server itself compares.

Bounds are values of rows, found by stepping through the key's index; integers without large gaps
are cut evenly, at round numbers, without a look at the rows. A range is `low <= key AND key <
high`; the first has no low end and takes the NULL keys, the last has no high end. A key of several
columns is compared column by column, each by its own collation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, NamedTuple

from hygge.connectors.mariadb.catalog import Column, in_schema
from hygge.connectors.mariadb.session import fetch_all, fetch_one, literal, quoted, quoted_list
from hygge.connectors.sql import splits
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.connection import split_name
from hygge.errors import ConfigError

if TYPE_CHECKING:
    from pymysql.connections import Connection

_ORDERED = (
    "tinyint", "smallint", "mediumint", "int", "bigint", "bool", "decimal", "date", "datetime",
    "datetime utc", "timestamp", "char", "varchar", "binary", "varbinary", "year", "uuid",
    "inet4", "inet6",
)  # fmt: skip
_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")

Bound = tuple[object, ...]
"""A value of each column of the key."""


class Range(NamedTuple):
    """A part of the rows."""

    condition: str | None
    """None: all rows."""
    label: str
    """For people."""


_WHOLE = Range(None, "")


def ranges(
    connection: Connection,
    ask: Ask,
    columns: Mapping[str, Column],
    primary: Sequence[str],
    source: str,
    conditions: Sequence[str],
) -> tuple[list[Range], str]:
    """Return the ranges, and why they are so, for `hygge plan`.

    `primary` is the primary key, `conditions` are those of all rows that are read. Raises
    ConfigError if `split_by` has no order.
    """
    if ask.split_by is not None:
        key: Sequence[str] = (ask.split_by,)
        if columns[ask.split_by].kind not in _ORDERED:
            raise ConfigError(
                f"{ask.who}: split_by '{ask.split_by}' is {columns[ask.split_by].native}",
                "split by an integer, decimal, date, timestamp, text or binary column",
            )
    elif ask.options.consistency == "snapshot" and ask.lanes < 2:
        return [_WHOLE], "one split, of one moment: one lane reads it"
    elif not primary:
        return [_WHOLE], "one split: there is no primary key to read ranges of; name `split_by`"
    elif any(name not in columns or columns[name].kind not in _ORDERED for name in primary):
        return [_WHOLE], "one split: its primary key has no order to read ranges of"
    else:
        key = primary
    bounds = _bounds(connection, ask, [columns[name] for name in key], source, conditions)
    if not bounds:
        return [_WHOLE], f"one split, of one moment: too few rows for ranges of {', '.join(key)}"
    parts = [_range(key, low, high) for low, high in pairwise([None, *bounds, None])]
    return parts, f"{len(parts)} splits by {', '.join(key)}"


def _range(key: Sequence[str], low: Bound | None, high: Bound | None) -> Range:
    conditions = []
    if low is not None:
        conditions.append(_at_least(key, low))
    if high is not None:
        conditions.append(_below(key, high, nulls=low is None))

    def shown(bound: Bound | None) -> str | None:
        return None if bound is None else ", ".join(str(value) for value in bound)

    label = splits.label({"low": shown(low), "high": shown(high)}, ", ".join(key))
    return Range(" AND ".join(conditions), label)


def _bounds(
    connection: Connection,
    ask: Ask,
    key: Sequence[Column],
    source: str,
    conditions: Sequence[str],
) -> Sequence[Bound]:
    """Return the inner bounds, in the order of the key."""
    names = [column.name for column in key]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows, row_bytes = _size(connection, ask, source, where)
    lanes = None if ask.options.consistency == "split" else ask.lanes
    count = splits.how_many(ask.options.splits, rows, row_bytes, lanes)
    if count < 2 or rows < 2:
        return []
    if len(key) == 1 and key[0].kind in _INTEGERS:
        name = quoted(names[0])
        low, high = fetch_one(connection, f"SELECT MIN({name}), MAX({name}) FROM {source}{where}")
        if low is not None and splits.dense(low, high, rows):
            return [(bound,) for bound in _round_bounds(low, high, count)]
    return _bounds_of_rows(connection, names, source, conditions, max(1, rows // count), count)


def _round_bounds(low: int, high: int, count: int) -> list[int]:
    """Return even bounds at multiples of 1, 2 or 5 · 10ⁿ.

    So two plans have the same bounds while rows are added.
    """
    wanted, step = -(-(high - low + 1) // count), 1
    for factor in cycle((2, 2.5, 2)):
        if step >= wanted:
            break
        step = int(step * factor)
    first = (low // step + 1) * step
    return list(range(first, high + 1, step))


def _bounds_of_rows(
    connection: Connection,
    key: Sequence[str],
    source: str,
    conditions: Sequence[str],
    step: int,
    count: int,
) -> list[Bound]:
    """Return the key of every `step`-th row of its index, each key once."""
    names = quoted_list(key)
    present = [f"{quoted(name)} IS NOT NULL" for name in key]  # NULL belongs to the first range
    bounds: list[Bound] = []
    while len(bounds) < count - 1:
        after = [_at_least(key, bounds[-1])] if bounds else []
        where = " AND ".join([*conditions, *present, *after])
        rows = fetch_all(
            connection,
            f"SELECT {names} FROM {source} WHERE {where} ORDER BY {names} LIMIT 1 OFFSET {step}",
        )
        if not rows:
            break
        if bounds and rows[0] == bounds[-1]:
            # More rows have this key than a range should have: the next key is the next bound.
            beyond = [f"NOT {_below(key, bounds[-1])}", f"NOT {_equal(key, bounds[-1])}"]
            where = " AND ".join([*conditions, *present, *beyond])
            rows = fetch_all(
                connection,
                f"SELECT {names} FROM {source} WHERE {where} ORDER BY {names} LIMIT 1",
            )
            if not rows:
                break
        bounds.append(rows[0])
    return bounds


def _size(connection: Connection, ask: Ask, source: str, where: str) -> tuple[int, float]:
    """Return the number of rows, and the bytes of one as the server estimates; 0 for a query."""
    rows = int(fetch_one(connection, f"SELECT COUNT(*) FROM {source}{where}")[0])
    if ask.query is not None:
        return rows, 0.0
    schema, name = split_name(ask.table or "")
    lengths = fetch_all(
        connection,
        "SELECT avg_row_length FROM information_schema.tables "
        f"WHERE table_schema = {in_schema(schema)} AND table_name = {literal(name)}",
    )
    return rows, float(lengths[0][0] or 0) if lengths else 0.0


def _at_least(key: Sequence[str], low: Bound) -> str:
    """Return `key >= low`, in a form that the server reads as a range of its index."""
    column, value = quoted(key[0]), literal(low[0])
    if len(key) == 1:
        return f"{column} >= {value}"
    rest = _at_least(key[1:], low[1:])
    return f"({column} >= {value} AND ({column} > {value} OR {rest}))"


def _below(key: Sequence[str], high: Bound, nulls: bool = False) -> str:
    """Return `key < high`, in a form that the server reads as a range; `nulls`: or key is NULL."""
    column, value = quoted(key[0]), literal(high[0])
    if len(key) == 1:
        return f"({column} < {value} OR {column} IS NULL)" if nulls else f"{column} < {value}"
    rest = _below(key[1:], high[1:])
    return f"({column} <= {value} AND ({column} < {value} OR {rest}))"


def _equal(key: Sequence[str], bound: Bound) -> str:
    pairs = zip(key, bound, strict=True)
    return "(" + " AND ".join(f"{quoted(name)} = {literal(value)}" for name, value in pairs) + ")"
