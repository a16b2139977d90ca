"""Where rows of a database Store go, and the row that says what is committed there.

`_hygge_heads` stands beside the target, one row a flow and target. `made` is NULL, or names the
table that hygge created: only while the target is still that one may `replace` drop what is in it.
A `replace` removes the heads of other flows on its target: their rows are gone, so they start anew.
Every row has the number of its format; of a newer one, or one that makes no sense, hygge keeps off.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from hygge.connectors.sql.ask import OnValue
from hygge.errors import NotOurs, Rejected, StoreError, Superseded
from hygge.model import Commit, Head, Receipt, Run, Ticket, Watermark
from hygge.settings import Settings

HEADS = "_hygge_heads"
LEDGER = "_hygge_ledger"
FORMAT = 1
"""Of the rows of `_hygge_heads`."""
OLD_S = 25 * 3600
"""What a run staged is swept after so long without a sign of life; resuming ends an hour before."""
BEAT_S = 600
"""A split that takes long gives a sign of life this often."""
HEAD_COLUMNS = (
    "flow", "target", "format", "generation", "run", "rows", "watermark", "cursor", "columns",
    "made", "committed_at",
)  # fmt: skip


class SQLStoreOptions(Settings):
    """How a database is written."""

    batch_size: int = Field(5_000, gt=0)
    """Rows handed to the driver at once, where there is no faster way (PostgreSQL has COPY)."""
    zones: Literal["error", "utc"] = "error"
    """Where the database keeps moments without the name of their zone: a column in another zone
    than UTC is an error, or keeps its moments and is in UTC from then on. SQLite keeps the name."""
    on_value: OnValue | dict[str, OnValue] = "error"
    """A value that the table cannot hold exactly (NUL in a text, a decimal beyond its precision):
    an error, NULL instead, or the column is written as text. For all columns, or by column."""


@dataclass(frozen=True)
class Goal:
    """One table of one database, as SQLStore was told."""

    url: str = field(repr=False)
    who: str
    """What to call it in errors."""
    table: str
    options: SQLStoreOptions
    flow: str | None = None
    """Whose sessions these are, for their names."""

    def on_value(self, column: str) -> OnValue:
        """What becomes of values of this column that the database cannot hold."""
        given = self.options.on_value
        return given if isinstance(given, str) else given.get(column, "error")


def ticket_name(ticket: Ticket) -> str:
    """Names the table of a ticket within its run."""
    return f"t_{ticket.split}_{ticket.epoch}_{ticket.n}"


def head_values(
    run: Run,
    target: str,
    base: Head | None,
    rows: int,
    watermark: Watermark,
    schema: pa.Schema | None,
    made: str | None,
) -> dict[str, Any]:
    """The row of `_hygge_heads` that a commit writes."""
    columns = [] if schema is None else [[each.name, str(each.type)] for each in schema]
    cursor = run.cursor
    if cursor is None and base is not None and watermark is not None:
        cursor = base.cursor  # a run without one has taken the watermark over
    return {
        "flow": run.flow,
        "target": target,
        "format": FORMAT,
        "generation": base.generation + 1 if base else 1,
        "run": run.id,
        "rows": rows,
        "watermark": json.dumps(watermark),
        "cursor": cursor,
        "columns": json.dumps(columns),
        "made": made,
        "committed_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
    }


def head_of(row: dict[str, Any], who: str) -> Head:
    """The Head of such a row; StoreError where hygge did not write it, or a newer one did."""
    lacks = [name for name in HEAD_COLUMNS if name not in row]
    number = row.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise StoreError(
            f"{who}: the head of flow {row.get('flow')!r} in {HEADS} was written by a newer hygge "
            f"(format {number})",
            "upgrade hygge-data, then run again",
        )
    if lacks:
        raise not_a_head(who, f"there is no column '{lacks[0]}'")
    try:
        columns = tuple((str(name), str(kind)) for name, kind in json.loads(row["columns"]))
        head = Head(
            row["flow"], row["generation"], row["run"], row["rows"],
            json.loads(row["watermark"]), columns, cursor=row["cursor"],
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise not_a_head(who, f"of flow {row['flow']!r}: {error}") from error
    counts = (number, head.generation, head.rows)
    if not all(type(each) is int and each >= 0 for each in counts) or not head.generation:
        raise not_a_head(who, f"format, generation and rows of flow {head.flow!r} are {counts}")
    if not isinstance(head.run, str) or isinstance(head.watermark, list | dict):
        raise not_a_head(who, f"run and watermark are {head.run!r} and {head.watermark!r}")
    return head


def not_a_head(who: str, why: str) -> StoreError:
    """What is found where the head should be."""
    return StoreError(
        f"{who}: what stands in {HEADS} is not what hygge writes there: {why}",
        f"restore it from a backup. Without it nobody knows what was moved: to start anew, empty "
        f"the table that was written, and drop {HEADS} or the row in it",
    )


def still(now: str | None, made: Iterable[str | None]) -> bool:
    """Whether a table is one that hygge made; people may have added columns behind the others."""
    return now is not None and any(isinstance(each, str) and now.startswith(each) for each in made)


def already(now: Head | None, run: Run, receipts: Sequence[Receipt]) -> Commit | None:
    """The commit of this very run, where it is the head already."""
    if now is None or now.run != run.id:
        return None
    staged = sum(receipt.rows for receipt in receipts)
    return Commit(now, now.rows, max(0, staged - now.rows), note="it was committed before")


def check_base(now: Head | None, base: Head | None, who: str) -> None:
    """The compare of compare-and-swap."""
    if (now and (now.generation, now.run)) != (base and (base.generation, base.run)):
        raise Superseded(
            f"{who}: run {now.run if now else 'none'} is committed, where "
            f"{base.run if base else 'none'} was expected",
            "two runs of this flow overlapped; run it again",
        )


def check_staged(receipt: Receipt, sealed: int | None, counted: int | None, who: str) -> None:
    """What a receipt promises must be there."""
    if sealed is None or sealed != receipt.rows or counted != receipt.rows:
        there = "nothing" if sealed is None or counted is None else f"{counted:,} rows"
        raise Rejected(
            f"{who}: split {receipt.ticket.split} was staged with {receipt.rows:,} rows, "
            f"but {there} can be found",
            "its staging was removed or changed; run again",
        )


def not_ours(who: str) -> NotOurs:
    """`replace` onto a table that hygge did not make."""
    return NotOurs(
        f"{who} exists, and hygge did not make it, or not as it is now",
        "choose another table, use `mode: append`, or drop the table yourself",
    )


def lost_target(who: str, flow: str) -> StoreError:
    """The head speaks of rows that are gone."""
    return StoreError(
        f"{who} is gone, but flow '{flow}' has committed rows to it; going on would leave them out",
        f"restore the table, or start anew: DELETE FROM {HEADS} WHERE flow = '{flow}'",
    )


def beating(beat: Callable[[], None]) -> Callable[[], None]:
    """What calls `beat` once in BEAT_S, however often it is called itself."""
    seen = time.monotonic()

    def alive() -> None:
        nonlocal seen
        if time.monotonic() - seen > BEAT_S:
            seen = time.monotonic()
            beat()

    return alive


def check_all_in(applied: int, wanted: int, who: str) -> None:
    """The database must have taken every row that it was handed."""
    if applied != wanted:
        raise Rejected(
            f"{who} took {applied:,} of {wanted:,} rows: a trigger or a rule of the table leaves "
            "out rows, or several of them met in one",
            "write to a table without such triggers and rules, or leave these rows out with "
            "`where`",
        )


def check_merge(rows: int, nulls: int, distinct: int, run: Run, who: str) -> None:
    """A merge needs keys that are there, and one row each unless a cursor tells which is last."""
    key = ", ".join(run.key)
    if nulls:
        raise Rejected(
            f"{who}: {nulls:,} rows have NULL in the merge key ({key})",
            "fill the key in, leave these rows out with `where`, or use another key",
        )
    if rows != distinct and run.cursor is None:
        raise Rejected(
            f"{who}: {rows - distinct:,} rows share their merge key ({key}) with another one",
            "name a `cursor` on the home, so that the last of them counts, or use another key",
        )
