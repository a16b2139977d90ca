"""Bad rows: rows that cannot be moved, which a flow with `on_bad_row: set_aside` sets aside.

Life of a bad row: a Home yields it in a `bad_table` among its batches, or a Store gives it to the
`BadRows` of its try at a split. `hygge/engine/reading.py` puts both into the receipt, which counts
them. The driver writes them beside the journal before it keeps the receipt
(`hygge/journal/bad_files.py`), and shows them when the run is committed.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.arrays import booleans, integers, texts
from hygge.batches import serialized
from hygge.errors import TooManyBadRows, UnfitValue
from hygge.model import MIB

if TYPE_CHECKING:
    from hygge.model import Limits, Receipt, Ticket

_MARK = b"hygge.bad"
_ROWS = b"hygge.schema"
ARROW = '{"kind": "arrow"}'
"""The form of a row that a Store could not hold."""
SOURCE = '{"kind": "arrow", "of": "home"}'
"""The form of a row as its Home gave it, of which the flow could not make what it moves."""
_MOST_BYTES = 64 * MIB
"""Bytes of the bad rows of one split: they travel to the driver with its receipt."""
_MOST_SHOWN = 10_000
"""Characters of a value or a text that people are shown; `raw` holds all of it."""
_PIECE_ROWS = 16_384
"""Rows that are looked at together where some are bad, and fewer where these are close."""
_AT_ONCE = 1_000
"""Bad rows that are Python objects at one time."""
_FEW = 1_000
"""Rows to each one that is taken out, for which slices are quicker than a copy of all."""

_FOUND = [
    pa.field("reason", pa.string(), False),
    pa.field("column", pa.string()),
    pa.field("value", pa.string()),
    pa.field("file", pa.string()),
    pa.field("line", pa.int64()),
    pa.field("text", pa.string()),
    pa.field("form", pa.string(), False),
    pa.field("raw", pa.binary(), False),
]
SCHEMA = pa.schema(
    [
        pa.field("flow", pa.string(), False),
        pa.field("run", pa.string(), False),
        pa.field("split", pa.int64()),
        *_FOUND,
    ]
)
"""The columns of a file of bad rows. `text` is the row for people; `raw` is what it was, byte for
byte, in the form that `form` tells: JSON with `kind` csv (the record, and how it is written), jsonl
(the line) or arrow (an IPC stream of one row)."""
_FOUND_SCHEMA = pa.schema(_FOUND, metadata={_MARK: b"1"})


@dataclass(frozen=True)
class BadRow:
    """One row that does not fit: where it stands, why, and all of it."""

    reason: str
    raw: bytes
    text: str
    form: str
    column: str | None = None
    value: str | None = None
    file: str | None = None
    line: int | None = None


def bad_table(rows: Iterable[BadRow]) -> pa.Table:
    """Return a batch that a Home yields among its others: rows that it could not read."""
    rows = [*rows]
    if len(rows) > 1 and sum(len(row.raw) for row in rows) > 1024 * MIB:
        middle = len(rows) // 2
        return pa.concat_tables([bad_table(rows[:middle]), bad_table(rows[middle:])])
    columns = [
        texts([row.reason for row in rows]),
        texts([row.column for row in rows]),
        texts([_shown(row.value) for row in rows]),
        texts([row.file for row in rows]),
        integers([row.line for row in rows]),
        texts([_shown(row.text) for row in rows]),
        texts([row.form for row in rows]),
        texts([row.raw for row in rows], pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=_FOUND_SCHEMA)


def is_bad(table: pa.Table) -> bool:
    """Return whether a batch holds bad rows instead of rows of the plan's schema."""
    return _MARK in (table.schema.metadata or {})


def _shown(text: str | None) -> str | None:
    if text is None or len(text) <= _MOST_SHOWN:
        return text
    return text[:_MOST_SHOWN] + "…"


class BadRows:
    """The bad rows of one try at a split."""

    def __init__(self, flow: str, ticket: Ticket, most_rows: int) -> None:
        self.flow, self.ticket, self.most_rows = flow, ticket, most_rows
        self.schema: pa.Schema | None = None
        """The schema of the rows, where it is known."""
        self.rows = 0
        self._bytes = 0
        self._tables: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Keep the rows of a `bad_table`. Raises TooManyBadRows above the limit of the run."""
        self.rows += table.num_rows
        self._bytes += table.nbytes
        self._tables.append(table)
        if self.rows > self.most_rows or self._bytes > _MOST_BYTES:
            raise too_many(self.rows, None, first_of(self._tables), self.most_rows)

    def sift(self, table: pa.Table, check: Callable[[pa.Table], object]) -> pa.Table:
        """Return the rows that pass `check`, and set aside those for which it raises UnfitValue.

        `check` is called with parts of the table, and changes nothing.
        """
        good, bad = sift(table, check, ARROW, self.most_rows - self.rows)
        if bad is not None:
            self.add(bad)
        return good

    def take(self, table: pa.Table, errors: Mapping[int, UnfitValue]) -> pa.Table:
        """Return a table without the rows at these places, which are set aside for these errors."""
        if not errors:
            return table
        found = sorted(errors.items())
        for at in range(0, len(found), _AT_ONCE):
            self.add(bad_table_of(table, found[at : at + _AT_ONCE], ARROW))
        return without(table, [*errors])

    def sifted(
        self, batches: Iterator[pa.Table], check: Callable[[pa.Table], object]
    ) -> Iterator[pa.Table]:
        """Yield the batches with the rows that pass `check` (see `sift`)."""
        for batch in batches:
            yield self.sift(batch, check)
            del batch

    def content(self) -> bytes | None:
        """Return the rows as a Parquet file; None where there are none."""
        if not self.rows:
            return None
        found = pa.concat_tables([table.select(_FOUND_SCHEMA.names) for table in self._tables])
        count = found.num_rows
        splits = integers([self.ticket.split] * count)
        return content_of(found, self.flow, self.ticket.run, splits, self.schema)


def content_of(
    found: pa.Table, flow: str, run: str, splits: pa.Array, schema: pa.Schema | None
) -> bytes:
    """Return the rows of a `bad_table` as a Parquet file; `schema` is what they should have had."""
    names = [texts([value] * found.num_rows) for value in (flow, run)]
    written = SCHEMA
    if schema is not None:
        written = SCHEMA.with_metadata({_ROWS: base64.b64encode(serialized(schema))})
    columns = [*names, splits, *found.select(_FOUND_SCHEMA.names).columns]
    return as_parquet(pa.Table.from_arrays(columns, schema=written))


def sift(
    table: pa.Table, check: Callable[[pa.Table], object], form: str, most_rows: int
) -> tuple[pa.Table, pa.Table | None]:
    """Return the rows that pass `check`, and a `bad_table` of the others; None: there are none.

    Above `most_rows`, or what one split may set aside, it looks no further: the run fails then.
    """
    misfits = _misfits(table, check)
    places: list[int] = []
    tables: list[pa.Table] = []
    while found := list(itertools.islice(misfits, _AT_ONCE)):
        places += [place for place, _ in found]
        tables.append(bad_table_of(table, found, form))
        size = sum(each.nbytes for each in tables)
        if len(places) > most_rows or size > _MOST_BYTES:
            break
    if not tables:
        return table, None
    return without(table, places), pa.concat_tables(tables)


def bad_table_of(table: pa.Table, found: Iterable[tuple[int, UnfitValue]], form: str) -> pa.Table:
    """Return a `bad_table` of the rows at these places of a table, with their errors."""
    rows = []
    for place, error in found:
        row = table.slice(place, 1)
        value = error.value
        if value is None and error.column in row.column_names:
            value = _value_text(row.column(error.column)[0])
        rows.append(BadRow(error.message, _ipc(row), _row_text(row), form, error.column, value))
    return bad_table(rows)


def without(table: pa.Table, places: Sequence[int]) -> pa.Table:
    """Return a table without the rows at these places, in any order; not copied where few are."""
    import numpy as np

    if len(places) * _FEW <= table.num_rows:
        borders = [-1, *sorted(places), table.num_rows]
        return pa.concat_tables(
            table.slice(before + 1, at - before - 1) for before, at in pairwise(borders)
        )
    keeps = np.ones(table.num_rows, np.bool_)
    keeps[list(places)] = False
    return table.filter(booleans(keeps))


def _misfits(
    table: pa.Table, check: Callable[[pa.Table], object]
) -> Iterator[tuple[int, UnfitValue]]:
    """Yield the place and the error of each row for which `check` raises."""
    if _refusal(table, check) is None:
        return
    at, step = 0, _PIECE_ROWS
    while at < table.num_rows:
        part = table.slice(at, step)
        error = _refusal(part, check)
        if error is None:
            at, step = at + part.num_rows, min(2 * step, _PIECE_ROWS)
            continue
        first, count = 0, part.num_rows  # rows among which the first bad one is
        if count > 1 and error.row is not None:  # a good guess
            if _refusal(part.slice(0, error.row), check) is None:
                first, count = error.row, 1
            else:
                count = error.row
        while count > 1:
            half = count // 2
            if _refusal(part.slice(first, half), check) is None:
                first, count = first + half, count - half
            else:
                count = half
        if part.num_rows > 1:
            error = _refusal(part.slice(first, 1), check)
        if error is not None:
            yield at + first, error
        at, step = at + first + 1, max(1, min(2 * first, _PIECE_ROWS))


def _refusal(table: pa.Table, check: Callable[[pa.Table], object]) -> UnfitValue | None:
    try:
        check(table)
    except UnfitValue as error:
        if not table.num_rows:
            raise
        return error
    return None


def as_parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def from_parquet(content: bytes) -> pa.Table:
    """Return the bad rows of a file."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(pa.BufferReader(content)).read()  # `read_table` loads datasets
    return table.cast(SCHEMA.with_metadata(table.schema.metadata))


def schema_of_rows(table: pa.Table) -> pa.Schema | None:
    """Return the schema that the bad rows of a file should have had; None: it is not known."""
    text = (table.schema.metadata or {}).get(_ROWS)
    return None if text is None else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def values_of(row: bytes) -> pa.Table:
    """Return the row of a Store's bad row."""
    return pa.ipc.open_stream(row).read_all()


def check_limits(receipts: Sequence[Receipt], limits: Limits, first: Callable[[], str]) -> None:
    """Raise TooManyBadRows where a whole run set aside more than its flow allows.

    `first` returns what is wrong with one of the rows, as `first_of` writes it.
    """
    bad = sum(receipt.set_aside for receipt in receipts)
    rows = bad + sum(receipt.rows for receipt in receipts)
    if bad > limits.max_bad_rows or bad > limits.max_bad_share * rows:
        raise too_many(bad, rows, first(), limits.max_bad_rows, limits.max_bad_share)


def too_many(
    bad: int, rows: int | None, first: str, most_rows: int, most_share: float | None = None
) -> TooManyBadRows:
    """Return the error of a run with more bad rows than it may have; `rows` were read in all."""
    limit = f"max_bad_rows: {most_rows}"
    if bad <= most_rows and most_share is not None:
        limit = f"max_bad_share: {share_text(most_share)}"
    of = "" if rows is None else f" of {rows:,}"
    return TooManyBadRows(
        f"{bad:,} {'row' if bad == 1 else 'rows'}{of} cannot be moved, which is more than "
        f"{limit} allows; nothing became visible{first}",
        "mend them at the source, or allow more with `max_bad_rows` and `max_bad_share`",
    )


def first_of(tables: Sequence[pa.Table]) -> str:
    """Return a sentence about the first of these bad rows; "" where there are none."""
    table = next((table for table in tables if table.num_rows), None)
    if table is None:
        return ""
    row = table.slice(0, 1).to_pylist()[0]
    where = f"{row['file']}, line {row['line']}: " if row["file"] else ""
    return f". The first: {where}{row['reason']}"


def share_text(share: float) -> str:
    """Return a share in percent: `0.1%`."""
    return f"{share * 100:.10g}%"


def _value_text(value: pa.Scalar) -> str:
    from hygge.type_words import value_text

    return value_text(value)


def _ipc(row: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_table(row)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _row_text(row: pa.Table) -> str:
    return json.dumps(
        {name: _plain(row.column(name)[0]) for name in row.column_names}, ensure_ascii=False
    )


def _plain(value: pa.Scalar) -> Any:
    """Return a value as JSON has it; as text where JSON has none of it."""
    try:
        plain = value.as_py()
        json.dumps(plain, allow_nan=False).encode()
    except (TypeError, ValueError, ArithmeticError, pa.ArrowException):
        return _value_text(value)
    return plain
