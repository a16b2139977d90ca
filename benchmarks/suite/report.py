"""The report of a run, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .bars import Judged
from .contenders import Contender
from .jobs import JOBS
from .rounds import DONE, WRONG, Result

ROOT = Path(__file__).parent.parent.parent
COLUMNS = (
    ("whole_s", "whole s", "{:.2f}"),
    ("move_s", "move s", "{:.2f}"),
    ("cpu_s", "CPU s", "{:.1f}"),
    ("server_cpu_s", "server CPU s", "{:.1f}"),
    ("peak_mb", "peak MB", "{:.0f}"),
    ("written_mb", "written MB", "{:.0f}"),
)


@dataclass(frozen=True)
class Facts:
    """Where, when and with what a run was."""

    machine: str
    load: float
    """Of the machine when the run began."""
    date: str
    command: str
    commit: str
    scale: str
    rounds: int
    versions: dict[str, str]

    @property
    def is_busy(self) -> bool:
        return self.load > 0.5


def facts(scale: str, rounds: int, contenders: list[Contender], extra: list[str]) -> Facts:
    """`extra` are the versions of servers."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {_processor()}, {platform.system()}"
    versions = {name: _version(name) for name in ("hygge-data", "ray", "pyarrow")}
    versions |= {"Python": platform.python_version(), **dict(each.split(" ", 1) for each in extra)}
    for contender in contenders:
        if contender.packages:
            versions[f"{contender.file.stem}.py"] = ", ".join(contender.packages)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    command = "python -m benchmarks.suite " + " ".join(sys.argv[1:])
    load = os.getloadavg()[0]
    return Facts(machine, load, now, command.strip(), _commit(), scale, rounds, versions)


def as_json(facts: Facts, results: list[Result], judged: list[Judged]) -> str:
    bars = [{**asdict(each.bar), "value": each.value, "why": each.why, "is_above": each.is_above}
            for each in judged]  # fmt: skip
    content = {"facts": asdict(facts), "results": [asdict(r) for r in results], "bars": bars}
    return json.dumps(content, indent=1, ensure_ascii=False)


def as_markdown(facts: Facts, results: list[Result], judged: list[Judged], is_judged: bool) -> str:
    """Facts, a table a job (the quickest first), and the bars."""
    lines = [
        f"{facts.date}, {facts.machine}; commit {facts.commit}; TPC-H scale {facts.scale}, "
        f"medians of {facts.rounds} (least–most); load {facts.load:.1f} at the start.",
        f"`{facts.command}`", "",
    ]  # fmt: skip
    if facts.is_busy:
        lines += ["**The machine was busy: times and their ratios are noise.**", ""]
    for job in dict.fromkeys(result.job for result in results):
        lines += _job(job, [result for result in results if result.job == job])
    lines += _bars(judged, is_judged)
    lines += ["## Versions", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in facts.versions.items()]
    return "\n".join(lines) + "\n"


def _job(job: str, results: list[Result]) -> list[str]:
    names = " | ".join(title for _, title, _ in COLUMNS)
    lines = [f"## {JOBS[job].title}", "", f"| | {names} | values and types |"]
    lines.append("|---|" + "---:|" * len(COLUMNS) + "---|")
    for result in sorted(results, key=lambda each: each.median("whole_s") or 1e9):
        cells = [_cell(result, figure, form) for figure, _, form in COLUMNS]
        lines.append(f"| {result.contender} | {' | '.join(cells)} | {verdict(result)} |")
    return [*lines, ""]


def verdict(result: Result) -> str:
    """What a reader has to know besides the times."""
    words = result.words.replace("|", "/").replace("\n", " ")
    if result.status == WRONG:
        return f"**WRONG**: {words}"
    if result.status != DONE:
        return f"{result.status}: {words}"
    if "target_mb" not in result.runs[0]:
        return "nothing to compare"
    left = max(run.get("left", 0) for run in result.runs)
    more = f"; left {left:.0f} processes behind" if left else ""
    return (f"types: {words}" if words else "exact") + more


def _cell(result: Result, figure: str, form: str) -> str:
    middle, ends = result.median(figure), result.range(figure)
    if middle is None or ends is None or result.status != DONE:
        return ""
    text = form.format(middle)
    if len(result.runs) > 1 and figure in ("whole_s", "move_s"):
        text += f" ({form.format(ends[0])}–{form.format(ends[1])})"
    return text


def _bars(judged: list[Judged], is_judged: bool) -> list[str]:
    if not judged:
        return []
    lines = ["## Bars", ""]
    if not is_judged:
        lines += ["They are for scale 1 and medians of three: nothing is judged here.", ""]
    return [*lines, *bars_table(judged), ""]


def bars_table(judged: list[Judged]) -> list[str]:
    """A line for each bar: what was measured beside it."""
    lines = ["| job | of hygge | | value | bar | |", "|---|---|---|---:|---:|---|"]
    for each in judged:
        bar = each.bar
        against = f"/ {bar.peer}" if bar.peer else ("MB" if bar.figure.endswith("mb") else "s")
        against += f", {JOBS[bar.peer_job].title}" if bar.peer_job else ""
        value = f"{each.value:.2f}" if each.value is not None else ""
        word = each.why if each.value is None else "**ABOVE**" if each.is_above else "met"
        figure = bar.figure.rpartition("_")[0]
        lines.append(
            f"| {JOBS[bar.job].title} | {bar.contender}, {figure} | {against} | {value} "
            f"| {bar.most} | {word} |"
        )
    return lines


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"


def _commit() -> str:
    def git(*words: str) -> str:
        done: Any = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return str(done.stdout).strip()

    return (git("rev-parse", "--short", "HEAD") or "?") + ("+" if git("diff", "--stat") else "")
