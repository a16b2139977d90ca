"""Put the figures of a run into README.md and docs/performance.md, with a chart beside the docs.

    make bench bench-publish
    python -m benchmarks.suite.publish --results benchmarks/results

What stands between the marks `<!-- bench -->` and `<!-- end of bench -->` of both files is
replaced; docs/benchmarks.svg is drawn anew, with a few jobs, light and dark in one file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from . import chart
from .bars import INLINE, ON_RAY, Bar, Judged
from .jobs import JOBS
from .report import ROOT, Facts, bars_table
from .rounds import DONE, LEFT_OUT, WRONG, Result

BEGIN, END = "<!-- bench -->", "<!-- end of bench -->"
SHOWN = ("parquet_to_parquet", "csv_to_parquet", "pg_to_parquet", "pg_to_pg", "pg_small_tables")
CHART = Path("docs") / "benchmarks.svg"
ALT = "Seconds of hygge and its peers for five jobs"
NO_PEERS = ("hygge", "limit", "bare Ray")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suite.publish",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--root", type=Path, default=ROOT, help="where README.md and docs/ are")
    given = parser.parse_args(argv)
    file = given.results / "results.json"
    if not file.exists():
        raise SystemExit(f"{file} is not there: run `make bench` first")
    content = json.loads(file.read_text())
    facts = Facts(**content["facts"])
    results = [Result(**each) for each in content["results"]]
    shown = [each for each in results if each.job in SHOWN and each.status in (DONE, WRONG)]
    (given.root / CHART).write_text(chart.draw_both(facts, shown))
    runs = "one run each" if facts.rounds == 1 else f"medians of {facts.rounds}"
    where = f"{facts.machine}; {facts.date}, TPC-H scale {facts.scale}, {runs}"
    busy = " The machine was busy, so the figures are rough." if facts.is_busy else ""
    _replace(
        given.root / "README.md",
        f"![{ALT}]({CHART.as_posix()})\n\nOn {where}, each value compared; commit "
        f"{facts.commit}.{busy} [All jobs](docs/performance.md#measured).",
    )
    lines = [
        f"{where}; commit {facts.commit}, `{facts.command}`.{busy} Seconds of the whole process; "
        "in brackets the move.",
        "",
        *_table(results),
        "",
        "The bars are for scale 1, medians of three and two idle cores; elsewhere they tell less.",
        "",
        *bars_table(_judged(content)),
    ]
    _replace(given.root / "docs" / "performance.md", "\n".join(lines))
    print(f"written: {CHART}, and what is between the marks of README.md and docs/performance.md")
    return 0


def _table(results: list[Result]) -> list[str]:
    """A line a job: hygge, the quickest peer that moved all values, the server's own client."""
    lines = ["| job | hygge on Ray | hygge inline | quickest peer | limit |"]
    lines.append("|---|---:|---:|---|---:|")
    for job in dict.fromkeys(result.job for result in results):
        of_job = {each.contender: each for each in results if each.job == job}
        peers = [
            each for each in of_job.values()
            if each.status == DONE and not each.contender.startswith(NO_PEERS)
        ]  # fmt: skip
        best = min(peers, key=lambda each: each.median("whole_s") or 1e9, default=None)
        peer = "" if best is None else f"{best.contender} {_seconds(best)}"
        both = [of_job.get(name) for name in (ON_RAY, INLINE)]
        mine = [_seconds(each) for each in both]
        if any(each is not None and each.status != LEFT_OUT for each in both):
            limit = _seconds(of_job.get("limit"))
            lines.append(f"| {JOBS[job].title} | {mine[0]} | {mine[1]} | {peer} | {limit} |")
    return lines


def _seconds(result: Result | None) -> str:
    if result is None:
        return ""
    whole, move = result.median("whole_s"), result.median("move_s")
    if result.status != DONE or whole is None or move is None:
        return result.status
    return f"{whole:.1f} ({move:.1f})"


def _judged(content: dict[str, Any]) -> list[Judged]:
    names = Bar.__dataclass_fields__
    return [
        Judged(Bar(**{name: each[name] for name in names}), each["value"], each["why"])
        for each in content["bars"]
    ]


def _replace(file: Path, text: str) -> None:
    """Write `text` between the marks of a file."""
    before, begin, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{file} has no marks {BEGIN} and {END}: put them where figures belong")
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
