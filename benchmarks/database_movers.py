"""Who moves lineitem from where to where: hygge and its peers, each in a process of its own.

A mover gives the seconds that it took: `whole` from the start of its process to the end, `move`
without what comes before the first row and after the last (hygge: `done_at - started_at` of its
report; peers in Python: without their imports; command-line clients of the servers: as whole).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from database_servers import Failed, MariaDB, Postgres
from processor import Sampler

HERE = Path(__file__).parent
PEERS = HERE / ".venv" / "bin" / "python"
Took = dict[str, float]


@dataclass
class Bench:
    """Where everything is, and the servers that run."""

    folder: Path
    source: Path
    timeout_s: float
    pg: Postgres | None = None
    my: MariaDB | None = None

    @property
    def out(self) -> Path:
        """Where a mover writes its files; emptied before each."""
        return self.folder / "out"

    def run(self, command: list[Any], may_fail: bool = False) -> tuple[str, Took]:
        """What a process printed, and what it took; Failed with its last words if it fails."""
        alone = {name: text for name, text in os.environ.items() if name[:4] != "RAY_"}
        began = time.monotonic()
        with subprocess.Popen(
            list(map(str, command)), env=alone, text=True, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        ) as program, self.watching(program.pid) as watched:  # fmt: skip
            try:
                out, words = program.communicate(timeout=self.timeout_s)
            except BaseException as error:
                os.killpg(program.pid, 9)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise Failed(f"not done in {self.timeout_s:.0f} s") from error
                raise
            took = time.monotonic() - began
        if program.returncode and not may_fail:
            what = f"{Path(command[0]).name} {Path(command[1]).name}"
            raise Failed(f"{what} ended with {program.returncode}\n{(out + words)[-2000:]}")
        return out, {"whole": took, "move": took, **watched.seconds()}

    def watching(self, pid: int) -> Any:
        """What looks on while a process runs: a context manager with `seconds()`."""
        servers = [each.process.pid for each in (self.pg, self.my) if each is not None]
        return Sampler(pid, servers)

    def peer(self, script: str, *words: Any) -> Took:
        if not PEERS.exists():
            raise Failed(f"the peers are not installed: make bench makes {PEERS.parent.parent}")
        said, took = self.run([PEERS, HERE / "peers" / script, *words])
        seconds = said.strip().rpartition("\n")[2]
        try:
            return {**took, "move": float(seconds)}
        except ValueError:
            return took

    def hygge(self, home: Any, store: Any, **flow: Any) -> Took:
        """One flow of a file, by the command, as somebody types it."""
        settings = {
            "state": str(self.out / "state"),
            "connections": self.connections(),
            "flows": {"lineitem": {"home": home, "store": store, **flow}},
        }
        path = self.folder / "flows.yml"
        path.write_text(json.dumps(settings))
        command = Path(sys.executable).parent / "hygge"
        said, took = self.run([command, path, "--json", "--quiet"], may_fail=True)
        lines = said.splitlines()
        if not lines or not lines[-1].startswith('{"hygge_report"'):
            raise Failed(f"hygge gave no report\n{said[-2000:]}")
        report = json.loads(lines[-1])["hygge_report"]["flows"][0]
        if report["status"] != "done":
            raise Failed(f"hygge {report['status']}: {report['error']}")
        waits = {name: report[name] for name in ("wait_home_s", "wait_store_s", "lanes", "splits")}
        return {**took, "move": report["done_at"] - report["started_at"], **waits}

    def connections(self) -> dict[str, str]:
        found = {}
        if self.pg is not None:
            found["pg"] = self.pg.url
        if self.my is not None:
            found |= {name: self.my.url(name) for name in ("source", "target")}
        return found


def versions() -> str:
    """Of what is compared here."""
    told = [
        "import importlib.metadata as m",
        "print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]))",
    ]
    run = "; ".join(["import sys", *told])
    said = []
    for python, names in (
        (Path(sys.executable), ("hygge-data", "ray", "pyarrow")),
        (PEERS, ("dlt", "connectorx", "adbc-driver-postgresql", "pyarrow")),
    ):
        if python.exists():
            ran = subprocess.run([python, "-c", run, *names], capture_output=True, text=True)
            said.append(ran.stdout.strip() or f"{python} does not say")
    return "; ".join(said)


PG_SOURCE = {"connection": "pg", "table": "public.lineitem"}
PG_TARGET = {"connection": "pg", "table": "target.lineitem"}
MY_SOURCE = {"connection": "source", "table": "lineitem"}
MY_TARGET = {"connection": "target", "table": "lineitem"}


def copying(bench: Bench, sql: str) -> str:
    """A psql that runs one COPY, as a shell writes it."""
    assert bench.pg is not None
    program = bench.pg.programs / "psql"
    return f"'{program}' -Xq -v ON_ERROR_STOP=1 -d '{bench.pg.url}' -c \"{sql}\""


def shell(bench: Bench, line: str) -> Took:
    return bench.run(["/bin/bash", "-o", "pipefail", "-c", line])[1]


def hygge_pg_read(bench: Bench) -> Took:
    return bench.hygge(PG_SOURCE, str(bench.out / "out"))


def psql_csv(bench: Bench) -> Took:
    copy = "COPY (SELECT * FROM lineitem) TO STDOUT (FORMAT csv)"
    return shell(bench, f"{copying(bench, copy)} > /dev/null")


def dlt_read(backend: str) -> Callable[[Bench], Took]:
    def read(bench: Bench) -> Took:
        assert bench.pg is not None
        driver = {"pyarrow": "postgresql+psycopg"}.get(backend, "postgresql")
        url = bench.pg.url.replace("postgresql", driver, 1)
        return bench.peer("dlt_read.py", url, bench.out, backend)

    return read


def hygge_pg_write(bench: Bench) -> Took:
    return bench.hygge(str(bench.source), PG_TARGET)


PG_TABLE = (
    "l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, "
    "l_linenumber integer NOT NULL, l_quantity numeric(15,2) NOT NULL, "
    "l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL, "
    "l_tax numeric(15,2) NOT NULL, l_returnflag text NOT NULL, l_linestatus text NOT NULL, "
    "l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, "
    "l_shipinstruct text NOT NULL, l_shipmode text NOT NULL, l_comment text NOT NULL"
)


def empty_pg_target(bench: Bench) -> None:
    assert bench.pg is not None
    bench.pg.ask(f"CREATE TABLE target.lineitem ({PG_TABLE})")


def psql_binary(bench: Bench) -> Took:
    empty_pg_target(bench)
    copy = "COPY target.lineitem FROM STDIN (FORMAT binary)"
    return shell(bench, f"{copying(bench, copy)} < '{bench.folder / 'lineitem.pgcopy'}'")


def adbc_ingest(bench: Bench) -> Took:
    assert bench.pg is not None
    return bench.peer("adbc_ingest.py", bench.pg.url, bench.source)


def hygge_pg_pg(bench: Bench) -> Took:
    return bench.hygge(PG_SOURCE, PG_TARGET)


def psql_pipe(bench: Bench) -> Took:
    empty_pg_target(bench)
    out = copying(bench, "COPY lineitem TO STDOUT (FORMAT binary)")
    into = copying(bench, "COPY target.lineitem FROM STDIN (FORMAT binary)")
    return shell(bench, f"{out} | {into}")


def hygge_my_read(bench: Bench) -> Took:
    return bench.hygge(MY_SOURCE, str(bench.out / "out"))


def connectorx_my(bench: Bench) -> Took:
    assert bench.my is not None
    (bench.out / "out").mkdir()
    url = bench.my.url("source")
    return bench.peer("connectorx_read.py", url, bench.out / "out" / "lineitem.parquet")


def hygge_my_write(bench: Bench) -> Took:
    return bench.hygge(str(bench.source), MY_TARGET)


MY_TABLE = (
    "l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, "
    "l_linenumber int NOT NULL, l_quantity decimal(15,2) NOT NULL, "
    "l_extendedprice decimal(15,2) NOT NULL, l_discount decimal(15,2) NOT NULL, "
    "l_tax decimal(15,2) NOT NULL, l_returnflag {0} NOT NULL, l_linestatus {0} NOT NULL, "
    "l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, "
    "l_shipinstruct {0} NOT NULL, l_shipmode {0} NOT NULL, l_comment {0} NOT NULL"
)
MY_TEXT = "longtext COLLATE utf8mb4_bin"
MY_ENDS = "FIELDS TERMINATED BY '\\t' LINES TERMINATED BY '\\n'"


def load_data(bench: Bench) -> Took:
    """By the server's own client; LOCAL, since hygge's rows come over the connection as well."""
    assert bench.my is not None
    bench.my.ask(f"CREATE TABLE target.lineitem ({MY_TABLE.format(MY_TEXT)}) ENGINE=InnoDB")
    ready = bench.folder / "lineitem.tsv"
    sql = f"LOAD DATA LOCAL INFILE '{ready}' INTO TABLE target.lineitem {MY_ENDS}"
    return bench.run(bench.my.client(sql))[1]


def clear(bench: Bench) -> None:
    """Before each mover: no output, targets fresh, nothing of others left to write."""
    shutil.rmtree(bench.out, ignore_errors=True)
    bench.out.mkdir(parents=True)
    for server in (bench.pg, bench.my):
        if server is not None:
            server.fresh()
    bench.source.read_bytes()  # warm for everybody
    os.sync()
