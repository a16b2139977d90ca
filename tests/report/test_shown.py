"""What people see of a run: drawn on a terminal, and line by line in a log."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from hygge.model import Report
from hygge.report.board import Board, FlowView
from hygge.report.lines import Lines
from hygge.report.live import Live, Notebook, board_lines, find_watch
from hygge.report.progress import Combined, Quiet
from hygge.run.watch import Progress
from tests.waiting import LIMIT_S, until

HALF = Progress(500, 4000, 1, 3, 2, "the store lake", retries=2, rows_expected=1000)


def board(running: int, ended: int = 0) -> Board:
    made = Board()
    made.expect([f"flow_number_{n}" for n in range(running + ended)])
    for n in range(running):
        made.move(f"flow_number_{n}", HALF)
    for n in range(running, running + ended):
        made.end(Report(f"flow_number_{n}", "failed" if n % 2 else "done", error="no room"))
    return made


def drawn(shown: Board, width: int, height: int = 40) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    for line in board_lines(shown, width, height, time.monotonic()):
        console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    return out.getvalue().splitlines()


def test_a_flow_shows_its_share_rows_lanes_retries_and_what_it_waits_for():
    text = "\n".join(drawn(board(1), 120))
    for part in ("50%", "500 rows", "rows/s", "4.0 kB", "1/3 splits", "2 lanes", "2 retries",
                 "waiting for the store lake"):  # fmt: skip
        assert part in text
    assert "━" in text


@pytest.mark.parametrize("width", [20, 40, 60, 76, 100, 200])
def test_no_line_is_wider_than_the_terminal(width):
    lines = drawn(board(2, 2), width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 2 * 2 + 2 + 1


def test_ended_flows_stay_and_what_has_no_room_is_counted():
    lines = drawn(board(2, 3), 100)
    assert [re.findall(r"\w+", line)[1] for line in lines[:3]] == ["done", "failed", "done"]
    assert "3 of 5 flows · 1 failed" in lines[-1]
    lines = drawn(board(30, 9), 100, height=10)
    assert len(lines) <= 10
    assert "22 more run" in lines[-1]
    assert "8 that ended are not shown" in lines[-1]


def test_the_time_left_follows_from_the_rate_of_the_last_seconds():
    view = FlowView("orders", 0.0)
    for second in range(21):
        view.note(Progress(rows=100 * second, bytes=second, rows_expected=4000), float(second))
    assert view.rates(20.0)[0] == pytest.approx(100, rel=0.05)
    assert view.left_s(20.0) == pytest.approx(20, rel=0.05)
    assert view.rates(30.0)[0] < 60  # it stands still
    view.note(Progress(rows=5000, rows_expected=4000), 31.0)  # an estimate that was too low
    assert (view.share(), view.left_s(31.0)) == (1.0, None)
    view.note(Progress(rows=5000, splits=4), 32.0)
    assert view.share() is None  # of splits that are begun nobody knows how far they are
    view.note(Progress(rows=9000, splits=4, splits_done=1), 33.0)
    assert view.share() == 0.25


def test_a_log_has_a_line_when_a_flow_begins_fails_and_ends():
    out = io.StringIO()
    lines = Lines(out)
    lines.expects(["orders", "users"])
    lines.moved("orders", HALF)
    lines.began("orders", 3)
    lines.said("orders", "split 1 is tried again")
    lines.ended(Report("orders", "failed", seconds=3.0, error="the disk is full"))
    lines.ended(Report("orders", "failed", seconds=3.0, error="the disk is full"))
    lines.ended(Report("users", "done", rows=12, bytes=100, seconds=61.0))
    lines.close()
    told = out.getvalue().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d  ", line) for line in told)
    assert [line[10:] for line in told] == [
        "orders: begins",
        "orders: split 1 is tried again",
        "orders: failed after 3.0 s: the disk is full (1 of 2 flows · 1 failed)",
        "users: done, 12 rows · 100 B · 1 min 1 s (2 of 2 flows · 1 failed)",
    ]


def test_a_flow_that_runs_gives_a_sign_of_life_also_where_nothing_moves():
    out = io.StringIO()
    lines = Lines(out, sign_every_s=0.01)
    lines.moved("orders", HALF)
    until(lambda: out.getvalue().count("orders: 500 rows · ") > 1, out.getvalue)
    lines.close()
    assert " rows/s · " in out.getvalue()


def test_quiet_says_warnings_and_failures_alone():
    out = io.StringIO()
    quiet = Quiet(Lines(out))
    quiet.expects(["orders"])
    quiet.moved("orders", HALF)
    quiet.said("orders", "goes on")
    quiet.said("", "warning: look here")
    quiet.ended(Report("users", "done"))
    quiet.ended(Report("orders", "failed", error="the disk is full"))
    quiet.ended(Report("lines", "failed", error="no room"))  # and not "2 of 2 flows"
    quiet.close()
    assert [line[10:] for line in out.getvalue().splitlines()] == [
        "warning: look here", "orders: failed: the disk is full", "lines: failed: no room",
    ]  # fmt: skip


def test_a_table_that_fails_is_told_at_once_and_the_flow_ends_with_its_last_table():
    out = io.StringIO()
    together = Combined(Lines(out), "shop", 3)
    together.ended(Report("shop.a", "done", rows=5, of="shop"))
    together.ended(Report("shop.b", "failed", error="no room", of="shop"))
    assert "shop.b: failed: no room" in out.getvalue()
    assert "shop: failed" not in out.getvalue()
    together.ended(Report("shop.c", "done", rows=5, of="shop"))
    assert "1 of 3 tables failed" in out.getvalue().splitlines()[-1]


def test_what_is_shown_fits_the_output(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    for term, kind in (("xterm-256color", Live), ("dumb", Lines), ("", Lines)):
        monkeypatch.setenv("TERM", term)
        assert type(find_watch(Screen())) is kind
    assert type(find_watch(io.StringIO())) is Lines


def test_a_notebook_shows_the_same_as_html(monkeypatch):
    shown: list[object] = []

    class Display:
        def update(self, what: object) -> None:
            shown.append(what)

    def display(what: object, display_id: bool) -> Display:
        shown.append(what)
        return Display()

    monkeypatch.setattr("IPython.display.display", display)
    notebook = Notebook()
    notebook.moved("orders", HALF)
    notebook.said("orders", "<b>")
    notebook.close()
    page = shown[-1]._repr_mimebundle_()
    assert "orders: &lt;b&gt;" in page["text/html"]
    assert "waiting for the store lake" in page["text/plain"]


FLOWS = """
flows:
  wrong: {home: {type: "slow:Slow", fails: true}, store: out/wrong}
  right: {home: {type: "slow:Slow"}, store: out/right}
"""
SLOW = """
import os, time
import pandas as pd
from hygge import Home
class Slow(Home):
    def __init__(self, fails: bool = False):
        self.fails = fails
    async def read_batches(self):
        yield pd.DataFrame({"n": [1, 2]})
        if self.fails:
            raise ValueError("the disk is full")
        while not os.path.exists("go"):
            time.sleep(0.05)
        yield pd.DataFrame({"n": [3]})
"""


def test_a_real_terminal_of_60_columns_that_becomes_narrower(tmp_path):
    (tmp_path / "flows.yml").write_text(FLOWS)
    (tmp_path / "slow.py").write_text(SLOW)
    ours, theirs = pty.openpty()
    resize(theirs, 60)
    command = [sys.executable, "-m", "hygge", "flows.yml", "--inline"]
    environ = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stderr=theirs, stdout=subprocess.PIPE, text=True
    ) as process:
        os.close(theirs)
        seen = read_until(ours, "1 of 2 flows · 1 failed")
        assert "wrong: failed" in seen, "it is told while the other flow runs"
        assert "the disk is full" in seen
        resize(ours, 30)
        seen = read_until(ours, "right")
        (tmp_path / "go").touch()
        seen += read_all(ours)
        assert process.stdout is not None
        assert "right  done  3 rows read" in process.stdout.read()
        assert process.wait(LIMIT_S) == 1
    colours = re.findall(r"\x1b\[(?:[0-9]+;)*(?:3[0-8]|9[0-7])(?:;[0-9]+)*m", seen)
    assert colours == [], "NO_COLOR"
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", seen.replace("\r", ""))
    assert "1 of 2 flows" in plain
    os.close(ours)


def resize(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 20, columns, 0, 0))


def read_until(terminal: int, text: str) -> str:
    seen, latest = "", time.monotonic() + LIMIT_S
    while text not in seen:
        assert time.monotonic() < latest, seen
        seen += os.read(terminal, 4096).decode(errors="replace")
    return seen


def read_all(terminal: int) -> str:
    seen = ""
    while True:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            return seen
        if not more:
            return seen
        seen += more.decode(errors="replace")


def test_the_rows_of_the_plan_are_the_whole_of_the_bar(tmp_path):
    from hygge import Flow, ParquetHome, ParquetStore
    from hygge.run.watch import Silent

    class Kept(Silent):
        expected: int | None = None

        def moved(self, flow: str, progress: Progress) -> None:
            self.expected = progress.rows_expected or self.expected

    pq.write_table(pa.table({"id": range(1234)}), tmp_path / "users.parquet")
    home, store = ParquetHome(tmp_path / "users.parquet"), ParquetStore(tmp_path / "out")
    watch = Kept()
    Flow(home, store, engine="inline", state=tmp_path / "state").run(watch)
    assert watch.expected == 1234
