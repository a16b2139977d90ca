"""A run that changes the columns of its table is killed in its commit: each row arrives once."""

from __future__ import annotations

import importlib
import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, ParquetHome
from hygge.testing.probes import in_worker
from tests.chaos import only_in_chaos
from tests.connectors.sql.own_tables import database

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

MODULES = {"postgresql": "postgres", "sqlite": "sqlite", "mariadb": "mariadb"}


def flow_of(store, folder):
    home = ParquetHome("rows", path=str(folder / "rows.parquet"))
    return Flow(home, store, name="f", mode="append", engine="inline", state=folder / "state")


def killed(module, when, store, folder):
    """Run the flow, and die before or behind the rows of its commit."""
    publisher = importlib.import_module(f"hygge.connectors.{module}.store")._Publisher
    real = publisher.publish

    def publish(self, *given):
        if when == "before its rows":
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, *given)
        os.kill(os.getpid(), signal.SIGKILL)

    publisher.publish = publish
    flow_of(store, folder).run()


@pytest.mark.parametrize("when", ["before its rows", "behind its rows"])
@pytest.mark.parametrize(
    "kind", ["postgresql", "mariadb", "sqlite", pytest.param("psycopg2", marks=only_in_chaos)]
)
def test_the_next_run_finishes_it(request, tmp_path, kind, when):
    base = database(request, kind, tmp_path)
    store = base.store(schema="evolve")
    old = pa.table({"id": pa.array([1, 2], pa.int64()), "n": pa.array([1, None], pa.int32())})
    pq.write_table(old, tmp_path / "rows.parquet")
    flow_of(store, tmp_path).run()
    new = pa.table({"id": [3, 4], "n": [2**40, None], "w": [1.5, None]})
    pq.write_table(new, tmp_path / "rows.parquet")
    with pytest.raises(BrokenProcessPool):
        in_worker(killed, MODULES.get(kind, "anysql"), when, store, tmp_path)
    seen = [row[0] for row in base.ask("SELECT id FROM t ORDER BY id")]
    assert seen == [1, 2], "no row of the dead run is visible"
    flow_of(base.store(schema="evolve"), tmp_path).run()
    rows = [(1, 1, None), (2, None, None), (3, 2**40, 1.5), (4, None, None)]
    assert base.ask("SELECT id, n, w FROM t ORDER BY id") == rows
