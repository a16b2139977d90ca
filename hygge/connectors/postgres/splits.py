"""The router: which parts of a source are read independently, and why.

Under one snapshot a table is cut by where its rows lie (`ctid`), which needs no key; a partitioned
one by its partitions, big ones cut further. Key ranges where `split_by` says so, or by the primary
key where each split has a state of its own. Every row, NULL keys included, is in just one part:
ranges are half open, the first takes what is below and NULL, the last what is above.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hygge.connectors.postgres.catalog import Field, Relation
from hygge.connectors.postgres.session import literal, quoted
from hygge.connectors.sql import splits
from hygge.connectors.sql.ask import ROWS_PER_SPLIT, Ask
from hygge.errors import ConfigError

_CTID_RANGES_SINCE = 140_000
_INTEGERS = (20, 21, 23)
_TYPES = {
    16: "bool", 17: "bytea", 19: "name", 20: "int8", 21: "int2", 23: "int4", 25: "text",
    700: "float4", 701: "float8", 1042: "bpchar", 1043: "varchar", 1082: "date", 1083: "time",
    1114: "timestamp", 1184: "timestamptz", 1700: "numeric", 2950: "uuid",
}  # fmt: skip
_ORDERED = (*_INTEGERS, 17, 19, 25, 1042, 1043, 1082, 1083, 1114, 1184, 1700, 2950)


@dataclass(frozen=True)
class Part:
    """What one split reads: one or more sources, each with a condition of its own."""

    sources: tuple[tuple[str, str | None], ...]
    label: str = ""
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Route:
    """What the router knows: all of the source, how it is narrowed down, and how big it is."""

    ask: Ask
    relation: Relation | None
    source: str
    conditions: tuple[str, ...]
    keys: tuple[Field, ...]
    rows: int
    bytes: int

    @property
    def whole(self) -> Part:
        rows = self.rows if self.rows > 0 else None
        return Part(((self.source, None),), rows=rows, bytes=self.bytes or None)

    @property
    def count(self) -> int:
        """How many splits would be right."""
        rows = max(1, self.rows)  # there may be many where the catalog knows of none
        return self.many(rows, self.bytes / rows)

    def many(self, rows: int, row_bytes: float) -> int:
        """How many splits so many rows should have."""
        by_split = self.ask.options.consistency == "split" and self.ask.snapshot is None
        lanes = None if by_split else self.ask.lanes
        return splits.how_many(self.ask.options.splits, rows, row_bytes, lanes)

    def select(self, *what: str, more: Sequence[str] = ()) -> str:
        """A SELECT over all of the source."""
        where = " AND ".join([*self.conditions, *more])
        return f"SELECT {', '.join(what)} FROM {self.source}" + (f" WHERE {where}" if where else "")


def typed(value: Any, field: Field) -> str:
    """A value, as the text that the database gave, in the SQL of its column's type."""
    return f"{literal(str(value)).strip()}::{_TYPES.get(field.oid, field.native)}"


def orderly(keys: Sequence[Field]) -> tuple[Field, ...]:
    """As many of these columns, from the first, as have an order that ranges can be made of."""
    return tuple(itertools.takewhile(lambda each: each.oid in _ORDERED, keys))


def parts(connection: Any, route: Route, by_key_only: bool) -> tuple[list[Part], str]:
    """The parts and why they are these. `by_key_only`: there is no snapshot for all of them."""
    relation, ask = route.relation, route.ask
    if route.keys:
        return _by_key(connection, route, "" if ask.split_keys else ", its primary key")
    if by_key_only:
        return [route.whole], (
            "one split, of one state, since it has no primary key: name `split_by` to read ranges"
        )
    if relation is None or relation.kind == "v":
        what = "a query" if relation is None else "a view"
        return [route.whole], f"one split: {what}; name `split_by` to read ranges side by side"
    if relation.kind == "f":
        return [route.whole], (
            "one split: a foreign table, which no snapshot of this server holds; name `split_by` "
            "to read ranges"
        )
    if route.count < 2:
        return [route.whole], (
            f"one split: about {route.rows:,} rows are no more than one split takes"
        )
    sliced = connection.info.server_version >= _CTID_RANGES_SINCE
    if relation.parts:
        return _by_part(route, relation, sliced)
    if not relation.heap:
        return [route.whole], "one split: its storage has no ctid; name `split_by`"
    if not relation.allowed:
        return [route.whole], "one split: who may read some columns only may not read ctid"
    if not sliced:
        return [route.whole], "one split: PostgreSQL before 14 scans all for each ctid range"
    if relation.blocks < 2:
        return [route.whole], "one split: its rows lie in one block"
    cut = _by_ctid(route, relation, route.source, route.count)
    return cut, (
        f"{len(cut)} splits by ctid, where the rows lie: a {relation.what} of "
        f"{relation.blocks:,} blocks, under one snapshot"
    )


def _by_ctid(route: Route, relation: Relation, source: str, count: int) -> list[Part]:
    blocks = max(1, relation.blocks)
    per = max(1, -(-blocks // max(1, count)))
    starts = list(range(0, blocks, per))
    cut = []
    for start in starts:
        first, last = start == starts[0], start == starts[-1]
        ends = [] if first else [f"ctid >= '({start},0)'::tid"]
        ends += [] if last else [f"ctid < '({start + per},0)'::tid"]
        label = f"blocks {start} to {'the end' if last else start + per - 1}"
        share = 1 / len(starts)
        cut.append(
            Part(
                ((source, " AND ".join(ends) or None),),
                label,
                round(relation.rows * share) if relation.rows > 0 else None,
                round(relation.bytes * share),
            )
        )
    return cut


def _by_part(route: Route, relation: Relation, sliced: bool) -> tuple[list[Part], str]:
    """Partitions (and tables that inherit) by their own names; small ones share a split."""
    ask = route.ask
    leaves = [
        each for each in (relation, *relation.parts) if each.kind in ("r", "m", "f")
    ]  # a partition that is partitioned itself has no rows
    if any(each.schema == "_timescaledb_internal" for each in leaves):
        return [route.whole], "one split: a hypertable reads its chunks itself; name `split_by`"
    if not all(each.allowed and not each.secured for each in leaves):
        return [route.whole], (
            "one split: its partitions cannot be read by their own names (rights, row security)"
        )
    total = sum(max(0, round(each.rows)) for each in leaves)
    size = sum(each.bytes for each in leaves)
    count = route.many(max(1, total), size / max(1, total))
    rows, size = max(1, -(-total // count)), max(1, -(-size // count))
    if ask.options.splits != "auto":
        rows = 1 << 62
    cut: list[Part] = []
    shared = Part(())
    for leaf in leaves:
        source = f"ONLY {leaf.sql} AS {quoted(relation.name)}"
        known = max(0, round(leaf.rows))
        count = max(1, -(-known // rows), -(-leaf.bytes // size))
        if count > 1 and sliced and leaf.heap:
            cut += [
                replace(part, label=f"{leaf.name}: {part.label}")
                for part in _by_ctid(route, leaf, source, count)
            ]
            continue
        full = shared.sources and (
            (shared.rows or 0) + known > rows or (shared.bytes or 0) + leaf.bytes > size
        )
        if full or leaf.kind == "f":
            cut += [shared] if shared.sources else []
            shared = Part(())
        shared = Part(
            (*shared.sources, (source, None)),
            f"{shared.label}, {leaf.name}" if shared.label else leaf.name,
            (shared.rows or 0) + known,
            (shared.bytes or 0) + leaf.bytes,
        )
        if leaf.kind == "f":
            cut.append(shared)
            shared = Part(())
    cut += [shared] if shared.sources else []
    cut = [replace(part, label=_short(part.label)) for part in cut]
    foreign = any(leaf.kind == "f" for leaf in leaves)
    return cut, (
        f"{len(cut)} splits of {len(leaves)} partitions, small ones together, big ones by ctid, "
        f"under one snapshot{', which does not hold the foreign ones' if foreign else ''}"
    )


def _short(label: str) -> str:
    return label if len(label) < 100 else label[:97] + "..."


def _by_key(connection: Any, route: Route, why: str) -> tuple[list[Part], str]:
    keys = route.keys
    for each in keys:
        if each.oid not in _ORDERED:
            raise ConfigError(
                f"{route.ask.who}: split_by '{each.name}' is {each.native}",
                "split by an integer, numeric, date, timestamp, uuid, text or bytea column",
            )
    bounds = _bounds(connection, route)
    if not _ascend(connection, route, bounds):
        bounds, why = [], f"{why}, whose values the database does not find in order (reindex it)"
    ends: list[tuple[str, ...] | None] = [None, *bounds, None]
    cut = []
    for at in range(len(ends) - 1):
        low, high = ends[at], ends[at + 1]
        cut.append(Part(((route.source, between(keys, low, high)),), _range(keys, low, high)))
    named = ", ".join(each.name for each in keys)
    if len(cut) == 1:
        cut = [replace(route.whole, label="")]
    said = f"{len(cut)} split{'s' if len(cut) > 1 else ''} by {named}{why}"
    if len(cut) > 1 and not _indexed(connection, route):
        said += f"; no index begins with {keys[0].name}, so that each split scans all of it"
    return cut, said


def _indexed(connection: Any, route: Route) -> bool:
    """Whether ranges of the key are found without reading all; True where nobody knows."""
    relation = route.relation
    if relation is None or relation.kind not in ("r", "m", "p"):
        return True
    found = connection.execute(
        "SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
        f"AND a.attnum = i.indkey[0] WHERE i.indrelid = {relation.oid} AND i.indisvalid "
        f"AND i.indpred IS NULL AND a.attname = {literal(route.keys[0].name)}"
    ).fetchone()
    return found is not None


def between(
    keys: Sequence[Field], low: tuple[str, ...] | None, high: tuple[str, ...] | None
) -> str | None:
    """SQL of one range, by the database's own order; the first one takes NULL keys, too."""
    if low is None and high is None:
        return None
    names = [quoted(each.name) for each in keys]
    left = names[0] if len(names) == 1 else f"({', '.join(names)})"

    def right(bound: tuple[str, ...]) -> str:
        values = [typed(value, each) for value, each in zip(bound, keys, strict=True)]
        return values[0] if len(values) == 1 else f"({', '.join(values)})"

    if low is None:
        assert high is not None
        absent = " OR ".join(f"{name} IS NULL" for name in names)
        return f"({left} < {right(high)} OR {absent})"
    ends = [f"{left} >= {right(low)}"]
    if high is not None:
        ends.append(f"{left} < {right(high)}")
    # A row comparison may be decided before it comes to a NULL; those rows are the first range's.
    if len(names) > 1:
        ends += [f"{name} IS NOT NULL" for name in names]
    return f"({' AND '.join(ends)})"


def _range(keys: Sequence[Field], low: tuple[str, ...] | None, high: tuple[str, ...] | None) -> str:
    named = ", ".join(each.name for each in keys)
    said = [named]
    said += [] if low is None else [f"from {', '.join(low)}"]
    said += [] if high is None else [f"before {', '.join(high)}"]
    return _short(" ".join(said))


def _bounds(connection: Any, route: Route) -> list[tuple[str, ...]]:
    """Inner bounds of the ranges, as text of the database, in its order."""
    keys = route.keys
    names = [quoted(each.name) for each in keys]
    present = [f"{name} IS NOT NULL" for name in names]
    rows = route.rows
    if rows < ROWS_PER_SPLIT or route.conditions:  # an estimate would not do
        (rows,) = connection.execute(route.select("count(*)", more=present)).fetchone()
    count = route.many(rows, route.bytes / route.rows if route.rows > 0 else 0)
    if count < 2 or rows < 2:
        return []
    whole = len(keys) == 1 and keys[0].oid in _INTEGERS
    step = 1
    if whole:
        low, high = connection.execute(
            route.select(f"min({names[0]})", f"max({names[0]})", more=present)
        ).fetchone()
        if low is None:  # the catalog has not heard yet that it is empty
            return []
        step = _round((high - low + 1) / count)
        if splits.dense(low, high, rows):
            return [(str(at),) for at in range(_next(low, step), high + 1, step)]
        step = _round((high - low + 1) / count / 1000)
    if rows >= ROWS_PER_SPLIT and not route.conditions and len(keys) == 1:
        known = _histogram(connection, route)
        if len(known) > count:
            inner = [len(known) * at // count for at in range(1, count)]
            return splits.bounds_of([(known[at],) for at in inner])
    listed = ", ".join(f"{name} AS k{at}" for at, name in enumerate(names))
    order = ", ".join(names)
    texts = ", ".join(f"k{at}::text" for at in range(len(names)))
    places = ",".join(map(str, splits.places(rows, count)))
    numbered = route.select(listed, f"row_number() OVER (ORDER BY {order}) AS n", more=present)
    picked = connection.execute(
        f"SELECT {texts} FROM (\n{numbered}\n) AS h WHERE n IN ({places}) ORDER BY n"
    ).fetchall()
    if whole:  # on round numbers, which are the same ones when the table has grown a little
        picked = [(str(int(value) // step * step),) for (value,) in picked]
    return splits.bounds_of([tuple(each) for each in picked])


def _ascend(connection: Any, route: Route, bounds: Sequence[tuple[str, ...]]) -> bool:
    """Whether bounds go up as the database compares the column itself: else ranges would overlap.

    An index or statistics may be of an older collation than the library's.
    """
    if len(bounds) < 2:
        return True

    def held(bound: tuple[str, ...]) -> str:  # in the collation of the column, whatever it is
        cells = [
            f"coalesce({quoted(each.name)}, {typed(value, each)})"
            for value, each in zip(bound, route.keys, strict=True)
        ]
        return f"ROW({', '.join(cells)})"

    pairs = itertools.pairwise(bounds)
    steps = " AND ".join(f"{held(low)} <= {held(high)}" for low, high in pairs)
    (ascend,) = connection.execute(
        f"SELECT {steps} FROM (SELECT 1) AS one LEFT JOIN {route.source} ON false"
    ).fetchone()
    return bool(ascend)


def _histogram(connection: Any, route: Route) -> list[str]:
    """Values of a key at equal distances, as ANALYZE kept them; none where it did not."""
    relation, (key,) = route.relation, route.keys
    if relation is None:
        return []
    found = connection.execute(
        "SELECT histogram_bounds::text::text[] FROM pg_stats WHERE histogram_bounds IS NOT NULL "
        f"AND schemaname = {literal(relation.schema)} AND tablename = {literal(relation.name)} "
        f"AND attname = {literal(key.name)} ORDER BY inherited DESC"
    ).fetchone()
    return list(found[0]) if found else []


def _round(size: float) -> int:
    """The smallest of 1, 2, 3, 4, 5, 6, 8, 10, 20, 30 … that is not below `size`."""
    step = 1
    while True:
        for digit in (1, 2, 3, 4, 5, 6, 8):
            if digit * step >= size:
                return digit * step
        step *= 10


def _next(low: int, step: int) -> int:
    """The first multiple of `step` above `low`."""
    return (low // step + 1) * step
