"""A flow of many tables: each table becomes a flow of its own, and all are read at one moment.

catalog    the tables that the connection has when the flow begins; patterns choose from it
flows      one a table, such as `shop.public.orders`, each with its own place in the store
snapshot   one for all of them, held until the last has ended, where the database can do that
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from hygge.config import connectors
from hygge.config.checks import Places
from hygge.config.specs import FlowSpec
from hygge.connectors.databases.connection import connection_url
from hygge.connectors.databases.known import database_of
from hygge.connectors.sql.catalog import Catalog, catalog_of, chosen, takes
from hygge.connectors.sql.connection import shown
from hygge.connectors.sql.listing import Table
from hygge.coordinator.fitting import fitted
from hygge.coordinator.members import Family
from hygge.errors import SourceMissing, Transient
from hygge.run.engines import backoff_s
from hygge.run.stall import StallGuard

_TRIES = 3


@contextmanager
def open_tables(
    spec: FlowSpec,
    identity: str,
    places: Places[str],
    readers: Callable[[Sequence[FlowSpec]], int],
    look: Callable[[Sequence[str]], None] = lambda names: None,
) -> Iterator[tuple[FlowSpec, ...]]:
    """Return the flows of the tables of `spec`; their snapshot is held until it is closed.

    `identity` names the session that holds the snapshot. `places` maps the place of a store to the
    flow of the file that writes there; the places of the tables are added. `readers` returns how
    many lanes of such flows may read at once, as a database may need a session for each. `look` is
    told which tables there are, whatever is selected.
    Raises SourceMissing or ConfigError.
    """
    guard = StallGuard(spec.limits, lambda text: None)
    with contextlib.ExitStack() as stack:
        for tries_left in reversed(range(_TRIES)):
            flows, tables, catalog = guard.call(
                f"the connection of '{spec.name}' (the list of its tables)",
                lambda: _find_flows(spec, places, look),
            )
            try:
                names = [catalog.setting(table) for table in tables if table.readable]
                snapshot, reason = guard.call(
                    f"the connection of '{spec.name}' (the snapshot of its tables)",
                    partial(_hold_snapshot, stack, spec, identity, names, partial(readers, flows)),
                )
                break
            except (SourceMissing, Transient):  # a table was dropped just now, or is locked
                if not tries_left:
                    raise
                time.sleep(backoff_s(_TRIES - tries_left))
        yield tuple(replace(flow, snapshot=snapshot, no_snapshot_reason=reason) for flow in flows)


def _find_flows(
    spec: FlowSpec, places: Places[str], look: Callable[[Sequence[str]], None]
) -> tuple[tuple[FlowSpec, ...], list[Table], Catalog]:
    """Return the flows of the tables of `spec`, the tables, and the catalog that has them."""
    family, catalog = _family(spec)
    look([table.text for table in family.members])
    tables = family.selected()
    flow_of = partial(_flow_of, family, catalog)
    flows = [flow_of(table) for table in tables]
    url = connection_url(spec.home.settings.get("connection"), "SQLHome")
    names = [(table.schema, table.name) for table in tables]
    is_whole = not (family.tables.selected or family.tables.excluded)
    flows = fitted(flows, url, names, is_whole)
    family.check_places(flow_of, flows, places)
    return tuple(flows), tables, catalog


def places_of(spec: FlowSpec) -> dict[str, str]:
    """Return where the tables of `spec` are written: place → name of the table's flow.

    Raises what the catalog of its connection raises.
    """
    family, catalog = _family(spec)
    places = {}
    for table in family.selected():
        flow = _flow_of(family, catalog, table)
        place = connectors.build(flow)[1].place()
        if place is not None:
            places[place] = flow.name
    return places


def _family(spec: FlowSpec) -> tuple[Family[Table], Catalog]:
    """Return the tables of the connection that `spec` takes, and the catalog that has them."""
    wanted = spec.tables
    assert wanted is not None  # it is called only then
    url = connection_url(spec.home.settings.get("connection"), "SQLHome")
    catalog = catalog_of(database_of(url), url, wanted.include)
    family = Family(
        spec,
        chosen(catalog, wanted.include, wanted.exclude, wanted.views),
        catalog.named,
        partial(takes, catalog),
        lambda name: ".".join(catalog.full(name)),
        catalog.database.is_cased,
    )
    family.check_settings()
    return family, catalog


def _flow_of(family: Family[Table], catalog: Catalog, table: Table) -> FlowSpec:
    return family.flow_of(table, {"table": catalog.setting(table)})


def _hold_snapshot(
    stack: contextlib.ExitStack,
    spec: FlowSpec,
    identity: str,
    names: list[str],
    readers: Callable[[], int],
) -> tuple[str | None, str]:
    """Return the snapshot of all tables, or None, and why there is none where that is not obvious.

    `stack` holds it. `names` are the tables that this user may read: a table that may not be read
    fails alone, and not all others with it.
    """
    url = connection_url(spec.home.settings.get("connection"), "SQLHome")
    options = spec.home.settings.get("options") or {}
    if options.get("consistency", "snapshot") != "snapshot":
        return None, ""
    verbs = database_of(url).snapshots()
    if verbs is None:
        return None, ""
    return stack.enter_context(verbs.held(url, shown(url), identity, names, readers))
