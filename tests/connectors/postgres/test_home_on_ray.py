"""Several lanes on Ray read one state of PostgreSQL, also when their connections are cut."""

from __future__ import annotations

import threading

import pyarrow.parquet as pq
import pytest

from hygge import Flow, ParquetStore, SQLHome
from hygge.model import Limits
from tests.servers.postgres import Heard, Proxy
from tests.waiting import until

pytest_plugins = ["tests.servers.postgres"]


@pytest.mark.usefixtures("ray_here")
def test_money_that_moves_while_lanes_read_is_neither_lost_nor_doubled(pg, schema, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.accounts (id int PRIMARY KEY, money int, note text)")
    pg.ask(f"INSERT INTO {schema}.accounts SELECT n, 100, repeat('x', 200) "
           "FROM generate_series(0, 19999) n")  # fmt: skip
    pg.ask(f"ANALYZE {schema}.accounts")
    stop, moves = threading.Event(), [0]

    def write():
        with pg.connect() as connection:
            while not stop.wait(0.005):
                moves[0] += 1
                one, two = moves[0] * 7 % 20_000, moves[0] * 13 % 20_000 or 1
                connection.execute(
                    f"UPDATE {schema}.accounts SET money = money + CASE id WHEN {one} THEN -1 "
                    f"ELSE 1 END WHERE id IN ({one}, {two}) AND {one} <> {two}"
                )

    cuts = [0]

    def budget():  # the driver's two connections live; one of the lanes' is cut
        cuts[0] += 1
        return 100_000 if cuts[0] == 5 else None

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(lambda: moves[0], "nobody writes")
        before = moves[0]
        with Proxy(pg.port, budget) as proxy:
            home = SQLHome(
                table=f"{schema}.accounts", connection=proxy.url(),
                options={"splits": 5, "batch_size": 500},
            )  # fmt: skip
            store = ParquetStore(path=tmp_path / "out")
            report = Flow(home, store, name="f", limits=Limits(lanes=2)).run(Heard())
            assert proxy.cuts > 0
        assert moves[0] > before
    finally:
        stop.set()
        writer.join()
    assert (report.splits, report.rows) == (5, 20_000)
    assert report.lanes in (1, 2)  # the second may come when all is read
    assert report.retries > 0
    rows = [row for path in (tmp_path / "out").rglob("*.parquet")
            for row in pq.read_table(path, columns=["id", "money"]).to_pylist()]  # fmt: skip
    assert len({row["id"] for row in rows}) == len(rows) == 20_000
    assert sum(row["money"] for row in rows) == 2_000_000
