"""The suite of benchmarks on a tiny job: who is right, who is wrong, and which bars are above."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.suite import data, environments, guard, publish
from benchmarks.suite.__main__ import main
from benchmarks.suite.bars import BARS as OF_PROJECT
from benchmarks.suite.bars import MEMORY, Bar
from benchmarks.suite.contenders import FOLDER, all_contenders, read
from benchmarks.suite.jobs import ALL, JOBS
from benchmarks.suite.rounds import ONLY_FULL, Result, Rounds, fits

WRONG = """# /// script
# dependencies = []
# [tool.bench]
# name = "wrong"
# here = true
# ///
import pyarrow as pa, pyarrow.compute as pc, pyarrow.json, pyarrow.parquet as pq
from common import Cannot, run

def jsonl_to_parquet(task):
    rows = pyarrow.json.read_json(task.source)
    late = pc.add(rows["id"], pc.if_else(pc.equal(rows["id"], 7), 1, 0))
    pq.write_table(rows.set_column(0, "id", late), task.file)

run(globals())
"""
UNFIT = WRONG.replace('"wrong"', '"unfit"').replace(
    "    rows =", '    raise Cannot("not today")\n    rows ='
)
BARS = (
    Bar("jsonl_to_parquet", "hygge inline", "whole_s", 1e-6, "pyarrow"),
    Bar("jsonl_to_parquet", "hygge inline", "whole_s", 1e6, "pyarrow"),
    Bar("jsonl_to_parquet", "hygge inline", "whole_s", 1.0, "wrong"),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of a thousand rows: its exit code, and its report."""
    folder = tmp_path_factory.mktemp("bench")
    contenders = folder / "contenders"
    contenders.mkdir()
    for name in ("common.py", "by_hygge.py"):
        (contenders / name).write_text((FOLDER / name).read_text())
    here = (FOLDER / "by_pyarrow.py").read_text().replace("# name =", "# here = true\n# name =")
    (contenders / "by_pyarrow.py").write_text(here)
    for name, text in (("wrong", WRONG), ("unfit", UNFIT)):
        (contenders / f"by_{name}.py").write_text(text)
    out = folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "DATA", folder / "data")
        code = main(
            ["--scale", "0.001", "--jobs", "jsonl_to_parquet", "--folder", str(contenders),
             "--contenders", "hygge inline,pyarrow,wrong,unfit", "--out", str(out), "--judge",
             "--room", str(folder / "a" / "room")],
            BARS,
        )  # fmt: skip
    content = json.loads((out / "results.json").read_text())
    by_name = {each["contender"]: each for each in content["results"]}
    return {"code": code, "out": out, "of": by_name, "bars": content["bars"]}


def test_who_moves_every_value_is_measured(ran: dict[str, Any]) -> None:
    for name in ("hygge inline", "pyarrow"):
        result = ran["of"][name]
        assert (result["status"], result["words"]) == ("done", "")
        (run,) = result["runs"]
        assert run["whole_s"] >= run["move_s"] > 0
        assert run["cpu_s"] > 0
        assert run["peak_mb"] > 10
        assert run["target_mb"] > 0


def test_one_other_value_is_wrong_whatever_the_speed(ran: dict[str, Any]) -> None:
    result = ran["of"]["wrong"]
    assert (result["status"], result["words"]) == ("wrong", "other values in id")
    assert "**WRONG**: other values in id" in (ran["out"] / "results.md").read_text()


def test_who_cannot_do_a_job_is_reported_with_the_reason(ran: dict[str, Any]) -> None:
    assert (ran["of"]["unfit"]["status"], ran["of"]["unfit"]["words"]) == ("cannot", "not today")


def test_a_bar_that_is_above_ends_with_1(ran: dict[str, Any]) -> None:
    assert [each["is_above"] for each in ran["bars"]] == [True, False, False]
    assert ran["bars"][2]["why"] == "wrong: wrong"  # no measure of anybody
    assert ran["code"] == 1


def test_charts_name_every_contender(ran: dict[str, Any]) -> None:
    for theme in ("light", "dark"):
        drawn = ElementTree.parse(ran["out"] / f"chart-{theme}.svg").getroot()
        words = " ".join(drawn.itertext())
        assert all(name in words for name in ran["of"]), words
        assert "wrong: other values in id" in words


def test_a_run_is_published_between_the_marks_of_the_documents(
    ran: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "SHOWN", ("jsonl_to_parquet",))
    (tmp_path / "docs").mkdir()
    readme, page = tmp_path / "README.md", tmp_path / "docs" / "performance.md"
    for file in (readme, page):
        file.write_text(f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n")
    for _ in range(2):  # the second time changes nothing
        assert publish.main(["--results", str(ran["out"]), "--root", str(tmp_path)]) == 0
        for file in (readme, page):
            text = file.read_text()
            assert text.startswith("before\n")
            assert text.endswith("\nafter\n")
            assert ("old" in text, text.count(publish.END)) == (False, 1)
    assert "docs/benchmarks.svg" in readme.read_text()
    assert "| JSONL → Parquet, nested rows |" in page.read_text()
    assert "**ABOVE**" in page.read_text()
    drawn = ElementTree.parse(tmp_path / "docs" / "benchmarks.svg").getroot()
    assert "wrong: other values in id" in " ".join(drawn.itertext())
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="has no marks"):
        publish.main(["--results", str(ran["out"]), "--root", str(tmp_path)])
    with pytest.raises(SystemExit, match="run `make bench` first"):
        publish.main(["--results", str(tmp_path)])


def test_six_times_the_rows_is_for_one_lane_alone() -> None:
    six = next(job for job in ALL if job.times == 6)
    able = [each for each in all_contenders() if each.does(six.function)]
    assert [each.name for each in able if fits(each, six)] == ["hygge one lane"]


def test_a_quick_run_leaves_long_jobs_out_and_says_so_but_nobody_whom_a_bar_of_time_names() -> None:
    rounds = Rounds(SimpleNamespace(missing={}), 1, 1.0, is_quick=True)  # type: ignore[arg-type]
    for job in (job for job in ALL if job.is_long):
        (result,) = rounds.run(job, all_contenders())
        assert (result.status, result.words) == ("left out", ONLY_FULL)
    by_name = {each.name: each for each in all_contenders()}
    for bar in OF_PROJECT:
        if bar.figure != MEMORY:
            job = JOBS[bar.job]
            assert not job.is_long
            named = [by_name[name] for name in (bar.contender, bar.peer) if name]
            assert all(each.does(job.function) for each in named)
            assert not [each for each in named if job.function in each.long]


def test_who_cannot_be_installed_is_tried_once_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[list[str]] = []

    def refuse(command: list[str]) -> None:
        tries.append(command)
        raise environments.NotInstalled("ERROR: no matching distribution")

    monkeypatch.setattr(environments, "_run", refuse)
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    file = tmp_path / "by_lost.py"
    file.write_text(WRONG.replace("# here = true\n", "").replace("= []", '= ["lost==1.0"]'))
    (lost,) = read(file)
    for _ in range(2):
        with pytest.raises(environments.NotInstalled, match="no matching"):
            environments.environment(lost)
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("here", "status", "code", "word"),
    [(1.04, "done", 0, ""), (1.2, "done", 1, "ABOVE"), (0.5, "wrong", 1, "other values")],
)
def test_the_guard_ends_with_1_where_this_checkout_needs_more_or_is_wrong(
    here: float, status: str, code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def result(name: str, cpu: float, status: str = "done") -> Result:
        return Result("a", name, status, "other values", [{"cpu_s": cpu, "server_cpu_s": 1.0}])

    results = [result("base", 9.0), result("here", 10 * here - 1, status)]
    assert guard.table(results, most=1.05) == code
    assert word in capsys.readouterr().out


def test_each_file_pins_its_packages_and_does_a_job(tmp_path: Path) -> None:
    functions = {job.function for job in ALL}
    for contender in all_contenders():
        assert any(contender.does(name) for name in functions), contender.name
    loose = tmp_path / "by_loose.py"
    loose.write_text(WRONG.replace("dependencies = []", 'dependencies = ["polars"]'))
    with pytest.raises(ValueError, match="write =="):
        read(loose)
