"""The `hygge` command. Results go to standard output, messages to standard error.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped. Functions here import what they need when
they are called, so that `hygge --help` and `hygge check` answer at once.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from hygge.cli import move, report
from hygge.cli.arguments import LOOKING, OWN, make_parser, parse, wants_json_log
from hygge.cli.ending import kill_descendants, release_all
from hygge.cli.named_file import check_file
from hygge.cli.opening import collect_again, open_file
from hygge.cli.say import is_submitted, print_error, print_traceback
from hygge.errors import HyggeError, UsageError

if TYPE_CHECKING:
    from hygge.coordinator.coordinator import Coordinator
    from hygge.model import Summary
    from hygge.run.watch import Watch

_STOP_WITHIN_S = 2.5
"""Time that a run has to stop after the first signal, unless it is a Ray job."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, or that of this process; return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given or bool(os.environ.get("HYGGE_DEBUG"))
    gc.disable()  # until `collect_again`
    try:
        if "_ARGCOMPLETE" in os.environ and argv is None:  # a shell asks
            from hygge.cli.completing import complete

            complete(make_parser())
        arguments = parse(given)
        if arguments.command == "run" and _is_submitted_coordinator():
            from hygge.engine.jobs import restarts

            if restarts.read_try() is None:
                return restarts.run_with_restarts(given, _say_in_log)
        return _COMMANDS[arguments.command](arguments)
    except UsageError as error:
        return print_error(error, 2, debug, wants_json_log(given) or is_submitted())
    except HyggeError as error:
        return print_error(error, 1, debug, wants_json_log(given) or is_submitted())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        gc.unfreeze()
        gc.enable()


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.inline or arguments.address:
        from hygge.engine.jobs.addresses import choose_address

        if address := choose_address(arguments.address):
            if arguments.report:
                raise UsageError(
                    f"--report is for flows that run here, and these run at {address}",
                    "run them without it, then `hygge report RUN flows.yml`",
                )
            return _submit_to(address, arguments)
    return _run_here(arguments, open_file)


def _run_here(
    arguments: argparse.Namespace,
    opened: Callable[[argparse.Namespace], Coordinator],
    note: str = "",
) -> int:
    """Say `note`, and run the flows of the Coordinator that `opened` returns; return the code."""
    _check_version()
    stop = threading.Event()
    signalled: list[float] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        signalled.append(time.monotonic())
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    watch = _watch(arguments)
    try:
        coordinator = opened(arguments)
        collect_again()
        if note:
            watch.said("", note)
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
                print_traceback(error)
        _print_report(summary, arguments)
        if arguments.report:
            _write_page(arguments.report, coordinator, summary)
        if signalled:
            _say_stopped(arguments)
            return 130
        return 0 if summary.ok else 1
    finally:
        watch.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_page(path: str, coordinator: Coordinator, summary: Summary) -> None:
    reports = [(coordinator.identity(each.flow), each) for each in summary.flows]
    report.write_summary(path, coordinator.file.state, str(coordinator.file.path), reports)
    print(f"the page about it: {path}", file=sys.stderr)


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
        JsonLines(in_job=is_submitted()) if arguments.log_format == "json" else find_watch()
    )
    return Quiet(watch) if arguments.quiet else watch


def _submit_to(address: str, arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster
    from hygge.config.selection import check_words

    check_file(arguments.file)
    check_words(arguments.select, arguments.exclude)
    return cluster.submit(arguments, address, _watch(arguments), _print_report)


def _move(arguments: argparse.Namespace) -> int:
    return move.run(arguments, _run_here)


def _submit(arguments: argparse.Namespace) -> int:
    from hygge.engine.jobs.addresses import require_address

    return _submit_to(require_address(arguments.address), arguments)


def _status(arguments: argparse.Namespace) -> int:
    from hygge.cli import cluster, history
    from hygge.engine.jobs.addresses import find_address

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
        return int(command(arguments, open_file(arguments)))

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

    as_json = report_of_job if is_submitted() else report_json
    print(as_json(summary) if arguments.json else report_text(summary), flush=True)


def _is_submitted_coordinator() -> bool:
    """Return whether `hygge submit` started this process, or its parent, for a Coordinator."""
    in_flow_job = os.environ.get("HYGGE_FLOW_JOB")
    return bool(os.environ.get("HYGGE_SUBMITTED_BY")) and not in_flow_job


def _say_in_log(text: str) -> None:
    from hygge.report.events import JsonLines

    print(file=sys.stderr)  # a process that is killed may leave half a line
    JsonLines(in_job=True).said("", text)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    **{name: module.run for name, module in {**LOOKING, **OWN}.items() if name != "move"},
    "run": _run, "move": _move, "submit": _submit, "status": _status, "logs": _logs,
    "stop": _stop, "show": _show,
    **{name: _about_file(name) for name in ("bad", "history", "verify")},
}  # fmt: skip
