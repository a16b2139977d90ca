"""A MariaDB of its own for the tests, on 127.0.0.1.

The programs are those of Debian's package `mariadb-server`; the server that the package starts is
never used. A test module names this plugin, `pytest_plugins = ["tests.servers.mariadb"]`, so that
all of them share one server. Without the programs the tests are skipped, in CI they fail.
They import from it too, before pytest loads it as a plugin: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pymysql
import pytest

from hygge.connectors.databases.store import SQLStore
from tests.missing import skipped_without
from tests.waiting import LIMIT_S, free_port, until

SETTINGS = {
    "bind-address": "127.0.0.1",
    "innodb-flush-log-at-trx-commit": "0",  # processes are killed here, never the machine
    "innodb-flush-method": "nosync",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "64M",
    "innodb-lock-wait-timeout": "5",
    "max-connections": "40",
    "local-infile": "1",
    "performance-schema": "0",
    "character-set-server": "latin1",  # hygge must not lean on the server's own
    "sql-mode": "",
    "skip-name-resolve": "1",
    "skip-log-bin": "1",
    "sync-frm": "0",
}
_PLACES = ("/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/bin")


def program(name: str) -> str | None:
    """Return the path of a program of MariaDB; None if it is not installed."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *_PLACES)))


class Server:
    """One server; `restart` kills it and starts it again."""

    def __init__(self) -> None:
        # In memory where there is such a place: a server makes files for every table.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="hygge-my-", dir=memory))
        self.data = self.folder / "data"
        # Nobody may run a server as root.
        self.user: dict[str, str] = {}
        if os.geteuid() == 0:
            names = {each.pw_name for each in pwd.getpwall()}
            self.user = {"user": "mysql" if "mysql" in names else "nobody"}
            os.chown(self.folder, pwd.getpwnam(self.user["user"]).pw_uid, -1)
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        if self.user:
            os.chown(self.temporary, pwd.getpwnam(self.user["user"]).pw_uid, -1)
        self.port = free_port()
        command = [program("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}"]
        command += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        made = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, **self.user
        )  # fmt: skip
        assert made.returncode == 0, made.stdout + made.stderr
        self.process: subprocess.Popen[bytes] | None = None
        self.schemas = 0
        self.crashes: list[str] = []
        self.start()

    def url(self, schema: str = "mysql", user: str = "root") -> str:
        return f"mysql+pymysql://{user}@127.0.0.1:{self.port}/{schema}"

    def start(self) -> None:
        command = [program("mariadbd"), "--no-defaults", f"--datadir={self.data}"]
        command += [f"--port={self.port}", f"--socket={self.folder / 's'}"]
        # A server that starts deletes the temporary tables of all others in its tmpdir.
        command.append(f"--tmpdir={self.temporary}")
        command += [f"--{name}={value}" for name, value in SETTINGS.items()]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, preexec_fn=_die_with_us,
                **self.user,
            )  # fmt: skip
        until(self._answers, "MariaDB does not start")

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.OperationalError), self.connect():
            return True
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return False

    def last_words(self) -> str:
        """Return the end of its log, after it has ended by itself."""
        assert self.process is not None
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        lines = [line for line in lines[-400:] if "Aborted connection" not in line]
        return f"MariaDB ended with {self.process.returncode}\n" + "\n".join(lines[-120:])

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """SIGTERM ends it in order; SIGKILL is a crash."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(LIMIT_S)

    def restart(self) -> None:
        self.stop(signal.SIGKILL)
        self.start()

    def connect(self, **options: object) -> pymysql.Connection:
        # Without TLS: for each of its contexts Python reads all certificates of the system.
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", charset="utf8mb4", autocommit=True,
            ssl_disabled=True, **options,
        )  # fmt: skip

    def ask(self, sql: str, *values: object) -> list[tuple]:
        """Return the rows of a statement, run on a connection of its own."""
        with self.connect(database="mysql") as connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def sessions(self, schema: str, count: int) -> list[int]:
        """Wait until a schema has so many sessions; return their ids. Closing takes a moment."""
        asked = "SELECT id FROM information_schema.processlist WHERE db = %s"
        found: list[int] = []

        def so_many() -> bool:
            found[:] = [number for (number,) in self.ask(asked, schema)]
            return len(found) == count

        until(so_many, lambda: f"{len(found)} sessions, and not {count}")
        return found

    def schema(self) -> str:
        """Create an empty database, and return its name."""
        assert self.process is not None
        if self.process.poll() is not None:
            self.crashes.append(self.last_words())
            self.start()  # the test in which it ended has failed; the others may go on
        self.schemas += 1
        name = f"s{self.schemas}"
        self.ask(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return name


_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def _die_with_us() -> None:
    """Let Linux end the server when the tests are killed (PR_SET_PDEATHSIG)."""
    if _prctl is not None:
        _prctl(1, signal.SIGKILL)


@pytest.fixture(scope="session")
def my():
    if program("mariadbd") is None:
        skipped_without("MariaDB", "apt-get install mariadb-server")
    server = Server()
    yield server
    sys.stderr.write("\n".join(server.crashes))
    server.stop()
    shutil.rmtree(server.folder)


# Fixtures of plugins are known to all tests: `schema` is that of the plugin `postgres`.
@pytest.fixture
def my_schema(my):
    """The name of an empty database."""
    return my.schema()


@pytest.fixture
def my_store(my, my_schema):
    return SQLStore("t", connection=my.url(my_schema))
