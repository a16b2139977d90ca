"""What every command prints in the same way: errors, and their tracebacks."""

from __future__ import annotations

import os
import sys

from hygge.errors import HyggeError, without_password


def print_error(error: HyggeError, code: int, debug: bool, as_json: bool) -> int:
    """Print an error to standard error, and return its exit code."""
    if debug:
        print_traceback(error)
    if as_json:
        from hygge.report.events import JsonLines

        JsonLines(in_job=is_submitted()).failed(str(error), code)
    else:
        print(f"error: {error}", file=sys.stderr)
    return code


def print_traceback(error: BaseException) -> None:
    """Print the traceback of an error to standard error, without secrets."""
    import traceback

    text = "".join(traceback.format_exception(error))
    print(without_password(text), file=sys.stderr)


def is_submitted() -> bool:
    """Return whether hygge submitted this process as a Ray job, and follows its log."""
    return bool(os.environ.get("HYGGE_SUBMITTED_BY") or os.environ.get("HYGGE_FLOW_JOB"))
