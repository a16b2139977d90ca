"""The `hygge` command. Results go to standard output, messages to standard error.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped. Functions here import what they need when
they are called, so that `hygge --help` and `hygge check` answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from hygge.cli.arguments import parse, wants_json_log
from hygge.cli.ending import kill_descendants, release_all
from hygge.cli.named_file import check_file
from hygge.engine.jobs import restarts
from hygge.errors import HomeError, HyggeError, UsageError, as_hygge_error, without_password

if TYPE_CHECKING:
    from hygge.config.specs import FlowSpec
    from hygge.coordinator.coordinator import Coordinator
    from hygge.model import Summary
    from hygge.run.watch import Watch

_STOP_WITHIN_S = 2.5
"""Time that a run has to stop after the first signal, unless it is a Ray job."""
_PLANS_IN_FULL = 3
"""A flow of more tables has one line a table; `--select` shows one in full."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, or that of this process; return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given or bool(os.environ.get("HYGGE_DEBUG"))
    try:
        arguments = parse(given)
        if arguments.command == "run" and _is_restartable():
            return restarts.run_with_restarts(given, _say_in_log)
        return _COMMANDS[arguments.command](arguments)
    except UsageError as error:
        return _print_error(error, 2, debug, wants_json_log(given) or _is_submitted())
    except HyggeError as error:
        return _print_error(error, 1, debug, wants_json_log(given) or _is_submitted())
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

    def on_signal(number: int, frame: FrameType | None) -> None:
        signalled.append(time.monotonic())
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    watch = _watch(arguments)
    try:
        coordinator = _coordinator(arguments)
        outcome: list[Summary | BaseException] = []

        def run_in_thread() -> None:
            try:
                outcome.append(coordinator.run(watch, stop))
            except BaseException as error:
                outcome.append(error)

        worker = threading.Thread(target=run_in_thread, daemon=True)
        worker.start()
        while worker.is_alive():
            worker.join(0.1)
            for number in _SIGNALS:
                # Ray replaces the handlers when it starts; its own aborts 3 s after a SIGTERM.
                signal.signal(number, on_signal)
            is_late = signalled and time.monotonic() - signalled[0] > _stop_within_s()
            if is_late or len(signalled) > 1:
                # Ray's start, or a call that hangs, does not see `stop`: end this process.
                _say_stopped(arguments)
                release_all()
                kill_descendants()
                os._exit(130)
        summary = outcome[0]
        if isinstance(summary, BaseException):
            raise summary
        watch.close()
        if arguments.debug:
            for error in coordinator.errors.values():
                _print_traceback(error)
        _print_report(summary, arguments)
        if signalled:
            _say_stopped(arguments)
            return 130
        return 0 if summary.ok else 1
    finally:
        watch.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_stopped(arguments: argparse.Namespace) -> None:
    if arguments.log_format == "text":  # programs find it in the report
        print("stopped", file=sys.stderr)


def _stop_within_s() -> float:
    """Return the time to stop in: in a Ray job, less than Ray waits before it kills the job."""
    given = os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", "")
    return max(_STOP_WITHIN_S, float(given) - 1.0 if given.isdigit() else 0.0)


def _watch(arguments: argparse.Namespace) -> Watch:
    from hygge.report.events import JsonLines
    from hygge.report.live import find_watch
    from hygge.report.progress import Quiet

    watch: Watch = (
        JsonLines(in_job=_is_submitted()) if arguments.log_format == "json" else find_watch()
    )
    return Quiet(watch) if arguments.quiet else watch


def _submit_to(address: str, arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster
    from hygge.config.selection import check_words

    check_file(arguments.file)
    check_words(arguments.select, arguments.exclude)
    return cluster.submit(arguments, address, _watch(arguments), _print_report)


def _ask_at(address: str, arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster
    from hygge.config.selection import check_words

    check_file(arguments.file)
    check_words(arguments.select, arguments.exclude)
    return cluster.ask(arguments, address, _watch(arguments))


def _submit(arguments: argparse.Namespace) -> int:
    from hygge.engine.jobs.cluster import require_address

    return _submit_to(require_address(arguments.address), arguments)


def _status(arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster, history
    from hygge.engine.jobs.cluster import find_address

    if not arguments.id and find_address(arguments.address) is None:
        return history.runs_here()
    return cluster.status(arguments)


def _logs(arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster

    return cluster.logs(arguments, _watch(arguments), _print_report)


def _stop(arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster

    return cluster.stop(arguments)


def _about_file(name: str) -> Callable[[argparse.Namespace], int]:
    """Return a command that is a function of its own module, with the Coordinator of its file."""

    def run(arguments: argparse.Namespace) -> int:
        command = getattr(importlib.import_module(f"hygge.cli.{name}"), name)
        return int(command(arguments, _coordinator(arguments)))

    return run


def _show(arguments: argparse.Namespace) -> int:
    from hygge.cli import history

    return history.show(arguments)


def _check_version() -> None:
    """Raise HyggeError in a Ray job that another version of hygge submitted."""
    from hygge import __version__

    submitter = os.environ.get("HYGGE_SUBMITTED_BY", __version__)
    if submitter != __version__:
        raise HyggeError(
            f"the cluster has hygge {__version__}, and hygge {submitter} submitted this run",
            "install the same version of hygge-data in both places",
        )


def _print_report(summary: Summary, arguments: argparse.Namespace) -> None:
    from hygge.report.events import report_of_job
    from hygge.report.text import report_json, report_text

    as_json = report_of_job if _is_submitted() else report_json
    print(as_json(summary) if arguments.json else report_text(summary), flush=True)


def _is_submitted() -> bool:
    """Return whether hygge submitted this process as a Ray job, and follows its log."""
    return bool(os.environ.get("HYGGE_SUBMITTED_BY") or os.environ.get("HYGGE_FLOW_JOB"))


def _is_restartable() -> bool:
    """Return whether `hygge submit` started this process as the Coordinator of a run."""
    is_first = restarts.read_try() is None and not os.environ.get("HYGGE_FLOW_JOB")
    return is_first and bool(os.environ.get("HYGGE_SUBMITTED_BY"))


def _say_in_log(text: str) -> None:
    from hygge.report.events import JsonLines

    print(file=sys.stderr)  # a process that is killed may leave half a line
    JsonLines(in_job=True).said("", text)


def _check(arguments: argparse.Namespace) -> int:
    from hygge.engine.jobs.cluster import choose_address

    if arguments.address:
        return _ask_at(arguments.address, arguments)
    coordinator = _coordinator(arguments)
    number = len(coordinator.file.flows)
    if address := choose_address(None):
        print(f"flows run at {address}: files and drivers of this machine are not looked at")
    else:
        coordinator.check_here()
    print(f"{arguments.file}: {number} flow{'s' if number != 1 else ''}, nothing wrong found")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from hygge.report.text import tables_text

    if arguments.address:
        return _ask_at(arguments.address, arguments)
    coordinator = _coordinator(arguments)
    texts: list[str] = []
    errors: list[str] = []

    def add_plan(spec: FlowSpec, brief: bool) -> None:
        try:
            texts.append(_plan_text(coordinator, spec, brief))
        except Exception as error:
            add_error(spec, error)

    def add_error(spec: FlowSpec, error: Exception) -> None:
        if arguments.debug:
            _print_traceback(error)
        errors.append(f"error: {spec.name}: {as_hygge_error(error)}")

    for spec in coordinator.file.flows:
        if spec.tables is None:
            add_plan(spec, brief=False)
            continue
        try:
            with coordinator.open_tables(spec, planning=True) as tables:
                brief = len(tables) > _PLANS_IN_FULL
                if len(tables) > 1:
                    texts.append(tables_text(spec.name, tables, brief))
                for table in tables:
                    add_plan(table, brief)
        except Exception as error:
            add_error(spec, error)
    if jobs := _shared_jobs_text(coordinator):
        texts.append(jobs)
    if texts:
        lines = [("\n" if text.startswith("  ") else "\n\n") + text for text in texts]
        print("".join(lines).strip("\n"), flush=True)
    if errors:
        print("\n\n".join(errors), file=sys.stderr)
    return 1 if errors else 0


def _shared_jobs_text(coordinator: Coordinator) -> str:
    """Return which flows share a Ray job on a cluster, and why; "" where none do."""
    if coordinator.jobs != "auto" or coordinator.engine != "ray":
        return ""
    reasons: dict[str, str] = {}
    together = coordinator.find_together(lambda flow, why: reasons.update({flow.name: why}))
    lines = []
    for job in {id(job): job for job in together.values()}.values():
        flows = ", ".join(f"{flow.name} ({reasons[flow.name]})" for flow in job.flows)
        lines.append(
            f"on a cluster these small flows share one Ray job (`jobs: each` gives each its own), "
            f"{job.at_once} at a time: {flows}"
        )
    return "\n".join(lines)


def _plan_text(coordinator: Coordinator, spec: FlowSpec, brief: bool) -> str:
    from hygge.report.text import plan_line, plan_text
    from hygge.run.key import find_key
    from hygge.run.stall import StallGuard

    flow = coordinator.flow(spec)
    guard = StallGuard(flow.limits, lambda text: print(text, file=sys.stderr))
    store = f"the store {flow.store.describe()}"
    try:
        flow.check_here()
        base = guard.call(f"{store} (the head)", lambda: flow.store.head(flow.identity))
        guard.call(f"the home {flow.home.describe()} (the key)", lambda: find_key(flow))
        with contextlib.ExitStack() as stack:
            opened = flow.home.open(flow.since(base))
            plan = guard.call(
                f"the home {flow.home.describe()} (the plan)", lambda: stack.enter_context(opened)
            )
            plan = flow.shaped(plan)
            state = guard.call(f"{store} (what it holds)", lambda: flow.examine(plan))
            if brief:
                return plan_line(flow, plan, state)
            return plan_text(flow, plan, state, flow.left_open())
    except HomeError:
        first = coordinator.written_before(spec, flow.home)
        if not first:
            raise
        return f"{flow.name}: {flow.mode}; '{first}' writes its home, so it is planned after that"


def _coordinator(arguments: argparse.Namespace) -> Coordinator:
    check_file(arguments.file)
    from hygge.coordinator.coordinator import Coordinator

    return Coordinator(
        arguments.file,
        select=arguments.select,
        exclude=arguments.exclude,
        engine="inline" if arguments.inline else "ray",
        jobs=arguments.jobs,
        dashboard=arguments.dashboard,
        fresh=arguments.fresh,
        start_from=arguments.start_from,
    )


def _print_error(error: HyggeError, code: int, debug: bool, as_json: bool) -> int:
    """Print an error to standard error, and return its exit code."""
    if debug:
        _print_traceback(error)
    if as_json:
        from hygge.report.events import JsonLines

        JsonLines(in_job=_is_submitted()).failed(str(error), code)
    else:
        print(f"error: {error}", file=sys.stderr)
    return code


def _print_traceback(error: BaseException) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    print(without_password(text), file=sys.stderr)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run, "check": _check, "plan": _plan, "submit": _submit, "status": _status,
    "logs": _logs, "stop": _stop, "show": _show,
    **{name: _about_file(name) for name in ("bad", "history", "verify")},
}  # fmt: skip
