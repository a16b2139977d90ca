"""The rows at the watermark, which an append with a cursor reads again and adds only once.

A head remembers of each row at its watermark a digest: of the flow's key, or of all values. The
next run reads the rows with that value of the cursor again, and leaves out as many of each digest
as are remembered: equal rows without a key are counted, so that none is lost and none comes twice.
Beyond `MOST_ROWS` rows nothing is remembered but their number, and `cursor_ties` decides.

All rows at the old and at the new watermark are read by one split (the *boundary*), since only one
reader can count. It ends with a `hygge.batches.reached_table` for the head.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hygge.batches import reached_table
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.lag import overlaps
from hygge.errors import HomeError
from hygge.model import Watermark

MOST_ROWS = 10_000
"""Rows at a watermark that a head remembers. Where a plan of several splits counts more of them at
the next watermark, its splits read them and no boundary does, so that many lanes can."""
_BYTES = 8
"""Length of a digest."""


class Ties:
    """The rows at the watermarks of one run: those of the last one, and those of the next one."""

    def __init__(self, ask: Ask, since: Watermark, schema: pa.Schema) -> None:
        self.ask, self.since, self.schema = ask, since, schema
        self.names = list(ask.key) or schema.names
        self.notes: list[str] = []
        self.known: Counter[bytes] | None = None
        """How many rows of each digest came before; None: that is not known."""
        if since is not None:
            self.known = self._known(ask.ties)
        self._left = Counter(self.known)
        self._at_since: Counter[bytes] = Counter()
        self._at_upper: Counter[bytes] = Counter()
        self._upper_rows = 0

    @property
    def reads_since(self) -> bool:
        """Return whether the rows at the last watermark are read again."""
        if self.since is None:
            return False
        return self.known is not None or self.ask.options.cursor_ties == "read"

    def _known(self, facts: Mapping[str, Any] | None) -> Counter[bytes] | None:
        cursor, since = self.ask.cursor, self.since
        reads = self.ask.options.cursor_ties == "read"
        fate = (
            "all of them are added again, as `cursor_ties: read` asks"
            if reads
            else f"a row that got '{cursor}' {since} after that run is not seen"
        )
        if facts is None:
            self.notes.append(
                f"the last run did not remember which rows have '{cursor}' {since}: {fate}"
            )
            return None
        if "digests" not in facts:
            self.notes.append(f"{self._too_many(since)}: {fate}")
            return None
        if (facts["by"], facts["types"]) != (list(self.ask.key), self._types()):
            if self.ask.options.cursor_ties is not None:
                self.notes.append(f"the key or the columns changed since the last run: {fate}")
                return None
            raise HomeError(
                f"{self.ask.who}: the key or the columns changed since the last run, so nobody can "
                f"tell which rows with '{cursor}' {since} came before",
                "decide for one run: options: {cursor_ties: skip} leaves all of them out, "
                "{cursor_ties: read} adds all of them again; rows above that value come either way",
            )
        digests = base64.b64decode(facts["digests"])
        return Counter(digests[at : at + _BYTES] for at in range(0, len(digests), _BYTES))

    def keep(self, table: pa.Table, at_since: Sequence[bool], at_upper: Sequence[bool]) -> pa.Table:
        """Return the table without the rows that came before; remember those at a watermark.

        `at_since` and `at_upper` tell, row by row, which rows are at the last and the next one.
        """
        if self._upper_rows > MOST_ROWS:
            at_upper = [False] * len(at_upper)
        self._upper_rows += sum(at_upper)
        marked = [at for at, both in enumerate(zip(at_since, at_upper, strict=True)) if any(both)]
        if not marked:
            return table
        dropped = set()
        for at, digest in zip(marked, digests(table.take(marked), self.names), strict=True):
            if at_upper[at] and not at_since[at]:
                self._at_upper[digest] += 1
            if at_since[at]:
                self._at_since[digest] += 1
                if self._left[digest]:
                    self._left[digest] -= 1
                    dropped.add(at)
        if not dropped:
            return table
        return table.filter(
            pa.array([at not in dropped for at in range(table.num_rows)], pa.bool_())
        )

    def known_rows(self, tables: Iterator[pa.Table]) -> tuple[list[int], int]:
        """Return which rows of `tables` came before, counted from 1, and how many rows there are.

        All rows are at the last watermark.
        """
        known, rows = [], 0
        for table in tables:
            for digest in digests(table, self.names):
                rows += 1
                self._at_since[digest] += 1
                if self._left[digest]:
                    self._left[digest] -= 1
                    known.append(rows)
        return known, rows

    def at_since(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield tables whose rows are all at the last watermark, without those that came before."""
        for table in tables:
            kept = self.keep(table, [True] * table.num_rows, [False] * table.num_rows)
            del table
            if kept.num_rows:
                yield kept
            del kept

    def at_upper(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield tables whose rows are all at the next watermark, which it remembers."""
        for table in tables:
            self.keep(table, [False] * table.num_rows, [True] * table.num_rows)
            yield table
            del table

    def end(self, upper: Watermark) -> pa.Table:
        """Return the table that ends the boundary, where `upper` is the next watermark."""
        facts: dict[str, Any] = {"watermark": upper}
        notes = [*self.notes]
        if upper is not None and upper != self.since:
            below = self._at_since if overlaps(self.ask, self.since, upper) else Counter[bytes]()
            facts["ties"] = self._facts(self._at_upper + below)
        elif self.known is not None:
            # Rows that came before and cannot be seen just now must not come twice later.
            facts["ties"] = self._facts(self._at_since | self.known)
        elif self.reads_since:
            facts["ties"] = self._facts(self._at_since)
        else:
            facts["ties"] = self.ask.ties
        if upper != self.since and "digests" not in (facts["ties"] or {"digests": ""}):
            notes.append(
                f"{self._too_many(upper)}: a row that gets it later is not seen, unless "
                "`cursor_ties: read` adds all of them again"
            )
        return reached_table(self.schema, {**facts, "notes": notes})

    def forget_upper(self) -> None:
        """Remember nothing of the rows at the next watermark: there are too many."""
        self._upper_rows = MOST_ROWS + 1

    def _too_many(self, value: Watermark) -> str:
        return (
            f"more than {MOST_ROWS:,} rows have '{self.ask.cursor}' {value}, which is more than "
            "are remembered"
        )

    def _facts(self, remembered: Counter[bytes]) -> dict[str, Any]:
        facts = {"by": list(self.ask.key), "types": self._types()}
        if max(self._upper_rows, remembered.total()) <= MOST_ROWS:
            joined = b"".join(sorted(remembered.elements()))
            facts["digests"] = base64.b64encode(joined).decode()
        return facts

    def _types(self) -> str:
        """Return a digest of the names and types of which rows have their digests."""
        text = repr([(name, _type_name(self.schema.field(name).type)) for name in self.names])
        return hashlib.blake2b(text.encode(), digest_size=_BYTES).hexdigest()


def digests(table: pa.Table, names: Sequence[str]) -> list[bytes]:
    """Return a digest of the values of each row, which never changes between versions.

    NULL differs from every value, -0.0 from 0.0, and all NaN are one value.
    """
    columns = [_encoded(table.column(name).combine_chunks()) for name in names]
    rows = []
    for values in zip(*columns, strict=True):
        digest = hashlib.blake2b(digest_size=_BYTES)
        digest.update(_joined(values))
        rows.append(digest.digest())
    return rows


def _joined(values: Sequence[bytes]) -> bytes:
    return b"".join(b"%d:%b" % (len(value), value) for value in values)


def _encoded(array: pa.Array) -> list[bytes]:
    """Return each value of an array as bytes: the same for the same value of the same type."""
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    valid = array.is_valid().to_pylist()
    encoded = [b"-"] * len(array)
    for at, value in enumerate(_values(array)):
        if valid[at]:
            encoded[at] = b"+" + value
    return encoded


def _values(array: pa.Array) -> Iterator[bytes]:
    """Yield the bytes of each value; anything for NULL."""
    t, kind = pa.types, array.type
    if t.is_dictionary(kind):
        yield from _values(array.dictionary_decode())
    elif t.is_struct(kind):
        for row in zip(*map(_encoded, array.flatten()), strict=True):
            yield _joined(row)
    elif t.is_nested(kind):
        for value in array:
            yield _joined(_encoded(value.values)) if value.is_valid else b""
    elif t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
        yield from _values(array.cast(pa.large_binary()))
    elif t.is_temporal(kind) and not t.is_interval(kind):
        number = pa.int32() if kind.bit_width == 32 else pa.int64()
        yield from _values(array.cast(number))
    elif t.is_floating(kind):
        for value in array.to_pylist():
            yield b"nan" if value is None or value != value else struct.pack("<d", value)
    else:
        for value in array.to_pylist():
            yield value if isinstance(value, bytes) else str(value).encode()


def _type_name(kind: pa.DataType) -> str:
    """Return a type's name; those that differ in the width of their offsets have one."""
    return str(kind).replace("large_", "")
