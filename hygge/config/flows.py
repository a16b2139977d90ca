"""flows.yml, from its text to a `FlowsFile` without problems.

text → tree (`document`) → variables (`environment`) → top-level keys → ends (`ends`), stores before
homes because a home may read what another flow's store writes → connectors (`connectors`) → checks
between flows (`checks`). The reading does not stop at the first mistake: all of them are collected
in `Problems`, and raised once, as one ConfigError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from hygge.config import (
    buckets,
    checks,
    connections,
    connectors,
    end_options,
    ends,
    hooks,
    keys,
    limits,
    paths,
    shapes,
    tables,
    tags,
    values,
)
from hygge.config.connectors import build
from hygge.config.document import EXAMPLE, Node, merge, parse
from hygge.config.environment import Environment
from hygge.config.problems import Problem, Problems, suggest
from hygge.config.specs import (
    DEFAULT_KEYS,
    END_OPTIONS,
    FLOW_KEYS,
    EndSpec,
    FlowsFile,
    FlowSpec,
    Jobs,
    Side,
    Tables,
)
from hygge.config.text import read_text
from hygge.model import Mode
from hygge.settings import Connector
from hygge.store import Store

__all__ = ["EndSpec", "FlowSpec", "FlowsFile", "build", "read_flows"]

_SIDES: tuple[Side, ...] = ("store", "home")
_NAME = re.compile(r"\w[\w.\-]{0,99}")


def read_flows(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> FlowsFile:
    """Return the file at `path`, checked; raise one ConfigError that lists every problem.

    `path` may be the URL of an object, s3://bucket/flows.yml; then relative paths are beside it.
    """
    environ = os.environ if environ is None else environ
    file = os.fspath(path)
    return Reader(file, environ).read(read_text(file, environ))


def read_written(text: str, name: str, environ: Mapping[str, str]) -> FlowsFile:
    """Return the flows of a text that is no file; relative paths begin at the working directory.

    `name` stands for the file in messages. Raises ConfigError, as `read_flows` does.
    """
    return Reader(name, environ).read(text)


@dataclass
class _Draft:
    """The parts of a flow that are read so far."""

    name: str
    node: Node
    ends: dict[Side, ends.End] = field(default_factory=dict)
    specs: dict[Side, EndSpec] = field(default_factory=dict)
    connectors: dict[Side, Connector] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    tables: Tables | None = None
    rate: Node | None = None
    """`max_bytes_per_second` of its home."""
    shape: dict[str, Node] = field(default_factory=dict)
    """Keys of its home that make its shape."""
    must_have: tuple[str, ...] = ()
    """Columns that this one table of many excludes, and must have."""
    overrides: dict[str, _Draft] = field(default_factory=dict)
    """Tables with settings of their own, each as a flow."""

    def line(self, key: str) -> int:
        node = self.node.mapping.get(key)
        return node.line if node else self.node.line


class Reader:
    """Reads one file once; `problems` keeps what is wrong with it."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file = file
        self.folder = paths.folder_of(file)
        self.problems = Problems(file)
        self.environment = Environment(self.folder, environ, self.problems)
        self.defaults = Node({}, 1)

    def read(self, text: str) -> FlowsFile:
        top = parse(text, self.problems)
        nodes = {
            key: node if key == "flows" else self.environment.fill(node, self.problems)
            for key, node in top.mapping.items()
        }
        keys.check_top_keys(nodes, self.problems)
        root = self.folder
        with self.problems.collect():
            if (node := nodes.get("root")) and not node.broken:
                root = paths.read_root(node, self.folder)
        named = connections.read(nodes.get("connections"), root, self.problems)
        self.context = ends.Context(
            self.file,
            root,
            {name: each.url for name, each in named.items() if each.is_database},
            {name: each.bucket for name, each in named.items() if each.is_bucket},
            {name: each.lake for name, each in named.items() if each.is_lake},
            self.environment.values,
            self.environment.hidden,
        )
        self._read_defaults(nodes.get("defaults"))
        drafts = list(self._drafts(nodes))
        self._read_ends(drafts)
        flows = [flow for draft in drafts if (flow := self._flow(draft))]
        flows = tags.add_tags(flows, top, self.problems)
        checks.check_flows(flows, drafts, self.problems)
        project = self._project(nodes.get("project"))
        max_parallel_flows = 4
        jobs: Jobs = "auto"
        with self.problems.collect():
            if node := values.get(nodes, "max_parallel_flows"):
                max_parallel_flows = values.read_count(node, "max_parallel_flows", 1)
        with self.problems.collect():
            if node := values.get(nodes, "jobs"):
                jobs = values.read_one_of(node, "jobs", get_args(Jobs))
        state = ""
        with self.problems.collect():
            node = nodes.get("state") or Node(".hygge", 1, ".hygge")
            if not node.is_broken():
                place = paths.read_state(node, root)
                state = buckets.with_access(place, self.context.buckets, node.line)
        shared_paths: tuple[str, ...] = ()
        with self.problems.collect():
            if node := values.get(nodes, "shared_paths"):
                names = values.read_names(node, "shared_paths")
                shared_paths = tuple(paths.absolute(name, root, node.line) for name in names)
        lineage = hooks.read_lineage(nodes.get("lineage"), self.problems)
        self.problems.raise_any()
        return FlowsFile(
            self.file,
            root,
            project,
            max_parallel_flows,
            jobs,
            state,
            checks.sort_by_dependency(flows),
            {name: most for name, each in named.items() if (most := each.max_connections)},
            shared_paths,
            self.environment.used,
            lineage,
        )

    def _project(self, node: Node | None) -> str | None:
        if node is None:
            return None
        if node.is_mapping or node.is_list or not node.text:
            message = f"'project' is {node.describe()}, not a name"
            self.problems.add(node.line, message, "project: shop")
        return str(node.value)

    def _read_defaults(self, node: Node | None) -> None:
        if node is None or node.value is None:
            return
        example = "defaults: {mode: append, store: {options: {compression: zstd}}}"
        if not node.is_mapping:
            self.problems.add(node.line, f"'defaults' is {node.describe()}", example)
            return
        right = {}
        for key, value in node.mapping.items():
            if key not in DEFAULT_KEYS:
                hint = suggest("defaults", key, DEFAULT_KEYS)
                self.problems.add(value.line, f"'{key}' is not a default", hint)
            elif key in END_OPTIONS:
                with self.problems.collect():
                    end_options.check(key, value)
                    right[key] = value
            elif key in _SIDES and not value.is_mapping:
                message = f"the default of '{key}' is {value.describe()}, not a mapping"
                self.problems.add(value.line, message, example)
            elif key in _SIDES and "name" in value.mapping:
                message = f"'name' cannot be a default of '{key}'"
                self.problems.add(value.mapping["name"].line, message, "give it in each flow")
            else:
                right[key] = value
        self.defaults = Node(right, node.line)

    def _drafts(self, nodes: Mapping[str, Node]) -> Iterator[_Draft]:
        node = nodes.get("flows")
        if node is None or not node.value or not node.is_mapping:
            if node is not None and node.value:
                message = f"'flows' is {node.describe()}, not a mapping of names"
                self.problems.add(node.line, message, EXAMPLE)
            elif node is not None or not self.problems.count:
                self.problems.add(node.line if node else 1, "there are no flows", EXAMPLE)
            return
        misplaced = keys.check_misplaced_keys(node, self.problems)
        for name, raw in node.mapping.items():
            if name in misplaced:
                continue
            flow = self.environment.fill(raw, self.problems, name)
            if not _NAME.fullmatch(name):
                clean = re.sub(r"[^\w.\-]+", "_", name).strip("_.-")[:100] or "flow"
                message = f"'{name}' is no name for a flow: letters, digits, _ - . only"
                self.problems.add(flow.line, message, f"{clean}:")
            elif not flow.is_mapping:
                hint = f"{name}: {{home: data/users.parquet, store: data/lake/users}}"
                self.problems.add(flow.line, f"it is {flow.describe()}, not a mapping", hint, name)
            else:
                draft = _Draft(name, flow)
                for table, override in tables.overrides(flow, self.problems, name):
                    must_have = tables.excluded_columns(flow, table)
                    draft.overrides[table] = _Draft(name, override, must_have=must_have)
                yield draft

    def _read_ends(self, drafts: list[_Draft]) -> None:
        """Find the class of every end first: only then is it known which defaults no end takes."""
        written: dict[str, str] = {}
        with_overrides = [each for draft in drafts for each in (draft, *draft.overrides.values())]
        for side in _SIDES:
            for draft in with_overrides:
                with self.problems.collect(draft.name):
                    self._find_end(draft, side, written)
            self._check_side_defaults(drafts, side)
        for draft in with_overrides:
            self._check_flow_keys(draft)
            final_ends = end_options.set_from_flow(
                draft.ends, draft.node, self.defaults, self.context, self.problems, draft.name
            )
            for side, end in final_ends.items():
                with self.problems.collect(draft.name):
                    self._connect(draft, side, end)

    def _find_end(self, draft: _Draft, side: Side, written: dict[str, str]) -> None:
        node = draft.node.mapping.get(side)
        if node is None:
            self._check_missing_end(draft, side)
            return
        default, files = self._side_default(side), None
        if side == "home":
            node, files = tables.files_as_path(node)
        end = ends.find_end(side, node, default, self.context, written, several=files is not None)
        if side == "home":
            end, draft.tables = tables.take_patterns(end)
            if files is not None:
                draft.tables = tables.take_files(end, files, default)
            end, draft.rate = limits.take_rate(end)
            end, draft.shape = shapes.take_shape(end)
        draft.ends[side] = end
        path = end.node.mapping.get("path")
        if side == "store" and path is not None and connectors.is_of_files(end.cls):
            place = paths.absolute(str(path.value), self.context.root, path.line)
            written[place] = end.kind

    def _connect(self, draft: _Draft, side: Side, end: ends.End) -> None:
        default = end_options.merge_defaults(
            end, self._side_default(side), self.defaults, self.context
        )
        spec = ends.make_spec(end, default, self.context)
        if side == "store" and "home" in draft.ends:
            tables.check_store(spec, draft.tables)
        draft.specs[side] = spec
        connector, problems = connectors.create(spec, end.cls)
        for problem in problems:
            self._add(problem, draft)
        if connector is not None:
            draft.connectors[side] = connector

    def _side_default(self, side: Side) -> Node:
        return self.defaults.mapping.get(side, Node({}, self.defaults.line))

    def _add(self, problem: Problem, draft: _Draft) -> None:
        """Add a problem; one of the defaults is added without a flow, and so is reported once."""
        is_own = problem.line in _lines(draft.node)
        is_shared = not is_own and problem.line in _lines(self.defaults)
        flow = None if is_shared else draft.name
        self.problems.add(problem.line, problem.message, problem.hint, flow)

    def _check_missing_end(self, draft: _Draft, side: Side) -> None:
        """Raise Problem, unless an unknown key of the flow was probably meant to be this end."""
        unknown = [key for key in draft.node.mapping if key not in FLOW_KEYS]
        if not any(f"'{side}'?" in suggest("", key, FLOW_KEYS) for key in unknown):
            example = {"home": "data/users.parquet", "store": "data/lake/users"}[side]
            raise Problem(draft.node.line, f"it has no '{side}'", f"{side}: {example}")

    def _check_side_defaults(self, drafts: list[_Draft], side: Side) -> None:
        """Add a problem for each default of a side that no end takes."""
        side_ends = [draft.ends[side] for draft in drafts if side in draft.ends]
        if len(side_ends) < len(drafts) or not side_ends:
            return  # an end that is wrong might have taken it
        known = {key for end in side_ends for key in connectors.keys_of(end.cls) or ()}
        options = {key for end in side_ends for key in connectors.options_of(end.cls) or ()}
        for key, node in self._side_default(side).mapping.items():
            if side == "home" and key == limits.RATE:
                continue  # the flow takes it, and no class
            if key == "options" and node.is_mapping:
                for option, value in node.mapping.items():
                    if option not in options:
                        message = f"no {side} of this file knows the default option '{option}'"
                        self.problems.add(value.line, message, suggest("options", option, options))
            elif key not in known and key != "type":
                message = f"no {side} of this file knows the default '{key}'"
                self.problems.add(node.line, message, suggest("they know", key, known))

    def _check_flow_keys(self, draft: _Draft) -> None:
        for key, node in draft.node.mapping.items():
            if key in FLOW_KEYS:
                continue
            right_places = ["under `home:`"] if key == limits.RATE else []
            for side, end in sorted(draft.ends.items()):
                if key in (connectors.keys_of(end.cls) or ()):
                    right_places.append(f"under `{side}:`")
                elif key in (connectors.options_of(end.cls) or ()):
                    right_places.append(f"under `options` of `{side}:`")
            hint = suggest("keys of a flow", key, FLOW_KEYS)
            if right_places:
                hint = f"it belongs {' or '.join(right_places)}"
            self.problems.add(node.line, f"'{key}' is not a key of a flow", hint, draft.name)

    def _flow(self, draft: _Draft) -> FlowSpec | None:
        """Return the flow, with defaults for what is wrong; None where an end is missing."""
        full = merge(self.defaults, draft.node).mapping
        problems_before = self.problems.count
        mode: Mode = "replace"
        key: tuple[str, ...] = ()

        def flow_of(word: str) -> str | None:
            is_own = draft.rate is not None if word == limits.RATE else word in draft.node.mapping
            return draft.name if is_own else None

        with self.problems.collect(flow_of("mode")):
            if node := values.get(full, "mode"):
                mode = values.read_one_of(node, "mode", get_args(Mode))
        with self.problems.collect(flow_of("key")):
            if node := values.get(full, "key"):
                key = values.read_names(node, "key")
        with self.problems.collect(draft.name):
            if node := values.get(full, "depends_on"):
                draft.depends_on = values.read_names(node, "depends_on")
        rate = draft.rate or self._side_default("home").mapping.get(limits.RATE)
        flow_limits = limits.read_limits(full, rate, self.problems, flow_of)
        store = draft.connectors.get("store")
        if "mode" not in full and isinstance(store, Store) and mode not in store.traits.modes:
            mode = store.traits.modes[0]
        if len(draft.specs) < 2:
            return None
        overrides = {
            table: override
            for table, each in draft.overrides.items()
            if (override := self._flow(each))
        }
        flow = FlowSpec(
            draft.name,
            draft.specs["home"],
            draft.specs["store"],
            mode,
            key,
            draft.depends_on,
            flow_limits,
            draft.node.line,
            self.file,
            _with_overrides(draft.tables, overrides, draft.node) if draft.tables else None,
            shape=shapes.read_shape(
                draft.shape, full, draft.tables is not None, draft.must_have,
                self.environment, self.problems, draft.name, self.folder,
            ),
            hooks=hooks.read_hooks(full, self.problems, flow_of),
        )  # fmt: skip
        if self.problems.count == problems_before:
            checks.check_flow(flow, draft, full, self.problems)
        return flow


def _with_overrides(taken: Tables, overrides: Mapping[str, FlowSpec], flow: Node) -> Tables:
    return replace(taken, overrides=overrides, columns=tables.named_columns(flow))


def _lines(node: Node) -> set[int]:
    return {node.line}.union(*(_lines(child) for child in node.children()))
