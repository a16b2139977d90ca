"""`hygge check`: what is wrong in a file and on this machine; with `--connect`, at each end."""

from __future__ import annotations

import argparse
import sys

from hygge.cli.opening import ask_at, open_file
from hygge.cli.planned import Failures, each_flow


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `hygge check`."""
    command.add_argument(
        "--connect",
        action="store_true",
        help="reach every home, every store and the state, and say which right is missing",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what is wrong; return the exit code."""
    from hygge.engine.jobs.addresses import choose_address

    if arguments.address:
        words = ["--connect"] if arguments.connect else []
        return ask_at(arguments.address, arguments, words)
    coordinator = open_file(arguments)
    number = len(coordinator.file.flows)
    if address := choose_address(None):
        print(f"flows run at {address}: files and drivers of this machine are not looked at")
    else:
        coordinator.check_here()
    text = f"{arguments.file}: {number} flow{'s' if number != 1 else ''}, nothing wrong found"
    if not arguments.connect:
        print(text)
        return 0
    from hygge.coordinator.reaching import reach, reach_state

    failures = Failures(arguments.debug)
    ends = 0
    for _, tables in each_flow(coordinator, failures.add):
        for table in tables:
            flow = coordinator.flow(table)
            for end, error in reach(flow, lambda text: print(text, file=sys.stderr)):
                first = error and coordinator.written_before(table, flow.home)
                if first and end is flow.home:
                    print(f"  {table.name}: '{first}' writes its home, which is not there yet")
                elif error is not None:
                    failures.add(table, error)
                else:
                    ends += 1
                    print(f"  {table.name}: {end.describe()} is reached", flush=True)
    if error := reach_state(coordinator.file.state):
        failures.texts.append(f"error: the state: {error}")
    if not failures.texts:
        print(f"{text}; {ends} ends and the state are reached, no right is missing")
    return failures.print()
