"""A replica is read like any server; when it removes rows that are read, the error has a hint."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

from hygge import SQLHome
from hygge.errors import SourceChanged, Transient
from tests.connectors.postgres.test_home import each_once, numbers
from tests.servers.postgres import SETTINGS, die_with_parent, programs
from tests.waiting import LIMIT_S, free_port, until

pytest_plugins = ["tests.servers.postgres"]
STANDS = "CASE WHEN n = 9000 THEN pg_advisory_xact_lock_shared(7) IS NOT NULL ELSE true END"


@pytest.fixture
def replica(pg):
    """The URL of a replica that never waits for those who read it."""
    with open(pg.data / "pg_hba.conf", "a") as rules:
        rules.write("host replication postgres 127.0.0.1/32 trust\n")
    pg.ask("SELECT pg_reload_conf()")
    folder = Path(tempfile.mkdtemp(prefix="hygge-pg-replica-"))
    if pg.user:
        shutil.chown(folder, pg.user["user"])
    port = free_port()
    command = [programs() / "pg_basebackup", "-h", "127.0.0.1", "-p", str(pg.port), "-U",
               "postgres", "-D", folder / "data", "-R", "--no-sync", "-c", "fast"]  # fmt: skip
    subprocess.run(command, check=True, cwd=folder, **pg.user)
    settings = {**SETTINGS, "hot_standby": "on", "max_standby_streaming_delay": "0"}
    command = [programs() / "postgres", "-D", folder / "data", "-p", str(port)]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    process = subprocess.Popen(command, cwd=folder, preexec_fn=die_with_parent, **pg.user)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        until(lambda: answers(process, url), "the replica does not start")
        yield url
    finally:
        process.terminate()
        process.wait(LIMIT_S)
        shutil.rmtree(folder)


def answers(process, url):
    assert process.poll() is None, "the replica has ended"
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
        return True
    return False


def caught_up(pg, url):
    (wanted,) = pg.ask("SELECT pg_current_wal_lsn()::text")[0]
    with psycopg.connect(url, autocommit=True) as connection:
        follows = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        until(
            lambda: connection.execute(follows, [wanted]).fetchone()[0],
            "the replica does not follow",
        )


def test_a_replica_is_read_and_its_conflicts_are_said_with_what_helps(pg, schema, replica):
    wanted = numbers(pg, schema, 20_000, "PRIMARY KEY")
    caught_up(pg, replica)
    home = SQLHome(table=f"{schema}.t", connection=replica, options={"splits": 3})
    each_once(home, wanted, 3)
    for consistency, rows in (("snapshot", 20_000), ("split", 15_000)):
        options = {"splits": 3, "consistency": consistency, "batch_size": 50}
        home = SQLHome(table=f"{schema}.t", connection=replica, where=STANDS, options=options)
        with home.open() as plan, psycopg.connect(replica, autocommit=True) as holder:
            holder.execute("SELECT pg_advisory_lock(7)")
            reading = home.read(plan.splits[1])
            next(reading)
            pg.ask(f"DELETE FROM {schema}.t WHERE n > {rows - 5000}")
            pg.ask(f"VACUUM {schema}.t")
            caught_up(pg, replica)
            with pytest.raises(Transient, match="conflict with recovery") as caught:
                list(reading)
            assert "hot_standby_feedback" in caught.value.hint
            if consistency == "snapshot":  # the driver's own session lost it just so
                with pytest.raises(SourceChanged, match="is gone") as gone:
                    list(home.read(plan.splits[1]))
                assert "hot_standby_feedback" in gone.value.hint
            else:
                assert sum(each.num_rows for each in home.read(plan.splits[0])) > 0
