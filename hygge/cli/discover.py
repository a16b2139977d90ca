"""`hygge discover`: the tables of a database, or the files of a folder or bucket.

It writes nothing.
"""

from __future__ import annotations

import argparse
import os
import sys


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `hygge discover`."""
    command.add_argument(
        "what", help="a connection of flows.yml, a URL, a folder, a file, or a bucket's prefix"
    )
    command.add_argument(
        "--file", default="flows.yml", metavar="FLOWS.YML", help="the file with the connection"
    )
    command.add_argument(
        "--pattern", action="append", metavar="NAME,…", help="only these: 'public.*', '*.csv'"
    )
    command.add_argument("--exclude", action="append", metavar="NAME,…", help="all but these")
    command.add_argument("--views", action="store_true", help="list views as well")
    command.add_argument("--count", action="store_true", help="count the rows of every table")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one line of JSON")
    form.add_argument("--yaml", action="store_true", help="print a flows.yml that moves all of it")


def run(arguments: argparse.Namespace) -> int:
    """Print what there is; return the exit code."""
    from hygge.config.hidden import to_set
    from hygge.coordinator.discover import discover, find_place, flows_yaml
    from hygge.errors import HomeError
    from hygge.report.discover import found_json, found_text
    from hygge.report.grid import terminal_width

    place = find_place(arguments.what, arguments.file)
    include, exclude = _words(arguments.pattern), _words(arguments.exclude)
    found = discover(place, include, exclude, arguments.views, arguments.count)
    if not arguments.yaml:
        text = found_json(found) if arguments.json else found_text(found, terminal_width())
        print(text, flush=True)
        return 0
    if not any(facts.table.readable for facts in found.tables) and not any(
        each.is_readable for each in found.files
    ):
        raise HomeError(
            f"{found.what} has nothing that a flow could move",
            "`hygge discover` without --yaml says why",
        )
    print(flows_yaml(found, arguments.views), end="", flush=True)
    if missing := to_set(found.variables, os.getcwd()):
        print(f"the file {missing}", file=sys.stderr)
    return 0


def _words(options: list[str] | None) -> list[str]:
    """Return the patterns of an option that may be given several times, separated by commas."""
    return [word.strip() for option in options or () for word in option.split(",") if word.strip()]
