"""Ranges of a key and cursors of MariaDB: each row is read exactly once."""

from __future__ import annotations

import json
import random
import threading

import pytest

from hygge.connectors.mariadb import snapshot
from hygge.errors import ConfigError
from tests.connectors.mariadb.rows import home_at, read

pytest_plugins = ["tests.servers.mariadb"]


KEYS = {
    "dense integers": ("id int PRIMARY KEY", "seq"),
    "sparse integers": ("id bigint PRIMARY KEY", "seq * seq * 1000003"),
    "texts": ("id varchar(20) PRIMARY KEY", "CONCAT(CHAR(97 + seq % 26), seq)"),
    "texts of latin1": ("id varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci PRIMARY KEY",
                        "CONCAT(ELT(seq % 4 + 1, 'ä', 'Z', 'o', 'ÿ'), seq)"),
    "decimals": ("id decimal(20,5) PRIMARY KEY", "seq / 7"),
    "moments": ("id datetime(6) PRIMARY KEY",
                "TIMESTAMPADD(MICROSECOND, seq * 999983, '2024-01-01')"),
    "bytes": ("id binary(16) PRIMARY KEY", "UNHEX(MD5(seq))"),
    "uuids": ("id uuid PRIMARY KEY", "UUID()"),
    "several columns": ("a varchar(3), id int, PRIMARY KEY (a, id)",
                        "ELT(seq % 3 + 1, 'x', 'Y', 'y2'), seq"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_ranges_of_a_key_have_each_row_once(name, my, my_schema):
    columns, values = KEYS[name]
    my.ask(f"CREATE TABLE {my_schema}.t (n int, {columns})")
    my.ask(f"INSERT INTO {my_schema}.t SELECT seq, {values} FROM seq_1_to_1000")
    options = {"consistency": "split", "splits": 5}
    table, plan = read(home_at(my, my_schema, options=options))
    assert sorted(table.column("n").to_pylist()) == list(range(1, 1001))
    assert 4 <= len(plan.splits) <= 6, plan.reason
    assert {split.version for split in plan.splits} == {"split"}
    assert "are kept" in plan.dead_driver
    home = home_at(my, my_schema, options=options)
    sizes = [sum(t.num_rows for t in home.read(split)) for split in plan.splits]
    assert max(sizes) < 500, sizes


def test_ranges_of_integers_stay_while_rows_come(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id int PRIMARY KEY)")
    my.ask(f"INSERT INTO {my_schema}.t SELECT seq FROM seq_1_to_9000")
    home = home_at(my, my_schema, options={"consistency": "split", "splits": 5})
    before = read(home)[1].splits
    my.ask(f"INSERT INTO {my_schema}.t SELECT seq FROM seq_9001_to_9900")
    table, plan = read(home)
    assert table.num_rows == 9900
    assert plan.splits == before
    assert [split.label for split in before][:2] == ["id before 2000", "id from 2000 before 4000"]


def test_null_keys_and_many_rows_of_one_key_are_all_read(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (n int, k varchar(9), KEY (k))")
    my.ask(
        f"INSERT INTO {my_schema}.t SELECT seq, CASE WHEN seq % 10 = 0 THEN NULL "
        "WHEN seq < 600 THEN 'same' ELSE CONCAT('k', seq) END FROM seq_1_to_1000"
    )
    home = home_at(my, my_schema, split_by="k", options={"splits": 7})
    table, plan = read(home)
    assert sorted(table.column("n").to_pylist()) == list(range(1, 1001))
    assert len(plan.splits) > 2


def test_one_split_is_of_one_moment(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id int PRIMARY KEY, v bigint) ENGINE = InnoDB")
    my.ask(f"INSERT INTO {my_schema}.t SELECT seq, 100 FROM seq_1_to_20000")
    done = threading.Event()

    def pay():
        some = random.Random(2)
        with my.connect(database=my_schema) as connection, connection.cursor() as cursor:
            while not done.wait(0.005):
                one, two = some.sample(range(1, 20001), 2)
                cursor.execute("START TRANSACTION")
                cursor.execute("UPDATE t SET v = v - 7 WHERE id = %s", (one,))
                cursor.execute("UPDATE t SET v = v + 7 WHERE id = %s", (two,))
                cursor.execute("COMMIT")

    writer = threading.Thread(target=pay)
    writer.start()
    try:
        for _ in range(3):
            table, plan = read(home_at(my, my_schema, options={"batch_size": 500}))
            assert sum(table.column("v").to_pylist()) == 2_000_000
    finally:
        done.set()
        writer.join()
    assert "of one moment" in plan.reason
    assert "starts anew" in plan.dead_driver


def test_a_cursor_reads_what_is_new(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id int, at datetime(6))")
    my.ask(f"INSERT INTO {my_schema}.t VALUES (1, '2024-01-01'), (2, '2024-01-02.5'), (3, NULL)")
    home = home_at(my, my_schema, cursor="at")
    table, plan = read(home)
    assert table.column("id").to_pylist() == [1, 2, 3]
    my.ask(f"DELETE FROM {my_schema}.t WHERE id = 3")
    my.ask(f"INSERT INTO {my_schema}.t VALUES (4, '2024-01-02 00:00:00.000001'), (5, '2025-01-01')")
    table, later = read(home, plan.watermark)
    assert table.column("id").to_pylist() == [4, 5] if plan.watermark < "2024-01-02T00" else [5]
    assert read(home, later.watermark)[0].num_rows == 0
    ties = home_at(my, my_schema, cursor="at", options={"cursor_ties": "read"})
    assert read(ties, later.watermark)[0].column("id").to_pylist() == [5]


CURSORS = [
    ("decimal(38,2)", "900719925474099300000.01", "900719925474099300000.02"),
    ("bigint unsigned", "18446744073709551613", "18446744073709551614"),
    ("float", "0.1", "0.2"),
    ("double", "0.1", "0.10000000000000002"),
    ("date", "'2024-01-01'", "'2024-01-02'"),
    ("timestamp(6) NULL", "'2024-01-01 00:00:00.000001'", "'2024-01-01 00:00:00.000002'"),
    ("varchar(9) COLLATE utf8mb4_bin", "'Z'", "'a'"),
    ("varchar(9) CHARACTER SET latin1", "'o'", "'ü'"),
    ("year", "2000", "2001"),
]


@pytest.mark.parametrize(("kind", "low", "high"), CURSORS)
def test_a_cursor_of_any_type_divides_the_rows_exactly(kind, low, high, my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (n int, c {kind})")
    my.ask(f"INSERT INTO {my_schema}.t VALUES (1, {low})")
    home = home_at(my, my_schema, cursor="c")
    watermark = read(home)[1].watermark
    assert json.loads(json.dumps(watermark)) == watermark
    my.ask(f"INSERT INTO {my_schema}.t VALUES (2, {high})")
    assert read(home, watermark)[0].column("n").to_pylist() == [2]
    watermark = read(home, watermark)[1].watermark
    assert read(home, watermark)[0].num_rows == 0
    assert read(home)[0].num_rows == 2


def test_what_cannot_grow_is_no_cursor(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (b blob)")
    with pytest.raises(ConfigError, match="cursor 'b' is blob"):
        read(home_at(my, my_schema, cursor="b"))


@pytest.mark.parametrize("may_lock", [True, False])
def test_rows_up_to_the_watermark_are_of_one_moment(may_lock, my, my_schema, monkeypatch):
    """Rows that move beyond the upper bound between plan and read are read as of the plan."""
    my.ask(f"CREATE TABLE {my_schema}.t (id int PRIMARY KEY, v bigint, at int) ENGINE = InnoDB")
    my.ask(f"INSERT INTO {my_schema}.t SELECT seq, 100, seq FROM seq_1_to_100")
    if not may_lock:
        monkeypatch.setattr(snapshot, "begin_together", refuse_to_lock)
    options = {"splits": 1 if may_lock else 4}
    home = home_at(my, my_schema, cursor="at", options=options)
    home.lanes = 1 if may_lock else 3
    with home.open(None) as plan:
        assert (len(plan.splits), plan.watermark) == (1, 100)
        my.ask(f"UPDATE {my_schema}.t SET v = v - 70, at = 101 WHERE id = 1")
        my.ask(f"UPDATE {my_schema}.t SET v = v + 70 WHERE id = 2")
        for _ in range(2):  # a lane may read again
            rows = [row for table in home.read(plan.splits[0]) for row in table.to_pylist()]
            assert len(rows) == 100
            assert sum(row["v"] for row in rows) == 10_000


def refuse_to_lock(*_):
    raise snapshot.NoSnapshot("it may not lock")
