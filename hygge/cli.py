"""The `hygge` command. Results go to standard output, talk to standard error.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped. Nothing heavy is imported before a
command needs it, so `hygge --help` and `hygge check` answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from hygge.errors import HyggeError, UsageError, nearest, one_of

_COMMANDS = ("run", "check", "plan")
_LATER = ("discover", "init", "history", "verify", "submit", "status", "logs", "stop")
_STOP_WITHIN_S = 2.5
_PLANS_IN_FULL = 3
"""Of a flow of more tables each is one line; `--select` shows one in full."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given or bool(os.environ.get("HYGGE_DEBUG"))
    try:
        arguments = _understood(given)
        run: Callable[[argparse.Namespace], int] = arguments.call
        return run(arguments)
    except UsageError as error:
        return _tell(error, 2, debug)
    except HyggeError as error:
        return _tell(error, 1, debug)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    from hygge.progress import Silent, Terminal

    stop = threading.Event()
    signalled: list[float] = []

    def on_signal(number: int, frame: Any) -> None:
        signalled.append(time.monotonic())
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    watch: Any = Silent() if arguments.quiet else Terminal()
    try:
        coordinator = _coordinator(arguments)
        outcome: list[Any] = []
        worker = threading.Thread(
            target=_into, args=(outcome, coordinator.run, watch, stop), daemon=True
        )
        worker.start()
        while worker.is_alive():
            worker.join(0.1)
            late = signalled and time.monotonic() - signalled[0] > _STOP_WITHIN_S
            if late or len(signalled) > 1:
                # Ray's own start, or a stuck call, does not listen; it goes with this process.
                print("\nstopped", file=sys.stderr)
                _free_leases()
                _end_descendants()
                os._exit(130)
        summary = outcome[0]
        if isinstance(summary, BaseException):
            raise summary
        getattr(watch, "close", lambda: None)()
        if arguments.debug:
            for error in coordinator.errors.values():
                _trace(error)
        _print_report(summary, arguments)
        if signalled:
            print("stopped", file=sys.stderr)
            return 130
        return 0 if summary.ok else 1
    finally:
        getattr(watch, "close", lambda: None)()
        for number, handler in before.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _free_leases() -> None:
    """So that the next run begins at once; one that cannot be freed is found dead later."""
    from hygge.journal import interrupt_all

    freeing = threading.Thread(target=interrupt_all, daemon=True)
    freeing.start()
    freeing.join(0.5)


def _end_descendants() -> None:
    """End every process that this one started, and theirs: some of Ray's outlive a sudden end."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    todo = [os.getpid()]
    while todo:
        for child in children.get(todo.pop(), ()):
            todo.append(child)
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)


def _into(outcome: list[Any], call: Callable[..., Any], *given: Any) -> None:
    try:
        outcome.append(call(*given))
    except BaseException as error:
        outcome.append(error)


def _print_report(summary: Any, arguments: argparse.Namespace) -> None:
    from hygge.words import report_json, report_text

    print(report_json(summary) if arguments.json else report_text(summary), flush=True)


def _check(arguments: argparse.Namespace) -> int:
    coordinator = _coordinator(arguments)
    number = len(coordinator.file.flows)
    print(f"{arguments.file}: {number} flow{'s' if number != 1 else ''}, nothing wrong found")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from hygge.errors import in_words
    from hygge.words import tables_text

    coordinator = _coordinator(arguments)
    texts: list[str] = []
    errors: list[str] = []

    def planned(spec: Any, brief: bool) -> None:
        try:
            texts.append(_plan_of(coordinator.flow(spec), brief))
        except Exception as error:
            failed(spec, error)

    def failed(spec: Any, error: Exception) -> None:
        if arguments.debug:
            _trace(error)
        errors.append(f"error: {spec.name}: {in_words(error)}")

    for spec in coordinator.file.flows:
        if spec.tables is None:
            planned(spec, brief=False)
            continue
        try:
            with coordinator.opened(spec, planning=True) as tables:
                brief = len(tables) > _PLANS_IN_FULL
                if len(tables) > 1:
                    texts.append(tables_text(spec.name, tables, brief))
                for each in tables:
                    planned(each, brief)
        except Exception as error:
            failed(spec, error)
    if texts:
        lines = [("\n" if text.startswith("  ") else "\n\n") + text for text in texts]
        print("".join(lines).strip("\n"), flush=True)
    if errors:
        print("\n\n".join(errors), file=sys.stderr)
    return 1 if errors else 0


def _plan_of(flow: Any, brief: bool) -> str:
    from hygge.moving import schema_of
    from hygge.words import plan_line, plan_text

    base = flow.store.head(flow.identity)
    with flow.home.open(flow.since(base)) as plan:
        flow.check_columns(schema_of(plan))
        return plan_line(flow, plan) if brief else plan_text(flow, plan, flow.left_open())


def _coordinator(arguments: argparse.Namespace) -> Any:
    if "://" not in arguments.file and not os.path.exists(arguments.file):
        raise UsageError(
            f"there is no file {arguments.file}",
            _yaml_near(arguments.file)
            + (
                "\ninside a Ray job the file must be shipped: "
                f"ray job submit --working-dir . -- hygge {arguments.file}"
                if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
                else ""
            ),
        )
    if os.path.isdir(arguments.file):
        raise UsageError(
            f"{arguments.file} is a directory",
            _yaml_near(os.path.join(arguments.file, "flows.yml")),
        )
    from hygge.coordinator import Coordinator

    wanted = [name.strip() for part in arguments.select for name in part.split(",")]
    if arguments.select and not any(wanted):
        raise UsageError("--select names no flow", "name some of the file, or leave --select out")
    return Coordinator(
        arguments.file,
        select=[name for name in wanted if name],
        engine="inline" if arguments.inline else "ray",
        jobs=arguments.jobs,
        dashboard=arguments.dashboard,
        fresh=arguments.fresh,
    )


def _tell(error: HyggeError, code: int, debug: bool) -> int:
    if debug:
        _trace(error)
    print(f"error: {error}", file=sys.stderr)
    return code


def _trace(error: BaseException) -> None:
    import traceback

    from hygge.errors import without_password

    said = "".join(traceback.format_exception(error))
    print(without_password(said), file=sys.stderr)


def _yaml_near(file: str) -> str:
    """A hint for a YAML file that is not there: the nearest one that is."""
    folder = os.path.dirname(file)
    names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    there = sorted(name for name in names if name.endswith((".yml", ".yaml")))
    close = nearest(os.path.basename(file), there) or (there[0] if len(there) == 1 else None)
    if close:
        return f"did you mean `hygge {os.path.join(folder, close)}`?"
    if there:
        return f"YAML files there: {', '.join(there)}"
    return "name a YAML file of flows: hygge flows.yml"


def _understood(given: list[str]) -> argparse.Namespace:
    if not given:
        raise UsageError(
            "nothing to do",
            "name a YAML file of flows: hygge flows.yml\n`hygge --help` lists the commands",
        )
    arguments, unknown = _parser().parse_known_args(_with_command(given))
    if not unknown:
        return arguments
    word = unknown[0].partition("=")[0]
    if not word.startswith("-"):
        hint = f"hygge takes one file; --select {word} picks a flow of it"
        raise UsageError(f"'{word}' is one argument too many", hint)
    raise UsageError(
        f"there is no option {word} of `hygge {arguments.command}`",
        one_of("options", word, arguments.options),
    )


def _with_command(given: list[str]) -> list[str]:
    """`hygge flows.yml` is `hygge run flows.yml`."""
    words = [word for word in given if not word.startswith("-")]
    if not words or words[0] in _COMMANDS:
        return given
    if words[0] in _LATER:
        raise UsageError(
            f"`hygge {words[0]}` is not built yet", f"there are: {', '.join(_COMMANDS)}"
        )
    if "." not in words[0] and os.sep not in words[0] and not os.path.exists(words[0]):
        raise UsageError(
            f"there is no command and no file '{words[0]}'",
            one_of("commands", words[0], _COMMANDS) + "; or name a file: hygge flows.yml",
        )
    return ["run", *given]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    from hygge import __version__

    parser = _Parser(
        prog="hygge",
        description="Moves tables and files between databases, lakes and files, exactly, on Ray.",
        epilog="`hygge flows.yml` is short for `hygge run flows.yml`.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hygge {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, call, text in (
        ("run", _run, "run the flows of a file"),
        ("check", _check, "find what is wrong in a file, without reading any data"),
        ("plan", _plan, "show what a run would do, without moving a row"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(call=call, **_DEFAULTS)
        command.add_argument("file", help="a YAML file of flows")
        command.add_argument("--select", action="append", metavar="FLOW,…", help="only these flows")
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        if name == "run":
            _run_options(command)
        options = [o for o in command._option_string_actions if o.startswith("--")]
        command.set_defaults(command=name, options=options)
    return parser


_DEFAULTS: dict[str, Any] = {
    "select": [], "inline": False, "jobs": None, "json": False, "quiet": False, "dashboard": False,
    "fresh": False,
}  # fmt: skip


def _run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--inline", action="store_true", help="in this process, without Ray")
    command.add_argument(
        "--jobs", choices=("auto", "each", "one"), help="each flow as a Ray job of its own, or not"
    )
    command.add_argument(
        "--fresh", action="store_true", help="start anew, whatever a run that died has left"
    )
    command.add_argument("--json", action="store_true", help="the report as one line of JSON")
    command.add_argument("--quiet", action="store_true", help="no progress")
    command.add_argument(
        "--dashboard", action="store_true", help="a Ray dashboard on 127.0.0.1 while it runs"
    )
