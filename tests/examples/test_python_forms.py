"""The Python of docs/python.md, exactly as it is written there."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from sqlalchemy import create_engine

from hygge import (
    ConfigError,
    Coordinator,
    Flow,
    FlowFailed,
    Home,
    ParquetHome,
    ParquetStore,
    SQLHome,
    Store,
)
from tests.waiting import LIMIT_S

N = 25_000


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        rows = [(n, f"user {n}") for n in range(N)]
        connection.executemany("INSERT INTO users VALUES (?, ?)", rows)
    connection.close()
    return f"sqlite:///{path}"


def ids(path: Path) -> list[int]:
    return sorted(ds.dataset(path).to_table(columns=["id"]).column("id").to_pylist())


def test_batches_by_hand_all_arrive(database, tmp_path):
    async def main() -> list[int]:
        conn = create_engine(database)
        home = SQLHome("users", connection=conn, options={"batch_size": 10_000})
        store = ParquetStore("users", path=tmp_path / "users", options={"compression": "snappy"})
        sizes = []
        async for batch in home.read_batches():
            await store.write(batch)
            sizes.append(len(batch))
        return sizes

    assert asyncio.run(main()) == [10_000, 10_000, 5_000]
    assert ids(tmp_path / "users") == list(range(N))


@pytest.mark.parametrize("form", ["url", "engine", "connection"])
def test_a_url_an_engine_and_a_connection_all_travel(form, database, tmp_path):
    engine = create_engine(database)
    conn = {"url": database, "engine": engine, "connection": engine.connect()}[form]
    try:
        home = SQLHome("users", connection=conn)
        travelled = pickle.loads(pickle.dumps(home))
        store = ParquetStore("users", path=tmp_path / "out")
        report = Flow(home=travelled, store=store, engine="inline").run()
    finally:
        if form == "connection":
            conn.close()
        engine.dispose()
    assert report.rows == N
    assert ids(tmp_path / "out") == list(range(N))


def test_the_connection_comes_from_the_environment(database, tmp_path, monkeypatch, ray_here):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYGGE_DATABASE_URL", database)

    async def main():
        flow = Flow(home=SQLHome("users"), store=ParquetStore("users"))
        return await flow.start()

    report = asyncio.run(main())
    assert (report.flow, report.status, report.rows) == ("users_to_users", "done", N)
    assert ids(tmp_path / "data" / "users") == list(range(N))


def test_without_a_connection_the_error_names_the_variable():
    with pytest.raises(ConfigError, match="HYGGE_DATABASE_URL"):
        SQLHome("users")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_cannot_travel_and_is_refused(url):
    with pytest.raises(ConfigError) as caught:
        SQLHome("users", connection=create_engine(url))
    assert "memory" in caught.value.message
    assert caught.value.hint


def test_an_engine_with_a_creator_of_its_own_is_refused(tmp_path):
    path = tmp_path / "x.db"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path))
    with pytest.raises(ConfigError) as caught:
        SQLHome("users", connection=engine)
    assert caught.value.hint


def test_the_password_travels_and_is_never_printed():
    url = "postgresql://app:s3cret!@db.example/shop"
    home = SQLHome("users", connection=url)
    for shown in (repr(home), str(home), home.describe(), repr(home.settings), str(vars(home))):
        assert "s3cret" not in shown


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_store_takes_anything_arrow_shaped(make, tmp_path):
    store = ParquetStore("users", path=tmp_path / "users")
    asyncio.run(store.write(make({"id": [1, 2], "name": ["a", None]})))
    table = ds.dataset(tmp_path / "users").to_table()
    assert table.to_pydict() == {"id": [1, 2], "name": ["a", None]}


class MyHome(Home):
    async def read_batches(self):
        for start in (0, 2):
            yield pd.DataFrame({"id": [start, start + 1]})


class MyStore(Store):
    def __init__(self, path):
        self.path = path

    async def write(self, df):
        assert isinstance(df, pd.DataFrame)
        assert isinstance(df["id"].dtype, pd.ArrowDtype)
        df.to_csv(self.path, mode="a", index=False, header=False)


def test_own_ends_run_in_the_actors(tmp_path, ray_here):
    report = Flow(home=MyHome(), store=MyStore(tmp_path / "out.csv")).run()
    assert (report.rows, report.mode, report.guarantee) == (4, "append", "at least once")
    assert (tmp_path / "out.csv").read_text().split() == ["0", "1", "2", "3"]


def test_own_ends_work_by_hand_too(tmp_path):
    async def main():
        store = MyStore(tmp_path / "out.csv")
        async for batch in MyHome().read_batches():
            await store.write(batch)
        async for batch in ParquetHome(path=tmp_path / "in.parquet").read_batches():
            await store.write(batch)  # a pa.Table comes, the store gets its DataFrame

    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": [9]}), tmp_path / "in.parquet")
    asyncio.run(main())
    assert (tmp_path / "out.csv").read_text().split() == ["0", "1", "2", "3", "9"]


def test_replace_and_merge_are_refused_for_a_simple_store(tmp_path):
    for mode in ("replace", "merge"):
        with pytest.raises(ConfigError, match="its modes: append"):
            Flow(MyHome(), MyStore(tmp_path / "x"), mode=mode, key=["id"])


def test_a_class_that_defines_neither_form_is_refused_when_it_is_defined():
    with pytest.raises(ConfigError, match="neither read_batches nor both of open and read"):

        class Nothing(Home):
            pass

    with pytest.raises(ConfigError, match="neither write nor both of stage and commit"):

        class Nowhere(Store):
            def stage(self, ticket, schema, batches): ...


def test_start_works_inside_a_running_loop_and_keeps_it_free(tmp_path, ray_here):
    from tests.engine.ends import Careful, Counted

    pids, gate = tmp_path / "pids", tmp_path / "gate"
    pids.mkdir()

    async def open_the_gate() -> None:  # which nobody would do if the loop were not free
        while not list(pids.iterdir()):  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.01)
        gate.touch()

    async def main() -> int:
        opening = asyncio.create_task(open_the_gate())
        home = Counted(pids=str(pids), gate=str(gate))
        report = await Flow(home, Careful(path=tmp_path / "out"), name="c").start()
        await opening
        return report.rows

    assert asyncio.run(main()) == 400


def test_cancelling_the_task_stops_the_run(tmp_path, ray_here):
    from tests.engine.ends import Careful, Counted

    flag = tmp_path / "hangs"

    async def main() -> None:
        home = Counted(act="hang", flag=str(flag))
        running = asyncio.create_task(Flow(home, Careful(path=tmp_path / "out"), name="c").start())
        while not flag.exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == [flag]


def test_a_coordinator_runs_a_file(tmp_path, ray_here):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": range(10)}), tmp_path / "users.parquet")
    (tmp_path / "flows.yml").write_text("flows:\n  u:\n    home: users.parquet\n    store: out/u\n")

    async def main():
        coordinator = Coordinator(tmp_path / "flows.yml")
        return await coordinator.start()

    assert asyncio.run(main()).ok
    assert ids(tmp_path / "out" / "u") == list(range(10))


def test_a_failing_flow_raises_with_its_report(tmp_path):
    home, store = ParquetHome(path=tmp_path / "no.parquet"), ParquetStore(path=tmp_path / "out")
    flow = Flow(home, store, engine="inline")
    with pytest.raises(FlowFailed, match="there is no file or directory") as caught:
        asyncio.run(flow.start())
    assert caught.value.report.status == "failed"


def test_own_ends_in_a_script_run_as_main(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, pandas as pd
            from hygge import Flow, Home, Store
            FACTOR = 3
            class Triples(Home):
                async def read_batches(self):
                    yield pd.DataFrame({"n": [i * FACTOR for i in range(4)]})
            class Lines(Store):
                async def write(self, df):
                    with open(PATH, "a") as f:
                        f.write(" ".join(map(str, df["n"])))
            PATH = "lines.txt"
            import os; PATH = os.path.abspath(PATH)
            print(asyncio.run(Flow(home=Triples(), store=Lines()).start()).rows)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert (done.returncode, done.stdout.strip()) == (0, "4"), done.stderr
    assert (tmp_path / "lines.txt").read_text() == "0 3 6 9"
