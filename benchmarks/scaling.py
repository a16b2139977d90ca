"""Whether n nodes move n times as fast, where the source gives each reader a fixed rate.

A PostgreSQL stands behind a proxy that lets each connection have so many bytes a second, as a
database does that has CPUs of its own or a network between. Ray nodes of two CPUs each, on this
machine: one, then two, then four, and a lane on each. So what is measured is what hygge adds:
planning, splits that are handed out, the commit. The processes of the lanes stand before, as after
a flow: here the CPUs of one machine would start those of all nodes, which on a cluster each does.

    python benchmarks/scaling.py                # about four minutes
    python benchmarks/scaling.py --seconds 10   # a quick look; what is constant weighs more

Efficiency is the time of one node / (n x the time of n nodes). Exits with 1 where it is under 0.9
on the largest number of nodes, or where a value is missing at the target.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds
from suite.servers import Postgres

LEAST = 0.9
ROW_BYTES = 1000
SPLITS_A_LANE = 5


def proxy(port: int, bytes_per_second: float) -> None:
    """Print a free port, and pass each of its connections on to `port`, until it is killed."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as door:
        print(door.getsockname()[1], flush=True)
        while True:
            client, _ = door.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for ends in ((client, server, None), (server, client, bytes_per_second)):
                threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(here: socket.socket, there: socket.socket, rate: float | None) -> None:
    due = time.monotonic()
    with contextlib.suppress(OSError):
        while content := here.recv(1 << 16):
            if rate is not None:  # what was not used in time is lost
                due = max(due, time.monotonic()) + len(content) / rate
                time.sleep(max(0.0, due - time.monotonic()))
            there.sendall(content)
    for each in (here, there):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def slow_door(port: int, rate: float) -> Iterator[int]:
    """The port of a proxy in a process of its own."""
    command = [sys.executable, __file__, "--proxy", str(port), "--rate", str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def move(url: str, folder: Path, lanes: int, rows: int, splits: int) -> float:
    """Seconds of one flow over so many nodes, a lane on each; the target is compared."""
    from hygge import Flow, ParquetStore, SQLHome
    from hygge.engine.ray import lanes as engine_lanes
    from hygge.model import Limits

    while engine_lanes._idle:  # every run has lanes of its own
        engine_lanes.shut_down_lane(engine_lanes._idle.pop())
    for lane in engine_lanes.get_lanes("t", Limits(), range(lanes)):
        lane.warm(
            ("hygge.connectors.databases.home", "psycopg"), ("hygge.connectors.files.parquet",)
        )
        lane.wait(120)
        lane.is_up, lane.idle_s = True, 120.0
        engine_lanes.release_lane(lane)
    target = folder / f"lake-{lanes}"
    home = SQLHome("t", connection=url, options={"splits": splits})
    flow = Flow(home, ParquetStore("t", path=str(target)), name=f"t{lanes}", state=folder / "state")
    report = flow.run()
    nodes = {lane.node for lane in engine_lanes._idle}
    assert (report.lanes, len(nodes)) == (lanes, lanes), (report.lanes, nodes)
    column = ds.dataset(target, format="parquet").to_table(columns=["id"]).column("id")
    found = (len(column), pc.count_distinct(column).as_py(), pc.sum(column).as_py())
    if found != (rows, rows, rows * (rows + 1) // 2):
        raise SystemExit(f"{lanes} nodes: rows, different ids and their sum are {found}")
    return report.done_at - report.started_at


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=30, help="at the most nodes, if ideal")
    parser.add_argument("--rate", type=float, default=2e6, help="bytes a second a connection")
    parser.add_argument("--proxy", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.proxy:
        proxy(given.proxy, given.rate)
    most = max(given.nodes)
    rows, splits = int(given.seconds * given.rate * most / ROW_BYTES), most * SPLITS_A_LANE
    folder = Path(tempfile.mkdtemp(prefix="hygge-", dir="/tmp"))  # a short path: Ray's sockets
    folder.chmod(0o755)  # the server is run by another user where we are root
    os.environ |= {
        "RAY_TMPDIR": str(folder),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}: {rows:,} rows of {ROW_BYTES} B")
    from ray.cluster_utils import Cluster

    from hygge.engine.ray import connection

    cluster = Cluster()
    try:
        with Postgres(folder / "pg") as server, slow_door(server.port, given.rate) as door:
            server.ask(
                f"CREATE TABLE t AS SELECT i AS id, rpad(md5(i::text), {ROW_BYTES - 12}, '.') AS x "
                f"FROM generate_series(1, {rows}) i"
            )
            server.ask("VACUUM ANALYZE t")
            url = server.url.replace(f":{server.port}/", f":{door}/")
            cluster.add_node(num_cpus=0, object_store_memory=1 << 27, include_dashboard=False)
            os.environ["RAY_ADDRESS"] = cluster.address
            print("| nodes | seconds | MB/s | efficiency |")
            print("| --- | --- | --- | --- |")
            there, took, efficiency = 0, {}, 1.0
            for nodes in sorted(given.nodes):
                for _ in range(nodes - there):
                    cluster.add_node(num_cpus=2, object_store_memory=1 << 29)
                there = nodes
                connection.connect()
                took[nodes] = move(url, folder, nodes, rows, splits)
                first = min(took)
                efficiency = took[first] * first / (nodes * took[nodes])
                speed = rows * ROW_BYTES / took[nodes] / 1e6
                line = f"| {nodes} | {took[nodes]:.1f} | {speed:.1f} | {efficiency:.2f} |"
                print(line, flush=True)
            connection.disconnect()
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\nefficiency on {most} nodes {efficiency:.2f} (gate {LEAST})")
    return int(efficiency < LEAST)


if __name__ == "__main__":
    sys.exit(main())
