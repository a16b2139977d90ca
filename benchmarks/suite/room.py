"""The place of a run: folders, servers, loaded tables, and what each job needs to begin.

room/out    what a mover writes; emptied before each run
room/work   everything else of a mover; emptied, too
room/ready  files that the servers' own clients load
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import data, tables
from .checks import Found, of_files
from .jobs import NEW_ROWS, Job
from .servers import Failed, MariaDB, Postgres, Server

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "samples" / "01_users_to_lake.yml"
GB_A_SCALE = {"": 4, "pg": 14, "my": 12}
"""Room on the disk, GB for each of TPC-H's scale, most of it the servers' logs."""


class Room:
    """Everything that a job needs besides a contender."""

    def __init__(self, folder: Path, scale: str) -> None:
        self.folder, self.scale = folder, scale
        self.out, self.work, self.ready = (folder / name for name in ("out", "work", "ready"))
        self.ready.mkdir(parents=True)
        self.pg: Postgres | None = None
        self.my: MariaDB | None = None
        self.missing: dict[str, str] = {}
        """Server → why it is not there."""
        self._loaded: set[tuple[str, str, int]] = set()

    @contextlib.contextmanager
    def servers(self, wanted: set[str]) -> Iterator[None]:
        """Those that the jobs need, until the end; one that cannot start is in `missing`."""
        with contextlib.ExitStack() as stack:
            for name in sorted(wanted):
                if name == "my" and (lacks := MariaDB.missing()):
                    self.missing[name] = f"MariaDB: no {lacks} (Debian: mariadb-server)"
                    continue
                try:
                    kind = Postgres if name == "pg" else MariaDB
                    setattr(self, name, stack.enter_context(kind(self.folder)))
                except Failed as error:
                    self.missing[name] = str(error)
            yield

    @property
    def running(self) -> list[Server]:
        return [server for server in (self.pg, self.my) if server is not None]

    def load(self, job: Job) -> None:
        """Make the source of a job and what its target's client loads, if they are not there."""
        for server in job.servers:
            key = (server, job.data, job.times)
            if key in self._loaded:
                continue
            self._loaded.add(key)
            if job.data == "small":
                assert self.pg is not None
                tables.load_small(self.pg)
                continue
            truth = data.truth(job.data, self.scale)
            if server == "my":
                assert self.my is not None
                tables.load_my(self.my, job.data, truth, self.ready / f"{job.data}.tsv")
                continue
            assert self.pg is not None
            ready = self.ready / f"{job.data}.pgcopy"
            tables.load_pg(self.pg, job.data, truth, ready, job.times)

    def task(self, job: Job, setting: str, address: str) -> dict[str, Any]:
        """The task that a contender's file reads."""
        truth = self.truth(job)
        source = {"pg": self.pg and self.pg.url, "my": self.my and self.my.url("source")}
        if job.source == "":
            place = ""
        elif job.source in source:
            place = source[job.source]
        elif job.times > 1:
            place = str(data.six_times(job.data, self.scale))
        else:
            place = str(data.source(job.data, job.source, self.scale))
            place = f"sqlite:///{place}" if job.source == "sqlite" else place
        target = {"pg": self.pg and self.pg.url, "my": self.my and self.my.url("target")}
        endings = {"pg": "pgcopy", "my": "tsv"}
        more: dict[str, Any] = {
            "schema": "small",
            "cursor": "l_orderkey",
            "sample": str(self.work / SAMPLE.name),
        }
        if self.my is not None:
            more["client"] = self.my.client("")[:-1]
        return {
            "job": job.function,
            "source": place,
            "table": self.table(job),
            "truth": truth,
            "out": str(self.out),
            "work": str(self.work),
            "target": target.get(job.target) or "",
            "ready": str(self.ready / f"{job.data}.{endings.get(job.target, 'none')}"),
            "setting": setting,
            "programs": str(self.pg.programs) if self.pg is not None else "",
            "address": address,
            "more": more,
        }

    def table(self, job: Job) -> str:
        if job.function == "pg_incremental":
            return "growing"
        return f"{job.data}_x{job.times}" if job.times > 1 else job.data

    def truth(self, job: Job) -> str:
        """The rows that the target must have, a file or a glob."""
        if job.data == "small":
            path = self.ready / "small.parquet"
            return str(path if path.exists() else tables.small_truth(path))
        if job.times > 1:
            return str(data.six_times(job.data, self.scale) / "*.parquet")
        if job.function == "pg_incremental":
            return str(self.ready / "grown.parquet")
        return str(data.truth(job.data, self.scale))

    def clear(self, job: Job, client: bool) -> None:
        """Before each run: no output, targets fresh, nothing of others left to write.

        `client`: the target's own client writes, which makes no table.
        """
        for folder in (self.out, self.work):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for name in job.servers:
            server = self.pg if name == "pg" else self.my
            assert server is not None
            server.fresh()
        if job.function == "pg_incremental":
            self.shrink()
        if job.function == "four_lines":
            shutil.copy(SAMPLE, self.work)
            shutil.copytree(SAMPLE.parent / "data", self.work / "data")
        if client and job.target == "pg":
            assert self.pg is not None
            self.pg.ask(f"CREATE TABLE target.{job.data} ({tables.PG[job.data]})")
        if client and job.target == "my":
            assert self.my is not None
            columns = tables.MY[job.data].format(tables.MY_TEXT)
            self.my.ask(f"CREATE TABLE target.{job.data} ({columns}) ENGINE=InnoDB")
        if job.source in ("parquet", "csv", "jsonl", "sqlite") and job.times == 1:
            with data.source(job.data, job.source, self.scale).open("rb") as file:
                while file.read(1 << 24):  # warm for everybody
                    pass
        os.sync()

    def shrink(self) -> None:
        """The table `growing` as it was before its new rows, with an index on the cursor."""
        assert self.pg is not None
        truth = self.ready / "grown.parquet"
        far = 1_000_000_000
        if not truth.exists():
            self.pg.ask("CREATE TABLE growing (LIKE lineitem)")
            self.pg.ask("INSERT INTO growing SELECT * FROM lineitem")
            self.pg.ask("CREATE INDEX ON growing (l_orderkey)")
            self.pg.ask("VACUUM (FREEZE, ANALYZE) growing")
            import duckdb

            base = data.truth("lineitem", self.scale)
            new = (
                f"SELECT * REPLACE (l_orderkey + {far} AS l_orderkey) FROM '{base}' "
                f"ORDER BY l_orderkey, l_linenumber LIMIT {NEW_ROWS}"
            )
            with duckdb.connect() as db:
                db.execute(f"COPY (FROM '{base}' UNION ALL ({new})) TO '{truth}'")
        self.pg.ask(f"DELETE FROM growing WHERE l_orderkey > {far}")

    def grow(self) -> None:
        """NEW_ROWS rows, above every value of the cursor."""
        assert self.pg is not None
        names = [line.split("|")[0] for line in self.pg.ask(tables.PG_TYPES.format("lineitem"))]
        columns = ", ".join(["l_orderkey + 1000000000", *names[1:]])
        self.pg.ask(
            f"INSERT INTO growing SELECT {columns} FROM lineitem "
            f"ORDER BY l_orderkey, l_linenumber LIMIT {NEW_ROWS}"
        )

    def check(self, job: Job) -> Found:
        """What the target of a job holds now."""
        if job.target == "pg":
            assert self.pg is not None
            return tables.of_pg(self.pg, job.data)
        if job.target == "my":
            assert self.my is not None
            return tables.of_my(self.my, job.data)
        return of_files(job.target, self.out, self.truth(job), self.table(job))

    def target_bytes(self) -> int:
        """What lies in the output folder."""
        return sum(each.stat().st_size for each in self.out.rglob("*") if each.is_file())
