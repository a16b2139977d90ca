"""What `hygge check` and `hygge plan` find out before a run: files, drivers, folders, stores.

`check` looks at this machine alone. It connects to no server and no bucket, and reads no rows:
files and drivers that are missing, folders that this user may not write, stores that hold something
that hygge did not write. `plan` connects, and asks each store what its `prepare` would refuse.
The Coordinator checks its options here; in a Ray job it also compares the variables of the file
with those of the command that submitted it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from hygge.config import connectors
from hygge.config.problems import Problem, as_config_error, paragraph
from hygge.config.selection import is_pattern
from hygge.config.specs import FlowsFile, FlowSpec
from hygge.connectors.files.home import FileHome
from hygge.coordinator.families import check_files
from hygge.engine.jobs.instructions import digest, instructions
from hygge.errors import ConfigError, HyggeError, as_hygge_error
from hygge.home import Home
from hygge.places.folder import Folder
from hygge.places.place import place_at
from hygge.settings import Connector
from hygge.store import Store


def check_here(flows: Sequence[FlowSpec], state: str, shared_paths: Iterable[str]) -> None:
    """Raise one ConfigError with all that a run of `flows` would refuse, as far as is seen here.

    Paths below `shared_paths` that this machine does not mount are not looked at.
    """
    away = [path for path in shared_paths if not os.path.isdir(path)]
    problems: list[tuple[str, str | None]] = []
    for spec in flows:
        home, store = connectors.build(spec)
        ends: tuple[Connector, ...] = (home, store)
        if written_before(spec, home, flows):
            ends = (store,)
        for end in ends:
            if any(f"{end.on_disk() or ''}{os.sep}".startswith(f"{path}{os.sep}") for path in away):
                continue
            error = _refusal(end, spec)
            if error is not None:
                line = (spec.home if end is home else spec.store).line
                text = paragraph(spec.file, Problem(line, error.message), spec.name)
                problems.append((text, error.hint))
    if isinstance(place := place_at(state), Folder):
        try:
            place.check_rights()
        except HyggeError as error:
            problems.append((error.message, error.hint))
    if problems:
        raise as_config_error(problems)


def _refusal(end: Connector, spec: FlowSpec) -> HyggeError | None:
    """Return what is wrong with an end; the places of many tables are not known here."""
    try:
        if spec.tables is None or not isinstance(end, Store) or end.on_disk() is None:
            end.check_here(spec.mode)
        else:
            end.check_packages()
        if isinstance(end, FileHome) and spec.tables is not None and end.on_disk() is not None:
            check_files(spec)
    except Exception as error:
        return as_hygge_error(error)
    return None


def written_before(spec: FlowSpec, home: Home, flows: Sequence[FlowSpec]) -> str:
    """Return the flow that writes what `home` reads, and runs before `spec`; "" without one."""
    by_name = {flow.name: flow for flow in flows}
    waiting, seen = list(spec.depends_on), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        waiting += by_name[name].depends_on
        with suppress(HyggeError):  # that flow reports it itself
            if _writes(connectors.build(by_name[name])[1], home):
                return name
    return ""


def _writes(store: Store, home: Home) -> bool:
    """Return whether `store` makes what `home` reads."""
    place, wanted = store.place(), home.place()
    if place is None:
        return False
    if "{" in place:  # the store of many tables
        return (wanted or "").startswith(place.partition("{")[0])
    if place == wanted or home.holds(store):
        return True
    is_file = not isinstance(home, FileHome)
    return is_file and home.on_disk() is not None and home.on_disk() == store.on_disk()


def check_is_one(flows: Sequence[FlowSpec]) -> None:
    """Raise ConfigError unless there is one flow, or one table of one, to start from a value."""
    names = [name for flow in flows for name in (flow.tables.selected if flow.tables else ("",))]
    if len(flows) != 1 or len(names) != 1 or is_pattern(names[0]):
        raise ConfigError(
            "--from is a value of one cursor, and here are several flows",
            "name the flow, or the table of a flow: --select shop.public.orders",
        )


def may_append(spec: FlowSpec) -> bool:
    """Return whether a flow, or a table of it, may add its rows in each run."""
    overrides = () if spec.tables is None else spec.tables.overrides.values()
    return "append" in (spec.mode, *(own.mode for own in overrides))


def check_variables(file: FlowsFile) -> None:
    """Raise ConfigError where a variable of the file differs from what the command had.

    A Ray job reads the environment of its node, which may differ from that of the command.
    """
    here = {name: digest(name, value) for name, value in file.variables.items()}
    different = [
        name for name, there in instructions().variables.items() if here.get(name, there) != there
    ]
    if different:
        raise ConfigError(
            f"{', '.join(different)}: the environment of the flow's Ray job has another value than "
            "that of the command which submitted it",
            "put it into the .env beside the file, set it where Ray was started, or use `jobs: one`"
            " (--jobs one), by which flows run in the command itself",
        )
