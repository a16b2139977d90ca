"""The two halves of moving one split, which every engine calls: `read_split` and `stage_split`.

`read_split` gives the Home's rows in the plan's schema and in batches of `batch_bytes`.
`stage_split` hands batches to the Store and compares its receipt with the rows that it was given.
An error that is not a HyggeError leaves both with the connector's class and the line that raised
it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from hygge.bad_rows import SOURCE, BadRows, is_bad, sift
from hygge.batches import (
    conform,
    peek,
    raw_format,
    reached_of,
    rows_in,
    slices,
    with_dictionaries,
)
from hygge.errors import HyggeError, StoreError, raised_at
from hygge.formats.json_columns import to_text, with_json
from hygge.home import Home
from hygge.model import Limits, Receipt, Split, Ticket
from hygge.run.said import Speaker, speaking, spoken
from hygge.shape.bound import bind
from hygge.shape.changes import with_changes
from hygge.shape.step import Reading
from hygge.store import Store

_FILTERED = b"hygge.filtered"
_MOST_ROWS = 1_000_000
"""Rows of a batch at most: a Store may make a Python object of each value, even of one bit."""


def _cancelled() -> type[BaseException]:
    import asyncio  # slow to load, and needed only where something was raised

    return asyncio.CancelledError


@contextlib.contextmanager
def _attributing_errors(end: Home | Store) -> Iterator[None]:
    """Note on a foreign error which connector raised it, and where; the note travels with it."""
    name = type(end).__name__
    try:
        yield
    except HyggeError:
        raise
    except SystemExit as error:
        raise HyggeError(
            f"{name} ended the process with sys.exit({error.code!r}) ({_find_line(end, error)})",
            "raise an error there instead, or return",
        ) from error
    except _cancelled() as error:
        raise HyggeError(
            f"{name} gave up something that it waited for: CancelledError {error} "
            f"({_find_line(end, error)})",
            "catch it there, and raise an error that says why",
        ) from error
    except Exception as error:
        if not hasattr(error, "hygge_where"):  # `errors.as_hygge_error` reads both
            own = not type(end).__module__.startswith("hygge.")
            where = _find_line(end, error)
            error.__dict__.update(hygge_who=name, hygge_where=where, hygge_own=own)
        raise


def _find_line(end: Home | Store, error: BaseException) -> str:
    return raised_at(error, getattr(sys.modules.get(type(end).__module__), "__file__", None))


def read_split(
    home: Home,
    split: Split,
    schema: pa.Schema | None,
    limits: Limits,
    speaker: Speaker | None = None,
) -> Generator[pa.Table]:
    """Yield the split's rows in `schema`, at most `batch_bytes` at once; close the Home's iterator.

    Where the flow has a shape, `schema` is that of the rows as it makes them. Without a schema it
    is taken from the first batches. A split without rows then gives one empty table, if its schema
    is known by then. `speaker` gets what the user's code writes meanwhile.
    """
    with _attributing_errors(home):
        yield from spoken(speaker, _read_split(home, split, schema, limits))


def _read_split(
    home: Home, split: Split, schema: pa.Schema | None, limits: Limits
) -> Generator[pa.Table]:
    name, planned = home.describe(), schema
    shape, bound = home.shape, home.bound
    if raw_format(schema) is not None:
        shape = bound = None  # the source has done it
    tables = iter(home.read(split))
    try:
        rest = tables
        if schema is None:
            schema, rest = peek(tables, limits.batch_bytes, name)
            if shape is not None and schema is not None:
                bound = bind(shape, schema, name, to_text)
                schema = bound.schema
            if home.to_json and schema is not None:
                bound = with_json(bound, schema, home.flow_key)
                schema = schema if bound is None else bound.schema
            if home.traits.changes and schema is not None:
                key = home.flow_key if shape is None else tuple(map(shape.target, home.flow_key))
                bound = with_changes(bound, schema, key, None, name)
                schema = bound.schema
        has_rows, number, filtered = False, 0, 0
        for table in rest:  # enumerate() would keep each table until the next one is made
            number += 1
            assert schema is not None  # a stream that gives a table has a schema
            if reached_of(table) is not None or is_bad(table):
                yield table
                continue
            source = schema if bound is None else bound.source
            if home.gives_dictionaries:
                source = with_dictionaries(source, table)
            whole = conform(table, source, f"{name}: batch {number}")
            del table
            if bound is not None:
                reading = home.reading or Reading(name)
                if limits.on_bad_row == "set_aside":
                    check = partial(bound.check, reading=reading)
                    whole, bad = sift(whole, check, SOURCE, limits.max_bad_rows)
                    if bad is not None:
                        yield bad
                        del bad
                filtered += whole.num_rows
                whole = conform(bound.apply(whole, reading), schema, name)
                filtered -= whole.num_rows
            has_rows = has_rows or whole.num_rows > 0
            yield from slices(whole, _MOST_ROWS, limits.batch_bytes)
            del whole
        if not has_rows and planned is None and schema is not None:
            yield pa.Table.from_batches(
                [], schema=schema
            )  # it tells the Store what the columns are
        if filtered and schema is not None:
            yield _filtered_table(schema, filtered)
    finally:
        close = getattr(tables, "close", None)
        if close is not None:
            close()


def stage_split(
    store: Store,
    ticket: Ticket,
    schema: pa.Schema | None,
    tables: Iterator[pa.Table],
    speaker: Speaker | None = None,
    batches_stay: bool = False,
) -> Receipt:
    """Have the Store stage one split, and return its receipt, with the rows that were set aside.

    `batches_stay`: whether it may use a batch after it has asked for the next one.

    Raises StoreError when the Store left batches untaken, or when the receipt does not count
    every row that it was handed.
    """
    bad_rows = None
    if store.most_bad_rows is not None:
        bad_rows = BadRows(store.flow or "", ticket, store.most_bad_rows)
    handed = _CountedTables(tables, bad_rows)
    if schema is None:
        schema = handed.peek_schema()
    if bad_rows is not None:
        bad_rows.schema = schema
    with _attributing_errors(store), speaking(speaker):
        store.bad_rows, store.batches_stay = bad_rows, batches_stay
        receipt = store.stage(ticket, schema, handed)
    if receipt.ticket != ticket:
        for _ in handed:  # the receipt is an earlier attempt's: these rows are only counted
            pass
    if next(handed, None) is not None:
        raise StoreError(
            f"{store.describe()} sealed split {ticket.split} without taking all of its batches",
            "`stage` pulls until its batches end",
        )
    if bad_rows is not None:
        receipt = replace(
            receipt,
            set_aside=receipt.set_aside + bad_rows.rows,
            bad_rows=bad_rows.content(),
        )
    if receipt.rows + receipt.set_aside != handed.rows:
        raise StoreError(
            f"{store.describe()} was handed {handed.rows:,} rows of split {ticket.split}, and its "
            f"receipt says {receipt.rows:,} and {receipt.set_aside:,} set aside",
            "a receipt counts every row that `stage` pulled",
        )
    if handed.reached is not None and receipt.ticket != ticket:
        raise StoreError(
            f"split {ticket.split} was staged by an earlier attempt, which may have read up to "
            "another value of the cursor",
            "run it again",
        )
    return replace(receipt, reached=handed.reached, filtered=handed.filtered)


def _filtered_table(schema: pa.Schema, rows: int) -> pa.Table:
    """Return a table without rows that ends a split: `rows` were read, and left out by the flow.

    No Store sees the table; the receipt has the number.
    """
    metadata = {**(schema.metadata or {}), _FILTERED: str(rows).encode()}
    return schema.with_metadata(metadata).empty_table()


def _filtered_of(table: pa.Table) -> int | None:
    """Return the rows of a `_filtered_table`; None for any other table."""
    rows = (table.schema.metadata or {}).get(_FILTERED)
    return None if rows is None else int(rows)


class _CountedTables:
    """An iterator of tables that counts their rows and keeps no table that it has given.

    It keeps what a `reached_table` and a `_filtered_table` say to itself, and hands the rows of a
    `bad_table` to `bad_rows`.
    """

    def __init__(self, tables: Iterator[pa.Table], bad_rows: BadRows | None) -> None:
        self.tables, self.bad_rows, self.rows = tables, bad_rows, 0
        self.peeked: list[pa.Table] = []
        self.reached: dict[str, Any] | None = None
        self.filtered = 0

    def peek_schema(self) -> pa.Schema | None:
        """Return the schema of the first table, which stays the next one to be given."""
        first = next(self, None)
        if first is None:
            return None
        self.rows -= rows_in(first)
        self.peeked = [first]
        return first.schema

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        with speaking(None):  # the Home's code has a speaker of its own
            return self._next()

    def _next(self) -> pa.Table:
        table = self.peeked.pop() if self.peeked else next(self.tables)
        while True:
            reached, filtered = reached_of(table), _filtered_of(table)
            if reached is not None:
                self.reached = reached
            elif filtered is not None:
                self.filtered = filtered
            elif self.bad_rows is not None and is_bad(table):
                self.bad_rows.add(table)
                self.rows += table.num_rows
            else:
                break
            table = next(self.tables)
        self.rows += rows_in(table)
        return table
