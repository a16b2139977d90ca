"""Whether each end of a flow can be reached, and used as the flow would: `hygge check --connect`.

`hygge plan` stops at the first thing that is wrong; here each end is tried, whatever the other one
says. Nothing is changed: in a bucket one object is written and removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from hygge.batches import with_key
from hygge.errors import HyggeError, as_hygge_error
from hygge.places.place import place_at
from hygge.run.engines import schema_of
from hygge.run.flow import Flow
from hygge.run.key import find_key
from hygge.run.stall import StallGuard
from hygge.settings import Connector


def reach(flow: Flow, say: Callable[[str], None]) -> Iterator[tuple[Connector, HyggeError | None]]:
    """Yield the home and the store of a flow, each with what is wrong there, or None.

    `say` is told what is waited for.
    """
    guard = StallGuard(flow.limits, say)
    schemas: list[pa.Schema | None] = []

    def open_home() -> None:
        flow.home.check_here(flow.mode)
        find_key(flow)
        with flow.home.open(None) as plan:
            shaped = flow.shaped(plan)
            schemas.append(with_key(schema_of(shaped), shaped.key))

    yield flow.home, _problem(guard, f"the home {flow.home.describe()}", open_home)

    def examine_store() -> None:
        flow.store.check_here(flow.mode)
        flow.store.head(flow.identity)
        flow.store.examine(flow.new_run(), schemas[0] if schemas else None)

    yield flow.store, _problem(guard, f"the store {flow.store.describe()}", examine_store)


def reach_state(state: str) -> HyggeError | None:
    """Return why the journal cannot be kept in its place, or None."""
    try:
        place_at(state).check_rights()
    except Exception as error:
        return as_hygge_error(error)
    return None


def _problem(guard: StallGuard, what: str, work: Callable[[], None]) -> HyggeError | None:
    try:
        guard.call(what, work)
    except Exception as error:
        return as_hygge_error(error)
    return None
