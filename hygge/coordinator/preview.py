"""The first rows of a flow as they would arrive: with the types of the plan, after its shape.

Nothing is written: no lease is taken, no state is touched, and of the store only the head is read,
which says from where a flow with a cursor goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hygge.bad_rows import is_bad
from hygge.batches import reached_of
from hygge.engine.reading import read_split
from hygge.model import Column, Plan
from hygge.report.preview import Preview
from hygge.run.engines import schema_of
from hygge.run.flow import Flow
from hygge.run.key import find_key
from hygge.run.stall import StallGuard
from hygge.shape.step import Reading
from hygge.store import new_run_id

if TYPE_CHECKING:
    import pyarrow as pa


def preview(flow: Flow, rows: int, say: Callable[[str], None]) -> Preview:
    """Return the first `rows` rows of a flow.

    `say` is told what is waited for. Raises what a run would until it has read these rows.
    """
    guard = StallGuard(flow.limits, say)
    home = f"the home {flow.home.describe()}"
    base = None
    flow.home.check_here(flow.mode)
    if flow.cursor is not None:
        store = f"the store {flow.store.describe()} (the head)"
        base = guard.call(store, lambda: flow.store.head(flow.identity))
    guard.call(f"{home} (the key)", lambda: find_key(flow))
    with contextlib.ExitStack() as stack:
        opened = flow.home.open(flow.since(base))
        plan = guard.call(f"{home} (the plan)", lambda: stack.enter_context(opened))
        plan = flow.shaped(plan)
        flow.home.reading = Reading(flow.home.describe(), new_run_id(), datetime.now(UTC))
        return guard.call(
            f"{home} (the first rows)", lambda: _first_rows(flow, plan, rows, guard.note_progress)
        )


def _first_rows(flow: Flow, plan: Plan, rows: int, note_progress: Callable[[], None]) -> Preview:
    import pyarrow as pa

    schema = schema_of(plan)
    taken: list[pa.Table] = []
    number = set_aside = 0
    with contextlib.closing(_tables(flow, plan, schema)) as tables:
        for table in tables:
            note_progress()
            if is_bad(table):
                set_aside += table.num_rows
            elif reached_of(table) is None:
                schema = table.schema if schema is None else schema
                taken += [table.slice(0, rows)] if number < rows else []
                number += table.num_rows
            if number > rows:
                break
    whole = None
    if schema is not None:
        schema = schema.remove_metadata()
        tables_of_it = [pa.Table.from_arrays(each.columns, schema=schema) for each in taken]
        whole = pa.concat_tables([schema.empty_table(), *tables_of_it]).slice(0, rows)
    columns = plan.columns
    if columns is None:
        fields = schema if schema is not None else ()
        columns = tuple(Column(each.name, each.type, nullable=each.nullable) for each in fields)
    home = flow.home.describe()
    return Preview(flow.name, home, columns, whole, number > rows, set_aside)


def _tables(flow: Flow, plan: Plan, schema: pa.Schema | None) -> Generator[pa.Table]:
    for split in plan.splits:
        with contextlib.closing(read_split(flow.home, split, schema, flow.limits)) as tables:
            yield from tables
