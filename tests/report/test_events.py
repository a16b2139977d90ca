"""Events as lines of JSON: for another process, and for people who keep them."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from hygge.model import Report, Summary
from hygge.report.events import JsonLines, parse_event, replay, report_of_job
from hygge.report.text import report_from_json
from hygge.run.watch import Progress
from tests.waiting import LIMIT_S


class Noted:
    """A Watch that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def expects(self, flows):
        self.told.append(("expects", flows))

    def began(self, flow, splits):
        self.told.append(("began", flow, splits))

    def moved(self, flow, seen):
        self.told.append(("moved", flow, seen))

    def said(self, flow, text):
        self.told.append(("said", flow, text))

    def ended(self, report):
        self.told.append(("ended", report))


TEXTS = st.one_of(st.text(), st.sampled_from(['{"hygge_event": "said"}', "a\rb\u2028c"]))


@given(flow=TEXTS, text=TEXTS, rows=st.integers(0, 2**63), seconds=st.floats(0, 1e9),
       in_job=st.booleans())  # fmt: skip
def test_an_event_arrives_unchanged_and_is_one_line(flow, text, rows, seconds, in_job):
    first, second, out = Noted(), Noted(), io.StringIO()
    lines = JsonLines(out, in_job)
    for watch in (first, lines):
        watch.expects([flow, text])
        watch.began(flow, 3)
        watch.moved(flow, Progress(rows=rows, splits_done=1, splits=3, waits_for=text))
        watch.said(flow, text)
        watch.ended(Report(flow, "failed", rows=rows, seconds=seconds, error=text))
    written = out.getvalue().split("\n")
    assert written.pop() == ""
    assert len(written) == 5
    for line in written:
        told = parse_event(line)
        assert told is not None
        replay(told, second)
    assert second.told == first.told


def test_in_the_log_of_a_job_a_line_begins_with_the_time_and_a_sentence():
    out = io.StringIO()
    lines = JsonLines(out, in_job=True)
    lines.moved("orders", Progress(rows=1_240_000, bytes=310_000_000, splits_done=12, splits=64))
    lines.said("orders", "the commit is tried again")
    lines.failed("no such file\n\nhint: look", 1)
    report = Report("orders", "done", rows=3, started_at=1.0)
    summary = Summary((report,), 2.5)
    written = [*out.getvalue().splitlines(), *report_of_job(summary).splitlines()]
    assert all(re.match(r"\d\d:\d\d:\d\d  \S", line) for line in written)
    sentences = [line[10:].partition("{")[0].rstrip() for line in written]
    assert sentences[0] == "orders: 1.24 M rows · 310 MB · 12/64 splits"
    assert sentences[1] == "orders: the commit is tried again"
    assert sentences[2] == "error: no such file  hint: look"
    assert sentences[3].startswith("orders  done  ")
    assert report_from_json(written[-1]) == summary
    assert all(parse_event(line) or report_from_json(line) for line in written)


def test_progress_is_written_once_a_second_and_not_for_each_batch():
    out = io.StringIO()
    lines = JsonLines(out)
    for rows in range(1000):
        lines.moved("a", Progress(rows=rows))
        lines.moved("b", Progress(rows=rows))
    assert 2 <= out.getvalue().count('"moved"') <= 20


def test_other_and_cut_lines_are_no_events_and_unknown_facts_of_newer_ones_are_ignored():
    noted = Noted()
    for line in ("", "hello", '{"a": 1}', '{"hygge_event": "said", "flow": "a", "te'):
        assert parse_event(line) is None
    for line in ('{"hygge_event": "danced", "flow": "a"}', '{"hygge_event": "moved", "flow": "a",'
                 ' "rows": 1, "smell": "of cake"}'):  # fmt: skip
        told = parse_event(line)
        assert told is not None
        replay(told, noted)
    assert noted.told == [("moved", "a", Progress(rows=1))]


def test_log_format_json_tells_all_in_json_and_nothing_else(tmp_path):
    pq.write_table(pa.table({"id": [1]}), tmp_path / "users.parquet")
    (tmp_path / "flows.yml").write_text("flows: {one: {home: users.parquet, store: out}}")

    def hygge(*words: str) -> tuple[int, str, list[dict]]:
        command = [sys.executable, "-m", "hygge", *words, "--inline", "--log-format", "json"]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S)
        return ran.returncode, ran.stdout, [json.loads(line) for line in ran.stderr.splitlines()]

    code, said, told = hygge("flows.yml")
    assert (code, said.split()[:2]) == (0, ["one", "done"])
    assert [each["hygge_event"] for each in told if each["hygge_event"] != "moved"] == [
        "expects",
        "began",
        "ended",
    ]
    assert told[-1]["report"]["rows"] == 1
    code, said, (told,) = hygge("none.yml")
    assert (code, said, told["hygge_event"], told["code"]) == (2, "", "error", 2)
    assert "there is no file none.yml\n\nhint: " in told["text"]
