"""The arguments of the command line: the commands, and the options of each.

`parse(words)` returns them, or raises UsageError with the nearest known word in its hint.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import NoReturn

from hygge.cli import (
    check,
    completion,
    connectors,
    discover,
    init,
    move,
    plan,
    preview,
    report,
    schema,
)
from hygge.errors import UsageError, one_of

COMMANDS = {
    "run": "run the flows of a file",
    "move": "move one table or file, without a file of flows",
    "check": "find what is wrong in a file, without reading any data",
    "init": "make a folder with a flows.yml that moves rows at once",
    "discover": "list the tables of a database, or the files of a folder or bucket",
    "plan": "show what a run would do, without moving a row",
    "preview": "show the first rows of each flow as they would arrive",
    "submit": "run the flows of a file on a Ray cluster, as Ray jobs",
    "status": "show how submitted runs and their flows stand",
    "logs": "show the log of a submitted run",
    "stop": "stop a submitted run and its flows",
    "verify": "compare what stores hold with what their sources would give now",
    "history": "show the runs of a file's flows, the newest first",
    "report": "write a page of HTML about one run",
    "show": "show all that is known of one run: splits, attempts, errors",
    "connectors": "list what can be read and written, or every option of one connector",
    "schema": "print the JSON Schema of flows.yml, for editors",
    "completion": "print what makes bash, zsh or fish complete hygge's commands",
    "bad": "show the rows that runs have set aside, and move them again",
}
_WITH_FILE = ("run", "check", "plan", "preview", "submit", "bad", "history", "verify")
_ABOUT_RUNS_HERE = ("history", "show", "verify")
LOOKING = {"check": check, "plan": plan, "preview": preview}
"""Commands of a file whose own options stand in their modules."""
OWN = {
    "init": init,
    "move": move,
    "discover": discover,
    "connectors": connectors,
    "schema": schema,
    "completion": completion,
    "report": report,
}
"""Commands without a file of flows: all their arguments stand in their modules."""
_DEFAULTS: dict[str, object] = {
    "select": [], "exclude": [], "inline": False, "jobs": None, "json": False, "quiet": False,
    "dashboard": False, "fresh": False, "start_from": None, "log_format": "text",
    "address": None, "no_wait": False, "report": None, "runtime_env": None,
    "flow": None, "limit": None, "sample": None,
}  # fmt: skip


def parse(given: list[str]) -> argparse.Namespace:
    """Return the arguments in `given`; `command` is the command's name.

    Every option of every command is an attribute. Raises UsageError for what is not known.
    """
    if not given:
        raise UsageError(
            "nothing to do",
            "name a YAML file of flows: hygge flows.yml\n`hygge --help` lists the commands",
        )
    words = _with_command(given)
    parser = make_parser(words[0] if words[0] in COMMANDS else None)
    arguments, unknown = parser.parse_known_args(words)
    if not unknown:
        _refuse_empty(arguments)
        return arguments
    word = unknown[0].partition("=")[0]
    if not word.startswith("-"):
        hint = "see `hygge --help`"
        if arguments.command in _WITH_FILE:
            hint = f"hygge takes one file; --select {word} picks a flow of it"
        raise UsageError(f"'{word}' is one argument too many", hint)
    raise UsageError(
        f"there is no option {word} of `hygge {arguments.command}`",
        one_of("options", word, arguments.options),
    )


def _refuse_empty(arguments: argparse.Namespace) -> None:
    """Raise UsageError for an option without a value: its variable of the shell is not set."""
    for option in arguments.options:
        if getattr(arguments, option[2:].replace("-", "_"), None) == "":
            raise UsageError(f"{option} is empty", f"give a value, or leave {option} out")


def wants_json_log(given: Sequence[str]) -> bool:
    """Return whether `given` contains `--log-format json`, also where the rest is wrong."""
    words = " ".join(given)
    return "--log-format json" in words or "--log-format=json" in words


def _with_command(given: list[str]) -> list[str]:
    """Return `given` with its command: `hygge flows.yml` is `hygge run flows.yml`."""
    words = [word for word in given if not word.startswith("-")]
    if not words or words[0] in COMMANDS:
        return given
    if "." not in words[0] and os.sep not in words[0] and not os.path.exists(words[0]):
        raise UsageError(
            f"there is no command and no file '{words[0]}'",
            one_of("commands", words[0], COMMANDS) + "; or name a file: hygge flows.yml",
        )
    return ["run", *given]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands, or of one alone, which is quicker."""
    from hygge import __version__

    parser = _Parser(
        prog="hygge",
        description="Moves tables and files between databases, lakes and files, exactly, on Ray.",
        epilog="`hygge flows.yml` is short for `hygge run flows.yml`.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hygge {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, text in COMMANDS.items():
        if only not in (None, name):
            continue
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(**_DEFAULTS)
        if name in OWN:
            OWN[name].add_options(command)
        elif name in _WITH_FILE:
            command.add_argument("file", help="a YAML file of flows")
            command.add_argument(
                "--select",
                action="append",
                metavar="FLOW,…",
                help="only these flows: names, patterns like 'shop.public.*', tag:nightly",
            )
            command.add_argument(
                "--exclude", action="append", metavar="FLOW,…", help="all flows but these"
            )
        elif name == "status":
            command.add_argument(
                "id", nargs="?", help="a run, as `hygge submit` printed it; all of them without it"
            )
        elif name == "show":
            command.add_argument("id", help="a run, as `hygge history` printed it")
            command.add_argument("file", nargs="?", help="the file whose state has the run")
        else:
            command.add_argument("id", help="a run, as `hygge submit` printed it")
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        if name == "bad":
            command.add_argument("--json", action="store_true", help="print one JSON object a row")
            command.add_argument(
                "--replay", metavar="RUN", help="move the rows of this run again, after the mend"
            )
        elif name in _ABOUT_RUNS_HERE:
            command.add_argument("--json", action="store_true", help="print JSON, with all of it")
        elif name not in OWN:
            _cluster_options(command, has_log=name not in ("check", "plan", "preview"))
        if name in LOOKING:
            LOOKING[name].add_options(command)
        elif name in ("run", "submit"):
            _run_options(command, here=name == "run")
        elif name == "verify":
            command.add_argument("--sample", metavar="N", help="compare only N rows of each source")
        elif name == "history":
            command.add_argument("--flow", metavar="NAME", help="only this flow, or a pattern")
            command.add_argument("--limit", metavar="N", help="so many runs at most; 20 by default")
        elif name == "logs":
            command.add_argument(
                "--follow", action="store_true", help="follow it until the run has ended"
            )
        options = [option for option in command._option_string_actions if option[:2] == "--"]
        command.set_defaults(command=name, options=options)
    return parser


def _cluster_options(command: argparse.ArgumentParser, has_log: bool) -> None:
    command.add_argument(
        "--address", metavar="URL", help="the Ray cluster's dashboard, http://head:8265"
    )
    if not has_log:
        return
    command.add_argument(
        "--log-format", choices=("text", "json"), help="messages as text, or as lines of JSON"
    )


def _run_options(command: argparse.ArgumentParser, here: bool) -> None:
    if here:
        command.add_argument(
            "--inline", action="store_true", help="run in this process, without Ray"
        )
        command.add_argument(
            "--dashboard",
            action="store_true",
            help="start a Ray dashboard on 127.0.0.1 while it runs",
        )
    else:
        command.add_argument(
            "--no-wait", action="store_true", help="print the run's id and leave it alone"
        )
        command.add_argument(
            "--runtime-env",
            metavar="FILE",
            help="YAML of Ray's runtime_env, what Ray installs on the nodes for this run",
        )
    command.add_argument(
        "--jobs",
        choices=("auto", "each", "one"),
        help="run each flow as a Ray job of its own, or none; auto: small flows share one",
    )
    command.add_argument(
        "--fresh", action="store_true", help="start anew, whatever a run that died has left"
    )
    if here:
        command.add_argument("--report", metavar="FILE", help="write a page of HTML about the run")
        command.add_argument(
            "--from",
            dest="start_from",
            metavar="VALUE",
            help="read what is above this value of the cursor, where the store knows none",
        )
    command.add_argument("--json", action="store_true", help="print the report as one line of JSON")
    command.add_argument("--quiet", action="store_true", help="show no progress")
