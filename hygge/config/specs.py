"""The result of reading a flows.yml without problems: small, frozen, picklable records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hygge.config.problems import suggest
from hygge.errors import UsageError
from hygge.model import Limits, Mode
from hygge.shape.settings import Shape

Side = Literal["home", "store"]
Jobs = Literal["auto", "each", "one"]
GOES_WITH_THE_JOB = (
    "lies in the working directory that was shipped with the Ray job, and would be deleted with it"
)


@dataclass(frozen=True)
class EndSpec:
    """A home or a store of a flow: its class and its settings. Its repr holds no settings."""

    side: Side
    kind: str
    name: str | None
    settings: dict[str, Any] = field(repr=False)
    line: int
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    """The keys of the settings (`options.compression`) → their lines."""
    hidden: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Values that came from variables → the variables, which messages show in their place."""
    connection: str | None = None
    """The name under `connections:` that it names."""


@dataclass(frozen=True)
class Tables:
    """The tables of a connection that a flow moves; each becomes a flow of its own."""

    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    views: bool = False
    overrides: Mapping[str, FlowSpec] = field(default_factory=dict)
    """Tables with settings of their own → their flow, in which only the table's name is missing."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tables with settings of their own → the columns that these name."""
    selected: tuple[str, ...] = ()
    """The tables to move, as `<schema>.<table>`; () is all that the patterns match."""


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
    """Texts for the metadata of its Ray job."""
    columns: tuple[str, ...] = ()
    """Columns that the settings of this one table of many name."""
    shape: Shape | None = None
    """What becomes of the columns, where it is more than the home's own `columns`."""
    snapshot: str | None = field(default=None, repr=False)
    """The snapshot that all flows of one `tables` read; the Coordinator holds it."""
    no_snapshot_reason: str = ""
    """Why the flows of one `tables` cannot read one snapshot."""

    @property
    def name_in_file(self) -> str:
        """The name of the flow in the file; the flows of one `tables` have it in common."""
        return self.of or self.name


@dataclass(frozen=True)
class FlowsFile:
    """The whole file; `flows` stand in an order that respects `depends_on`."""

    path: str
    """The path as it was given, or the URL of an object."""
    root: str
    """An absolute folder, or the URL of a prefix of an object store."""
    project: str | None
    max_parallel_flows: int
    jobs: Jobs
    state: str
    """Where the journal is: a folder, or the URL of a prefix of an object store."""
    flows: tuple[FlowSpec, ...]
    max_connections: Mapping[str, int] = field(default_factory=dict)
    """Named connections with a limit → how many connections may be open at once."""
    shared_paths: tuple[str, ...] = ()
    """Folders that the user declares to be the same disk on every node."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that the file names as ${VAR} → their values."""


def select(file: FlowsFile, names: Sequence[str]) -> FlowsFile:
    """Return the file with only the flows of these names (`["a", "b"]` or `["a,b"]`).

    Dependencies on other flows count as done. `shop.public.orders` is one table of the flow `shop`;
    whether it exists is checked when the flow begins. Raises UsageError for an unknown name.
    """
    wanted = [name for text in names for part in text.split(",") if (name := part.strip())]
    known = [flow.name for flow in file.flows]
    if not wanted:
        raise UsageError("no flow is selected", f"flows: {', '.join(sorted(known))}")
    tables_of: dict[str, list[str]] = {name: [] for name in wanted if name in known}
    for name in wanted:
        if name in known:
            continue
        owners = [f.name for f in file.flows if f.tables and name.startswith(f"{f.name}.")]
        if not owners:
            raise UsageError(f"{file.path} has no flow '{name}'", suggest("flows", name, known))
        owner = max(owners, key=len)
        if owner not in wanted:
            tables_of.setdefault(owner, []).append(name[len(owner) + 1 :])
    selected = []
    for flow in file.flows:
        if flow.name in tables_of:
            depends_on = tuple(name for name in flow.depends_on if name in tables_of)
            chosen = tuple(tables_of[flow.name])
            tables = replace(flow.tables, selected=chosen) if flow.tables else None
            selected.append(replace(flow, depends_on=depends_on, tables=tables))
    return replace(file, flows=tuple(selected))


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
    "wait_at_most",
    "resume_within",
)
END_OPTIONS = {
    "consistency": ("snapshot", "split"),
    "on_value": ("error", "set_null", "as_text"),
}
"""Keys of a flow that set the option of that name of its ends → their possible values."""
FLOW_KEYS = (
    "home",
    "store",
    "mode",
    "key",
    "depends_on",
    "tables",
    "tags",
    "mask",
    "add",
    "names",
    *END_OPTIONS,
    *LIMIT_KEYS,
)
DEFAULT_KEYS = ("home", "store", "mode", "key", "add", "names", *END_OPTIONS, *LIMIT_KEYS)
