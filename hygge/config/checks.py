"""Checks of flows that are right by themselves: modes, cursors, equal places, dependencies."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from hygge import changes
from hygge.config.document import Node
from hygge.config.environment import mask
from hygge.config.problems import Problems, suggest
from hygge.config.specs import FlowSpec, Side
from hygge.home import Home
from hygge.settings import Connector
from hygge.shape.settings import MASK_AND_BAD_ROWS, MASK_HINT
from hygge.store import Store

User = TypeVar("User")


class Draft(Protocol):
    """The part of a flow's draft that is checked here."""

    name: str
    connectors: dict[Side, Connector]
    depends_on: tuple[str, ...]

    def line(self, key: str) -> int: ...


def check_flow(flow: FlowSpec, draft: Draft, full: Mapping[str, Node], problems: Problems) -> None:
    """Add the problems of one flow by itself. `full`: its keys, with the defaults."""
    home, store = draft.connectors.get("home"), draft.connectors.get("store")
    mode_line = full["mode"].line if "mode" in full else flow.store.line
    if isinstance(store, Store):
        modes = store.traits.modes
        if flow.mode not in modes:
            problems.add(
                mode_line,
                f"{type(store).__name__} cannot {flow.mode}; its modes: {', '.join(modes)}",
                f"mode: {modes[0]}" if modes else None,
                flow.name,
            )
    if isinstance(home, Home) and isinstance(store, Store):
        wrong = changes.refused(home.traits, store.traits, type(store).__name__, flow.mode)
        if wrong is not None:
            problems.add(mode_line, *wrong, flow.name)
    knows_key = isinstance(home, Home) and home.traits.key
    if flow.mode == "merge" and not flow.key and not knows_key:
        problems.add(
            mode_line,
            "mode merge needs 'key': the columns that tell rows apart",
            "key: [id]",
            flow.name,
        )
    if flow.shape is not None and flow.shape.mask and flow.limits.on_bad_row == "set_aside":
        line = full["mask"].line if "mask" in full else flow.line
        problems.add(line, MASK_AND_BAD_ROWS, MASK_HINT, flow.name)
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
            f"home and store are the same place: {mask(store.describe(), flow.store.hidden)}",
            "give the store a place of its own",
            flow.name,
        )
    elif home.holds(store):
        problems.add(
            flow.store.line,
            "the store lies inside the home: the next run would read what this one wrote",
            "put the store beside the home",
            flow.name,
        )


def check_flows(flows: Sequence[FlowSpec], drafts: Sequence[Draft], problems: Problems) -> None:
    """Add the problems between flows: two that replace one place, and wrong dependencies."""
    by_name = {draft.name: draft for draft in drafts}
    _check_places(flows, by_name, problems)
    for draft in drafts:
        for name in draft.depends_on:
            if name not in by_name:
                problems.add(
                    draft.line("depends_on"),
                    f"it depends on '{name}', and there is no such flow",
                    suggest("flows", name, by_name),
                    draft.name,
                )
    if cycle := _find_cycle({draft.name: draft.depends_on for draft in drafts}):
        problems.add(
            by_name[cycle[0]].line("depends_on"),
            f"depends_on goes in a circle: {' → '.join(cycle)}",
            "take one of them out",
            cycle[0],
        )


def _check_places(
    flows: Sequence[FlowSpec], drafts: Mapping[str, Draft], problems: Problems
) -> None:
    """Add a problem for each flow whose rows another one drops, by replacing what it wrote.

    A flow that appends after the other one, as its `depends_on` says, adds to the new rows.
    """
    depends_on = {draft.name: draft.depends_on for draft in drafts.values()}
    seen: list[tuple[FlowSpec, str]] = []
    for flow in flows:
        store = drafts[flow.name].connectors.get("store")
        place = store.place() if store else None
        if not isinstance(store, Store) or place is None:
            continue
        shown = mask(store.describe(), flow.store.hidden)
        for first, first_place in seen:
            where = f"flow '{first.name}' (line {first.store.line})"
            is_same = place == first_place
            if not is_same and _form(place) == _form(first_place):
                is_same = store.is_also(first_place)
            if is_same and "replace" in (flow.mode, first.mode):
                if _runs_after(flow, first, depends_on) or _runs_after(first, flow, depends_on):
                    continue
                text = f"it writes to the same place as {where}: {shown}"
                if flow.mode == first.mode:
                    text = f"it replaces the same place as {where}: {shown}"
                elif flow.mode == "replace":
                    text = f"it replaces what {where} writes: {shown}"
                else:
                    text = f"it writes to a place that {where} replaces: {shown}"
                hint = "give each its own store, or let both append"
                problems.add(flow.store.line, text, hint, flow.name)
                break
            inside = place.startswith(f"{first_place}/") and first.mode == "replace"
            around = first_place.startswith(f"{place}/") and flow.mode == "replace"
            if inside or around:
                relation = "inside" if inside else "around"
                problems.add(
                    flow.store.line,
                    f"its store lies {relation} that of {where}, and the outer one is replaced as "
                    f"a whole: {shown}",
                    "put the two stores side by side",
                    flow.name,
                )
                break
        seen.append((flow, place))


def _runs_after(flow: FlowSpec, first: FlowSpec, depends_on: Mapping[str, Sequence[str]]) -> bool:
    """Return whether `flow` adds to what `first` has replaced, which it waits for."""
    if first.mode != "replace" or flow.mode == "replace":
        return False
    waiting, seen = [flow.name], set[str]()
    while waiting:
        name = waiting.pop()
        if name == first.name:
            return True
        if name not in seen:
            seen.add(name)
            waiting += depends_on.get(name, ())
    return False


class Places(Generic[User]):
    """Who writes to which place.

    Places whose names differ in case or in Unicode form alone may be one; the store knows it.
    """

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._by_form: dict[str, list[str]] = {}

    def add(self, place: str, user: User) -> None:
        """Note who writes to a place, unless somebody does already."""
        if place not in self._users:
            self._users[place] = user
            self._by_form.setdefault(_form(place), []).append(place)

    def user_of(self, store: Store, place: str) -> User | None:
        """Return who writes to the place of `store` already; None: nobody."""
        if place in self._users:
            return self._users[place]
        alike = self._by_form.get(_form(place), ())
        return next((self._users[other] for other in alike if store.is_also(other)), None)


def _form(place: str) -> str:
    """Return what is equal for places that differ in case or in Unicode form alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", place).casefold())


def _find_cycle(depends_on: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names along the first cycle, with the first one again at the end; else nothing."""
    done: set[str] = set()
    for start in depends_on:
        path: list[str] = []
        stack = [(start, 0)]
        while stack:  # no recursion: a file may have more flows than Python has frames
            name, depth = stack.pop()
            done.update(path[depth:])
            del path[depth:]
            if name in path:
                return [*path[path.index(name) :], name]
            if name in done:
                continue
            path.append(name)
            known = [other for other in depends_on[name] if other in depends_on]
            stack += [(other, depth + 1) for other in reversed(known)]
        done.update(path)
    return []


def sort_by_dependency(flows: Sequence[FlowSpec]) -> tuple[FlowSpec, ...]:
    """Return the flows with each after those it depends on, else in the order of the file.

    A flow that is not among them is one that could not be read: nothing waits for it.
    """
    ordered: list[FlowSpec] = []
    known = {flow.name for flow in flows}
    waiting, done = list(flows), set[str]()
    while waiting:
        ready = next(each for each in waiting if done >= known.intersection(each.depends_on))
        waiting.remove(ready)
        ordered.append(ready)
        done.add(ready.name)
    return tuple(ordered)
