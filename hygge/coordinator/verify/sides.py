"""Reads both sides of a flow as Arrow batches, one after another, in this process.

The source is read through the flow's own steps (`where`, columns, casts, masks, `add`, transform),
so that what comes out is what a run would stage. The store is read through the Home that its class
names in `Store.reader`. Memory: one batch, and 16 bytes a row for the hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from hygge.bad_rows import is_bad
from hygge.batches import reached_of, rows_in
from hygge.coordinator.verify.forms import Form, common_form
from hygge.coordinator.verify.hashes import Side
from hygge.engine.reading import read_split
from hygge.errors import HyggeError
from hygge.home import Home
from hygge.journal.runs import digest_of
from hygge.model import Head, Limits, Plan, Watermark
from hygge.run.engines import schema_of
from hygge.run.flow import Flow
from hygge.shape.step import Reading
from hygge.type_words import words_of

OURS = "_hygge_"
_CHANGING = ("now", "run_id")
"""Columns that `add` fills with what is of one run alone."""


class NotComparable(HyggeError):
    """The two sides of a flow cannot be compared, for a reason that is no difference."""


@dataclass
class Columns:
    """The columns of both sides that are compared, and those that are not."""

    forms: dict[str, Form] = field(default_factory=dict)
    """Name in the source → the form in which values are compared."""
    there: dict[str, str] = field(default_factory=dict)
    """Name in the source → name in the store, which a database may write in its own way."""
    left_out: list[str] = field(default_factory=list)
    """Sentences about columns that are not compared, for a reason that is in order."""
    unknown: list[str] = field(default_factory=list)
    """Sentences about columns that should be compared, and cannot be."""


@dataclass
class Reader:
    """One side: how its rows are read, again and again."""

    home: Home
    schema: pa.Schema
    newer: int = 0
    """Rows of the last reading that are beyond the watermark."""
    set_aside: int = 0
    """Rows of the last reading that the Home itself sets aside."""
    reached: Watermark = None
    """The watermark of the last reading: the source's own highest value of the cursor."""
    digests: dict[int, str] = field(default_factory=dict)
    """Split → the state of the source, where it has a name."""

    def tables(
        self, keeps: Callable[[pa.Table], pa.Table] | None = None, most: int | None = None
    ) -> Iterator[pa.Table]:
        """Yield all rows of the side; `keeps` drops some of each batch.

        `most`: only about so many of each split.
        """
        self.newer = self.set_aside = 0
        with self.home.open(None) as plan:
            self.reached = plan.watermark
            self.digests = {split.index: digest_of(split) for split in plan.splits}
            for split in plan.splits:
                left = most
                for table in read_split(self.home, split, self.schema, Limits()):
                    if left is not None and left <= 0:
                        break
                    if is_bad(table):
                        self.set_aside += table.num_rows
                        continue
                    if reached_of(table) is not None or not rows_in(table):
                        continue
                    kept = table if keeps is None else keeps(table)
                    self.newer += table.num_rows - kept.num_rows
                    if left is not None:
                        kept = kept.slice(0, left)
                        left -= kept.num_rows
                    yield kept


def open_source(flow: Flow, head: Head) -> tuple[Reader, Plan]:
    """Return the side of the source, and its plan. Raises what planning a run raises."""
    began = datetime.now(UTC)
    with flow.home.open(None) as opened:
        plan = flow.shaped(opened)
    schema = schema_of(plan)
    if schema is None:
        raise NotComparable("the columns of its home are known only when rows come")
    flow.home.reading = Reading(flow.home.describe(), head.run, began)
    return Reader(flow.home, schema), plan


def open_store(flow: Flow, schema: pa.Schema) -> tuple[Reader, Plan]:
    """Return the side of the store, and its plan."""
    home = flow.store.reader(schema)
    if not isinstance(home, Home):
        raise NotComparable(
            f"no Home reads what {type(flow.store).__name__} writes",
            "a Store of your own says which one does: `def reader(self, schema)`",
        )
    with home.open(None) as plan:
        found = schema_of(plan)
    if found is None:
        raise NotComparable("the columns of its store are known only when rows come")
    return Reader(home, found), plan


def match_columns(flow: Flow, source: Plan, store: Plan, head: Head) -> Columns:
    """Return which columns are compared, and in which form."""
    found = Columns()
    shape = flow.shape
    added = shape.add or {} if shape is not None else {}
    there = {column.name: column for column in store.columns or ()}
    by_lower = {name.lower(): name for name in there}
    missing: list[str] = []
    for column in source.columns or ():
        name = column.name if column.name in there else by_lower.get(column.name.lower(), "")
        if added.get(column.name) in _CHANGING:
            found.left_out.append(
                f"'{column.name}' is of each run alone: `add: {added[column.name]}`"
            )
        elif not name:
            missing.append(column.name)
        else:
            other = there[name]
            is_json = any("json" in (end.native or "").lower() for end in (column, other))
            form = common_form(column.type, other.type, is_json)
            found.there[column.name] = name
            if form is None:
                here, beyond = words_of(column.type, other.type)
                found.unknown.append(
                    f"'{column.name}' is {here} in the source and {beyond} in the store, which are "
                    "not compared"
                )
            else:
                found.forms[column.name] = form
    committed = {name.lower() for name, _ in head.columns}
    lost = [name for name in missing if not committed or name.lower() in committed]
    if lost:
        found.unknown.append(f"the store has lost {', '.join(lost)}, which the run had written")
    if new := [name for name in missing if name not in lost]:
        found.left_out.append(f"only in the source, new since the run: {', '.join(new)}")
    used = set(found.there.values())
    only = [n for n in there if n not in used and not n.startswith(OURS) and n not in added]
    if only:
        found.left_out.append(f"only in the store: {', '.join(only)}")
    if not found.forms:
        found.unknown.append("source and store have no column in common")
        raise NotComparable("; ".join(found.unknown))
    return found


def summarize(
    reader: Reader,
    columns: Columns,
    key: Sequence[str],
    keeps: Callable[[pa.Table], pa.Table] | None = None,
    names: Mapping[str, str] | None = None,
) -> Side:
    """Return what is known of the rows of a side. `names`: name in the source → name there."""
    side = Side()
    for table in reader.tables(keeps):
        side.add(renamed(table, columns, names), columns.forms, key)
    return side


def renamed(table: pa.Table, columns: Columns, names: Mapping[str, str] | None) -> pa.Table:
    """Return the columns that are compared, under their names in the source."""
    own = names or {}
    chosen = [table.column(own.get(name, name)) for name in columns.forms]
    return pa.table(chosen, names=list(columns.forms))


def up_to(watermark: object, cursor: str) -> Callable[[pa.Table], pa.Table]:
    """Return what keeps the rows of a batch whose cursor is not beyond `watermark`, or NULL."""

    def keep(table: pa.Table) -> pa.Table:
        column = table.column(cursor)
        limit = _scalar(watermark, column.type)
        return table.filter(pc.fill_null(pc.less_equal(column, limit), True))

    return keep


def _scalar(watermark: object, kind: pa.DataType) -> pa.Scalar:
    if isinstance(watermark, str) and not pa.types.is_string(kind):
        if pa.types.is_timestamp(kind) and kind.tz is None:
            return pa.scalar(watermark).cast(pa.timestamp("us")).cast(kind)
        if pa.types.is_timestamp(kind):
            moment = datetime.fromisoformat(watermark)
            return pa.scalar(moment, pa.timestamp("us", "UTC")).cast(kind)
        return pa.scalar(watermark).cast(kind)
    return pa.scalar(watermark, kind)
