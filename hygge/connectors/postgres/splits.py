"""Splits of a source of PostgreSQL: its parts that are read independently, and why these.

Under one snapshot a table is cut by where its rows lie (`ctid`), which needs no key. A partitioned
table is cut by its partitions, and big partitions by `ctid`. Ranges of a key are read where
`split_by` names one, and ranges of the primary key where each split reads a state of its own.
Every row is in exactly one part, also with NULL in its key: ranges are half open, the first one
takes all below it and NULL, the last one all above it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hygge.connectors.postgres import session
from hygge.connectors.postgres.catalog import Column, Relation
from hygge.connectors.postgres.session import literal, quoted
from hygge.connectors.sql import splits
from hygge.connectors.sql.ask import ROWS_PER_SPLIT, Ask
from hygge.errors import ConfigError
from hygge.model import Watermark

if TYPE_CHECKING:
    import psycopg

Key = tuple[str, ...]
"""Values of the key's columns, as the database's own text."""

_CTID_RANGES_SINCE = 140_000
_INTEGERS = (20, 21, 23)
_TYPES = {
    16: "bool", 17: "bytea", 19: "name", 20: "int8", 21: "int2", 23: "int4", 25: "text",
    700: "float4", 701: "float8", 1042: "bpchar", 1043: "varchar", 1082: "date", 1083: "time",
    1114: "timestamp", 1184: "timestamptz", 1700: "numeric", 2950: "uuid",
}  # fmt: skip
# Types whose order ranges can be made of.
_ORDERED = (*_INTEGERS, 17, 19, 25, 1042, 1043, 1082, 1083, 1114, 1184, 1700, 2950)


@dataclass(frozen=True)
class Part:
    """The part of a split: one or more sources of SQL, each with a condition of its own."""

    sources: tuple[tuple[str, str | None], ...]
    label: str = ""
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Source:
    """All that is to be read: what it is, its conditions, its key, and its estimated size."""

    ask: Ask
    relation: Relation | None
    sql: str
    """The table or the query, as it stands behind FROM."""
    conditions: tuple[str, ...]
    keys: tuple[Column, ...]
    rows: int
    bytes: int

    @property
    def whole(self) -> Part:
        """The part that is all of it."""
        rows = self.rows if self.rows > 0 else None
        return Part(((self.sql, None),), rows=rows, bytes=self.bytes or None)

    @property
    def count(self) -> int:
        """The number of splits that all of it should have."""
        rows = max(1, self.rows)  # there may be many where the catalog knows of none
        return self.count_for(rows, self.bytes / rows)

    def count_for(self, rows: int, row_bytes: float) -> int:
        """Return the number of splits for this number of rows."""
        by_split = self.ask.options.consistency == "split" and self.ask.snapshot is None
        lanes = None if by_split else self.ask.lanes
        return splits.how_many(self.ask.options.splits, rows, row_bytes, lanes)

    def select(self, *expressions: str, more: Sequence[str] = ()) -> str:
        """Return a SELECT over all of it; `more` are further conditions."""
        where = " AND ".join([*self.conditions, *more])
        select = f"SELECT {', '.join(expressions)} FROM {self.sql}"
        return f"{select} WHERE {where}" if where else select


def typed_literal(value: Watermark, column: Column) -> str:
    """Return a value, given as the database's text for it, in SQL with its column's type."""
    return f"{literal(str(value)).strip()}::{_TYPES.get(column.oid, column.native)}"


def sortable_prefix(keys: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns up to the first whose type has no order that ranges can be made of."""
    return tuple(itertools.takewhile(lambda column: column.oid in _ORDERED, keys))


def parts(
    connection: psycopg.Connection, source: Source, by_key_only: bool
) -> tuple[list[Part], str]:
    """Return the parts, and the reason for them, which the plan shows.

    `by_key_only`: no snapshot is shared, so that only ranges of a key, or one split, are right.
    """
    relation, ask = source.relation, source.ask
    if source.keys:
        return _by_key(connection, source, "" if ask.split_keys else ", its primary key")
    if by_key_only:
        return [source.whole], (
            "one split, of one state, since it has no primary key: name `split_by` to read ranges"
        )
    if relation is None or relation.kind == "v":
        what = "a query" if relation is None else "a view"
        return [source.whole], f"one split: {what}; name `split_by` to read ranges side by side"
    if relation.kind == "f":
        return [source.whole], (
            "one split: a foreign table, which no snapshot of this server holds; name `split_by` "
            "to read ranges"
        )
    if source.count < 2:
        return [source.whole], (
            f"one split: about {source.rows:,} rows are no more than one split takes"
        )
    has_ctid_ranges = connection.info.server_version >= _CTID_RANGES_SINCE
    if relation.parts:
        return _by_partition(source, relation, has_ctid_ranges)
    if not relation.is_heap:
        return [source.whole], "one split: its storage has no ctid; name `split_by`"
    if not relation.readable:
        return [source.whole], "one split: who may read some columns only may not read ctid"
    if not has_ctid_ranges:
        return [source.whole], "one split: PostgreSQL before 14 scans all for each ctid range"
    if relation.blocks < 2:
        return [source.whole], "one split: its rows lie in one block"
    slices = _by_ctid(relation, source.sql, source.count)
    return slices, (
        f"{len(slices)} splits by ctid, where the rows lie: a {relation.kind_name} of "
        f"{relation.blocks:,} blocks, under one snapshot"
    )


def _by_ctid(relation: Relation, sql: str, count: int) -> list[Part]:
    """Ranges of blocks; the first is open below and the last above, for blocks that come later."""
    blocks = max(1, relation.blocks)
    blocks_per_part = max(1, -(-blocks // max(1, count)))
    starts = list(range(0, blocks, blocks_per_part))
    share = 1 / len(starts)
    slices = []
    for start in starts:
        end = start + blocks_per_part
        is_last = start == starts[-1]
        ends = []
        if start != starts[0]:
            ends.append(f"ctid >= '({start},0)'::tid")
        if not is_last:
            ends.append(f"ctid < '({end},0)'::tid")
        slices.append(
            Part(
                ((sql, " AND ".join(ends) or None),),
                f"blocks {start} to {'the end' if is_last else end - 1}",
                round(relation.rows * share) if relation.rows > 0 else None,
                round(relation.bytes * share),
            )
        )
    return slices


def _by_partition(
    source: Source, relation: Relation, has_ctid_ranges: bool
) -> tuple[list[Part], str]:
    """Partitions, and tables that inherit, by their own names; small ones share a split."""
    ask = source.ask
    # A partition that is partitioned itself has no rows.
    leaves = [table for table in (relation, *relation.parts) if table.kind in ("r", "m", "f")]
    if any(leaf.schema == "_timescaledb_internal" for leaf in leaves):
        return [source.whole], "one split: a hypertable reads its chunks itself; name `split_by`"
    if not all(leaf.readable and not leaf.row_security for leaf in leaves):
        return [source.whole], (
            "one split: its partitions cannot be read by their own names (rights, row security)"
        )
    total_rows = sum(max(0, round(leaf.rows)) for leaf in leaves)
    total_bytes = sum(leaf.bytes for leaf in leaves)
    count = source.count_for(max(1, total_rows), total_bytes / max(1, total_rows))
    most_rows, most_bytes = max(1, -(-total_rows // count)), max(1, -(-total_bytes // count))
    if ask.options.splits != "auto":
        most_rows = 1 << 62
    cut: list[Part] = []
    shared = Part(())
    for leaf in leaves:
        sql = f"ONLY {leaf.sql} AS {quoted(relation.name)}"
        rows = max(0, round(leaf.rows))
        count = max(1, -(-rows // most_rows), -(-leaf.bytes // most_bytes))
        if count > 1 and has_ctid_ranges and leaf.is_heap:
            cut += [
                replace(part, label=f"{leaf.name}: {part.label}")
                for part in _by_ctid(leaf, sql, count)
            ]
            continue
        is_full = shared.sources and (
            (shared.rows or 0) + rows > most_rows or (shared.bytes or 0) + leaf.bytes > most_bytes
        )
        is_foreign = leaf.kind == "f"
        if is_full or is_foreign:
            cut += [shared] if shared.sources else []
            shared = Part(())
        shared = Part(
            (*shared.sources, (sql, None)),
            f"{shared.label}, {leaf.name}" if shared.label else leaf.name,
            (shared.rows or 0) + rows,
            (shared.bytes or 0) + leaf.bytes,
        )
        if is_foreign:
            cut.append(shared)
            shared = Part(())
    cut += [shared] if shared.sources else []
    cut = [replace(part, label=_short(part.label)) for part in cut]
    has_foreign = any(leaf.kind == "f" for leaf in leaves)
    return cut, (
        f"{len(cut)} splits of {len(leaves)} partitions, small ones together, big ones by ctid, "
        f"under one snapshot{', which does not hold the foreign ones' if has_foreign else ''}"
    )


def _short(label: str) -> str:
    return label if len(label) < 100 else label[:97] + "..."


def _by_key(connection: psycopg.Connection, source: Source, why: str) -> tuple[list[Part], str]:
    keys = source.keys
    for column in keys:
        if column.oid not in _ORDERED:
            raise ConfigError(
                f"{source.ask.who}: split_by '{column.name}' is {column.native}",
                "split by an integer, numeric, date, timestamp, uuid, text or bytea column",
            )
    bounds = _bounds(connection, source)
    if not _are_ascending(connection, source, bounds):
        bounds, why = [], f"{why}, whose values the database does not find in order (reindex it)"
    ends: list[Key | None] = [None, *bounds, None]
    ranges = [
        Part(((source.sql, between(keys, low, high)),), _range_label(keys, low, high))
        for low, high in itertools.pairwise(ends)
    ]
    if len(ranges) == 1:
        ranges = [replace(source.whole, label="")]
    names = ", ".join(column.name for column in keys)
    reason = f"{len(ranges)} split{'s' if len(ranges) > 1 else ''} by {names}{why}"
    if len(ranges) > 1 and not _has_index(connection, source):
        reason += f"; no index begins with {keys[0].name}, so that each split scans all of it"
    return ranges, reason


def _has_index(connection: psycopg.Connection, source: Source) -> bool:
    """True if an index finds ranges of the key; True too where the catalog cannot tell."""
    relation = source.relation
    if relation is None or relation.kind not in ("r", "m", "p"):
        return True
    indexes = session.fetch_all(
        connection,
        "SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
        f"AND a.attnum = i.indkey[0] WHERE i.indrelid = {relation.oid} AND i.indisvalid "
        f"AND i.indpred IS NULL AND a.attname = {literal(source.keys[0].name)}",
    )
    return bool(indexes)


def between(keys: Sequence[Column], low: Key | None, high: Key | None) -> str | None:
    """Return the SQL of one range, in the database's own order; None for a range without ends.

    The range without a low end takes NULL keys, too.
    """
    if low is None and high is None:
        return None
    names = [quoted(column.name) for column in keys]
    key = names[0] if len(names) == 1 else f"({', '.join(names)})"

    def bound_sql(bound: Key) -> str:
        values = [typed_literal(value, column) for value, column in zip(bound, keys, strict=True)]
        return values[0] if len(values) == 1 else f"({', '.join(values)})"

    if low is None:
        assert high is not None
        is_null = " OR ".join(f"{name} IS NULL" for name in names)
        return f"({key} < {bound_sql(high)} OR {is_null})"
    ends = [f"{key} >= {bound_sql(low)}"]
    if high is not None:
        ends.append(f"{key} < {bound_sql(high)}")
    # A row comparison may be decided before it comes to a NULL; those rows are the first range's.
    if len(names) > 1:
        ends += [f"{name} IS NOT NULL" for name in names]
    return f"({' AND '.join(ends)})"


def _range_label(keys: Sequence[Column], low: Key | None, high: Key | None) -> str:
    words = [", ".join(column.name for column in keys)]
    if low is not None:
        words.append(f"from {', '.join(low)}")
    if high is not None:
        words.append(f"before {', '.join(high)}")
    return _short(" ".join(words))


def _bounds(connection: psycopg.Connection, source: Source) -> list[Key]:
    """Return the inner bounds of the ranges, in the database's order."""
    keys = source.keys
    names = [quoted(column.name) for column in keys]
    not_null = [f"{name} IS NOT NULL" for name in names]
    rows = source.rows
    if rows < ROWS_PER_SPLIT or source.conditions:  # an estimate would not do
        (rows,) = session.fetch_one(connection, source.select("count(*)", more=not_null))
    count = source.count_for(rows, source.bytes / source.rows if source.rows > 0 else 0)
    if count < 2 or rows < 2:
        return []
    is_integer = len(keys) == 1 and keys[0].oid in _INTEGERS
    step = 1
    if is_integer:
        low, high = session.fetch_one(
            connection, source.select(f"min({names[0]})", f"max({names[0]})", more=not_null)
        )
        if low is None:  # the catalog has not heard yet that it is empty
            return []
        step = _round((high - low + 1) / count)
        if splits.dense(low, high, rows):
            return [(str(bound),) for bound in range(_next(low, step), high + 1, step)]
        step = _round((high - low + 1) / count / 1000)
    if rows >= ROWS_PER_SPLIT and not source.conditions and len(keys) == 1:
        histogram = _histogram(connection, source)
        if len(histogram) > count:
            inner = [len(histogram) * at // count for at in range(1, count)]
            return splits.bounds_of([(histogram[at],) for at in inner])
    # The values at equal distances in the order of the key: one sort of all keys, by the database.
    listed = ", ".join(f"{name} AS k{at}" for at, name in enumerate(names))
    order = ", ".join(names)
    texts = ", ".join(f"k{at}::text" for at in range(len(names)))
    places = ",".join(map(str, splits.places(rows, count)))
    numbered = source.select(listed, f"row_number() OVER (ORDER BY {order}) AS n", more=not_null)
    picked = session.fetch_all(
        connection, f"SELECT {texts} FROM (\n{numbered}\n) AS h WHERE n IN ({places}) ORDER BY n"
    )
    if is_integer:  # at round numbers, which stay the same when the table has grown a little
        picked = [(str(int(value) // step * step),) for (value,) in picked]
    return splits.bounds_of(picked)


def _are_ascending(connection: psycopg.Connection, source: Source, bounds: Sequence[Key]) -> bool:
    """True if bounds go up as the database compares the column itself: else ranges would overlap.

    An index or statistics may be of an older collation than the library's.
    """
    if len(bounds) < 2:
        return True

    def bound_row(bound: Key) -> str:
        # coalesce with the column takes the column's collation, whatever it is.
        values = [
            f"coalesce({quoted(column.name)}, {typed_literal(value, column)})"
            for value, column in zip(bound, source.keys, strict=True)
        ]
        return f"ROW({', '.join(values)})"

    pairs = itertools.pairwise(bounds)
    steps = " AND ".join(f"{bound_row(low)} <= {bound_row(high)}" for low, high in pairs)
    # The join gives one row, in which every column of the source is NULL.
    sql = f"SELECT {steps} FROM (SELECT 1) AS one LEFT JOIN {source.sql} ON false"
    return bool(session.fetch_one(connection, sql)[0])


def _histogram(connection: psycopg.Connection, source: Source) -> list[str]:
    """Return values of a key at equal distances, from ANALYZE; none where it kept none."""
    relation, (key,) = source.relation, source.keys
    if relation is None:
        return []
    rows = session.fetch_all(
        connection,
        "SELECT histogram_bounds::text::text[] FROM pg_stats WHERE histogram_bounds IS NOT NULL "
        f"AND schemaname = {literal(relation.schema)} AND tablename = {literal(relation.name)} "
        f"AND attname = {literal(key.name)} ORDER BY inherited DESC",
    )
    return list(rows[0][0]) if rows else []


def _round(size: float) -> int:
    """Return the smallest of 1, 2, 3, 4, 5, 6, 8, 10, 20, 30 … that is not below `size`."""
    step = 1
    while True:
        for digit in (1, 2, 3, 4, 5, 6, 8):
            if digit * step >= size:
                return digit * step
        step *= 10


def _next(low: int, step: int) -> int:
    """Return the first multiple of `step` above `low`."""
    return (low // step + 1) * step
