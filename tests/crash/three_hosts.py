"""TPC-H lineitem from PostgreSQL to a bucket on three hosts, while one thing after another dies.

Life of it: a PostgreSQL and an S3 endpoint on this machine → three hosts, each with an address, a
disk and a Ray node of its own (`cluster/hosts.py`, so root) → of each case `ray job submit -- hygge
flows.yml` to a fresh target; when a third of the splits is sealed, the case does its worst → where
the submission failed, the same command again → DuckDB, which knows nothing of hygge, compares every
value of every object with the file that the table came from → last, `cluster/smoke.py`.

    python -m tests.crash.three_hosts               # SF1, all cases; about 15 minutes
    python -m tests.crash.three_hosts --sf 0.1 --only node

Ends with 1 where a value is wrong, a run was not done in the end, or one was not struck half way.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TREE), str(TREE / "cluster"), str(TREE / "benchmarks")]

import duckdb  # noqa: E402
import local  # noqa: E402  # cluster/local.py
from hosts import Host  # noqa: E402
from parquet_to_parquet import lineitem  # noqa: E402
from ray_hosts import RayHosts, token_settings  # noqa: E402

from tests.readers.objects import all_keys, listing  # noqa: E402
from tests.servers import s3  # noqa: E402
from tests.servers.forward import HERE, Forward  # noqa: E402
from tests.servers.postgres import Server  # noqa: E402
from tests.waiting import free_port  # noqa: E402

import psutil  # noqa: E402  # isort: skip  # Ray's own, which is on the path by now

HOSTS, SPLITS = 3, 24
CUT_S = 100.0
"""Longer than Ray takes a silent node for alive: about 65 s."""
MOST_S = 900.0
BYTES_A_SF = 750e6
"""Of the table, as PostgreSQL sends it."""
KEY = ("l_orderkey", "l_linenumber")
WITHOUT_HYGGE = """
import sys
class WithoutHygge:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hygge":
            raise ModuleNotFoundError("No module named 'hygge'", name="hygge")
sys.meta_path.insert(0, WithoutHygge())
"""
"""A sitecustomize.py."""


@dataclass
class World:
    """What the cases share."""

    folder: Path
    source: Path
    database: Server
    token: dict[str, str]
    ray: RayHosts | None = None
    ways: list[Forward] = field(default_factory=list)
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    """Of the database and of the bucket, as the hosts know them; the same for all of a run's tries,
    or the flow would be another one."""
    whole_s: float = 0.0

    def stand(self, rate: float) -> RayHosts:
        """Three hosts with Ray, which know the bucket and reach the database."""
        to_database, to_bucket = self.ports
        settings = self.token | s3.environment(f"http://{HERE}:{to_bucket}")
        self.ray = RayHosts(self.folder, settings, cpus=1, store_mib=400, dashboard=True)
        for _ in range(HOSTS):
            self.ray.add()
        bucket = int(s3.started().rpartition(":")[2])
        self.ways = [
            Forward(self.database.port, to_database, rate),
            Forward(bucket, to_bucket),
        ]
        return self.ray

    def down(self) -> None:
        if self.ray is not None:
            self.ray.down()
        for way in self.ways:
            way.close()
        self.ray, self.ways = None, []


@dataclass(frozen=True)
class Case:
    """What is done to a run, to whom, and whether it must be submitted again for it."""

    title: str
    strike: Callable[[World], None]
    consistency: str = "snapshot"
    head_dies: bool = False
    bad_node: Callable[[World], Host] | None = None
    """Adds a node on which no lane can run, before the run is submitted."""
    why: str = ""
    """The reason for which the run must leave that node, as its output says it."""
    lanes: int = HOSTS
    says: str = ""
    """What the report must say."""


def nothing(world: World) -> None:
    """Nobody dies."""


def cut_a_node(world: World) -> None:
    world.ray.network.cut(world.ray.nodes[-1][0])


def kill_a_node(world: World) -> None:
    world.ray.nodes[-1][0].die()


def kill_the_driver(world: World) -> None:
    """The process of the flow's own job; not the shell that Ray starts it by."""
    for process in local.descendants():
        with contextlib.suppress(psutil.Error):  # some end while one looks
            words = process.cmdline()
            if "hygge" in words and "--select" in words and "python" in words[0]:
                process.send_signal(signal.SIGKILL)
                return
    raise AssertionError("there is no driver of a flow")


def add_a_node(world: World) -> None:
    world.ray.add()


def kill_the_head(world: World) -> None:
    world.ray.head.die()


def add_a_node_without_hygge(world: World) -> Host:
    """A node whose Python cannot import hygge, as one of a wrong image."""
    broken = world.folder / "without-hygge"
    broken.mkdir(exist_ok=True)
    (broken / "sitecustomize.py").write_text(WITHOUT_HYGGE)
    return world.ray.add(settings={"PYTHONPATH": str(broken)})


CASES = {
    "whole": Case("nobody dies", nothing),
    "cut": Case(f"a node is cut off for {CUT_S:.0f} s", cut_a_node),
    "node": Case("a node is killed", kill_a_node),
    "late": Case(
        "a node joins when the run is under way",
        add_a_node,
        lanes=HOSTS + 1,
        says=f"{SPLITS} splits over {HOSTS + 1} lanes",
    ),
    "driver": Case("the flow's driver is killed", kill_the_driver, "split"),
    "bare": Case(
        "a node has no hygge",
        nothing,
        bad_node=add_a_node_without_hygge,
        why="hygge cannot be imported there: ModuleNotFoundError",
    ),
    "head": Case("the head is killed", kill_the_head, "split", head_dies=True),
}


def run(name: str, case: Case, world: World, rate: float) -> str:
    """One case; gives a line about it, or raises AssertionError."""
    if world.ray is None:
        world.stand(rate)
    target, state = f"s3://{s3.BUCKET}/{name}/lineitem", f"s3://{s3.BUCKET}/{name}/state"
    bad = case.bad_node(world) if case.bad_node else None
    work = world.folder / f"work-{name}"
    work.mkdir()

    (work / "flows.yml").write_text(
        f"state: {state}\nflows:\n  lineitem:\n    consistency: {case.consistency}\n"
        f"    home:\n      connection: postgresql://postgres@{HERE}:{world.ports[0]}/postgres\n"
        f"      table: public.lineitem\n      options: {{splits: {SPLITS}}}\n"
        f"    store: {target}\n    lanes: {case.lanes}\n"
    )

    def submit() -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("ray")), "job", "submit"]
        command += ["--working-dir", str(work), "--", "hygge", "flows.yml"]
        with (world.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, env=world.ray.environment, stdout=log, stderr=log, cwd=work
            )

    began = time.monotonic()
    submitted, struck, mended = submit(), 0.0, True
    while submitted.poll() is None:
        now = time.monotonic()
        assert now - began < MOST_S, "it hangs"
        if not struck and sealed(state) >= SPLITS // 3:
            case.strike(world)
            struck, mended = now, name != "cut"
            if case.head_dies:
                submitted.kill()  # it would ask for ever
                submitted.wait()
        if not mended and now - struck > CUT_S:
            world.ray.network.mend(world.ray.nodes[-1][0])
            mended = True
        time.sleep(0.1)
    assert struck, "it ended before it was struck"
    before, again = sealed(state), 0
    while submitted.returncode != 0:
        again += 1
        assert again < 3, f"failed again and again: see {world.folder / name}.log"
        if case.head_dies and again == 1:
            world.down()
            world.stand(rate)
        submitted = submit()
        submitted.wait(MOST_S)
    took, after = time.monotonic() - began, time.monotonic() - struck
    compare(target, world.source)
    log = (world.folder / f"{name}.log").read_text()
    said = sorted({line for line in log.splitlines() if "already staged" in line})
    assert case.says in log, f"the report does not say '{case.says}'"
    if bad is not None:
        left = [line for line in log.splitlines() if "was left, and its splits" in line]
        named = [line for line in left if case.why in line and bad.address in line]
        assert named, f"the report does not name {bad.address} with its reason: {left}"
        bad.die()
        world.ray.nodes.pop()
    if not mended:
        world.ray.network.mend(world.ray.nodes[-1][0])
    if name == "late":
        world.ray.nodes.pop()[0].die()
    if name in ("cut", "node"):  # Ray has given the node up: another comes in its place
        world.ray.nodes[-1][0].die()
        world.ray.nodes.pop()
        world.ray.add()
    parts = [f"{case.title:34} {took:6.1f} s"]
    if name == "whole":
        world.whole_s = took
    elif bad is not None:
        parts.append("the node was left and named")
    else:
        cost = f", {took - world.whole_s:+.1f} s of the undisturbed run" if world.whole_s else ""
        parts.append(f"done {after:.1f} s after the fault{cost}")
        parts.append(f"{before} of {SPLITS} sealed by then" if again else "the same submission")
    if again:
        parts.append(f"submitted {again + 1} times")
    return "; ".join([*parts, *(line.strip() for line in said)])


def smoke(world: World, rate: float) -> str:
    """`cluster/smoke.py`, which kills a node by itself."""
    if world.ray is None:
        world.stand(rate)
    script = str(TREE / "cluster" / "smoke.py")
    command = world.ray.head.inside(sys.executable, script, "--store", str(world.folder))
    ran = subprocess.run(
        command, env=world.ray.environment, text=True, capture_output=True, timeout=MOST_S
    )
    assert ran.returncode == 0, f"it ended with {ran.returncode}: {ran.stdout}{ran.stderr}"
    return f"{'cluster/smoke.py':34} {ran.stdout.splitlines()[-1]}"


def sealed(state: str) -> int:
    """Receipts in the journal: splits that a dead driver would not lose."""
    return len([key for key in all_keys(state, "flows/") if "/receipts/" in key])


def compare(target: str, source: Path) -> None:
    """Every value of what a plain listing shows, with the file that the table came from."""
    with tempfile.TemporaryDirectory(prefix="hygge-seen-") as seen:
        for name, content in listing(target).items():
            Path(seen, name.replace("/", "-")).write_bytes(content)
        with duckdb.connect() as reader:
            reader.execute(f"CREATE VIEW source AS FROM '{source}'")
            reader.execute(f"CREATE VIEW moved AS FROM '{seen}/*.parquet'")
            columns = [row[0] for row in reader.execute("DESCRIBE source").fetchall()]
            there = [row[0] for row in reader.execute("DESCRIBE moved").fetchall()]
            assert columns == there, f"{columns} != {there}"
            same = " AND ".join(f"s.{each} IS NOT DISTINCT FROM m.{each}" for each in columns)
            rows, got, equal = reader.execute(
                "SELECT (SELECT count(*) FROM source), (SELECT count(*) FROM moved), count(*) "
                f"FROM source s JOIN moved m USING ({', '.join(KEY)}) WHERE {same}"
            ).fetchone()
    assert rows == got == equal, f"{rows:,} rows in the source, {got:,} moved, {equal:,} equal"


def load(database: Server, source: Path, folder: Path) -> None:
    """The table, with its key, and nothing that hygge has touched."""
    kinds = {"VARCHAR": "text", "INTEGER": "int"}
    with duckdb.connect() as reader:
        told = reader.execute(f"DESCRIBE FROM '{source}'").fetchall()
        reader.execute(f"COPY (FROM '{source}') TO '{folder}/lineitem.csv' (HEADER false)")
    columns = ", ".join(f"{row[0]} {kinds.get(row[1], row[1])}" for row in told)
    with database.connect() as connection:
        connection.execute(f"CREATE TABLE lineitem ({columns})")
        copying = connection.cursor().copy("COPY lineitem FROM STDIN (FORMAT csv)")
        with copying as copy, open(folder / "lineitem.csv", "rb") as file:
            while chunk := file.read(1 << 20):
                copy.write(chunk)
        connection.execute(f"ALTER TABLE lineitem ADD PRIMARY KEY ({', '.join(KEY)})")
        connection.execute("ANALYZE lineitem")
    os.unlink(folder / "lineitem.csv")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # its work


def main() -> int:
    names = [*CASES, "smoke"]
    parser = argparse.ArgumentParser(description="lineitem on three hosts, with faults.")
    parser.add_argument("--sf", default="1", help="TPC-H scale (1)")
    parser.add_argument("--only", default=",".join(names), help=f"of {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=25, help="the move takes at least these")
    asked = parser.parse_args()
    if not local.hosts.can_stand():
        say("hosts of their own need root and iproute2")
        return 2
    local.listen()
    local.adopt_orphans()
    # A short path: the sockets of a session live below it, and a socket's path has 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="hygge-3-", dir="/tmp"))
    os.environ.update(s3.environment())
    os.environ.pop("RAY_ADDRESS", None)
    token = token_settings(folder)
    os.environ.update(token)
    rate = float(asked.sf) * BYTES_A_SF / HOSTS / asked.seconds
    world, failed = World(folder, lineitem(asked.sf), Server(), token), []
    say(f"lineitem SF{asked.sf}, {HOSTS} hosts, {SPLITS} splits, load {os.getloadavg()[0]:.1f}")
    try:
        load(world.database, world.source, folder)
        for name in asked.only.split(","):
            try:
                if name == "smoke":
                    say(f"  {smoke(world, rate)}")
                else:
                    say(f"  {run(name, CASES[name], world, rate)}; every value equal")
            except Exception as error:
                failed.append(name)
                say(f"  {name}: FAILED: {error} ({folder}/{name}.log)")
                world.down()
    finally:
        world.down()
        world.database.stop()
        shutil.rmtree(world.database.folder)
    if not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
