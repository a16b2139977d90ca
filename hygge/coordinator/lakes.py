"""A flow of many tables of a catalog: each becomes a flow, and reads a snapshot of its own.

home: {connection: lake, tables: ["sales.*"]}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from hygge.config import connectors
from hygge.config.checks import Places
from hygge.config.specs import FlowSpec
from hygge.connectors.iceberg.lake import Lake
from hygge.connectors.iceberg.listing import facts_about, tables_in
from hygge.connectors.sql.catalog import chosen, takes
from hygge.connectors.sql.listing import Described, Table
from hygge.coordinator.fitting import check_hidden, hidden
from hygge.coordinator.members import Family


@contextmanager
def open_lake(
    spec: FlowSpec, places: Places[str], look: Callable[[Sequence[str]], None]
) -> Iterator[tuple[FlowSpec, ...]]:
    """Return the flows of the tables of `spec`; arguments and errors as for those of a database."""
    lake, family = _family(spec)
    look([table.text for table in family.members])
    tables = family.selected()
    flows = [_flow_of(family, table) for table in tables]
    if not (family.tables.selected or family.tables.excluded) and any(map(hidden, flows)):
        known = [Described(facts.columns, facts.key) for facts in facts_about(lake, tables)]
        check_hidden(list(zip(flows, known, strict=True)))
    family.check_places(partial(_flow_of, family), flows, places)
    yield tuple(flows)


def places_of(spec: FlowSpec) -> dict[str, str]:
    """Return where the tables of `spec` are written: place → name of the table's flow."""
    _, family = _family(spec)
    flows = [_flow_of(family, table) for table in family.selected()]
    found = ((connectors.build(flow)[1].place(), flow.name) for flow in flows)
    return {place: name for place, name in found if place is not None}


def _family(spec: FlowSpec) -> tuple[Lake, Family[Table]]:
    wanted = spec.tables
    assert wanted is not None  # it is called only then
    lake = Lake(spec.home.settings["catalog"], "")
    found = tables_in(lake, wanted.include)
    family = Family(
        spec,
        chosen(found, wanted.include, wanted.exclude, False),
        found.named,
        partial(takes, found),
        lambda name: name,
        True,
    )
    family.check_settings()
    return lake, family


def _flow_of(family: Family[Table], table: Table) -> FlowSpec:
    return family.flow_of(table, {"table": table.text})
