"""Bad rows of a committed run that are moved again, after the mend: exactly once.

A replay is a run of a flow of its own, `<flow>.bad.<run>`, whose Home gives the rows that were set
aside. The store keeps its head like that of any flow, and its request is named after the run: so
whoever asks again, also after a death, finds it done. It adds its rows (or merges them), all of
them or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from hygge.bad_rows import ARROW, SOURCE, schema_of_rows, values_of
from hygge.errors import ConfigError, JournalError, UnfitValue
from hygge.formats.json_columns import to_text
from hygge.home import Home
from hygge.journal import Lease
from hygge.journal.bad_files import BadFiles
from hygge.model import Column, Plan, Report, Split, Watermark
from hygge.places.place import place_at
from hygge.run.driver import Attempt
from hygge.run.flow import Flow
from hygge.run.watch import LinkedStop, Watch
from hygge.shape.bound import bind
from hygge.shape.step import Reading

if TYPE_CHECKING:
    import threading


_VALUES = (ARROW, SOURCE)
"""The forms of rows of which the values are kept; all others are lines of a file."""


class _BadRowsHome(Home):
    """The bad rows of one run."""

    def __init__(self, flow: Flow, run: str, rows: pa.Table, schema: pa.Schema) -> None:
        super().__init__(f"bad_{run}")
        self.home, self.shape_of_flow = flow.home, flow.shape
        self.run, self.rows, self.columns = run, rows, schema

    def describe(self) -> str:
        return f"the bad rows of the run {self.run}"

    def open(self, since: Watermark = None) -> AbstractContextManager[Plan]:
        columns = tuple(Column(f.name, f.type, nullable=f.nullable) for f in self.columns)
        split = Split(0, version=self.run, label=self.describe(), rows=self.rows.num_rows)
        return nullcontext(Plan(columns, (split,), reason="one split: bad rows"))

    def read(self, split: Split) -> Iterator[pa.Table]:
        rows = {text: self.rows.filter(pc.equal(self.rows["form"], text)) for text in _VALUES}
        for raw in rows[ARROW]["raw"].to_pylist():
            yield values_of(raw)
        for raw in rows[SOURCE]["raw"].to_pylist():
            yield self._shaped(values_of(raw))
        of_home = self.rows.filter(pc.invert(pc.is_in(self.rows["form"], pa.array(_VALUES))))
        if of_home.num_rows:
            try:
                for table in self.home.read_bad(of_home):
                    yield self._shaped(table)
            except UnfitValue as error:  # its hint may be about types, which are those of the run
                raise UnfitValue(
                    error.message,
                    "a replay has the columns and types of that run: mend what its options mean "
                    "(`null_values`, `date_format`, `decimal`), or load this row by hand",
                ) from error

    def _shaped(self, table: pa.Table) -> pa.Table:
        """Return rows of the Home as the flow moves them."""
        if self.shape_of_flow is None:
            return table
        reading = self.reading or Reading(self.describe())
        bound = bind(self.shape_of_flow, table.schema, self.describe(), to_text)
        return bound.apply(table, reading)


def replay(flow: Flow, run: str, watch: Watch, stop: threading.Event) -> Report:
    """Move the bad rows of a run of `flow` again. Raises FlowFailed, or HyggeError before it.

    Does nothing where that was done before: the report then says so.
    """
    if flow.home.traits.changes:
        raise ConfigError(
            f"'{flow.name}' moves changes (`_op`), and a later change of the same row may be "
            "applied: an older one must not lie over it",
            "mend the change at the source, or write it there once more, and run the flow again",
        )
    place = place_at(flow.state)
    files = BadFiles(place, flow.identity)
    rows = files.read(run)
    schema = schema_of_rows(rows)
    if schema is None:
        raise JournalError(
            f"{files.describe(run)} does not say what columns its rows have",
            "move them by hand: their text and their values are there",
        )
    again = Flow(
        _BadRowsHome(flow, run, rows, schema),
        flow.store,
        name=f"{flow.name}.bad.{run}",
        mode="append" if flow.mode == "replace" else flow.mode,
        key=flow.new_run().key,
        limits=replace(flow.limits, on_bad_row="fail", lanes=1),
        engine="inline",
        project=flow.identity.removesuffix(flow.name).rstrip(".") or None,
        state=flow.state,
    )
    again.attempt = Attempt(request=f"replay of {run}", is_named=True)
    with Lease(place, flow.identity, LinkedStop(stop)):  # the flow itself must not run meanwhile
        if flow.mode != "append" and flow.store.head(again.identity) is None:
            _check_is_newest(flow, run)
        report = again.run(watch, stop)
    files.note_replay(run, report.run)
    return report


def _check_is_newest(flow: Flow, run: str) -> None:
    """Raise ConfigError where a later run may hold newer rows than those that were set aside."""
    head = flow.store.head(flow.identity)
    if head is None or head.run == run:
        return
    then = "replaced all rows" if flow.mode == "replace" else "may have merged newer rows"
    raise ConfigError(
        f"a later run of '{flow.name}' ({head.run}) {then}: those of {run} would lie over them",
        "run the flow again after the mend: it reads the rows that the source has now",
    )
