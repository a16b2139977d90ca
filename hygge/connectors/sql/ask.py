"""The table or query that a database Home reads, and how rows become batches.

`Ask` goes from SQLHome to the `home.py` of a database, which answers with a plan and with rows.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypedDict, TypeVar

import pyarrow as pa
from pydantic import Field, field_validator

from hygge.errors import HomeError, rows_text
from hygge.model import MIB, Watermark
from hygge.settings import Settings
from hygge.shape.settings import Shape
from hygge.type_words import type_of

ROWS_PER_SPLIT = 200_000
BYTES_PER_SPLIT = 64 * MIB
_STEP = 256


Catalogued = TypeVar("Catalogued")
OnValue = Literal["error", "set_null", "as_text"]
"""The ways to treat a value that cannot be kept exactly: see `on_value` in the options."""


class SQLHomeOptions(Settings):
    """How a database is read."""

    batch_size: int = Field(default=50_000, gt=0)
    """Rows of a batch, at most."""
    batch_bytes: int = Field(default=32 * MIB, gt=0)
    """About the bytes of a batch. The lower of the two bounds counts; a larger row passes alone."""
    splits: Literal["auto"] | int = "auto"
    """How many parts are read independently. `auto`: parts of about 200,000 rows or 64 MiB; where a
    run that stopped could not use finished parts again anyway five times as large, or 25 times
    where one lane reads."""
    types: dict[str, str] = Field(default_factory=dict)
    """Types of columns, in words, instead of what the catalog says: {price: "decimal(10,2)"}."""
    null_cursor: Literal["error", "skip", "read"] = "error"
    """Rows without a cursor value, in a run that continues from a watermark: the run fails, leaves
    them out, or reads them in every run. A first run always reads them."""

    cursor_ties: Literal["skip", "read"] | None = None
    """Rows whose cursor equals the watermark. By default both `merge` and `append` read them again;
    `append` leaves out those that came before. It knows them by the flow's `key`, or by all of
    their values, up to 10,000 rows. Where there are more: `skip` (the default) leaves all of them
    out, also new ones; `read` adds all of them again. Stated `skip` never reads them again."""

    consistency: Literal["snapshot", "split"] = "snapshot"
    """`snapshot`: all rows as of one moment, which ends with the driver. `split`: each split as of
    its own read, so that a run that stopped can continue. `consistency` of a flow sets it."""
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


class SQLHomeOptionsDict(TypedDict, total=False):
    """`SQLHomeOptions` as a dict."""

    batch_size: int
    batch_bytes: int
    splits: Literal["auto"] | int
    types: Mapping[str, str]
    null_cursor: Literal["error", "skip", "read"]
    cursor_ties: Literal["skip", "read"] | None
    consistency: Literal["snapshot", "split"]
    on_value: OnValue | Mapping[str, OnValue]


@dataclass(frozen=True)
class Ask:
    """One table or query of one database, with the settings of SQLHome."""

    url: str = field(repr=False)
    who: str
    """The name in errors: the URL without its password, and the table."""
    table: str | None
    query: str | None
    columns: tuple[str, ...] | None
    where: str | None
    split_by: str | None
    cursor: str | None
    options: SQLHomeOptions
    flow: str | None = None
    """The flow, for the names of its sessions."""
    raw: pa.Schema | None = None
    """The schema of the server's own format, where `read` gives that instead of columns."""
    snapshot: str | None = None
    """A snapshot that is held for several flows, to be read instead of one of its own."""
    split_keys: tuple[str, ...] = ()
    """All columns of `split_by`, which itself is the first of them."""
    lanes: int = 1
    """How many lanes will read, as far as planning knows."""
    reads_ties: bool = False
    """True if rows whose cursor equals the watermark are read again, whatever came before."""
    remembers_ties: bool = False
    """True if the rows at the watermark are remembered, so that a later run adds only new ones."""
    ties: Mapping[str, Any] | None = None
    """What the last run remembered of the rows at its watermark; None: nothing."""
    key: tuple[str, ...] = ()
    """The key of the flow."""
    lag: str | int | float | None = None
    """How far below the watermark rows are read again: a duration, or a number."""
    only: bool = False
    """True if rows of tables that inherit from this one are not meant."""
    shape: Shape | None = None
    """What the flow makes of the columns."""

    def on_value(self, column: str) -> OnValue:
        """The way to treat values of this column that Arrow cannot hold."""
        ways = self.options.on_value
        return ways if isinstance(ways, str) else ways.get(column, "error")

    def chosen(self, available: Mapping[str, Catalogued]) -> list[Catalogued]:
        """Return the columns to read, of all that there are, by name.

        Raises SourceMissing for one that is excluded and not there.
        """
        names = list(available) if self.columns is None else self.columns
        if self.shape is not None:
            self.shape.check_there(self.who, self.shape.left_out, list(available))
            names = [name for name in names if name not in self.shape.left_out]
        if not names:
            raise HomeError(f"{self.who}: no column is left to read", "exclude fewer")
        return [available[name] for name in names if self.is_read(name, available)]

    def is_read(self, name: str, available: Mapping[str, object]) -> bool:
        """Return whether a column is there to be read; of one of many tables it may be missing."""
        return name in available or self.shape is None or self.shape.must_have(name)

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that the settings name, and that must be there.

        Where `tables:` takes many tables, `types` and `on_value` may name columns of some of them.
        """
        keys = self.split_keys or ((self.split_by,) if self.split_by else ())
        cursor = (self.cursor,) if self.cursor else ()
        shape = self.shape
        columns = (n for n in self.columns or () if shape is None or shape.must_have(n))
        names = (*cursor, *keys, *columns)
        if self.only:
            return names
        on_value = self.options.on_value
        return (*names, *self.stated, *(() if isinstance(on_value, str) else on_value))

    @cached_property
    def stated(self) -> dict[str, pa.DataType]:
        """The types that the user stated, by column."""
        return {name: type_of(word) for name, word in self.options.types.items()}


def null_note(ask: Ask, since: Watermark, rows: int) -> list[str]:
    """Say what happens to `rows` rows whose cursor is NULL; HomeError if the user must decide."""
    if not rows:
        return []
    many = f"'{ask.cursor}' is NULL in {rows_text(rows)}"
    if since is None:
        return [f"{many}: a first run reads them"]
    if ask.options.null_cursor == "error":
        raise HomeError(
            f"{ask.who}: {many}, so nobody can tell whether they are new",
            "fill them in, or decide: options: {null_cursor: skip} leaves them out from now on, "
            "{null_cursor: read} reads them in every run (for `mode: merge`)",
        )
    fate = "are left out" if ask.options.null_cursor == "skip" else "are read again"
    return [f"{many}: they {fate}"]


def tie_note(ask: Ask, upper: Watermark) -> list[str]:
    """Say which rows a later run will not see."""
    if upper is None:
        return []
    if ask.lag is not None and (ask.remembers_ties or ask.reads_ties):
        return [
            f"rows whose '{ask.cursor}' is up to {ask.lag} below {upper} are read again by the "
            "next run; rows that get one further below later are not seen"
        ]
    if ask.remembers_ties:
        return [
            f"rows whose '{ask.cursor}' is {upper} are read again by the next run, which adds "
            "those that are new; rows that get one below it later are not seen"
        ]
    if ask.reads_ties:
        return [
            f"rows whose '{ask.cursor}' is {upper} are read again by the next run; rows that get "
            "one below it later are not seen"
        ]
    return [
        f"rows that get '{ask.cursor}' {upper} later, or one below it, are not seen; `mode: merge` "
        "sees the former"
    ]


def pack(schema: pa.Schema) -> str:
    """A schema as text, for a split's `where` and for a ledger."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def unpack(text: str) -> pa.Schema:
    """The schema of a text that `pack` made."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def column_groups(
    fetch: Callable[[int], Sequence[Sequence[Any]]], options: SQLHomeOptions
) -> Iterator[list[list[Any]]]:
    """Gather the rows of `fetch(n)` into lists, one for each column, of a batch's size.

    Rows are fetched in small steps, and fewer at a time while they are big, since a driver cannot
    be asked for bytes. They become columns step by step, which keeps them in the processor's cache.
    """
    columns: list[list[Any]] = []
    count = size = turn = 0
    step = 16
    while rows := fetch(min(step, options.batch_size - count)):
        columns = columns or [[] for _ in rows[0]]
        # Measuring costs as much as reading small rows: of many rows each eighth one is measured.
        turn, every = turn + 1, 8 if len(rows) >= 64 else 1
        step_bytes = 0
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
            step_bytes += every * _width(values[turn % every :: every])
        count += len(rows)
        size += step_bytes
        room = max(1, options.batch_bytes // 4 // max(1, step_bytes // len(rows)))
        step = max(1, min(_STEP, step * 2, room))
        if count >= options.batch_size or size >= options.batch_bytes:
            del rows
            yield columns
            columns, count, size = [], 0, 0
    if columns:
        yield columns


def _width(values: tuple[Any, ...]) -> int:
    return sum([len(v) if type(v) in (str, bytes) else 8 for v in values])
