"""What the settings of many tables mean for each of them: its cursor, and the key of a merge.

- `cursor` of a flow or of a pattern is for the tables that have such a column; a table without it
  is replaced in each run, and `hygge plan` says so. A table's own `cursor` must be there.
- `mode: merge` without `key` merges each table by its primary key.
- A column that a mask or `exclude` names must be in one of the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hygge.config.connectors import build
from hygge.config.specs import FlowSpec
from hygge.connectors.databases.described import describe
from hygge.connectors.sql.listing import Described
from hygge.errors import ConfigError, one_of


def fitted(
    flows: Sequence[FlowSpec], url: str, tables: Sequence[tuple[str, str]], is_whole: bool
) -> list[FlowSpec]:
    """Return the flows of `tables`, each with what its table has; names are schema and table.

    `is_whole`: they are all tables of the family. Raises ConfigError where none of these has a
    column that a mask or `exclude` names, and HomeError where the database at `url`, which is asked
    once, does not answer.
    """
    asking = [
        _has_cursor_of_many(flow) or _needs_key(flow) or (is_whole and bool(hidden(flow)))
        for flow in flows
    ]
    if not any(asking):
        return list(flows)
    asked = [table for table, asks in zip(tables, asking, strict=True) if asks]
    described = dict(zip(asked, describe(url, flows[0].home.kind, asked), strict=True))
    pairs = [
        (flow, described.get(table, Described((), ())))
        for flow, table in zip(flows, tables, strict=True)
    ]
    if is_whole:
        check_hidden(pairs)
    return [
        _fitted(flow, table) if asks else flow
        for (flow, table), asks in zip(pairs, asking, strict=True)
    ]


def check_hidden(pairs: Sequence[tuple[FlowSpec, Described]]) -> None:
    """Raise ConfigError for a hidden column that no table has: a misspelt mask hides nothing."""
    known: dict[tuple[str, str], set[str]] = {}
    noun = "table" if pairs[0][0].home.kind in ("sql", "iceberg") else "file"
    for flow, table in pairs:
        for key, name in hidden(flow):
            names = table.columns
            if key == "mask" and flow.shape is not None:
                names = (*map(flow.shape.target, names), *(flow.shape.add or ()))
            known.setdefault((key, name), set()).update(names)
    for (key, name), columns in known.items():
        if name not in columns:
            raise ConfigError(
                f"no {noun} of flow '{pairs[0][0].of}' has the column '{name}', which "
                f"`{key}` names",
                one_of("columns", name, sorted(columns)),
            )


def hidden(flow: FlowSpec) -> list[tuple[str, str]]:
    """Return the key and the name of each column that must not arrive as it is.

    Those that the settings of one table name are left out: that table's own plan looks for them.
    """
    shape = flow.shape
    if shape is None:
        return []
    named = [("mask", name) for name in shape.mask or ()]
    named += [("exclude", name) for name in shape.exclude or ()]
    return [(key, name) for key, name in named if not shape.must_have(name)]


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
                lacks_cursor=str(cursor),
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
