"""`hygge connectors [NAME]`: what can be read and written, and every option of one connector."""

from __future__ import annotations

import argparse


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `hygge connectors`."""
    command.add_argument(
        "name", nargs="?", help="one connector, such as parquet or csv; all of them without it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print all connectors, or everything about one; return the exit code."""
    from hygge.report.connectors import connector_text, connectors_text

    text = connector_text(arguments.name) if arguments.name else connectors_text()
    print(text, flush=True)
    return 0
