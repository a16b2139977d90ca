"""`hygge preview`: the first rows of each flow as they would arrive. It writes nothing."""

from __future__ import annotations

import argparse
import sys

from hygge.cli.opening import ask_at, open_file
from hygge.cli.planned import Failures, each_flow
from hygge.errors import HomeError, UsageError

_TABLES = 3
"""Tables of a flow that are shown, where none is selected."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `hygge preview`."""
    command.add_argument(
        "--rows", default="10", metavar="N", help="how many rows of each flow, 10 without it"
    )
    command.add_argument("--json", action="store_true", help="print one line of JSON a flow")
    command.add_argument(
        "--width", metavar="N", help="characters of a line; the terminal's without it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the first rows of each selected flow; return the exit code."""
    rows = _number("--rows", arguments.rows)
    width = None if arguments.width is None else _number("--width", arguments.width)
    if arguments.address:
        return ask_at(arguments.address, arguments, _options_there(arguments, rows, width))
    from hygge.coordinator.preview import preview
    from hygge.report.grid import terminal_width
    from hygge.report.preview import preview_json, preview_text

    coordinator = open_file(arguments)
    width = width or terminal_width()
    failures = Failures(arguments.debug)
    printed = False
    for spec, tables in each_flow(coordinator, failures.add):
        # What was selected of the tables is shown whole.
        is_chosen = spec.tables is not None and spec.tables.selected
        shown = tables if arguments.json or is_chosen else tables[:_TABLES]
        for table in shown:
            flow = coordinator.flow(table)
            try:
                found = preview(flow, rows, lambda text: print(text, file=sys.stderr))
                text = preview_json(found) if arguments.json else preview_text(found, width)
            except Exception as error:
                first = coordinator.written_before(table, flow.home)
                if not first or not isinstance(error, HomeError):
                    failures.add(table, error)
                    continue
                text = f"{table.name}: '{first}' writes its home, so there is nothing to show yet"
                if arguments.json:
                    print(text, file=sys.stderr)
                    continue
            print(("" if arguments.json or not printed else "\n") + text, flush=True)
            printed = True
        if len(shown) < len(tables):
            one = tables[len(shown)].name
            print(f"\nand {len(tables) - len(shown)} tables of {spec.name} more: --select {one}")
    return failures.print()


def _options_there(arguments: argparse.Namespace, rows: int, width: int | None) -> list[str]:
    from hygge.report.grid import terminal_width

    options = ["--rows", str(rows)]
    if arguments.json:
        return [*options, "--json"]
    width = width or terminal_width()
    return options if width is None else [*options, "--width", str(width)]


def _number(option: str, text: str) -> int:
    """Return the value of an option; raise UsageError unless it is a whole number from 1."""
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise UsageError(f"{option} is '{text}', not a number from 1 on", f"{option} 10")
    return int(text)
