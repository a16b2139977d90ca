"""What is asked of a database: a table or a query, and how. And how rows become batches.

`Ask` goes from SQLHome to the `home.py` of a database, which answers with a plan and with rows.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from hygge.errors import HomeError
from hygge.model import MIB, Watermark
from hygge.settings import Settings
from hygge.type_words import type_of

ROWS_PER_SPLIT = 200_000
BYTES_PER_SPLIT = 64 * MIB
_STEP = 256


OnValue = Literal["error", "set_null", "as_text"]
"""What becomes of a value that cannot be kept exactly: see `on_value` in the options."""


class SQLHomeOptions(Settings):
    """How a database is read."""

    batch_size: int = Field(50_000, gt=0)
    """Rows of a batch, at most."""
    batch_bytes: int = Field(32 * MIB, gt=0)
    """Bytes of a batch, about; whichever comes first. A larger row passes alone."""
    splits: Literal["auto"] | int = "auto"
    """How many parts are read independently; auto: about 200,000 rows or 64 MiB each, or five times
    as much where a run that stopped is not gone on with anyway."""
    types: dict[str, str] = Field(default_factory=dict)
    """Types of columns, in words, instead of what the catalog says: {price: "decimal(10,2)"}."""
    null_cursor: Literal["error", "skip", "read"] = "error"
    """A run that goes on from a watermark finds rows without a cursor value: it fails, leaves them
    out, or reads them again each time. A first run reads them always."""

    cursor_ties: Literal["skip", "read"] = "skip"
    """Rows whose cursor is the watermark itself: left out, also those that came after the last run;
    or read again in every run, for `mode: merge` (`append` would have them twice)."""

    consistency: Literal["snapshot", "split"] = "snapshot"
    """All rows as of one moment, which ends with the driver; or each split as of when it is read,
    so that a run goes on where it stopped. A flow's `consistency` in flows.yml sets it."""
    on_value: OnValue | dict[str, OnValue] = "error"
    """A value that Arrow cannot hold exactly (`infinity`, a zero date): an error, NULL instead, or
    the column is read as text. For all columns, or by column."""

    @field_validator("splits")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value != "auto" and value < 1:
            raise ValueError("splits is 'auto' or at least 1")
        return value

    @field_validator("types")
    @classmethod
    def _known_words(cls, value: dict[str, str]) -> dict[str, str]:
        for word in value.values():
            type_of(word)
        return value


@dataclass(frozen=True)
class Ask:
    """One table or query of one database, as SQLHome was told."""

    url: str = field(repr=False)
    who: str
    """What to call it in errors: the URL without its password, and the table."""
    table: str | None
    query: str | None
    columns: tuple[str, ...] | None
    where: str | None
    split_by: str | None
    cursor: str | None
    options: SQLHomeOptions
    flow: str | None = None
    """Whose sessions these are, for their names."""
    raw: pa.Schema | None = None
    """The passthrough that `read` gives instead of columns."""
    snapshot: str | None = None
    """A snapshot that somebody else holds for this run, to be read instead of one of its own."""
    split_keys: tuple[str, ...] = ()
    """All columns of `split_by`, which itself is the first of them."""
    lanes: int = 1
    """How many lanes will read, as far as that is known when a run is planned."""

    def on_value(self, column: str) -> OnValue:
        """What becomes of values of this column that Arrow cannot hold."""
        given = self.options.on_value
        return given if isinstance(given, str) else given.get(column, "error")

    @cached_property
    def stated(self) -> dict[str, pa.DataType]:
        """Types that the user stated, by column."""
        return {name: type_of(word) for name, word in self.options.types.items()}


def null_note(ask: Ask, since: Watermark, rows: int) -> list[str]:
    """What happens to `rows` rows whose cursor is NULL; HomeError where the user must decide."""
    if not rows:
        return []
    many = f"{rows:,} rows have no '{ask.cursor}'"
    if since is None:
        return [f"{many}: a first run reads them"]
    if ask.options.null_cursor == "error":
        raise HomeError(
            f"{ask.who}: {many}, so nobody can tell whether they are new",
            "fill them in, or decide: options: {null_cursor: skip} leaves them out from now on, "
            "{null_cursor: read} reads them in every run (for `mode: merge`)",
        )
    said = "are left out" if ask.options.null_cursor == "skip" else "are read again"
    return [f"{many}: they {said}"]


def tie_note(ask: Ask, upper: Watermark) -> list[str]:
    """What a later run will not see."""
    if upper is None or ask.options.cursor_ties == "read":
        return []
    return [
        f"rows that get '{ask.cursor}' {upper} later, or one below it, are not seen; `mode: merge` "
        "with options: {cursor_ties: read} sees the former"
    ]


def pack(schema: pa.Schema) -> str:
    """A schema as JSON text, for a split's `where` and a ledger."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def unpack(text: str) -> pa.Schema:
    """The schema that `pack` packed."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def column_groups(
    fetch: Callable[[int], Sequence[Sequence[Any]]], options: SQLHomeOptions
) -> Iterator[list[list[Any]]]:
    """Rows from `fetch(n)` as columns, gathered to a batch's rows and bytes.

    Rows are fetched in small steps, fewer while they are big, since a driver cannot be asked for
    bytes; and turned into columns step by step, which keeps them in the processor's cache.
    """
    columns: list[list[Any]] = []
    count = size = turn = 0
    step = 16
    while fresh := fetch(min(step, options.batch_size - count)):
        columns = columns or [[] for _ in fresh[0]]
        # Measuring costs as much as reading small rows: of many, every eighth one, in turn.
        turn, every = turn + 1, 8 if len(fresh) >= 64 else 1
        fresh_bytes = 0
        for column, values in zip(columns, zip(*fresh, strict=True), strict=True):
            column.extend(values)
            fresh_bytes += every * _width(values[turn % every :: every])
        count += len(fresh)
        size += fresh_bytes
        room = max(1, options.batch_bytes // 4 // max(1, fresh_bytes // len(fresh)))
        step = max(1, min(_STEP, step * 2, room))
        if count >= options.batch_size or size >= options.batch_bytes:
            del fresh
            yield columns
            columns, count, size = [], 0, 0
    if columns:
        yield columns


def _width(values: tuple[Any, ...]) -> int:
    return sum([len(v) if type(v) in (str, bytes) else 8 for v in values])
