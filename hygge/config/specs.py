"""What a flows.yml comes to, once it is read and found right: small, frozen, picklable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hygge.config.problems import meant
from hygge.errors import UsageError
from hygge.model import Limits, Mode

Side = Literal["home", "store"]
Jobs = Literal["auto", "each", "one"]
SHIPPED = "/runtime_resources/working_dir_files/"
"""In the paths of what Ray unpacks for a job, and deletes after it."""


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
    file: Path = Path("flows.yml")


@dataclass(frozen=True)
class FlowsFile:
    """The whole file; `flows` stand in an order that respects `depends_on`."""

    path: Path
    root: Path
    project: str | None
    max_parallel_flows: int
    jobs: Jobs
    state: str
    """A folder, or the URL of an object store: where the journal lies."""
    flows: tuple[FlowSpec, ...]


def select(file: FlowsFile, names: Sequence[str]) -> FlowsFile:
    """Only the flows of these names (`["a", "b"]` or `["a,b"]`); others count as done already."""
    wanted = [word for name in names for part in name.split(",") if (word := part.strip())]
    known = [flow.name for flow in file.flows]
    if not wanted:
        raise UsageError("no flow is selected", f"flows: {', '.join(sorted(known))}")
    for name in wanted:
        if name not in known:
            raise UsageError(f"{file.path} has no flow '{name}'", meant("flows", name, known))
    kept = tuple(
        replace(flow, depends_on=tuple(each for each in flow.depends_on if each in wanted))
        for flow in file.flows
        if flow.name in wanted
    )
    return replace(file, flows=kept)


TOP_KEYS = (
    "project", "root", "connections", "defaults", "flows", "max_parallel_flows", "jobs", "state",
)  # fmt: skip
LIMIT_KEYS = (
    "lanes",
    "memory_per_lane",
    "batch_bytes",
    "retries",
    "stall_timeout",
    "resume_within",
)
FLOW_KEYS = ("home", "store", "mode", "key", "depends_on", *LIMIT_KEYS)
DEFAULT_KEYS = ("home", "store", "mode", "key", *LIMIT_KEYS)
NOT_BUILT_FLOW = (
    "tables", "consistency", "on_value", "resources", "cpus_per_lane", "max_bytes_per_second",
)  # fmt: skip
"""Drawn, and to come: refused as that, so that nobody believes they have an effect."""
