"""What the settings of many tables mean for each of them: its cursor, and the key of a merge.

- `cursor` of a flow or of a pattern is for the tables that have such a column; a table without it
  is replaced in each run, and `hygge plan` says so. A table's own `cursor` must be there.
- `mode: merge` without `key` merges each table by its primary key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hygge.config.connectors import build
from hygge.config.specs import FlowSpec
from hygge.connectors.databases.described import Described, describe


def fitted(
    flows: Sequence[FlowSpec], url: str, tables: Sequence[tuple[str, str]]
) -> list[FlowSpec]:
    """Return the flows of `tables`, each with what its table has; names are schema and table.

    Raises HomeError where the database at `url`, which is asked once, does not answer.
    """
    asking = [_has_cursor_of_many(flow) or _needs_key(flow) for flow in flows]
    if not any(asking):
        return list(flows)
    asked = [table for table, asks in zip(tables, asking, strict=True) if asks]
    described = dict(zip(asked, describe(url, flows[0].home.kind, asked), strict=True))
    return [
        _fitted(flow, described[table]) if table in described else flow
        for flow, table in zip(flows, tables, strict=True)
    ]


def _fitted(flow: FlowSpec, table: Described) -> FlowSpec:
    cursor = flow.home.settings.get("cursor")
    if _has_cursor_of_many(flow) and cursor not in table.columns:
        modes = build(flow)[1].traits.modes
        if "replace" in modes:
            settings = {k: v for k, v in flow.home.settings.items() if k not in ("cursor", "lag")}
            return replace(
                flow,
                mode="replace",
                home=replace(flow.home, settings=settings),
                plan_note=f"it has no column '{cursor}', so each run replaces all of it",
            )
    if _needs_key(flow):
        return replace(flow, key=table.key)
    return flow


def _has_cursor_of_many(flow: FlowSpec) -> bool:
    """Return whether a flow has the cursor of its family or pattern, and not one of its own."""
    cursor = flow.home.settings.get("cursor")
    return cursor is not None and cursor not in flow.columns


def _needs_key(flow: FlowSpec) -> bool:
    return flow.mode == "merge" and not flow.key
