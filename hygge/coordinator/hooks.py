"""Calls the hooks of flows: a command or an HTTP POST that gets the report as JSON.

A hook runs beside the other flows, once for each flow of the file, in the process of the
Coordinator. One that fails, or takes longer than a minute, is reported as a warning and changes
nothing. Commands, URLs, and what a command or a server says may hold secrets: messages name the
key, the host and the code alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from hygge.config.specs import FlowSpec, Hook
from hygge.errors import rows_text, without_password
from hygge.model import Report
from hygge.report.lines import end_text
from hygge.run.watch import Watch

MOST_S = 60.0
_AT_ONCE = 4
_LONGEST = 200
_NOT_RUNNABLE, _NOT_FOUND = 126, 127
"""Exit codes of a shell."""
_REDIRECTS = (301, 302, 303, 307, 308)


class Hooks:
    """Calls the hooks of flows that have ended, several at a time; `watch` is told what fails."""

    def __init__(self, folder: str, watch: Watch) -> None:
        self.folder, self.watch = folder, watch
        self._pool = ThreadPoolExecutor(_AT_ONCE, "hygge-hook")

    def call(self, flow: FlowSpec, reports: Sequence[Report]) -> None:
        """Begin to call what `flow` asks for: `reports` are its own, or those of its tables."""
        when = _when(reports)
        for hook in flow.hooks:
            if hook.when == when:
                self._pool.submit(self._call, hook, flow.name, content(flow.name, reports))

    def close(self) -> None:
        """Wait for what is being called."""
        self._pool.shutdown(wait=True)

    def _call(self, hook: Hook, flow: str, facts: dict[str, Any]) -> None:
        try:
            wrong = _run(hook, facts, self.folder) if hook.form is None else _post(hook, facts)
        except Exception as error:  # whatever it is, the flow has ended as it has
            wrong = f"it could not be called: {type(error).__name__}"
        if wrong:
            text = without_password(wrong)[:_LONGEST]
            self.watch.said(flow, f"warning: on_{hook.when}: {text}")


def content(flow: str, reports: Sequence[Report]) -> dict[str, Any]:
    """Return what a hook gets: a sentence for people, and the report as `--json` prints it."""
    text = "\n".join(end_text(report) for report in reports if report.status != "done")
    if not text:
        rows = sum(report.rows for report in reports)
        text = end_text(reports[0]) if len(reports) == 1 else f"{flow}: done, {rows_text(rows)}"
    return {
        "text": f"hygge: {text}",
        "flow": flow,
        "status": "done" if _when(reports) == "success" else "failed",
        "report": {
            "flows": [asdict(report) for report in reports],
            "seconds": max((report.seconds for report in reports), default=0.0),
        },
    }


def _when(reports: Sequence[Report]) -> str:
    """Return when that is: `success`, `failure` (also where one was skipped), or "": stopped."""
    statuses = {report.status for report in reports}
    if statuses <= {"done"}:
        return "success"
    return "failure" if statuses & {"failed", "skipped"} else ""


def _run(hook: Hook, facts: dict[str, Any], folder: str) -> str:
    """Run a command with the report on its standard input; return what went wrong, or ""."""
    environ = {**os.environ, "HYGGE_FLOW": facts["flow"], "HYGGE_STATUS": facts["status"]}
    with subprocess.Popen(
        hook.target, shell=True, env=environ, cwd=folder if os.path.isdir(folder) else None,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            process.communicate(json.dumps(facts), MOST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
            return f"the command did not end within {MOST_S:.0f} s"
    return _ended(process.returncode)


def _ended(code: int) -> str:
    """Return in words how a command ended; "" where it did well."""
    if code == 0:
        return ""
    if code == _NOT_RUNNABLE:
        return f"the command may not be run (code {code}): make it executable"
    if code == _NOT_FOUND:
        return f"there is no such command on this machine (code {code})"
    if code < 0:
        return f"the command was ended by signal {-code}"
    return f"the command ended with code {code}; its output is not shown: let it write to a file"


def _post(hook: Hook, facts: dict[str, Any]) -> str:
    """Send the report; return what went wrong, or "".

    No redirect is followed: urllib would ask the other URL with a GET, without the report.
    """
    import urllib.request  # here, as it costs each start of hygge 20 ms
    from urllib.error import HTTPError, URLError

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    host = urlsplit(hook.target).hostname
    body = {"text": facts["text"]} if hook.form == "slack" else facts
    request = urllib.request.Request(
        hook.target, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=MOST_S):
            return ""
    except HTTPError as error:
        if error.code in _REDIRECTS:
            return (
                f"the POST to {host} was redirected (code {error.code}), and hygge follows no "
                "redirect: name the URL that it leads to"
            )
        return f"the POST to {host} failed: the answer has code {error.code}"
    except URLError as error:
        return f"the POST to {host} failed: {error.reason}"
    except OSError as error:
        return f"the POST to {host} failed: {error}"
