"""Two commits of hygge on the same jobs, in turn, by CPU seconds: `make bench-guard BASE=main`.

CPU seconds are less disturbed by what else the machine does than times are. Each job runs
`--rounds` times by each commit, in changing order. Ends with 1 where this checkout needs more than
`--most` times the CPU of the base at a job, client and server together, or moves something wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .contenders import FOLDER, read
from .jobs import JOBS, jobs_of
from .room import ROOT, Room
from .rounds import DONE, Result, Rounds

DEFAULT_JOBS = "parquet_to_parquet,csv_to_parquet,jsonl_to_parquet,sqlite_to_parquet,pg_to_parquet"
BASE, HERE = "base", "here"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite.guard")
    parser.add_argument("--base", required=True, help="a commit, a branch or a tag")
    parser.add_argument("--scale", default="0.1", help="TPC-H's (1: 6 million rows)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", default=DEFAULT_JOBS, help=f"of {', '.join(JOBS)}")
    parser.add_argument("--variant", default="hygge inline", help="or 'hygge on Ray'")
    parser.add_argument("--most", type=float, default=1.05, help="the ratio that is allowed")
    given = parser.parse_args(argv)
    jobs = jobs_of(given.jobs)
    variant = next(each for each in read(FOLDER / "by_hygge.py") if each.name == given.variant)
    folder = Path(tempfile.mkdtemp(prefix="hygge-guard-"))
    folder.chmod(0o755)  # the servers run as other users
    try:
        base = _checkout(given.base, folder / BASE)
        both = [dataclasses.replace(variant, name=name) for name in (BASE, HERE)]
        room = Room(folder, given.scale)
        rounds = Rounds(
            room, given.rounds, timeout_s=120 + 600 * float(given.scale),
            python_path={BASE: str(base), HERE: str(ROOT)},
        )  # fmt: skip
        with room.servers({server for job in jobs for server in job.servers}):
            results = [each for job in jobs for each in rounds.run(job, both)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return table(results, given.most)


def table(results: list[Result], most: float) -> int:
    """Print the ratios; 1 where one is above `most`, or a run of this checkout is no result."""
    by_key = {(result.job, result.contender): result for result in results}
    above = False
    print("| job | base CPU s | here CPU s | ratio | |")
    print("|---|---:|---:|---:|---|")
    for job in dict.fromkeys(result.job for result in results):
        base, here = by_key[job, BASE], by_key[job, HERE]
        if base.status != DONE or here.status != DONE:
            words = f"base {base.status} {base.words}; here {here.status} {here.words}"
            above |= here.status != DONE
            print(f"| {job} | | | | {words} |")
            continue
        before, now = cpu(base), cpu(here)
        ratio = now / before
        above |= ratio > most
        word = "**ABOVE**" if ratio > most else ""
        print(f"| {job} | {before:.2f} | {now:.2f} | {ratio:.3f} | {word} |")
    return int(above)


def cpu(result: Result) -> float:
    """The least of the rounds: what disturbs only adds."""
    return min(run["cpu_s"] + run["server_cpu_s"] for run in result.runs)


def _checkout(commit: str, folder: Path) -> Path:
    """The source of hygge as of a commit."""
    folder.mkdir(parents=True)
    packed = subprocess.run(
        ["git", "archive", commit, "hygge"], cwd=ROOT, capture_output=True, check=False
    )
    if packed.returncode:
        raise SystemExit(f"{commit!r} is no commit here: {packed.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
