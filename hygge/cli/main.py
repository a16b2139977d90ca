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
from typing import TYPE_CHECKING, Any

from hygge.cli.options import json_log, understood
from hygge.errors import HyggeError, UsageError, nearest

if TYPE_CHECKING:
    from hygge.run.watch import Watch

_STOP_WITHIN_S = 2.5
_JOBS_WITHIN_S = 1.5
_PLANS_IN_FULL = 3
"""Of a flow of more tables each is one line; `--select` shows one in full."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given or bool(os.environ.get("HYGGE_DEBUG"))
    try:
        arguments = understood(given)
        return _COMMANDS[arguments.command](arguments)
    except UsageError as error:
        return _tell(error, 2, debug, json_log(given))
    except HyggeError as error:
        return _tell(error, 1, debug, json_log(given))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.inline or arguments.address:
        from hygge.engine.jobs.cluster import choose_address

        if address := choose_address(arguments.address):
            return _submit_to(address, arguments)
    _check_version()
    stop = threading.Event()
    signalled: list[float] = []

    def on_signal(number: int, frame: Any) -> None:
        signalled.append(time.monotonic())
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    watch = _watch(arguments)
    try:
        coordinator = _coordinator(arguments)
        outcome: list[Any] = []
        worker = threading.Thread(
            target=_into, args=(outcome, coordinator.run, watch, stop), daemon=True
        )
        worker.start()
        while worker.is_alive():
            worker.join(0.1)
            for number in _SIGNALS:
                # Ray puts its own in this place when it starts; that aborts 3 s after a SIGTERM.
                signal.signal(number, on_signal)
            late = signalled and time.monotonic() - signalled[0] > _stop_within_s()
            if late or len(signalled) > 1:
                # Ray's own start, or a stuck call, does not listen; it goes with this process.
                _say_stopped(arguments)
                _let_go()
                _end_descendants()
                os._exit(130)
        summary = outcome[0]
        if isinstance(summary, BaseException):
            raise summary
        watch.close()
        if arguments.debug:
            for error in coordinator.errors.values():
                _trace(error)
        _print_report(summary, arguments)
        if signalled:
            _say_stopped(arguments)
            return 130
        return 0 if summary.ok else 1
    finally:
        watch.close()
        for number, handler in before.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _say_stopped(arguments: argparse.Namespace) -> None:
    if arguments.log_format == "text":  # the report tells it to programs
        print("stopped", file=sys.stderr)


def _stop_within_s() -> float:
    """Less than Ray waits before it kills a job that it stops, where this process is one."""
    given = os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", "")
    return max(_STOP_WITHIN_S, float(given) - 1.0 if given.isdigit() else 0.0)


def _watch(arguments: argparse.Namespace) -> Watch:
    from hygge.report.events import JsonLines
    from hygge.report.progress import Quiet, Terminal

    watch: Watch = JsonLines() if arguments.log_format == "json" else Terminal()
    return Quiet(watch) if arguments.quiet else watch


def _submit_to(address: str, arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster

    _there(arguments.file)
    _selected(arguments)
    return cluster.submit(arguments, address, _watch(arguments), _print_report)


def _submit(arguments: argparse.Namespace) -> int:
    from hygge.engine.jobs.cluster import require_address

    return _submit_to(require_address(arguments.address), arguments)


def _status(arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster

    return cluster.status(arguments)


def _logs(arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster

    return cluster.logs(arguments, _watch(arguments), _print_report)


def _stop(arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster

    return cluster.stop(arguments)


def _check_version() -> None:
    """That this is the hygge that the run was submitted with, where one submitted it."""
    from hygge import __version__

    by = os.environ.get("HYGGE_SUBMITTED_BY", __version__)
    if by != __version__:
        raise HyggeError(
            f"the cluster has hygge {__version__}, and hygge {by} submitted this run",
            "install the same version of hygge-data in both places",
        )


def _let_go() -> None:
    """Free leases, so that the next run begins at once, and stop jobs that nobody would follow.

    A lease that cannot be freed is found dead later; a job of a Ray that does not answer goes on.
    """
    from hygge.journal import interrupt_all

    todo: list[tuple[Callable[[], None], float]] = [(interrupt_all, 0.5)]
    if jobs := sys.modules.get("hygge.engine.jobs.submit"):
        todo.append((lambda: jobs.stop_open_jobs(_JOBS_WITHIN_S), _JOBS_WITHIN_S))
    for call, within_s in todo:
        going = threading.Thread(target=call, daemon=True)
        going.start()
        going.join(within_s)


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
    from hygge.report.text import report_json, report_text

    print(report_json(summary) if arguments.json else report_text(summary), flush=True)


def _check(arguments: argparse.Namespace) -> int:
    coordinator = _coordinator(arguments)
    number = len(coordinator.file.flows)
    print(f"{arguments.file}: {number} flow{'s' if number != 1 else ''}, nothing wrong found")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from hygge.errors import in_words
    from hygge.report.text import tables_text

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
    from hygge.report.text import plan_line, plan_text
    from hygge.run.engines import schema_of

    base = flow.store.head(flow.identity)
    with flow.home.open(flow.since(base)) as plan:
        flow.check_columns(schema_of(plan))
        return plan_line(flow, plan) if brief else plan_text(flow, plan, flow.left_open())


def _there(file: str) -> None:
    if "://" not in file and not os.path.exists(file):
        raise UsageError(
            f"there is no file {file}",
            _yaml_near(file)
            + (
                "\ninside a Ray job the file must be shipped: "
                f"ray job submit --working-dir . -- hygge {file}"
                if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
                else ""
            ),
        )
    if os.path.isdir(file):
        raise UsageError(f"{file} is a directory", _yaml_near(os.path.join(file, "flows.yml")))


def _selected(arguments: argparse.Namespace) -> list[str]:
    wanted = [name.strip() for part in arguments.select for name in part.split(",")]
    if arguments.select and not any(wanted):
        raise UsageError("--select names no flow", "name some of the file, or leave --select out")
    return [name for name in wanted if name]


def _coordinator(arguments: argparse.Namespace) -> Any:
    _there(arguments.file)
    from hygge.coordinator.coordinator import Coordinator

    return Coordinator(
        arguments.file,
        select=_selected(arguments),
        engine="inline" if arguments.inline else "ray",
        jobs=arguments.jobs,
        dashboard=arguments.dashboard,
        fresh=arguments.fresh,
    )


def _tell(error: HyggeError, code: int, debug: bool, as_json: bool) -> int:
    if debug:
        _trace(error)
    if as_json:
        from hygge.report.events import JsonLines

        JsonLines().failed(str(error), code)
    else:
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


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run, "check": _check, "plan": _plan, "submit": _submit, "status": _status,
    "logs": _logs, "stop": _stop,
}  # fmt: skip
