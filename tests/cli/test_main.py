"""The command as a person uses it: quick to answer, quick to stop, one report, plain exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.cli.main import main
from tests.waiting import LIMIT_S, said_by, until

HYGGE = [sys.executable, "-m", "hygge"]


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"id": range(100)}), tmp_path / "users.parquet")
    file = tmp_path / "flows.yml"
    file.write_text(
        "flows:\n"
        "  first: {home: users.parquet, store: out/first}\n"
        "  broken: {home: none.parquet, store: out/broken}\n"
        "  after_broken: {home: users.parquet, store: out/after, depends_on: [broken]}\n"
        "  after_that: {home: users.parquet, store: out/that, depends_on: [after_broken]}\n"
        "  last: {home: users.parquet, store: out/last, depends_on: [first]}\n"
    )
    return file


def test_one_that_fails_does_not_stop_the_others_and_its_dependants_are_skipped(flows, capsys):
    assert main([str(flows), "--inline"]) == 1
    said = capsys.readouterr().out
    assert "first         done  100 rows" in said
    assert "last          done  100 rows" in said
    assert "broken        failed" in said
    assert "after_broken  skipped: it depends on broken, which failed" in said
    assert "after_that    skipped: it depends on after_broken, which was skipped" in said
    assert "error: broken: there is no file or directory" in said
    assert "5 flows: 2 done, 1 failed, 2 skipped" in said
    assert sorted(os.listdir(flows.parent / "out")) == ["first", "last"]


def test_select_runs_only_what_is_named(flows, capsys):
    assert main(["run", str(flows), "--inline", "--select", "first,last"]) == 0
    assert "2 flows: 2 done" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [["-m", "hygge"], ["-m", "hygge", "run"], ["-m", "hygge.coordinator"]],
    ids=" ".join,
)
def test_every_form_of_the_command_runs_the_file(command, flows):
    done = subprocess.run(
        [sys.executable, *command, str(flows), "--inline", "--quiet", "--select", "first"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("first  done  100 rows")
    assert done.stderr == ""


def test_plan_shows_what_would_happen_and_moves_nothing(flows, capsys):
    assert main(["plan", str(flows), "--select", "first"]) == 0
    said = capsys.readouterr().out
    for part in (
        "first: replace, exactly once",
        "splits  1 file in 1 split",
        "id  int64",
        "one rename",
    ):
        assert part in said
    assert not (flows.parent / "out").exists()


def test_the_report_in_json_is_one_line(flows, capsys):
    from hygge.report.text import report_from_json

    assert main([str(flows), "--inline", "--json", "--select", "first"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    report = report_from_json(line).flows[0]
    assert (report.flow, report.rows, report.status) == ("first", 100, "done")
    assert report.started_at <= report.done_at


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], ["ray", "pandas", "pyarrow", "sqlalchemy", "pydantic"]),
        (
            ["check", "FLOWS", "--select", "first"],
            ["ray", "pandas", "pyarrow.dataset", "sqlalchemy"],
        ),
        (["plan", "FLOWS", "--select", "first"], ["ray", "pandas", "pyarrow.dataset"]),
    ],
    ids=["help", "check", "plan"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(arguments, absent, flows):
    given = [str(flows) if each == "FLOWS" else each for each in arguments]
    code = (
        "import sys\nfrom hygge.cli.main import main\n"
        f"try: main({given!r})\nexcept SystemExit: pass\n"
        f"print([m for m in {absent!r} if m in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stderr.strip() == "[]"


SLOW = """
import time
import pandas as pd
from hygge import Home
class Slow(Home):
    async def read_batches(self):
        while True:  # only a signal ends it
            open("reading", "w").close()
            yield pd.DataFrame({"n": [1]})
            time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("moment", "number"),
    [("while Ray starts", signal.SIGTERM), ("while rows move", signal.SIGINT)],
)
def test_a_signal_stops_it_and_leaves_no_process_and_nothing_visible(moment, number, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW.replace('"reading"', repr(str(tmp_path / "reading"))))
    (tmp_path / "flows.yml").write_text("flows:\n  s: {home: {type: 'slow:Slow'}, store: out/s}\n")
    mark = f"HYGGE_TEST_MARK={tmp_path.name}-{os.getpid()}"
    environ = {**os.environ, mark.split("=")[0]: mark.split("=")[1]}
    environ.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
    running = subprocess.Popen(
        [*HYGGE, "flows.yml"], cwd=tmp_path, env=environ, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if moment == "while rows move":
        until((tmp_path / "reading").exists, "no row moves")
    else:
        until(lambda: len(marked(mark)) >= 2, "Ray does not start")
    running.send_signal(number)
    output, errors = said_by(running)
    assert running.returncode == 130, output + errors
    assert "stopped" in errors
    assert "Traceback" not in output + errors
    assert not (tmp_path / "out").exists() or os.listdir(tmp_path / "out") == []
    until(lambda: marked(mark) == [], lambda: f"{marked(mark)} are left")


def marked(mark: str) -> list[str]:
    """The processes that inherited our mark: everything that the command started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if state != "Z":
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
