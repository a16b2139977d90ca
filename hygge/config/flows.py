"""flows.yml, from its text to a `FlowsFile` of which nothing is known to be wrong.

text → tree (`document`) → variables (`environment`) → top-level keys → ends (`ends`), stores before
homes because a home may be what another flow's store writes → connectors (`connectors`) → how the
flows fit together (`checks`). Nothing stops at the first mistake: what is wrong is gathered in
`Problems`, and raised once, as one ConfigError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, get_args

from hygge.config import (
    amounts,
    buckets,
    checks,
    choices,
    connections,
    connectors,
    ends,
    limits,
    paths,
    tables,
    tags,
)
from hygge.config.connectors import build
from hygge.config.content import content
from hygge.config.document import EXAMPLE, Node, merge, parse
from hygge.config.environment import Environment
from hygge.config.problems import Problems, Wrong, meant
from hygge.config.specs import (
    CHOICES,
    DEFAULT_KEYS,
    FLOW_KEYS,
    TOP_KEYS,
    EndSpec,
    FlowsFile,
    FlowSpec,
    Jobs,
    Side,
    Tables,
    select,
)
from hygge.model import Mode
from hygge.settings import Connector
from hygge.store import Store

__all__ = ["EndSpec", "FlowSpec", "FlowsFile", "build", "read_flows", "select"]

_SIDES: tuple[Side, ...] = ("store", "home")
_NAME = re.compile(r"\w[\w.\-]{0,99}")
T = TypeVar("T", bound=str)


def read_flows(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> FlowsFile:
    """The file at `path`, all of it checked; else one ConfigError that lists every problem.

    `path` may be the URL of an object, s3://bucket/flows.yml; then relative paths lie beside it.
    """
    environ = os.environ if environ is None else environ
    file = os.fspath(path)
    return _Reading(file, environ).flows_file(content(file, environ))


@dataclass
class _Draft:
    """A flow on its way: what of it could be read so far."""

    name: str
    node: Node
    ends: dict[Side, ends.End] = field(default_factory=dict)
    specs: dict[Side, EndSpec] = field(default_factory=dict)
    made: dict[Side, Connector] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    tables: Tables | None = None
    rate: Node | None = None
    """`max_bytes_per_second` of its home."""
    alone: dict[str, _Draft] = field(default_factory=dict)
    """Tables of many that say something for themselves, each as a flow."""

    def line(self, key: str) -> int:
        node = self.node.value.get(key)
        return node.line if node else self.node.line


class _Reading:
    """One reading of one file."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file = file
        self.folder = paths.folder_of(file)
        self.problems = Problems(file)
        self.environment = Environment(self.folder, environ, self.problems)
        self.defaults = Node({}, 1)

    def flows_file(self, text: str) -> FlowsFile:
        top = parse(text, self.problems)
        values = {
            key: node if key == "flows" else self.environment.fill(node, self.problems)
            for key, node in top.value.items()
        }
        self._known_top(values)
        root = self.folder
        with self.problems.collect():
            if (node := values.get("root")) and not node.broken:
                root = paths.root(node, self.folder)
        named = connections.read(values.get("connections"), root, self.problems)
        reaches = {name: each.reach for name, each in named.items() if each.on_objects}
        self.around = ends.Surroundings(
            self.file,
            root,
            {name: each.url for name, each in named.items() if not each.on_objects},
            reaches,
            self.environment.values,
            self.environment.hidden,
        )
        self._defaults(values.get("defaults"))
        drafts = list(self._drafts(values))
        self._ends(drafts)
        flows = [flow for draft in drafts if (flow := self._flow(draft))]
        flows = tags.given(flows, top, self.problems)
        checks.together(flows, drafts, self.problems)
        project = self._project(values.get("project"))
        parallel = 4
        jobs: Jobs = "auto"
        with self.problems.collect():
            if node := _given(values, "max_parallel_flows"):
                parallel = amounts.count(node, "max_parallel_flows", 1)
        with self.problems.collect():
            if node := _given(values, "jobs"):
                jobs = _one_of(node, "jobs", get_args(Jobs))
        state = ""
        with self.problems.collect():
            node = values.get("state") or Node(".hygge", 1, ".hygge")
            if not node.is_broken():
                state = buckets.reached(paths.state(node, root), reaches, node.line)
        shared: tuple[str, ...] = ()
        with self.problems.collect():
            if node := _given(values, "shared_paths"):
                names = _names(node, "shared_paths")
                shared = tuple(paths.absolute(each, root, node.line) for each in names)
        self.problems.raise_any()
        ordered = checks.in_order(flows)
        bounds = {name: n for name, each in named.items() if (n := each.max_connections)}
        return FlowsFile(
            self.file, root, project, parallel, jobs, state, ordered, bounds, shared,
            self.environment.used,
        )  # fmt: skip

    def _known_top(self, values: Mapping[str, Node]) -> None:
        for key, node in values.items():
            if key not in TOP_KEYS:
                hint = meant("top-level keys", key, TOP_KEYS)
                if node.is_mapping and {"home", "store"} & set(node.value):
                    hint = f"a flow stands under `flows:`, as `flows: {{{key}: …}}`"
                elif key in FLOW_KEYS:
                    hint = f"'{key}' belongs to a flow, or under `defaults:`"
                self.problems.add(node.line, f"'{key}' is not a key of this file", hint)

    def _project(self, node: Node | None) -> str | None:
        if node is None:
            return None
        if node.is_mapping or node.is_list or not node.text:
            text = f"'project' is {node.shown()}, not a name"
            self.problems.add(node.line, text, "project: shop")
        return str(node.value)

    def _defaults(self, node: Node | None) -> None:
        if node is None or node.value is None:
            return
        example = "defaults: {mode: append, store: {options: {compression: zstd}}}"
        if not node.is_mapping:
            self.problems.add(node.line, f"'defaults' is {node.shown()}", example)
            return
        kept = {}
        for key, each in node.value.items():
            if key not in DEFAULT_KEYS:
                hint = meant("defaults", key, DEFAULT_KEYS)
                self.problems.add(each.line, f"'{key}' is not a default", hint)
            elif key in CHOICES:
                with self.problems.collect():
                    choices.check(key, each)
                    kept[key] = each
            elif key in _SIDES and not each.is_mapping:
                text = f"the default of '{key}' is {each.shown()}, not a mapping"
                self.problems.add(each.line, text, example)
            elif key in _SIDES and "name" in each.value:
                text = f"'name' cannot be a default of '{key}'"
                self.problems.add(each.value["name"].line, text, "give it in each flow")
            else:
                kept[key] = each
        self.defaults = Node(kept, node.line)

    def _drafts(self, values: Mapping[str, Node]) -> Iterator[_Draft]:
        node = values.get("flows")
        if node is None or not node.value or not node.is_mapping:
            if node is not None and node.value:
                text = f"'flows' is {node.shown()}, not a mapping of names"
                self.problems.add(node.line, text, EXAMPLE)
            elif node is not None or not self.problems.count:
                self.problems.add(node.line if node else 1, "there are no flows", EXAMPLE)
            return
        for name, raw in node.value.items():
            each = self.environment.fill(raw, self.problems, name)
            if not _NAME.fullmatch(name):
                clean = re.sub(r"[^\w.\-]+", "_", name).strip("_.-")[:100] or "flow"
                text = f"'{name}' is no name for a flow: letters, digits, _ - . only"
                self.problems.add(each.line, text, f"{clean}:")
            elif not each.is_mapping:
                hint = f"{name}: {{home: data/users.parquet, store: data/lake/users}}"
                self.problems.add(each.line, f"it is {each.shown()}, not a mapping", hint, name)
            else:
                draft = _Draft(name, each)
                for table, flow in tables.alone(each, self.problems, name):
                    draft.alone[table] = _Draft(name, flow)
                yield draft

    def _ends(self, drafts: list[_Draft]) -> None:
        """Classes first, for all flows; then it is known which defaults fit where."""
        made: dict[str, str] = {}
        every = [each for draft in drafts for each in (draft, *draft.alone.values())]
        for side in _SIDES:
            for draft in every:
                node = draft.node.value.get(side)
                with self.problems.collect(draft.name):
                    if node is None:
                        self._missing_end(draft, side)
                        continue
                    end = ends.begin(side, node, self._default(side), self.around, made)
                    if side == "home":
                        end, draft.tables = tables.patterns(end)
                        end, draft.rate = limits.rate_of(end)
                    draft.ends[side] = end
                    path = end.own.value.get("path")
                    if side == "store" and path is not None and connectors.is_of_files(end.cls):
                        written = paths.absolute(str(path.value), self.around.root, path.line)
                        made[written] = end.kind
            self._unused_defaults(drafts, side)
        for draft in every:
            self._known_in_flow(draft)
            decided = choices.decided(
                draft.ends, draft.node, self.defaults, self.around, self.problems, draft.name
            )
            for side, end in decided.items():
                with self.problems.collect(draft.name):
                    default = choices.beneath(end, self._default(side), self.defaults, self.around)
                    spec = ends.finish(end, default, self.around)
                    if side == "store" and "home" in draft.ends:
                        tables.check_store(spec, draft.tables)
                    draft.specs[side] = spec
                    connector, wrongs = connectors.connect(spec, end.cls)
                    for wrong in wrongs:
                        self._add(wrong, draft)
                    if connector is not None:
                        draft.made[side] = connector

    def _default(self, side: Side) -> Node:
        found: Node = self.defaults.value.get(side, Node({}, self.defaults.line))
        return found

    def _add(self, wrong: Wrong, draft: _Draft) -> None:
        """Said once, without a flow's name, if it stands in the defaults."""
        own = _lines(draft.node)
        shared = wrong.line not in own and wrong.line in _lines(self.defaults)
        self.problems.add(wrong.line, wrong.text, wrong.hint, None if shared else draft.name)

    def _missing_end(self, draft: _Draft, side: Side) -> None:
        strange = [key for key in draft.node.value if key not in FLOW_KEYS]
        if not any(f"'{side}'?" in meant("", key, FLOW_KEYS) for key in strange):
            example = {"home": "data/users.parquet", "store": "data/lake/users"}[side]
            raise Wrong(draft.node.line, f"it has no '{side}'", f"{side}: {example}")

    def _unused_defaults(self, drafts: list[_Draft], side: Side) -> None:
        found = [draft.ends[side] for draft in drafts if side in draft.ends]
        if len(found) < len(drafts) or not found:
            return  # what a wrong end would have taken is not known
        known = {key for end in found for key in connectors.keys_of(end.cls) or ()}
        options = {key for end in found for key in connectors.options_of(end.cls) or ()}
        for key, node in self._default(side).value.items():
            if side == "home" and key == limits.RATE:
                continue  # of the flow, and not of a class
            if key == "options" and node.is_mapping:
                for option, each in node.value.items():
                    if option not in options:
                        text = f"no {side} of this file knows the default option '{option}'"
                        self.problems.add(each.line, text, meant("options", option, options))
            elif key not in known and key != "type":
                text = f"no {side} of this file knows the default '{key}'"
                self.problems.add(node.line, text, meant("they know", key, known))

    def _known_in_flow(self, draft: _Draft) -> None:
        for key, node in draft.node.value.items():
            if key not in FLOW_KEYS:
                hint = meant("keys of a flow", key, FLOW_KEYS)
                takers = ["under `home:`"] if key == limits.RATE else []
                for side, end in sorted(draft.ends.items()):
                    if key in (connectors.keys_of(end.cls) or ()):
                        takers.append(f"under `{side}:`")
                    elif key in (connectors.options_of(end.cls) or ()):
                        takers.append(f"under `options` of `{side}:`")
                if takers:
                    hint = f"it belongs {' or '.join(takers)}"
                text = f"'{key}' is not a key of a flow"
                self.problems.add(node.line, text, hint, draft.name)

    def _flow(self, draft: _Draft) -> FlowSpec | None:
        """The flow, as far as it is right; None where an end is missing."""
        full = merge(self.defaults, draft.node).value
        before = self.problems.count
        mode: Mode = "replace"
        key: tuple[str, ...] = ()

        def inside(word: str) -> str | None:
            own = draft.rate is not None if word == limits.RATE else word in draft.node.value
            return draft.name if own else None

        with self.problems.collect(inside("mode")):
            if node := _given(full, "mode"):
                mode = _one_of(node, "mode", get_args(Mode))
        with self.problems.collect(inside("key")):
            if node := _given(full, "key"):
                key = _names(node, "key")
        with self.problems.collect(draft.name):
            if node := _given(full, "depends_on"):
                draft.after = _names(node, "depends_on")
        rate = draft.rate or self._default("home").value.get(limits.RATE)
        bounds = limits.limits(full, rate, self.problems, inside)
        made = draft.made.get("store")
        if "mode" not in full and isinstance(made, Store) and mode not in made.traits.modes:
            mode = made.traits.modes[0]
        if len(draft.specs) < 2:
            return None
        home, store = draft.specs["home"], draft.specs["store"]
        alone = {table: flow for table, each in draft.alone.items() if (flow := self._flow(each))}
        many = replace(draft.tables, alone=alone) if draft.tables else None
        flow = FlowSpec(
            draft.name, home, store, mode, key, draft.after, bounds, draft.node.line, self.file,
            many,
        )  # fmt: skip
        if self.problems.count == before:
            checks.alone(flow, draft, full, self.problems)
        return flow


def _given(full: Mapping[str, Node], key: str) -> Node | None:
    node = full.get(key)
    return None if node is None or node.is_broken() else node


def _one_of(node: Node, key: str, known: tuple[T, ...]) -> T:
    if node.value not in known:
        said = meant(f"{key} is one of", str(node.text), known)
        raise Wrong(node.line, f"'{key}' is {node.shown()}", said)
    return known[known.index(node.value)]


def _names(node: Node, key: str) -> tuple[str, ...]:
    items = node.value if node.is_list else [node]
    if any(item.is_list or item.is_mapping or not item.text for item in items):
        example = "[/mnt/shared]" if key == "shared_paths" else "[id]"
        raise Wrong(node.line, f"'{key}' is not a list of names", f"{key}: {example}")
    names = tuple(item.value if isinstance(item.value, str) else item.text for item in items)
    for name in names:
        if names.count(name) > 1:
            raise Wrong(node.line, f"'{key}' names '{name}' twice", "keep one")
    return names


def _lines(node: Node) -> set[int]:
    return {node.line}.union(*(_lines(each) for each in node.children()))
