"""Ray Data reads a Home exactly, and a Dataset settles in a Store exactly once."""

from __future__ import annotations

import gc
import os
import sqlite3
import time
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, ParquetHome, RayDataHome, SQLHome, SQLStore, ray_dataset
from hygge.errors import (
    ConfigError,
    FlowFailed,
    HomeError,
    HyggeError,
    SourceChanged,
    SourceMissing,
)
from hygge.home import Home
from hygge.model import Column, Limits, Plan, Split
from hygge.store import Store
from tests.chaos import only_in_chaos
from tests.waiting import until

pytestmark = [
    pytest.mark.usefixtures("ray_here"),
    pytest.mark.ray_versions,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray Data warns of itself
]
pytest_plugins = ["tests.servers.postgres"]
COUNT = 3_000


@pytest.fixture
def shop(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        rows = [(n, None if n % 3 else f"v{n}") for n in range(COUNT)]
        database.executemany("INSERT INTO t VALUES (?, ?)", rows)
    return f"sqlite:///{tmp_path}/shop.db"


def test_a_table_is_read_split_by_split_with_its_types(shop):
    home = SQLHome("t", connection=shop, options={"splits": 3})
    dataset = ray_dataset(home)
    kinds = dict(zip(dataset.schema().names, dataset.schema().types, strict=True))
    assert kinds == {"id": pa.int64(), "v": pa.string()}  # before anything is read
    rows = dataset.take_all()
    assert sorted(row["id"] for row in rows) == list(range(COUNT))
    assert {row["v"] for row in rows if row["id"] % 3} == {None}
    assert dataset.count() == COUNT
    assert dataset.limit(5).count() == 5
    assert dataset.select_columns(["v"]).count() == COUNT


def test_postgres_shows_one_moment_until_it_is_let_go(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t AS SELECT g AS id, repeat('x', 99) AS v FROM "
           f"generate_series(1, {COUNT}) g")  # fmt: skip
    home = SQLHome("t", table=f"{schema}.t", connection=pg.url, options={"splits": 3})
    held = (
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
        "AND backend_xmin IS NOT NULL"
    )
    with ExitStack() as snapshot:
        dataset = ray_dataset(home, until=snapshot)
        pg.ask(f"DELETE FROM {schema}.t WHERE id < 1000")
        pg.ask(f"UPDATE {schema}.t SET id = -id WHERE id > 2000")
        for _ in range(2):
            assert sorted(row["id"] for row in dataset.take_all()) == list(range(1, COUNT + 1))
        assert pg.ask(held) == [(1,)]
    assert pg.ask(held) == [(0,)]
    with pytest.raises(HyggeError):
        dataset.take_all()


def test_files_are_read_with_the_shape_of_a_flow(tmp_path):
    for at in range(3):
        rows = pa.table({"id": [at, at + 10], "name": ["a", "b"], "secret": ["x", "y"]})
        pq.write_table(rows, tmp_path / f"{at}.parquet")
    home = ParquetHome(path=tmp_path, options={"split_bytes": 1})
    shape = {"columns": [{"name": "id", "as": "n"}, "name"], "where": "name = 'b'"}
    dataset = ray_dataset(home, shape=shape, concurrency=1)
    assert dataset.schema().names == ["n", "name"]
    assert sorted(row["n"] for row in dataset.take_all()) == [10, 11, 12]
    assert ray_dataset(home, shape={**shape, "where": "name = 'c'"}).count() == 0
    with pytest.raises(SourceMissing):
        ray_dataset(home, shape={"columns": ["nmae"]})


def test_a_file_that_changes_before_it_is_read_is_said(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": [1, 2]}), path)
    dataset = ray_dataset(ParquetHome(path=path))
    pq.write_table(pa.table({"id": [1, 2, 3]}), path)
    with pytest.raises(SourceChanged):
        dataset.take_all()


class Holding(Home):
    """A Home that holds something while its plan is open."""

    held = 0

    @contextmanager
    def open(self, since=None):
        Holding.held += 1
        try:
            yield Plan((Column("id", pa.int64()),), (Split(0, "1"), Split(1, "1")))
        finally:
            Holding.held -= 1

    def read(self, split):
        yield pa.table({"id": [split.index]})


def test_what_a_plan_holds_is_let_go_when_nobody_can_read_it_any_more():
    dataset = ray_dataset(Holding())
    doubled = dataset.map_batches(lambda batch: {"id": batch["id"] * 2})
    del dataset
    gc.collect()
    assert Holding.held == 1
    assert sorted(row["id"] for row in doubled.take_all()) == [0, 2]
    del doubled

    def is_let_go():  # a thread of Ray Data may refer to it for a moment
        gc.collect()
        return Holding.held == 0

    until(is_let_go, "what the plan holds is held")
    with ExitStack() as stack:
        _kept = ray_dataset(Holding(), until=stack)
        assert Holding.held == 1
    assert Holding.held == 0


class Dying(Home):
    """A Home of a database, say, whose worker dies."""

    def __init__(self, log):
        self.log = log

    def open(self, since=None):
        return nullcontext(Plan((Column("id", pa.int64()),), (Split(0, "1"),)))

    def read(self, split):
        with open(self.log, "a") as log:
            log.write(f"{split.index}\n")
        yield pa.table({"id": [split.index]})
        os._exit(1)


def test_a_read_whose_worker_died_is_not_gone_on_with(tmp_path):
    import ray

    with pytest.raises(ray.exceptions.RayError):
        ray_dataset(Dying(tmp_path / "log"), concurrency=1).take_all()
    assert (tmp_path / "log").read_text() == "0\n"


def numbers(blocks=3, count=COUNT):
    import ray

    dataset = ray.data.range(count, override_num_blocks=blocks)
    return dataset.map_batches(lambda batch: {"id": batch["id"], "square": batch["id"] ** 2})


def rows_of(folder):
    with closing(sqlite3.connect(folder / "t.db")) as database:
        return database.execute("SELECT count(*), sum(square) FROM t").fetchone()


SUM = sum(n * n for n in range(COUNT))


# examples/results_into_store.py does the same on Ray.
@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=only_in_chaos)])
def test_a_dataset_settles_in_a_store(engine, tmp_path):
    store = SQLStore("t", connection=f"sqlite:///{tmp_path}/t.db")
    flow = Flow(RayDataHome(numbers(), "numbers"), store, engine=engine, state=tmp_path / "state")
    for _ in range(2):  # `replace`: twice is once
        report = flow.run()
        assert (report.rows, report.applied, report.splits) == (COUNT, COUNT, 3)
    assert rows_of(tmp_path) == (COUNT, SUM)


def test_blocks_that_come_out_as_they_were_are_not_staged_again(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/t.db"
    stage, calls = SQLStore.stage, []

    def failing(store, ticket, *more):
        calls.append(ticket.split)
        if calls == [0, 1]:
            raise HomeError("the driver died, say")
        return stage(store, ticket, *more)

    monkeypatch.setattr(SQLStore, "stage", failing)
    for at in range(2):
        home = RayDataHome(numbers(), "numbers")
        given = {"name": "f", "engine": "inline", "state": tmp_path / "state"}
        flow = Flow(home, SQLStore("t", connection=url), limits=Limits(retries=0), **given)
        if not at:
            with pytest.raises(FlowFailed, match="the driver died"):
                flow.run()
    assert flow.run().resumed == 1
    assert rows_of(tmp_path) == (COUNT, SUM)


def test_blocks_are_in_the_order_of_the_dataset_whichever_is_done_first():
    def slow_at_first(batch):
        time.sleep(1.0 if batch["id"][0] == 0 else 0.0)
        return batch

    dataset = numbers().map_batches(slow_at_first)
    home = RayDataHome(dataset, "numbers")
    with home.open() as plan:
        first = [next(iter(home.read(split)))["id"][0].as_py() for split in plan.splits]
    assert first == [0, 1000, 2000]
    assert not dataset.context.execution_options.preserve_order, "what the user has chosen stays"


def test_a_block_that_ray_made_anew_is_noticed():
    home = RayDataHome(numbers(), "numbers")
    with home.open() as plan:
        with home.open():
            pass  # another look at the same Dataset
        assert sum(table.num_rows for split in plan.splits for table in home.read(split)) == COUNT
        other = replace(plan.splits[0], version="0" * 32)
        with pytest.raises(SourceChanged, match="block 0 was lost, and Ray made another one"):
            list(home.read(other))


def test_a_dataset_without_rows_and_one_of_unlike_blocks(tmp_path):
    import ray

    store = SQLStore("t", connection=f"sqlite:///{tmp_path}/t.db")
    nothing = numbers().map_batches(lambda batch: {name: batch[name][:0] for name in batch})
    empty = RayDataHome(nothing, "none")
    flow = Flow(empty, store, engine="inline", state=tmp_path / "state")
    assert flow.run().rows == 0
    unlike = ray.data.from_arrow([pa.table({"a": [1]}), pa.table({"a": ["x"]})])
    with pytest.raises(HomeError, match="different columns"), RayDataHome(unlike).open():
        pass
    with pytest.raises(ConfigError, match="list, which is no"):
        RayDataHome([1, 2])


def test_both_ends_together(shop, tmp_path):
    dataset = ray_dataset(SQLHome("t", connection=shop, options={"splits": 2}))
    doubled = dataset.map_batches(lambda batch: {"id": batch["id"], "square": batch["id"] ** 2})
    store: Store = SQLStore("t", connection=f"sqlite:///{tmp_path}/t.db")
    flow = Flow(RayDataHome(doubled, "d"), store, mode="merge", key="id", engine="inline")
    assert flow.run().applied == COUNT
    assert rows_of(tmp_path) == (COUNT, SUM)
