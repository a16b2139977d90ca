"""What a shell is told when somebody presses Tab: commands, options, files, names of flows.

The shell calls `hygge` itself with the line so far (argcomplete's protocol), so this module is
loaded then alone. It reads flows.yml as plain YAML and connects to nothing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Iterable

import argcomplete
from argcomplete.completers import FilesCompleter, SuppressCompleter

from hygge.cli.arguments import COMMANDS

_YAML = FilesCompleter(allowednames=("yml", "yaml"))
_FILES = FilesCompleter()


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions of the line in COMP_LINE, and end the process."""
    os.environ |= _with_command(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            _set(action, _YAML)  # `hygge flows.yml` needs no command
            for command in action.choices.values():
                _set_completers(command)
    argcomplete.autocomplete(
        parser, always_complete_options=False, default_completer=SuppressCompleter()
    )


def _with_command(line: str, point: int) -> dict[str, str]:
    """Return the line as the shell gives it, with the command where `run` was left out."""
    before = line[:point]
    words = before.split()
    is_whole = len(words) > 2 or before.endswith(" ")
    if len(words) > 1 and is_whole and words[1] not in COMMANDS and words[1][0] != "-":
        program, _, rest = line.partition(" ")
        return {"COMP_LINE": f"{program} run {rest}", "COMP_POINT": str(point + len("run "))}
    return {}


def _set_completers(command: argparse.ArgumentParser) -> None:
    by_name: dict[str, Callable[..., Collection[str]]] = {
        "file": _YAML,
        "select": _flows,
        "exclude": _flows,
        "what": _places,
        "source": _places,
        "target": _places,
        "folder": FilesCompleter(directories=True),
        "name": _connectors,
        "save": _YAML,
        "runtime_env": _YAML,
    }
    for action in command._actions:
        if action.dest in by_name and not (action.dest == "name" and action.option_strings):
            _set(action, by_name[action.dest])


def _set(action: argparse.Action, completer: Callable[..., Collection[str]]) -> None:
    action.completer = completer  # type: ignore[attr-defined]  # argcomplete looks there


def _flows(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return the names of the flows of the file; of a list with commas, the last is completed."""
    names = _names(getattr(parsed_args, "file", None), "flows")
    before, comma, _last = prefix.rpartition(",")
    return [f"{before}{comma}{name}" for name in names]


def _places(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return the connections of flows.yml, and files."""
    names = _names(getattr(parsed_args, "file", None) or "flows.yml", "connections")
    ends = "" if hasattr(parsed_args, "what") else "#"
    return [*(f"{name}{ends}" for name in names), *_FILES(prefix)]


def _connectors(prefix: str, **_: object) -> list[str]:
    from hygge.connectors.databases.known import DATABASES
    from hygge.registry import kinds

    databases = [database.backends[0] for database in DATABASES]
    return sorted({*databases, *kinds("home"), *kinds("store")})


def _names(file: str | None, key: str) -> Iterable[str]:
    """Return the names under a key of a YAML file; () where it cannot be read."""
    import yaml

    try:
        with open(file or "flows.yml", encoding="utf-8") as opened:
            return [str(name) for name in yaml.safe_load(opened)[key]]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return ()
