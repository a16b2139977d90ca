"""`hygge init [DIR]`: a folder with a flows.yml that moves rows at once. It asks nothing."""

from __future__ import annotations

import argparse
import os
import shlex


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `hygge init`."""
    command.add_argument(
        "folder", nargs="?", default=".", metavar="DIR", help="a new folder; this one without it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files, and print what to type next; return the exit code."""
    from hygge.config.starting import FLOWS, start

    started = start(arguments.folder)
    lines = [f"made {os.path.join(arguments.folder, name)}" for name in started.made]
    lines += [f"kept {os.path.join(arguments.folder, name)} as it is" for name in started.kept]
    if ".gitignore" in started.kept:
        lines.append("     add to it: .env and .hygge/")
    lines += ["", "next:"]
    if os.path.abspath(arguments.folder) != os.getcwd():
        lines.append(f"  cd {shlex.quote(arguments.folder)}")
    lines += [
        f"  hygge preview {FLOWS}     # the rows as they would arrive",
        f"  hygge {FLOWS}             # moves them",
        "  hygge discover URL          # what a database of yours has, then write your own flow",
    ]
    print("\n".join(lines), flush=True)
    return 0
