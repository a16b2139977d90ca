"""What every engine does around `Home.read` and `Store.stage`: one schema, batches of a size.

An error that is not one of ours leaves here with the class that raised it, and the file and line.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterator

import pyarrow as pa

from hygge.batches import conform, peek, rows_in, slices
from hygge.errors import HyggeError, StoreError, raised_at
from hygge.home import Home
from hygge.model import Limits, Receipt, Split, Ticket
from hygge.store import Store

_MOST_ROWS = 1_000_000
"""Of a batch: a Store may make a Python object of each value, and a boolean has one bit here."""


@contextlib.contextmanager
def blamed(end: Home | Store) -> Iterator[None]:
    """Note on a foreign error whose code raised it and where: it travels with the error."""
    who = type(end).__name__
    try:
        yield
    except HyggeError:
        raise
    except SystemExit as error:
        raise HyggeError(
            f"{who} ended the process with sys.exit({error.code!r}) ({_at(end, error)})",
            "raise an error there instead, or return",
        ) from error
    except Exception as error:
        if not hasattr(error, "hygge_where"):
            with contextlib.suppress(AttributeError, TypeError):
                error.hygge_who = who  # type: ignore[attr-defined]  # read by in_words
                error.hygge_where = _at(end, error)  # type: ignore[attr-defined]
        raise


def _at(end: Home | Store, error: BaseException) -> str:
    return raised_at(error, getattr(sys.modules.get(type(end).__module__), "__file__", None))


def batches(
    home: Home, split: Split, schema: pa.Schema | None, limits: Limits
) -> Generator[pa.Table]:
    """The split's rows in the plan's schema, cut to `batch_bytes`; closes the Home's iterator."""
    with blamed(home):
        yield from _batches(home, split, schema, limits)


def _batches(
    home: Home, split: Split, schema: pa.Schema | None, limits: Limits
) -> Generator[pa.Table]:
    who, planned = home.describe(), schema
    tables = iter(home.read(split))
    try:
        rest = tables
        if schema is None:
            schema, rest = peek(tables, limits.batch_bytes, who)
        came, number = False, 0
        for table in rest:  # enumerate() would keep each table until the next one is made
            came, number = came or table.num_rows > 0, number + 1
            assert schema is not None  # a stream that gives a table has a schema
            whole = conform(table, schema, f"{who}: batch {number}")
            del table
            yield from slices(whole, _MOST_ROWS, limits.batch_bytes)
            del whole
        if not came and planned is None and schema is not None:
            yield schema.empty_table()  # no row, but the first to say what the columns are
    finally:
        close = getattr(tables, "close", None)
        if close is not None:
            close()


def staged(
    store: Store, ticket: Ticket, schema: pa.Schema | None, tables: Iterator[pa.Table]
) -> Receipt:
    """The receipt of one split, which must account for every row that the Store was handed."""
    handed = _Handed(tables)
    if schema is None:
        schema = handed.look()
    with blamed(store):
        receipt = store.stage(ticket, schema, handed)
    if receipt.ticket != ticket:
        for _ in handed:  # an earlier attempt was sealed: the rows are only counted again
            pass
    if next(handed, None) is not None:
        raise StoreError(
            f"{store.describe()} sealed split {ticket.split} without taking all of its batches",
            "`stage` pulls until its batches end",
        )
    if receipt.rows + receipt.set_aside != handed.rows:
        raise StoreError(
            f"{store.describe()} was handed {handed.rows:,} rows of split {ticket.split}, and its "
            f"receipt says {receipt.rows:,} and {receipt.set_aside:,} set aside",
            "a receipt counts every row that `stage` pulled",
        )
    return receipt


class _Handed:
    """Tables on their way to a Store, counted; keeps no table that was given."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self.tables, self.rows = tables, 0
        self.first: list[pa.Table] = []

    def look(self) -> pa.Schema | None:
        """The schema of the first table, which is given again."""
        self.first = [table for table in [next(self.tables, None)] if table is not None]
        return self.first[0].schema if self.first else None

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        table = self.first.pop() if self.first else next(self.tables)
        self.rows += rows_in(table)
        return table
