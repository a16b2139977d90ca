"""What a flows.yml comes to, once it is read and found right: small, frozen, picklable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hygge.config.problems import meant
from hygge.errors import UsageError
from hygge.model import Limits, Mode

Side = Literal["home", "store"]
Jobs = Literal["auto", "each", "one"]
SHIPPED = "/runtime_resources/working_dir_files/"
"""In the paths of what Ray unpacks for a job, and deletes after it."""
GOES_WITH_THE_JOB = (
    "lies in the working directory that was shipped with the Ray job, and would be deleted with it"
)


@dataclass(frozen=True)
class EndSpec:
    """A home or a store of a flow: which class, and what to give it. Its repr holds no settings."""

    side: Side
    kind: str
    name: str | None
    settings: dict[str, Any] = field(repr=False)
    line: int
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    """`options.compression` → the line where it stands."""
    hidden: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Values that came from variables → what messages show instead."""
    connection: str | None = None
    """The name under `connections:` that it uses."""


@dataclass(frozen=True)
class Tables:
    """Which tables of a connection a flow takes; each becomes a flow of its own."""

    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    views: bool = False
    alone: Mapping[str, FlowSpec] = field(default_factory=dict)
    """Tables that say something for themselves → their flow, but for the table's name."""
    only: tuple[str, ...] = ()
    """The selected ones, as the flows of tables are named behind the name of theirs; () is all."""


@dataclass(frozen=True)
class FlowSpec:
    """One flow of the file."""

    name: str
    home: EndSpec
    store: EndSpec
    mode: Mode = "replace"
    key: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    line: int = 0
    file: str = "flows.yml"
    tables: Tables | None = None
    of: str = ""
    """The flow with `tables` that this one was made from."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What goes into the metadata of its Ray job."""
    snapshot: str | None = field(default=None, repr=False)
    """What is held for it, and for its sisters, by whoever runs them."""
    apart: str = ""
    """Why nothing is held, where its sisters could not be read as of one moment."""

    @property
    def root(self) -> str:
        """The name of the flow in the file."""
        return self.of or self.name


@dataclass(frozen=True)
class FlowsFile:
    """The whole file; `flows` stand in an order that respects `depends_on`."""

    path: str
    """As it was given; or the URL of an object."""
    root: str
    """Absolute: a folder, or a prefix of an object store."""
    project: str | None
    max_parallel_flows: int
    jobs: Jobs
    state: str
    """A folder, or the URL of an object store: where the journal lies."""
    flows: tuple[FlowSpec, ...]
    max_connections: Mapping[str, int] = field(default_factory=dict)
    """Named connections that are bounded → how many there may be at once."""
    shared_paths: tuple[str, ...] = ()
    """Folders that are one disk on every node, as the user says."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the file names as ${VAR} → its value."""


def select(file: FlowsFile, names: Sequence[str]) -> FlowsFile:
    """Only the flows of these names (`["a", "b"]` or `["a,b"]`); others count as done already.

    `shop.public.orders` is one table of the flow `shop`; whether there is one is known later.
    """
    wanted = [word for name in names for part in name.split(",") if (word := part.strip())]
    known = [flow.name for flow in file.flows]
    if not wanted:
        raise UsageError("no flow is selected", f"flows: {', '.join(sorted(known))}")
    taken: dict[str, list[str]] = {}
    for name in wanted:
        if name in known:
            taken[name] = []
    for name in wanted:
        if name in known:
            continue
        family = [f.name for f in file.flows if f.tables and name.startswith(f"{f.name}.")]
        if not family:
            raise UsageError(f"{file.path} has no flow '{name}'", meant("flows", name, known))
        longest = max(family, key=len)
        if longest not in wanted:
            taken.setdefault(longest, []).append(name[len(longest) + 1 :])
    kept = []
    for flow in file.flows:
        if flow.name in taken:
            after = tuple(each for each in flow.depends_on if each in taken)
            only = tuple(taken[flow.name])
            tables = replace(flow.tables, only=only) if flow.tables else None
            kept.append(replace(flow, depends_on=after, tables=tables))
    return replace(file, flows=tuple(kept))


TOP_KEYS = (
    "project", "root", "connections", "defaults", "flows", "max_parallel_flows", "jobs", "state",
    "shared_paths", "tags",
)  # fmt: skip
LIMIT_KEYS = (
    "lanes",
    "cpus_per_lane",
    "resources",
    "label_selector",
    "memory_per_lane",
    "batch_bytes",
    "retries",
    "stall_timeout",
    "resume_within",
)
CHOICES = {
    "consistency": ("snapshot", "split"),
    "on_value": ("error", "set_null", "as_text"),
}
"""What a flow says for those of its ends that have an option of that name, and its words."""
FLOW_KEYS = ("home", "store", "mode", "key", "depends_on", "tables", "tags", *CHOICES, *LIMIT_KEYS)
DEFAULT_KEYS = ("home", "store", "mode", "key", *CHOICES, *LIMIT_KEYS)
