"""A driver that moves a table of PostgreSQL is killed, and the same flow is run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pyarrow.parquet as pq

from hygge import Flow, ParquetStore
from tests.connectors.postgres.test_home import home_of, numbers
from tests.servers.postgres import Heard
from tests.waiting import LIMIT_S

pytest_plugins = ["tests.servers.postgres"]

DRIVER = textwrap.dedent("""
    import glob, os, signal, sys, time
    from hygge import Flow, ParquetStore, SQLHome

    url, table, out, consistency, cursor = sys.argv[1:]
    state = os.environ["HYGGE_STATE"]

    read = SQLHome.read

    def dying(self, split):
        if split.index == 3:
            while len(glob.glob("**/receipts/*/*.json", root_dir=state, recursive=True)) < 3:
                time.sleep(0.01)  # they are sealed beside the reading
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, split)

    SQLHome.read = dying
    options = {"splits": 6, "consistency": consistency}
    home = SQLHome(table=table, connection=url, options=options, cursor=cursor or None)
    Flow(home, ParquetStore(path=out), name="f", mode="append", engine="inline").run()
""")


def killed(pg, table, out, consistency, cursor=""):
    command = [sys.executable, "-c", DRIVER, pg.url, table, str(out), consistency, cursor]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr


def run_again(pg, table, out, consistency, cursor=None):
    home = home_of(pg, table, 6, options={"consistency": consistency}, cursor=cursor)
    heard = Heard()
    flow = Flow(home, ParquetStore(path=out), name="f", mode="append", engine="inline")
    return flow.run(heard), heard


def rows_in(out):
    return sorted(
        n for path in out.rglob("*.parquet") for n in pq.read_table(path)["n"].to_pylist()
    )


def test_split_by_split_what_a_dead_driver_staged_is_kept(pg, schema, tmp_path):
    numbers(pg, schema, 1000, "PRIMARY KEY")
    out = tmp_path / "out"
    killed(pg, f"{schema}.t", out, "split")
    assert rows_in(out) == []
    report, heard = run_again(pg, f"{schema}.t", out, "split")
    assert (report.resumed, report.splits, report.rows) == (3, 6, 1000)
    assert "3 of 6 splits were already staged" in heard.words
    assert rows_in(out) == list(range(1, 1001))


def test_split_by_split_a_row_that_moved_between_two_deaths_is_as_of_its_split(
    pg, schema, tmp_path
):
    numbers(pg, schema, 1000, "PRIMARY KEY")
    out = tmp_path / "out"
    killed(pg, f"{schema}.t", out, "split")
    pg.ask(f"DELETE FROM {schema}.t WHERE n IN (1, 999)")  # one was staged, one was not
    report, _ = run_again(pg, f"{schema}.t", out, "split")
    assert report.resumed == 3
    assert rows_in(out) == [n for n in range(1, 1001) if n != 999]


def test_under_a_snapshot_a_dead_driver_of_a_database_starts_anew(pg, schema, tmp_path):
    numbers(pg, schema, 1000, "PRIMARY KEY")
    out = tmp_path / "out"
    killed(pg, f"{schema}.t", out, "snapshot")
    pg.ask(f"DELETE FROM {schema}.t WHERE n = 1")
    report, _ = run_again(pg, f"{schema}.t", out, "snapshot")
    assert report.resumed == 0
    assert rows_in(out) == list(range(2, 1001))


def test_split_by_split_rows_beyond_the_old_upper_bound_start_anew(pg, schema, tmp_path):
    numbers(pg, schema, 1000, "PRIMARY KEY")
    out = tmp_path / "out"
    killed(pg, f"{schema}.t", out, "split", "n")
    pg.ask(f"INSERT INTO {schema}.t VALUES (1001, 'new')")
    report, _ = run_again(pg, f"{schema}.t", out, "split", "n")
    assert report.resumed == 0
    assert rows_in(out) == list(range(1, 1002))
    assert run_again(pg, f"{schema}.t", out, "split", "n")[0].rows == 0


def test_columns_that_changed_after_the_death_start_anew(pg, schema, tmp_path):
    numbers(pg, schema, 1000, "PRIMARY KEY")
    out = tmp_path / "out"
    killed(pg, f"{schema}.t", out, "split")
    pg.ask(f"ALTER TABLE {schema}.t ADD w int")
    report, _ = run_again(pg, f"{schema}.t", out, "split")
    assert report.resumed == 0
    assert rows_in(out) == list(range(1, 1001))
