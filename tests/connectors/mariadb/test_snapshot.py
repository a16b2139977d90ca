"""One snapshot of MariaDB for all lanes: the driver holds its sessions and lends them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hygge import Flow, ParquetStore, SQLHome
from hygge.connectors.mariadb import snapshot
from hygge.errors import SourceChanged, Transient
from hygge.model import Limits
from tests.chaos import only_in_chaos
from tests.connectors.mariadb.rows import home_at, read
from tests.waiting import until

pytest_plugins = ["tests.servers.mariadb"]

ROWS, EACH = 20_000, 100


@pytest.fixture
def accounts(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id int PRIMARY KEY, v bigint, k int, KEY (k))")
    my.ask(f"INSERT INTO {my_schema}.t SELECT seq, {EACH}, seq % 97 FROM seq_1_to_{ROWS}")
    return my_schema


@pytest.fixture
def payers(my, accounts):
    """Three threads that move money between accounts all the time."""
    done, paid = threading.Event(), []

    def pay(seed):
        some = random.Random(seed)
        with my.connect(database=accounts) as connection, connection.cursor() as cursor:
            while not done.wait(0.005):
                one, two = sorted(some.sample(range(1, ROWS + 1), 2))
                cursor.execute("START TRANSACTION")
                cursor.execute("UPDATE t SET v = v - 7 WHERE id = %s", (one,))
                cursor.execute("UPDATE t SET v = v + 7 WHERE id = %s", (two,))
                cursor.execute("COMMIT")
                paid.append(1)

    threads = [threading.Thread(target=pay, args=(seed,)) for seed in range(3)]
    for each in threads:
        each.start()
    yield paid
    done.set()
    for each in threads:
        each.join()


def opened(my, schema, lanes=3, splits=8, **more):
    home = home_at(my, schema, options={"splits": splits, "batch_size": 500}, **more)
    home.lanes = lanes
    return home


def side_by_side(home, plan, lanes=3):
    def rows(split):
        return [row for table in home.read(split) for row in table.to_pylist()]

    with ThreadPoolExecutor(lanes) as pool:
        return [row for part in pool.map(rows, plan.splits) for row in part]


def total(rows):
    assert sorted(row["id"] for row in rows) == list(range(1, ROWS + 1))
    return sum(row["v"] for row in rows)


def test_all_lanes_see_one_moment_while_money_moves(my, accounts, payers):
    for _ in range(4):
        home = opened(my, accounts)
        with home.open(None) as plan:
            assert len(plan.splits) > 3
            assert "all of one moment" in plan.reason
            assert "starts anew" in plan.dead_driver
            assert total(side_by_side(home, plan)) == ROWS * EACH
    before = len(payers)
    until(lambda: len(payers) > before, "nobody could write any more")


def test_ranges_read_apart_would_not_see_one_moment(my, accounts, payers):
    home = home_at(my, accounts, options={"splits": 8, "consistency": "split", "batch_size": 500})

    def torn():
        with home.open(None) as plan:
            return total(side_by_side(home, plan)) != ROWS * EACH

    until(torn, "the writers of this file write too little to show anything")


@only_in_chaos
def test_a_flow_over_lanes_on_ray_moves_one_moment(my, ray_here, accounts, payers, tmp_path):
    import duckdb

    home = home_at(my, accounts, options={"splits": 6, "batch_size": 500})
    target = tmp_path / "rows"
    report = Flow(home, ParquetStore(path=str(target)), limits=Limits(lanes=2),
                  state=str(tmp_path / "state")).run()  # fmt: skip
    assert report.rows == ROWS
    assert report.lanes in (1, 2)  # the second may come when all is read
    found = duckdb.sql(f"SELECT count(*), sum(v) FROM '{target}/**/*.parquet'").fetchall()
    assert found == [(ROWS, ROWS * EACH)]


@pytest.mark.parametrize("more", [{"split_by": "k"}, {"cursor": "id"}, {"where": "id > 0"}])
def test_what_is_asked_of_a_table_is_of_one_moment_too(my, accounts, more):
    home = opened(my, accounts, **more)
    with home.open(None) as plan:
        assert len(plan.splits) > 4
        my.ask(f"UPDATE {accounts}.t SET v = v + 1")
        my.ask(f"INSERT INTO {accounts}.t VALUES ({ROWS + 1}, 5, 5), ({ROWS + 2}, 5, NULL)")
        assert total(side_by_side(home, plan)) == ROWS * EACH


def test_a_reader_that_breaks_off_costs_no_session(my, accounts):
    home = opened(my, accounts, lanes=2, splits=4)
    with home.open(None) as plan:
        for _ in range(6):
            reading = home.read(plan.splits[1])
            next(reading)
            reading.close()
        assert total(side_by_side(home, plan, 2)) == ROWS * EACH
    my.sessions(accounts, 0)


def test_a_reader_that_is_killed_costs_no_row_and_no_session(my, accounts):
    wide = "SELECT id, v, REPEAT('x', 5000) AS w FROM t"
    home = home_at(my, accounts, None, query=wide, split_by="id", options={"splits": 3,
                   "batch_size": 500})  # fmt: skip
    home.lanes = 2
    with home.open(None) as plan:
        for _ in range(2):
            pid = os.fork()
            if not pid:
                next(home.read(plan.splits[1]))
                os.kill(os.getpid(), signal.SIGKILL)
            assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        assert total(side_by_side(home, plan, 2)) == ROWS * EACH
        my.sessions(accounts, 2)


def test_more_readers_than_sessions_wait_for_each_other(my, accounts):
    home = opened(my, accounts, lanes=2, splits=12)
    with home.open(None) as plan:
        my.sessions(accounts, 2)
        assert total(side_by_side(home, plan, 8)) == ROWS * EACH


def test_a_lost_session_leaves_the_others_and_without_any_the_moment_is_gone(my, accounts):
    home = opened(my, accounts, lanes=2, splits=4)
    with home.open(None) as plan:
        one, two = my.sessions(accounts, 2)
        my.ask(f"KILL {one}")
        assert total(side_by_side(home, plan, 2)) == ROWS * EACH
        my.ask(f"KILL {two}")
        with pytest.raises(SourceChanged, match="the moment of this run is gone") as caught:
            list(home.read(plan.splits[0]))
        assert "run again" in caught.value.hint


def test_a_session_that_is_lost_while_rows_come_is_a_transient_error(my, accounts):
    wide = "SELECT id, v, REPEAT('x', 5000) AS w FROM t"
    home = home_at(my, accounts, None, query=wide, split_by="id", options={"splits": 2,
                   "batch_size": 500})  # fmt: skip
    home.lanes = 2
    with home.open(None) as plan:
        reading = home.read(plan.splits[0])
        next(reading)
        busy = "db = %s AND command = 'Query' AND info LIKE '%%SELECT%%'"
        ((mine,),) = my.ask(f"SELECT id FROM information_schema.processlist WHERE {busy}", accounts)
        my.ask(f"KILL {mine}")
        with pytest.raises(Transient, match="Lost connection"):
            list(reading)
        assert sum(t.num_rows for split in plan.splits for t in home.read(split)) == ROWS


def test_an_error_of_the_server_reaches_the_reader_and_costs_no_session(my, accounts):
    home = opened(my, accounts, lanes=2, splits=4)
    with home.open(None) as plan:
        my.ask(f"ALTER TABLE {accounts}.t FORCE")
        for _ in range(5):
            with pytest.raises(Transient, match="altered|definition"):
                list(home.read(plan.splits[0]))
        my.sessions(accounts, 2)


def test_without_the_right_to_lock_it_is_said(my, accounts):
    my.ask("CREATE OR REPLACE USER plain@127.0.0.1")
    my.ask(f"GRANT SELECT ON {accounts}.t TO plain@127.0.0.1")
    one = SQLHome("t", connection=my.url(accounts, "plain"), options={"splits": 5})
    one.lanes = 2
    rows, plan = read(one)
    assert (rows.num_rows, len(plan.splits)) == (ROWS, 1)
    assert "one split, of one moment" in plan.reason
    assert "without the right LOCK TABLES" in plan.reason
    many = SQLHome("t", connection=my.url(accounts, "plain"), split_by="id", options={"splits": 5})
    many.lanes = 2
    rows, plan = read(many)
    assert rows.num_rows == ROWS
    assert len(plan.splits) > 3
    assert "as of its split's read, since without the right LOCK TABLES" in plan.reason
    assert "all of one moment" not in plan.reason


@pytest.mark.parametrize("engine", ["MyISAM", "Aria"])
def test_an_engine_without_snapshots_is_not_cut_under_one(my, my_schema, engine):
    my.ask(f"CREATE TABLE {my_schema}.t (id int PRIMARY KEY, v int) ENGINE={engine}")
    my.ask(f"INSERT INTO {my_schema}.t SELECT seq, seq FROM seq_1_to_100")
    rows, plan = read(opened(my, my_schema))
    assert (rows.num_rows, len(plan.splits)) == (100, 1)
    assert f"{engine} keeps no snapshots" in plan.reason
    rows, plan = read(opened(my, my_schema, split_by="v"))
    assert rows.num_rows == 100
    assert len(plan.splits) > 3
    assert f"as of its split's read, since {engine} keeps no snapshots" in plan.reason


def test_a_query_is_of_one_moment_where_the_server_may_be_locked(my, accounts, payers):
    home = SQLHome(
        "q", query="SELECT id, v FROM t", split_by="id", connection=my.url(accounts),
        options={"splits": 5},
    )  # fmt: skip
    home.lanes = 3
    with home.open(None) as plan:
        assert "all of one moment" in plan.reason
        assert total(side_by_side(home, plan)) == ROWS * EACH


def test_somebodys_open_transaction_is_not_waited_for_long(my, accounts, monkeypatch):
    monkeypatch.setattr(snapshot, "_LOCK_WAIT_S", 1)
    with my.connect(database=accounts) as other, other.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("UPDATE t SET v = 0 WHERE id = 1")
        rows, plan = read(opened(my, accounts))
        cursor.execute("ROLLBACK")
    assert sum(rows.column("v").to_pylist()) == ROWS * EACH
    assert len(plan.splits) == 1
    assert "a transaction that wrote was open for 1 s" in plan.reason


def test_only_who_knows_the_secret_is_lent_a_session(my, accounts):
    home = opened(my, accounts)
    with home.open(None) as plan:
        host, port, secret = plan.splits[0].where["at"]
        assert host == "127.0.0.1"
        assert len({split.where["at"][2] for split in plan.splits}) == 1
        sql = b"SELECT 1"
        right = bytes.fromhex(secret)
        for guess in (bytes(32), right[:-1] + bytes([right[-1] ^ 1]), b"short"):
            got = b""
            with socket.create_connection((host, port)) as door:
                with contextlib.suppress(OSError):  # it may hang up before all is said
                    door.sendall(guess + len(sql).to_bytes(4, "little") + sql)
                    door.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    got = door.recv(100)
            assert got == b""
        assert total(side_by_side(home, plan)) == ROWS * EACH
    with pytest.raises(OSError):
        socket.create_connection((host, port))
    with pytest.raises(Transient, match="cannot reach the driver"):
        list(home.read(plan.splits[0]))


def packet(body, number=1):
    """As the protocol frames it: 16 MiB packets follow each other until a shorter one."""
    parts = [body[at : at + 0xFFFFFF] for at in range(0, len(body) + 1, 0xFFFFFF)]
    return b"".join(len(each).to_bytes(3, "little") + bytes([number]) + each for each in parts)


END, ERROR = b"\xfe\0\0\2\0", b"\xff\x15\x04#28000no"
LONG = packet(b"\xfe" + bytes(7) + b"\1" + b"x" * (0xFFFFFF - 9))  # ends with an empty packet


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.binary(min_size=1, max_size=30).filter(lambda row: row[0] < 0xFE), max_size=9),
    how=st.sampled_from([END, ERROR]), long=st.booleans(), sizes=st.lists(st.integers(1, 40)),
)  # fmt: skip
def test_the_end_of_a_result_is_seen_however_its_bytes_come(rows, how, long, sizes):
    stream = packet(b"\2") + packet(b"\3def") + packet(END) + b"".join(map(packet, rows))
    stream += LONG * long + packet(how)
    follower, at = snapshot.Packets(), 0
    for size in [*sizes, len(stream)]:
        piece = stream[at : at + size]
        at += len(piece)
        if piece:
            assert not follower.ended
            follower.feed(memoryview(piece))
    assert follower.ended
    early = snapshot.Packets()
    early.feed(memoryview(stream[:-1]))
    assert not early.ended
