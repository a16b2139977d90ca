"""TPC-H lineitem from PostgreSQL to a bucket on three hosts, while one thing after another dies.

Life of it: a PostgreSQL and an S3 endpoint on this machine → three hosts, each with an address, a
disk and a Ray node of its own (`cluster/hosts.py`, so root) → of each case `ray job submit -- hygge
flows.yml` to a fresh target; when a third of the splits is sealed, the case does its worst → where
the submission failed, the same command again → DuckDB, which knows nothing of hygge, compares every
value of every object with the file that the table came from → a second cluster beside the first →
last, `cluster/smoke.py`.

    python -m tests.crash.three_hosts               # SF1, all cases; about 20 minutes
    python -m tests.crash.three_hosts --sf 0.1 --only node

Ends with 1 where a value is wrong, a run was not done in the end, or one was not struck half way.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.crash.hosts_cases import CASES, CUT_S, Case
from tests.crash.hosts_world import HERE, HOSTS, SPLITS, TREE, World, compare, load, s3, sealed
from tests.servers.postgres import Server

import local  # isort: skip  # cluster/local.py
from benchmarks.suite.data import lineitem  # isort: skip
from ray_hosts import RayHosts, token_settings  # isort: skip

MOST_S = 900.0
BYTES_A_SF = 750e6
"""Of the table, as PostgreSQL sends it."""


def write_flows(world: World, name: str, case: Case) -> tuple[Path, str, str]:
    """Write flows.yml; return its folder, the target and the state."""
    target, state = f"s3://{s3.BUCKET}/{name}/lineitem", f"s3://{s3.BUCKET}/{name}/state"
    work = world.folder / f"work-{name}"
    work.mkdir()
    (work / "flows.yml").write_text(
        f"state: {state}\nflows:\n  lineitem:\n    consistency: {case.consistency}\n"
        f"    home:\n      connection: postgresql://postgres@{HERE}:{world.ports[0]}/postgres\n"
        f"      table: public.lineitem\n      options: {{splits: {SPLITS}}}\n"
        f"    store: {target}\n    lanes: {case.lanes}\n    retries: {case.retries}\n"
        + (f"    driver: {case.driver}\n" if case.driver else "")
    )
    return work, target, state


def run(name: str, case: Case, world: World) -> str:
    """One case; gives a line about it, or raises AssertionError."""
    ray = world.stand()
    work, target, state = write_flows(world, name, case)
    if case.before is not None:
        case.before(world)

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
            ray.network.mend(world.lost[-1])
            mended = True
        time.sleep(0.1)
    assert struck, "it ended before it was struck"
    before, again = sealed(state), 0
    while submitted.returncode != 0:
        again += 1
        assert again < 3, "it failed again and again"
        if case.head_dies and again == 1:
            world.down()
            world.stand()
        submitted = submit()
        submitted.wait(MOST_S)
    took, after = time.monotonic() - began, time.monotonic() - struck
    compare(target, world.source)
    log = (world.folder / f"{name}.log").read_text()
    check_words(case, world, log)
    said = sorted({line for line in log.splitlines() if "already staged" in line})
    world.make_whole()
    parts = [f"{case.title:40} {took:6.1f} s"]
    if name == "whole":
        world.whole_s = took
    elif case.leaves:
        parts.append("the node was left and named")
    else:
        cost = f", {took - world.whole_s:+.1f} s of the undisturbed run" if world.whole_s else ""
        parts.append(f"done {after:.1f} s after the fault{cost}")
        parts.append(f"{before} of {SPLITS} sealed by then" if again else "the same submission")
    if again:
        parts.append(f"submitted {again + 1} times")
    return "; ".join([*parts, *(line.strip() for line in said)])


def check_words(case: Case, world: World, log: str) -> None:
    """Raise AssertionError where the output does not say what the case asks for."""
    for words in case.says:
        words = words.format(lost=world.lost[-1].address if world.lost else "")
        assert words in log, f"the output does not say '{words}'"
    for line in log.splitlines():
        if re.search(r"\blane \d+ (failed|on node)", line):
            assert re.search(r"lane \d+ on node 10\.", line), f"no node is named: {line}"
    if case.leaves:
        left = [line for line in log.splitlines() if "was left, and its splits" in line]
        named = [line for line in left if case.leaves in line and world.lost[-1].address in line]
        assert named, f"the report does not name {world.lost[-1].address} with its reason: {left}"


def named(world: World) -> str:
    """Two clusters with one token: the one that is named runs it, and no other."""
    first = world.stand()
    folder = world.folder / "2"  # short, as above
    folder.mkdir()
    of_first = first.addresses
    settings = world.settings() | of_first | {"TMPDIR": str(folder / "disk")}
    second = RayHosts(folder, settings, cpus=1, store_mib=400, dashboard=True)
    try:
        second.add()
        second.add()
        work, target, _ = write_flows(world, "named", CASES["whole"])
        address = second.addresses["RAY_API_SERVER_ADDRESS"]
        before = jobs_of(of_first["RAY_API_SERVER_ADDRESS"], world)
        command = [sys.executable, "-m", "hygge", "flows.yml", "--address", address]
        environment = os.environ | world.settings() | of_first
        began = time.monotonic()
        ran = subprocess.run(
            command, cwd=work, env=environment, text=True, capture_output=True, timeout=MOST_S
        )
        took, said = time.monotonic() - began, ran.stdout + ran.stderr
        (world.folder / "named.log").write_text(said)
        assert ran.returncode == 0, f"it ended with {ran.returncode}"
        assert f"runs on {address}" in said, "the output does not say where it runs"
        compare(target, world.source)
        after = jobs_of(of_first["RAY_API_SERVER_ADDRESS"], world)
        there = jobs_of(address, world)
        assert after == before, f"the other cluster has jobs of it: {after - before}"
        assert len(there) == 2, f"a coordinator and a flow, and not {there}"
    finally:
        second.down()
    return f"{'two clusters with one token':40} {took:6.1f} s; only the named one had jobs"


def jobs_of(dashboard: str, world: World) -> set[Any]:
    """The ids of the jobs that a cluster knows."""
    page = urllib.request.Request(f"{dashboard}/api/jobs/")
    token = Path(world.token["RAY_AUTH_TOKEN_PATH"]).read_text()
    page.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(page, timeout=60) as answer:
        return {job["submission_id"] for job in json.loads(answer.read())}


def smoke(world: World) -> str:
    """`cluster/smoke.py`, which kills a node by itself."""
    ray = world.stand()
    script = str(TREE / "cluster" / "smoke.py")
    command = ray.head.inside(sys.executable, script, "--store", str(world.folder))
    ran = subprocess.run(
        command, env=ray.environment, text=True, capture_output=True, timeout=MOST_S
    )
    assert ran.returncode == 0, f"it ended with {ran.returncode}: {ran.stdout}{ran.stderr}"
    return f"{'cluster/smoke.py':40} {ran.stdout.splitlines()[-1]}"


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # its work


def main() -> int:
    names = [*CASES, "named", "smoke"]
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
    world, failed = World(folder, lineitem(asked.sf), Server(), token, rate), []
    say(f"lineitem SF{asked.sf}, {HOSTS} hosts, {SPLITS} splits, load {os.getloadavg()[0]:.1f}")
    others = {"named": named, "smoke": smoke}
    try:
        load(world.database, world.source, folder)
        for name in asked.only.split(","):
            try:
                if name in others:
                    say(f"  {others[name](world)}")
                else:
                    say(f"  {run(name, CASES[name], world)}; every value equal")
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
