"""TPC-H lineitem between PostgreSQL, MariaDB and Parquet: hygge beside its peers, in one run.

Life of a run: own servers on free ports → lineitem is loaded and compared with the file it came
from → of each job `--repeat` rounds, each in another order: every mover in a process of its own, to
a fresh target, then rows, values and types of the target are compared with the source → medians and
ratios beside their gates and goals → memory → the servers end and their files go.

    python benchmarks/databases.py                     # SF1; about 20 minutes
    python benchmarks/databases.py --sf 0.1 --repeat 1 --only pg-read,pg-pg

Ends with 1 where a ratio is above its gate or hygge moved something wrong, with 3 where all that
was measured is well but something could not be measured (it says what), else with 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import database_movers as movers
from database_checks import Truth
from database_memory import memory
from database_movers import Bench, Took, clear
from database_servers import MY_SETTINGS, PG_SETTINGS, Failed, MariaDB, Postgres
from parquet_to_parquet import lineitem

BUSY = 1.5
EXACT = "exact"
GB_A_SCALE = {"jobs": 25, "memory": 15}
"""Room on the disk, GB for each of TPC-H's scale, most of it logs of the servers."""


@dataclass(frozen=True)
class Bar:
    """hygge's seconds over a peer's: at most `gate`, and `goal` is where we want to be."""

    time: str
    peer: str
    gate: float
    goal: float


@dataclass(frozen=True)
class Job:
    """One movement, by hygge and by peers; the peers `once` are too slow to be repeated."""

    title: str
    hygge: Callable[[Bench], Took]
    peers: dict[str, Callable[[Bench], Took]]
    bars: tuple[Bar, ...]
    check: Callable[[Truth], str]
    once: tuple[str, ...] = ()
    keeps_nothing: tuple[str, ...] = ()
    servers: tuple[str, ...] = ("pg",)


JOBS = {
    "pg-read": Job(
        "Postgres → Parquet",
        movers.hygge_pg_read,
        {
            "psql COPY csv > /dev/null": movers.psql_csv,
            "dlt ConnectorX": movers.dlt_read("connectorx"),
            "dlt pyarrow": movers.dlt_read("pyarrow"),
        },
        (
            Bar("move", "psql COPY csv > /dev/null", 1.35, 1.1),
            Bar("whole", "dlt ConnectorX", 1.0, 0.8),
            Bar("whole", "dlt pyarrow", 0.33, 0.25),
        ),
        Truth.of_files,
        once=("dlt pyarrow",),
        keeps_nothing=("psql COPY csv > /dev/null",),
    ),
    "pg-write": Job(
        "Parquet → Postgres",
        movers.hygge_pg_write,
        {"psql COPY binary, ready file": movers.psql_binary, "ADBC ingest": movers.adbc_ingest},
        (
            Bar("move", "psql COPY binary, ready file", 1.6, 1.25),
            Bar("move", "ADBC ingest", 0.9, 0.7),
        ),
        lambda truth: truth.of_table("pg"),
    ),
    "pg-pg": Job(
        "Postgres → Postgres",
        movers.hygge_pg_pg,
        {"psql COPY binary, piped": movers.psql_pipe},
        (Bar("move", "psql COPY binary, piped", 1.35, 1.05),),
        lambda truth: truth.of_table("pg"),
    ),
    "my-read": Job(
        "MariaDB → Parquet",
        movers.hygge_my_read,
        {"ConnectorX": movers.connectorx_my},
        (Bar("move", "ConnectorX", 1.25, 0.95),),
        Truth.of_files,
        servers=("my",),
    ),
    "my-write": Job(
        "Parquet → MariaDB",
        movers.hygge_my_write,
        {"LOAD DATA LOCAL, ready file": movers.load_data},
        (Bar("move", "LOAD DATA LOCAL, ready file", 1.5, 1.2),),
        lambda truth: truth.of_table("my"),
        servers=("my",),
    ),
}


@dataclass
class Verdict:
    """What was wrong, what is not known, and what each mover made of values and types."""

    broken: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    kept: dict[tuple[str, str], str] = field(default_factory=dict)


def measure(
    name: str, job: Job, bench: Bench, truth: Truth, repeat: int, verdict: Verdict
) -> dict[str, Took]:
    """The median of each time of each mover that could run; says each as it comes."""
    all_movers = {"hygge": job.hygge, **job.peers}
    times: dict[str, list[Took]] = {}
    failed: set[str] = set()
    for number in range(repeat):
        names = [*list(all_movers)[number % len(all_movers) :], *all_movers][: len(all_movers)]
        for who in names:
            if who in failed or (number and who in job.once):
                continue
            clear(bench)
            try:
                took = all_movers[who](bench)
                kept = "nothing kept" if who in job.keeps_nothing else job.check(truth) or EXACT
            except Failed as error:
                failed.add(who)
                said = f"{name}: {who} could not run: {error}"
                (verdict.broken if who == "hygge" else verdict.missing).append(said)
                print(f"  {said}", file=sys.stderr, flush=True)
                continue
            if who == "hygge" and kept != EXACT:
                verdict.broken.append(f"{name}: hygge's target is not its source: {kept}")
            verdict.kept[name, who] = kept
            times.setdefault(who, []).append(took)
            told = " ".join(f"{k} {v:.2f}" for k, v in took.items())
            print(f"  {name} {number + 1} {who}: {told}  {kept}",
                  file=sys.stderr, flush=True)  # fmt: skip
    return {
        who: {each: statistics.median(t.get(each, 0.0) for t in runs) for each in runs[0]}
        for who, runs in times.items()
        if who not in failed
    }


def table(results: dict[str, dict[str, Took]], verdict: Verdict) -> None:
    """The ratios, as Markdown."""
    print("\n| job | time | hygge s | against | s | ratio | gate | goal | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, took in results.items():
        job = JOBS[name]
        for bar in job.bars:
            once = " (1)" if bar.peer in job.once else ""
            if "hygge" not in took or bar.peer not in took:
                said = f"{name}: no ratio to {bar.peer}"
                verdict.missing.append(said)
                print(
                    f"| {job.title} | {bar.time} | | {bar.peer} | | | {bar.gate} | {bar.goal} | ? |"
                )
                continue
            mine, theirs = took["hygge"][bar.time], took[bar.peer][bar.time]
            ratio = mine / theirs
            word = "goal" if ratio <= bar.goal else "gate" if ratio <= bar.gate else "ABOVE"
            if ratio > bar.gate:
                verdict.broken.append(f"{name}: {ratio:.2f} of {bar.peer}, gate {bar.gate}")
            print(
                f"| {job.title} | {bar.time} | {mine:.2f} | {bar.peer}{once} | {theirs:.2f} "
                f"| {ratio:.2f} | {bar.gate} | {bar.goal} | {word} |"
            )
    print("\n| CPU seconds | client | of it home, store, inbox, Ray | server | values and types |")
    print("| --- | --- | --- | --- | --- |")
    parts = ("home", "store", "inbox", "ray")
    for name, took in results.items():
        for who, each in took.items():
            inside = [each.get(f"cpu_{part}", 0.0) for part in parts]
            told = " ".join(f"{used:.1f}" for used in inside) if who == "hygge" else ""
            client = each.get("cpu_client", 0.0) + sum(inside)
            server, kept = each.get("cpu_server", 0.0), verdict.kept[name, who]
            print(f"| {name} {who} | {client:.1f} | {told} | {server:.1f} | {kept} |")
    sys.stdout.flush()


@contextlib.contextmanager
def servers(wanted: set[str], bench: Bench, room: Path, verdict: Verdict) -> Iterator[None]:
    """Those that the jobs need; one that is not there is said."""
    with contextlib.ExitStack() as stack:
        if "pg" in wanted:
            bench.pg = stack.enter_context(Postgres(room))
            print(f"PostgreSQL {bench.pg.version}: {_settings(PG_SETTINGS)}")
        if "my" in wanted:
            if missing := MariaDB.missing():
                print(f"SKIPPED: everything with MariaDB: no {missing} (Debian: mariadb-server)")
                verdict.missing.append(f"MariaDB: no {missing} on this machine")
            else:
                bench.my = stack.enter_context(MariaDB(room))
                print(f"MariaDB {bench.my.version}: {_settings(MY_SETTINGS)}")
        sys.stdout.flush()
        yield


def _settings(settings: dict[str, str | None]) -> str:
    return ", ".join(f"{name}={value}" if value else name for name, value in settings.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sf", default="1", help="TPC-H scale factor (1: 6 million rows)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of each job")
    parser.add_argument("--only", default="", help=f"of {','.join(JOBS)},memory")
    parser.add_argument("--room", type=Path, help="folder for servers and files: 40 GB at SF1")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else [*JOBS, "memory"]
    if unknown := [name for name in names if name not in JOBS and name != "memory"]:
        parser.error(f"{unknown[0]!r} is no job: {', '.join(JOBS)}, memory")
    verdict, results = Verdict(), {}
    print(f"hygge and its peers: {movers.versions()}")
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} CPUs, load average {load:.2f} at the start", flush=True)
    if load > BUSY:
        print(f"WARNING: load above {BUSY}: wall times and their ratios are noise", flush=True)
    wanted = {each for name in names if name in JOBS for each in JOBS[name].servers}
    wanted |= {"pg", "my"} if "memory" in names else set()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and files go
    room = Path(tempfile.mkdtemp(prefix="hygge-bench-", dir=given.room))
    needed = GB_A_SCALE["jobs"] + GB_A_SCALE["memory"] * ("memory" in names)
    if shutil.disk_usage(room).free < needed * float(given.sf) * 10**9:
        room.rmdir()
        parser.error(f"{room.parent} has no {needed * float(given.sf):.0f} GB free: give --room")
    room.chmod(0o755)  # the servers run as other users
    try:
        source = lineitem(given.sf).resolve()
        bench = Bench(room, source, timeout_s=120 + 600 * float(given.sf))
        with servers(wanted, bench, room, verdict):
            truth = Truth(bench)
            truth.load()
            for name in names:
                if name in JOBS and _there(bench, JOBS[name]):
                    took = measure(name, JOBS[name], bench, truth, given.repeat, verdict)
                    results[name] = took
            table(results, verdict)
            if "memory" in names:
                memory(bench, given.sf, verdict.broken)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    for said in verdict.missing:
        print(f"not measured: {said}")
    for said in verdict.broken:
        print(f"BROKEN: {said}")
    return 1 if verdict.broken else 3 if verdict.missing else 0


def _there(bench: Bench, job: Job) -> bool:
    return all(getattr(bench, server) is not None for server in job.servers)


if __name__ == "__main__":
    sys.exit(main())
