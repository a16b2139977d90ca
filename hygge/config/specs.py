"""The result of reading a flows.yml without problems: small, frozen, picklable records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hygge.model import Limits, Mode
from hygge.shape.settings import Shape

Side = Literal["home", "store"]
Jobs = Literal["auto", "each", "one"]
FamilyKind = Literal["tables", "files"]
WORDS_OF: Mapping[FamilyKind, tuple[str, str]] = {
    "tables": ("schema", "table"),
    "files": ("folder", "file"),
}
"""What the store of a flow of many may say in braces: where a table or file is, and its name."""
HookForm = Literal["json", "slack"]
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
class Hook:
    """What is called when a flow has ended."""

    when: str
    """`success` or `failure`."""
    target: str = field(repr=False)
    """A command, or a URL."""
    form: HookForm | None = None
    """What is sent to the URL; None: it is a command."""


@dataclass(frozen=True)
class Tables:
    """The tables of a connection, or the files, that a flow moves; each is a flow of its own."""

    include: tuple[str, ...]
    """Patterns of tables; of files one pattern."""
    exclude: tuple[str, ...] = ()
    views: bool = False
    overrides: Mapping[str, FlowSpec] = field(default_factory=dict)
    """Tables with settings of their own → their flow, in which only the table's name is missing."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tables with settings of their own → the columns that these name."""
    selected: tuple[str, ...] = ()
    """What `--select` takes of them, names or patterns as `<schema>.<table>`; (): all."""
    excluded: tuple[str, ...] = ()
    """What `--exclude` leaves out, likewise."""
    of: FamilyKind = "tables"
    kind: str = ""
    """The type of all files, where it is stated; else the ending of each tells."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Names at the source → names in the store."""
    names: Literal["as_is", "snake"] = "as_is"
    """What becomes of the names of all others."""

    @property
    def words(self) -> tuple[str, str]:
        """What the store may say in braces."""
        return WORDS_OF[self.of]


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
    renamed: str = ""
    """The sentence that says how this table of many is named in the store, if otherwise."""
    lacks_cursor: str = ""
    """The cursor of its `tables` that this one table lacks: so each run replaces all of it."""
    no_snapshot_reason: str = ""
    """Why the flows of one `tables` cannot read one snapshot."""
    hooks: tuple[Hook, ...] = ()
    """What is called when it has ended."""

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
    lineage: str = field(default="", repr=False)
    """The URL of a server of OpenLineage that is told of the flows; empty: none."""


TOP_KEYS = (
    "project", "root", "connections", "defaults", "flows", "max_parallel_flows", "jobs", "state",
    "shared_paths", "tags", "lineage",
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
    "on_bad_row",
    "max_bad_rows",
    "max_bad_share",
)
HOOK_KEYS = ("on_success", "on_failure")
END_OPTIONS = {
    "consistency": ("snapshot", "split"),
    "on_value": ("error", "set_null", "as_text"),
    "schema": ("freeze", "evolve"),
    "adopt": (True, False),
}
"""Keys of a flow that set the option of that name of its ends → their possible values."""
OF_EVERY_STORE = ("schema", "adopt")
"""Those that every database knows, and `schema` every file format too."""
FLOW_KEYS = (
    "home",
    "store",
    "mode",
    "key",
    "depends_on",
    "tables",
    "files",
    "tags",
    "driver",
    "mask",
    "add",
    "names",
    "flatten",
    "transform",
    *HOOK_KEYS,
    *END_OPTIONS,
    *LIMIT_KEYS,
)
DEFAULT_KEYS = (
    "home",
    "store",
    "mode",
    "key",
    "driver",
    "add",
    "names",
    "flatten",
    *HOOK_KEYS,
    *END_OPTIONS,
    *LIMIT_KEYS,
)
