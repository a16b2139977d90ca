"""The page of a report: what it says, in a real browser, and that it asks no host for anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hygge.cli.main import main
from hygge.report.charts import Bar, bars, columns, gantt, lanes, throughput
from hygge.report.page import FlowRun, page
from tests.missing import skipped_without

FLOWS = """flows:
  people: {home: people.csv, store: out/people}
  broken_since_the_name_of_somebody_is_no_number:
    {home: {path: people.csv, options: {types: {name: int64}}}, store: out/broken}
"""
PROBE = """<iframe id=i src="run.html" width=390 height=800></iframe><p id=said></p><script>
const frame = document.getElementById("i");
frame.onload = () => document.getElementById("said").textContent =
  "as wide as " + frame.contentDocument.documentElement.scrollWidth + "; loads " +
  frame.contentWindow.performance.getEntriesByType("resource").length + "; charts " +
  [...frame.contentDocument.querySelectorAll("svg")].filter(e => e.getBBox().height > 20).length +
  "; letters " + Math.min(...[...frame.contentDocument.querySelectorAll("svg text")].map(
    e => parseFloat(frame.contentWindow.getComputedStyle(e).fontSize) * e.getScreenCTM().a)) +
  "; over one another " + [...frame.contentDocument.querySelectorAll("g")].filter(g => {
    const [name, text] = g.querySelectorAll("text");
    return text && name.getBoundingClientRect().right > text.getBoundingClientRect().left;
  }).length;
</script>"""


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.csv").write_text("id,name\n1,<b>Ada</b>\n2,Grace\n")
    (tmp_path / "flows.yml").write_text(FLOWS)
    main(["flows.yml", "--inline", "--quiet", "--select", "people"])
    assert main(["flows.yml", "--inline", "--quiet", "--report", "run.html"]) == 1
    return tmp_path


def test_a_run_writes_a_page_about_all_of_its_flows(ran):
    said = (ran / "run.html").read_text()
    assert "1 of 2" in said
    assert "2 rows read = staged = applied" in said
    assert "column &#x27;name&#x27;: &#x27;&lt;b&gt;Ada&lt;/b&gt;&#x27; is no int64" in said
    assert "<b>Ada" not in said
    assert re.search(r"lane 0, 0\.\d s to \d+\.\d s: split 0 staged, 2 rows<", said)
    assert re.search(r"lane 0, 0\.\d s to \d+\.\d s: split 0 failed<", said)
    for title in ("When each flow ran", "What each lane did", "Columns", "Time of the last runs"):
        assert f"<h3>{title}</h3>" in said, title
    assert not re.search(r"(?:src|href|url\()\s*=?\s*[\"']?\s*http", said)


def test_a_browser_shows_it_on_a_phone_and_loads_nothing_else(ran):
    browser = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if browser is None:
        skipped_without("chromium", "apt-get install chromium-headless-shell")
    (ran / "probe.html").write_text(PROBE)
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
        "--virtual-time-budget=20000", "--dump-dom", f"file://{ran}/probe.html",
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(
        r"as wide as (\d+); loads (\d+); charts (\d+); letters ([\d.]+); over one another (\d+)",
        shown,
    )
    assert found, shown
    wide, loads, charts, letters, over = map(float, found.groups())
    assert (wide <= 390, loads) == (True, 0), shown
    assert charts >= 2
    assert (letters >= 10, over) == (True, 0), shown


def test_hygge_report_writes_the_page_of_one_run(ran, capsys):
    main(["history", "flows.yml", "--json", "--flow", "people"])
    run = re.findall(r'"run": "([^"]+)"', capsys.readouterr().out)[0]
    assert main(["report", run, "flows.yml", "--output", "one.html"]) == 0
    assert capsys.readouterr().out == "one.html\n"
    assert "<h2>people" in (ran / "one.html").read_text()
    assert main(["report", "20200101T000000-00000000"]) == 2
    assert "hygge history" in capsys.readouterr().err
    assert main(["report", run, "--output", "no/such/folder.html"]) == 2
    assert "no/such/folder.html cannot be written: No such file" in capsys.readouterr().err


def test_the_page_says_the_equation_of_the_report():
    counts = {"rows_read": 2, "rows": 5, "applied": 5, "filtered": -3}
    record = {"id": "r", "run": "r", "flow": "f", "status": "done", "started_at": 0.0, **counts}
    said = page("f", [FlowRun([record])])
    assert "2 rows read + 3 made of them = 5 staged = applied" in said


def test_a_flow_that_was_skipped_has_no_page_of_an_earlier_run(ran):
    (ran / "flows.yml").write_text(FLOWS + "  after: {home: people.csv, store: out/after}\n")
    main(["flows.yml", "--inline", "--quiet", "--select", "after"])
    text = (ran / "flows.yml").read_text()
    (ran / "flows.yml").write_text(
        text.replace(
            "store: out/after",
            "store: out/after, depends_on: [broken_since_the_name_of_somebody_is_no_number]",
        )
    )
    main(["flows.yml", "--inline", "--quiet", "--report", "again.html"])
    after = (ran / "again.html").read_text().partition("<h2>after")[2]
    assert "skipped" in after
    assert "Rows in a second" not in after


def test_charts_are_of_what_was_seen():
    points = [(0.0, 0, 0, 0, 0), (1.0, 100, 0, 0, 2), (2.0, 400, 0, 1, 1)]
    assert "300 rows/s at most" in throughput(points)
    assert "2 lanes at most" in lanes(points)
    assert throughput([(0.0, 0, 0, 0, 0)]) == throughput([(0, 0, 0, 0, 0), (1, 0, 0, 0, 0)]) == ""
    assert lanes([]) == bars([], "none") == columns([], "none") == ""
    assert bars([Bar("a<b", 0, 1, "x")], "t").count("a&lt;b") == 2


def test_each_lane_has_a_row_and_each_attempt_a_bar():
    names = ["lane", "began", "ended", "staged", "failed", "given_up", "rows", "split"]
    many = {"columns": names, "bars": [
        [0, 0.0, 4.0, 1, 0, 0, 1000, 7], [0, 2.0, 5.0, 0, 0, 1, 0, 8],
        [3, 1.0, 5.0, 9, 1, 0, 90, None],
    ]}  # fmt: skip
    chart = gantt(many, 8.0)
    assert re.findall(r">(lane \d+)<", chart) == ["lane 0", "lane 3"]
    assert re.findall(r"<title>(.*?)</title>", chart) == [
        "lane 0, 0.0 s to 4.0 s: split 7 staged, 1,000 rows",
        "lane 0, 2.0 s to 5.0 s: split 8 given up",
        "lane 3, 1.0 s to 5.0 s: attempts: 9 staged, 1 failed, 90 rows",
    ]
    assert "by lane: 10 staged, 1 failed, 1 given up" in chart
    given_up, stripe = (re.search(f'class="{kind}" x="([^"]+)"', chart) for kind in (
        "given_up", "failed"))  # fmt: skip
    assert float(given_up[1]) == 54 + (420 - 54 - 8) / 2, "after the bar that it would hide"
    assert float(stripe[1]) == pytest.approx(54 + (420 - 54 - 8) / 8, abs=0.1)
    assert gantt({}, 8.0) == gantt({"columns": names, "bars": []}, 8.0) == ""
    record = {"id": "r", "run": "r", "flow": "f", "status": "failed", "started_at": 0.0}
    points = {"points": [[0.0, 0, 0, 0, 40], [8.0, 0, 0, 0, 0]]}
    said = page("f", [FlowRun([record | {"split_attempts": many, "over_time": points}])])
    assert "the first 2 of 40 lanes" in said


def test_a_run_of_which_little_is_known_has_a_page():
    record = {"id": "r", "run": "r", "flow": "f", "status": "open", "started_at": 0.0}
    assert "<h2>f" in page("f", [FlowRun([record])])
