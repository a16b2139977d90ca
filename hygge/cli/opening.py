"""From the arguments of a command to the flows that it is about: here, or on a cluster."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hygge.cli.named_file import check_file

if TYPE_CHECKING:
    from hygge.coordinator.coordinator import Coordinator


def open_file(arguments: argparse.Namespace) -> Coordinator:
    """Return the Coordinator of the file that a command names, with the flows that it selects."""
    check_file(arguments.file)
    from hygge.coordinator.coordinator import Coordinator

    coordinator = Coordinator(
        arguments.file,
        select=arguments.select,
        exclude=arguments.exclude,
        engine="inline" if arguments.inline else "ray",
        jobs=arguments.jobs,
        dashboard=arguments.dashboard,
        fresh=arguments.fresh,
        start_from=arguments.start_from,
    )
    collect_again()
    return coordinator


def collect_again() -> None:
    """Let Python look for unreachable objects again, now that the command is loaded.

    A start makes few of them. To look through all that is imported is a sixth of its time.
    """
    gc.freeze()
    gc.enable()


def ask_at(address: str, arguments: argparse.Namespace, words: Sequence[str] = ()) -> int:
    """Run a command that only looks on a cluster, with the options `words`; return the code."""
    from hygge.cli import cluster
    from hygge.config.selection import check_words
    from hygge.report.live import find_watch

    check_file(arguments.file)
    check_words(arguments.select, arguments.exclude)
    return cluster.ask(arguments, address, find_watch(), words)
