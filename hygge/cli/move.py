"""`hygge move SOURCE TARGET`: one flow, without a file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from hygge.errors import UsageError

if TYPE_CHECKING:
    from hygge.coordinator.coordinator import Coordinator
    from hygge.run.engines import EngineName

RunHere = Callable[[argparse.Namespace, Callable[[argparse.Namespace], "Coordinator"], str], int]


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `hygge move`."""
    end = "a file, a folder, s3://…, URL#table, or connection#table of flows.yml"
    command.add_argument("source", help=end)
    command.add_argument("target", help="likewise")
    command.add_argument(
        "--mode", choices=("replace", "append", "merge"), help="replace, where it can, without it"
    )
    command.add_argument(
        "--key", action="append", metavar="COLUMN,…", help="the columns by which merge finds a row"
    )
    command.add_argument(
        "--type", help="the target's type, where its name does not tell it: delta, csv, jsonl, …"
    )
    command.add_argument("--cursor", metavar="COLUMN", help="read only what is above the last run")
    command.add_argument("--name", help="the flow's name, under which it goes on the next time")
    command.add_argument(
        "--file", default="flows.yml", metavar="FLOWS.YML", help="the file with the connections"
    )
    command.add_argument(
        "--save", metavar="FLOWS.YML", help="write the flow into this new file when it has run"
    )
    command.add_argument("--address", metavar="URL", help=argparse.SUPPRESS)  # to say what to do
    command.add_argument("--inline", action="store_true", help="run in this process, without Ray")
    command.add_argument(
        "--fresh", action="store_true", help="start anew, whatever a run that died has left"
    )
    command.add_argument("--json", action="store_true", help="print the report as one line of JSON")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.add_argument(
        "--log-format", choices=("text", "json"), help="messages as text, or as lines of JSON"
    )


def run(arguments: argparse.Namespace, run_here: RunHere) -> int:
    """Run the flow by `run_here`, and save it where that is asked for; return the exit code."""
    from hygge.config.hidden import to_set
    from hygge.coordinator.coordinator import Coordinator
    from hygge.coordinator.move import flow_of, saved_text

    if arguments.address:
        raise UsageError(
            "move runs on this machine; a cluster runs files, which say where their state is kept",
            "move it here with --save flows.yml, add `state:` to that file (a folder that all "
            f"nodes mount, or s3://…), then: hygge flows.yml --address {arguments.address}",
        )
    if arguments.save:
        _check_new(arguments.save)
    keys = [word.strip() for option in arguments.key or () for word in option.split(",")]
    move = flow_of(
        arguments.source,
        arguments.target,
        file=arguments.file,
        name=arguments.name,
        mode=arguments.mode,
        key=[key for key in keys if key],
        cursor=arguments.cursor,
        kind=arguments.type,
    )

    def opened(arguments: argparse.Namespace) -> Coordinator:
        engine: EngineName = "inline" if arguments.inline else "ray"
        # A Ray job of its own would need the file.
        return Coordinator(move.file, engine=engine, jobs="one", fresh=arguments.fresh)

    code = run_here(arguments, opened, "" if arguments.inline else _unused_cluster())
    if code == 0 and arguments.save:
        with open(arguments.save, "x", encoding="utf-8") as file:
            file.write(saved_text(move, arguments.save))
        said = f"saved: hygge {arguments.save}"
        if missing := to_set(move.variables, os.path.dirname(os.path.abspath(arguments.save))):
            said += f"\nit {missing}"
        print(said, file=sys.stderr)
    return code


def _unused_cluster() -> str:
    """Return a sentence about the cluster that a variable names, which files are submitted to."""
    from hygge.engine.jobs.addresses import choose_address

    # A dashboard in RAY_ADDRESS is refused by whoever would join that Ray.
    address = None if os.environ.get("RAY_ADDRESS") else choose_address(None)
    if not address:
        return ""
    return (
        f"move runs on this machine, not at {address} (RAY_API_SERVER_ADDRESS); "
        "a file that --save writes runs there"
    )


def _check_new(path: str) -> None:
    """Raise UsageError unless a file can be made at `path`."""
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already, and nothing is overwritten", "name a new file")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UsageError(f"there is no folder {folder} that can be written", "make it first")
