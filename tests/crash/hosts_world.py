"""What the drills on three hosts share: the hosts, the table, and the look at every value.

A PostgreSQL and an S3 endpoint on this machine, and hosts that each have an address, a disk and a
Ray node of their own (`cluster/hosts.py`). `hosts_cases` says what is done to them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TREE), str(TREE / "cluster")]

import duckdb  # noqa: E402
from hosts import Host  # noqa: E402
from ray_hosts import RayHosts  # noqa: E402

from tests.readers.objects import all_keys, listing  # noqa: E402
from tests.servers import s3  # noqa: E402
from tests.servers.forward import HERE, Forward  # noqa: E402
from tests.servers.postgres import Server  # noqa: E402
from tests.waiting import free_port  # noqa: E402

HOSTS, SPLITS = 3, 24
STARTS = 4
"""Of Ray on a host, before the drill fails."""
KEY = ("l_orderkey", "l_linenumber")


@dataclass
class World:
    """What the cases share."""

    folder: Path
    source: Path
    database: Server
    token: dict[str, str]
    rate: float
    """Bytes a second from the database to a host, so that a run is long enough to be struck."""
    ray: RayHosts | None = None
    ways: list[Forward] = field(default_factory=list)
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    """Of the database and of the bucket, as the hosts know them; the same for all of a run's tries,
    or the flow would be another one."""
    whole_s: float = 0.0
    lost: list[Host] = field(default_factory=list)
    """Hosts that a case has broken or added; others come in their place when it has ended."""

    def stand(self) -> RayHosts:
        """Three hosts with Ray, which know the bucket and reach the database."""
        if self.ray is None:
            to_database, to_bucket = self.ports
            self.ray = RayHosts(self.folder, self.settings(), cpus=1, store_mib=400, dashboard=True)
            self.make_whole()
            bucket = int(s3.started().rpartition(":")[2])
            self.ways = [
                Forward(self.database.port, to_database, self.rate),
                Forward(bucket, to_bucket),
            ]
        return self.ray

    def settings(self) -> dict[str, str]:
        """The environment of every node."""
        # Ray gives way to whatever else the machine does, which here may be the hosts themselves.
        more = {"TMPDIR": str(self.folder / "disk"), "RAY_worker_niceness": "0"}
        return self.token | s3.environment(f"http://{HERE}:{self.ports[1]}") | more

    def add(
        self,
        settings: dict[str, str] | None = None,
        resources: dict[str, float] | None = None,
    ) -> Host:
        """One more host, on which drivers may run where a flow says so, but for the head."""
        if resources is None and self.ray.nodes:
            resources = {"drivers": 1}
        for _ in range(STARTS - 1):
            with contextlib.suppress(OSError):  # the machine is busy, and Ray waits for 30 s
                return self.ray.add(settings=settings, resources=resources)
        return self.ray.add(settings=settings, resources=resources)

    def slow_down(self, times: float) -> None:
        """Let the database give its rows so many times more slowly than at the start."""
        for to_database in self.ways[:1]:
            to_database.rate = self.rate / times

    def make_whole(self) -> None:
        """End the hosts that are lost, and let others come until there are three."""
        self.slow_down(1)
        for host in self.lost:
            host.die()
        self.ray.nodes = [each for each in self.ray.nodes if each[0] not in self.lost]
        self.lost.clear()
        while len(self.ray.nodes) < HOSTS:
            self.add()

    def down(self) -> None:
        if self.ray is not None:
            self.ray.down()
        for way in self.ways:
            way.close()
        self.ray, self.ways = None, []
        self.lost.clear()


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
