"""What a run does, drawn anew a few times a second: on a terminal, and in a notebook.

A flow that runs has a line with a bar, its rows, its rate and the time that is left, and a second
line with bytes, lanes, retries and what it waits for. A flow that has ended keeps a line. Messages,
and the error of a flow that fails, are written above all that, and stay.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO

from hygge.model import Report
from hygge.report.board import Board, FlowView, Ticker
from hygge.report.lines import Lines, end_text
from hygge.report.progress import bytes_text, count_text, duration_text, retries_text
from hygge.run.watch import Progress, Watch

if TYPE_CHECKING:
    from rich.console import RenderableType

EVERY_S = 0.2
_NOTEBOOK_WIDTH, _NOTEBOOK_HEIGHT = 100, 60
_STYLES = {"done": "green", "failed": "bold red", "skipped": "yellow", "stopped": "yellow"}
_RATE_FROM = 76
"""Columns from which on the rows in a second stand in the first line of a flow."""
_TIME_FROM = 48
"""Columns from which on the time that is left is shown."""
_BAR_FROM = 6
"""Columns that a bar has at least, or there is none."""


def find_watch(out: TextIO | None = None) -> Watch:
    """Return the watch that fits `out`, by default standard error: drawn anew, or line by line."""
    out = out or sys.stderr
    is_drawn = out.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    return Live(out) if is_drawn else Lines(out)


class Live:
    """A Watch that draws on the terminal `out`."""

    def __init__(self, out: TextIO | None = None) -> None:
        from rich.console import Console

        self.out = out or sys.stderr
        self.board = Board()
        # `rich` finds out which colours the terminal has, and reads NO_COLOR.
        self.console = Console(file=self.out, highlight=False, markup=False, emoji=False)
        self._drawn: list[int] = []
        """Columns of each line that is drawn."""
        self._drawn_at = 0.0
        self._ticker = Ticker(EVERY_S, self._tick)

    def expects(self, flows: Sequence[str]) -> None:
        with self.board.lock:
            self.board.expect(flows)

    def began(self, flow: str, splits: int) -> None:
        with self.board.lock:
            self.board.begin(flow)
            self._ticker.start()

    def moved(self, flow: str, progress: Progress) -> None:
        with self.board.lock:
            self.board.move(flow, progress)
            self._ticker.start()

    def said(self, flow: str, text: str) -> None:
        with self.board.lock:
            self._draw(f"{flow}: {text}" if flow else text)

    def ended(self, report: Report) -> None:
        with self.board.lock:
            is_news = self.board.end(report)
            self._draw(end_text(report) if is_news and report.status == "failed" else "")

    def close(self) -> None:
        """Remove what is drawn: the report follows, which says all of it again."""
        self._ticker.stop()
        with self.board.lock:
            self.board.flows.clear()
            self._draw()

    def _tick(self) -> None:
        with self.board.lock:
            self._draw()

    def _draw(self, above: str = "") -> None:
        """Draw anew in the place of what was drawn, with the lines `above` before it."""
        size = self._size()
        text, widths = self._rendered(*size)
        # A terminal that became narrower has broken its lines into several.
        up = sum(max(1, -(-width // size[0])) for width in self._drawn)
        start = f"\r\x1b[{up}A\x1b[J" if up else ""
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone ends no run
            self.out.write(start + (f"{above}\n" if above else "") + text)
            self.out.flush()
        self._drawn = widths

    def _size(self) -> tuple[int, int]:
        """Return the columns and lines of the terminal as it is now."""
        try:
            size = os.get_terminal_size(self.out.fileno())
            return max(size.columns, 20), max(size.lines, 5)
        except (OSError, ValueError):
            return 80, 24

    def _rendered(self, width: int, height: int) -> tuple[str, list[int]]:
        from rich.text import Text

        lines = board_lines(self.board, width - 1, height - 2, time.monotonic())
        if not lines:
            return "", []
        self.console.width = width - 1
        with self.console.capture() as captured:
            for line in lines:
                self.console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
        text = captured.get()
        return text, [Text.from_ansi(line).cell_len for line in text.splitlines()]


def board_lines(board: Board, width: int, height: int, now: float) -> list[RenderableType]:
    """Return what shows the board in `width` columns and `height` lines at most."""
    from rich.text import Text

    if not board.flows:
        return []
    running, ended = board.running(), board.ended()
    room = max(1, height - 1)
    details = room >= 2 * len(running)
    shown = running[: room if len(running) <= room else max(1, room - 1)]
    room -= len(shown) * (2 if details else 1)
    footer = [board.count_text()]
    if len(shown) < len(running):
        footer.append(f"{len(running) - len(shown)} more run")
    kept = ended[-room:] if room > 0 else []
    if len(kept) < len(ended):
        footer.append(f"{len(ended) - len(kept)} that ended are not shown")
    footer.append(duration_text(now - board.began_at))
    name_width = min(max(len(view.name) for view in (*kept, *shown)), width // 4)
    lines: list[RenderableType] = [_ended_line(view, name_width) for view in kept]
    for view in shown:
        lines.append(_running_line(view, name_width, width, now))
        if details:
            lines.append(_detail_line(view, width, now))
    return [*lines, Text(" · ".join(filter(None, footer)), style="dim")]


def _ended_line(view: FlowView, name_width: int) -> RenderableType:
    from rich.text import Text

    report = view.report
    assert report is not None  # it has ended
    said = end_text(report).removeprefix(f"{view.name}: ").splitlines()[0]
    line = Text(_fitted(view.name, name_width) + " ")
    status, rest = said[: len(report.status)], said[len(report.status) :]
    return line.append(status, style=_STYLES[report.status]).append(rest)


def _running_line(view: FlowView, name_width: int, width: int, now: float) -> RenderableType:
    """Return the first line of a flow: name, bar, share, rows, rows/s, time left."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    seen, share, left_s = view.progress, view.share(), view.left_s(now)
    name = Text(_fitted(view.name, name_width), style="bold")
    if not seen.rows:
        waits = f"waiting for {seen.waits_for}" if seen.waits_for else "begins"
        return name.append(f" {waits}", style="not bold")
    cells = [(4, "" if share is None else f"{share:.0%}"), (12, f"{count_text(seen.rows)} rows")]
    if width >= _RATE_FROM:  # else it stands in the second line
        rows_per_s, _ = view.rates(now)
        cells.append((15, f"{count_text(round(rows_per_s))} rows/s"))
    if width >= _TIME_FROM:
        cells.append((13, f"{duration_text(left_s)} left" if left_s is not None else ""))
    bar_width = min(40, width - name_width - sum(columns + 1 for columns, _ in cells) - 2)
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=name_width, no_wrap=True)
    shown: list[RenderableType] = [name]
    if bar_width >= _BAR_FROM:
        table.add_column(width=bar_width)
        bar = ProgressBar(1.0, share or 0.0, bar_width)
        shown.append(bar if share is not None else Text(""))
    for columns, text in cells:
        table.add_column(width=columns, no_wrap=True, justify="right", overflow="ellipsis")
        shown.append(text)
    table.add_row(*shown)
    return table


def _detail_line(view: FlowView, width: int, now: float) -> RenderableType:
    """Return the second line of a flow: bytes, splits, lanes, retries, what it waits for."""
    from rich.text import Text

    seen = view.progress
    if not seen.rows:
        return Text(f"  for {duration_text(now - view.began_at)}", style="dim")
    rows_per_s, bytes_per_s = view.rates(now)
    parts = [f"{count_text(round(rows_per_s))} rows/s"] if width < _RATE_FROM else []
    parts += [bytes_text(seen.bytes), f"{bytes_text(bytes_per_s)}/s"]
    if seen.splits > 1:
        parts.append(f"{seen.splits_done}/{seen.splits} {seen.of}")
    if seen.lanes:
        parts.append(f"{seen.lanes} lane{'s'[: seen.lanes != 1]}")
    if seen.retries:
        parts.append(retries_text(seen.retries))
    if seen.waits_for:
        parts.append(f"waiting for {seen.waits_for}")
    return Text("  " + " · ".join(parts), style="dim")


def _fitted(name: str, width: int) -> str:
    return f"{name:<{width}}" if len(name) <= width else f"{name[: width - 1]}…"


class Notebook(Live):
    """A Watch that draws into the output of the cell that runs."""

    def __init__(self) -> None:
        from rich.console import Console

        super().__init__(StringIO())
        self.console = Console(file=self.out, width=_NOTEBOOK_WIDTH, force_jupyter=False)
        self._display: Any = None
        self._messages: list[str] = []

    def close(self) -> None:
        """Draw for the last time; it stays in the notebook."""
        self._ticker.stop()
        with self.board.lock:
            self._draw()

    def _draw(self, above: str = "") -> None:
        from IPython.display import display

        self._messages += [above] if above else []
        shown = _Shown(self)
        if self._display is None:
            self._display = display(shown, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._display.update(shown)


class _Shown:
    """What a cell shows, as HTML and as text."""

    def __init__(self, notebook: Notebook) -> None:
        from rich.console import Console
        from rich.text import Text

        board, width = notebook.board, _NOTEBOOK_WIDTH
        self.console = Console(
            file=StringIO(), record=True, width=width, force_terminal=True, force_jupyter=False
        )
        for message in notebook._messages:
            self.console.print(Text(message))
        for line in board_lines(board, width, _NOTEBOOK_HEIGHT, time.monotonic()):
            self.console.print(line, no_wrap=True, overflow="ellipsis", crop=True)

    def _repr_mimebundle_(self, **kinds: object) -> dict[str, str]:
        page = "<pre style='white-space:pre;overflow-x:auto;line-height:normal'>{code}</pre>"
        html = self.console.export_html(code_format=page, inline_styles=True, clear=False)
        return {"text/html": html, "text/plain": self.console.export_text(clear=False)}


def find_notebook() -> Watch | None:
    """Return a watch that draws into the notebook that this process is the kernel of, or None."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    return Notebook() if type(shell).__name__ == "ZMQInteractiveShell" else None
