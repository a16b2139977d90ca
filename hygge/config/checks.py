"""What is wrong with flows whose parts are right: modes, cursors, places, who waits for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hygge.config.document import Node
from hygge.config.environment import masked
from hygge.config.problems import Problems, meant
from hygge.config.specs import FlowSpec, Side
from hygge.settings import Connector
from hygge.store import Store


class Draft(Protocol):
    """What is checked here of a flow on its way."""

    name: str
    made: dict[Side, Connector]
    after: tuple[str, ...]

    def line(self, key: str) -> int: ...


def alone(flow: FlowSpec, draft: Draft, full: Mapping[str, Node], problems: Problems) -> None:
    """What is wrong with one flow by itself."""
    home, store = draft.made.get("home"), draft.made.get("store")
    at = full["mode"].line if "mode" in full else flow.store.line
    if isinstance(store, Store):
        modes = store.traits.modes
        if flow.mode not in modes:
            problems.add(
                at,
                f"{type(store).__name__} cannot {flow.mode}; its modes: {', '.join(modes)}",
                f"mode: {modes[0]}" if modes else None,
                flow.name,
            )
    if flow.mode == "merge" and not flow.key:
        problems.add(
            at, "mode merge needs 'key': the columns that tell rows apart", "key: [id]", flow.name
        )
    cursor = flow.home.settings.get("cursor")
    if cursor is not None and flow.mode == "replace" and ":" not in flow.home.kind:
        problems.add(
            flow.home.lines.get("cursor", flow.home.line),
            f"'cursor' with mode replace would leave only the new rows of '{cursor}' in the store",
            "mode: append or mode: merge, or take the cursor out",
            flow.name,
        )
    if home is None or store is None:
        return
    if home.place() is not None and home.place() == store.place():
        problems.add(
            flow.store.line,
            f"home and store are the same place: {masked(store.describe(), flow.store.hidden)}",
            "give the store a place of its own",
            flow.name,
        )
    elif home is not None and store is not None and home.holds(store):
        problems.add(
            flow.store.line,
            "the store lies inside the home: the next run would read what this one wrote",
            "put the store beside the home",
            flow.name,
        )


def together(flows: Sequence[FlowSpec], drafts: Sequence[Draft], problems: Problems) -> None:
    """What is wrong between flows: two that replace one place, unknown and circular waiting."""
    by_name = {draft.name: draft for draft in drafts}
    replaced: dict[str, FlowSpec] = {}
    for flow in flows:
        store = by_name[flow.name].made.get("store")
        place = store.place() if store and flow.mode == "replace" else None
        if place is not None and store is not None:
            if first := replaced.get(place):
                problems.add(
                    flow.store.line,
                    f"it replaces the same place as flow '{first.name}' (line {first.store.line}): "
                    f"{masked(store.describe(), flow.store.hidden)}",
                    "give each its own store, or let both append",
                    flow.name,
                )
            replaced.setdefault(place, flow)
    for draft in drafts:
        for name in draft.after:
            if name not in by_name:
                problems.add(
                    draft.line("depends_on"),
                    f"it depends on '{name}', and there is no such flow",
                    meant("flows", name, by_name),
                    draft.name,
                )
    if circle := _circle({draft.name: draft.after for draft in drafts}):
        problems.add(
            by_name[circle[0]].line("depends_on"),
            f"depends_on goes in a circle: {' → '.join(circle)}",
            "take one of them out",
            circle[0],
        )


def _circle(waits: Mapping[str, Sequence[str]]) -> list[str]:
    """Names along the first circle, its beginning once more at the end; empty if there is none."""
    done: set[str] = set()
    for start in waits:
        way: list[str] = []
        todo = [(start, 0)]
        while todo:  # a stack of its own: files may have more flows than Python has frames
            name, depth = todo.pop()
            done.update(way[depth:])
            del way[depth:]
            if name in way:
                return [*way[way.index(name) :], name]
            if name in done:
                continue
            way.append(name)
            todo += [(each, depth + 1) for each in reversed(waits[name]) if each in waits]
        done.update(way)
    return []


def in_order(flows: Sequence[FlowSpec]) -> tuple[FlowSpec, ...]:
    """The flows so that each stands after those it depends on; else in the order of the file."""
    ordered: list[FlowSpec] = []
    waiting, done = list(flows), set[str]()
    while waiting:
        ready = next(flow for flow in waiting if done.issuperset(flow.depends_on))
        waiting.remove(ready)
        ordered.append(ready)
        done.add(ready.name)
    return tuple(ordered)
