"""hygge and its peers on the same data, in one run.

    make bench                # scale 0.1, one round, ten minutes once the environments are made
    make bench FULL=1         # scale 1, three rounds: hours
    python -m benchmarks.suite --jobs parquet_to_parquet,pg_to_parquet --contenders hygge,DuckDB

Ends with 1 where hygge failed or moved something wrong, or (at scale 1 and three rounds, or with
--judge) where a bar is above; with 3 where all is well but something could not be measured. A quick
run, which has --minutes, does not end with 3.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import chart, report
from .bars import BARS, Bar, judge
from .contenders import FOLDER, Contender, all_contenders
from .environments import NotInstalled, environment
from .jobs import JOBS, Job, jobs_of
from .room import GB_A_SCALE, Room
from .rounds import WRONG, Result, Rounds

RESULTS = Path(__file__).parent.parent / "results"


def main(argv: list[str] | None = None, bars: tuple[Bar, ...] = BARS) -> int:
    given = _parse(argv)
    jobs, contenders = _chosen(given)
    for contender in contenders:  # now, so that it takes none of the minutes
        if any(contender.does(job.function) for job in jobs):
            with contextlib.suppress(NotInstalled):
                environment(contender)
    until = time.monotonic() + given.minutes * 60 if given.minutes else None
    room_folder = _room(given, jobs)
    try:
        room = Room(room_folder, given.scale)
        wanted = {server for job in jobs for server in job.servers}
        rounds = Rounds(
            room, given.rounds, timeout_s=120 + 600 * float(given.scale),
            is_time_left=lambda: until is None or time.monotonic() < until,
            is_quick=until is not None,
        )  # fmt: skip
        with room.servers(wanted):
            versions = [f"{server.name} {server.version}" for server in room.running]
            told = report.facts(given.scale, given.rounds, contenders, versions)
            if told.is_busy:
                print(f"WARNING: load {told.load:.1f}: times are noise", file=sys.stderr)
            results = [each for job in jobs for each in rounds.run(job, contenders)]
    finally:
        shutil.rmtree(room_folder, ignore_errors=True)
    is_judged = given.judge or (float(given.scale) >= 1 and given.rounds >= 3)
    judged = judge(results, bars)
    given.out.mkdir(parents=True, exist_ok=True)
    markdown = report.as_markdown(told, results, judged, is_judged)
    (given.out / "results.md").write_text(markdown)
    (given.out / "results.json").write_text(report.as_json(told, results, judged))
    chart.write(given.out, told, results)
    print(markdown)
    print(f"written: results.md, results.json and two charts in {given.out}")
    code = _code(results, [each.is_above for each in judged if is_judged])
    return 0 if code == 3 and until else code  # a quick run leaves some out


def _code(results: list[Result], above: list[bool]) -> int:
    mine = [result for result in results if result.contender.startswith("hygge")]
    broken = [result for result in mine if result.status in (WRONG, "failed")]
    for result in broken:
        print(f"BROKEN: {result.job}: {result.contender}: {result.words}", file=sys.stderr)
    if broken or any(above):
        return 1
    return 3 if any(result.status in ("failed", "not installed", "left out")
                    for result in results) else 0  # fmt: skip


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suite", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--scale", default="0.1", help="TPC-H's (1: 6 million rows)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="quick: begin nothing after so many")
    parser.add_argument("--jobs", default="", help=f"of {', '.join(JOBS)}")
    parser.add_argument("--contenders", default="", help="names, or their beginnings")
    parser.add_argument("--judge", action="store_true", help="judge the bars at any scale")
    parser.add_argument("--room", type=Path, help="folder for servers and files, made if missing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the contenders' files")
    return parser.parse_args(argv)


def _chosen(given: argparse.Namespace) -> tuple[list[Job], list[Contender]]:
    jobs = jobs_of(given.jobs)
    contenders = all_contenders(given.folder)
    starts = [name.strip().lower() for name in given.contenders.split(",") if name.strip()]
    if starts:
        known = [each.name.lower() for each in contenders]
        for start in starts:
            if not any(name.startswith(start) for name in known):
                raise SystemExit(f"no contender begins with {start!r}: {', '.join(known)}")
        contenders = [each for each in contenders if each.name.lower().startswith(tuple(starts))]
    return jobs, contenders


def _room(given: argparse.Namespace, jobs: list[Job]) -> Path:
    """A new folder with room enough for what the jobs write."""
    wanted = {server for job in jobs for server in job.servers} | {""}
    needed = sum(GB_A_SCALE[each] for each in wanted) * float(given.scale) + 1
    if given.room:
        given.room.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="hygge-bench-", dir=given.room))
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed:
        folder.rmdir()
        raise SystemExit(
            f"{folder.parent} has {free:.0f} GB free, and this needs {needed:.0f}: give --room"
        )
    folder.chmod(0o755)  # the servers run as other users
    return folder


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and files go
    sys.exit(main())
