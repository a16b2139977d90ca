"""Sessions of MariaDB: no setting of the server changes what is moved."""

from __future__ import annotations

from contextlib import closing

import pyarrow as pa
import pytest

from hygge.connectors.anysql.session import connected
from hygge.connectors.mariadb import session
from hygge.connectors.sql import pins
from hygge.errors import HomeError, StoreError, UnfitValue
from tests.connectors.mariadb.rows import commit_run, home_at, read, store_at

pytest_plugins = ["tests.servers.mariadb"]

WRONG = {
    # setting: (value of the server, value of a session of hygge)
    "sql_select_limit": ("1", 2**64 - 1), "max_error_count": ("0", 64), "sql_notes": ("0", 1),
    "old_mode": ("'NO_DUP_KEY_WARNINGS_WITH_IGNORE'", ""),
    "system_versioning_asof": ("'2001-01-01'", "DEFAULT"),
    "sql_mode": ("'EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT'",
                 "PIPES_AS_CONCAT"),
    "time_zone": ("'+09:00'", "+00:00"), "sql_auto_is_null": ("1", 0),
    "max_sort_length": ("64", 1024), "sql_quote_show_create": ("0", 1),
    "sql_big_selects": ("0", 1), "sql_if_exists": ("1", 0), "foreign_key_checks": ("0", 1),
    "unique_checks": ("0", 1), "check_constraint_checks": ("0", 1), "sql_safe_updates": ("1", 0),
    "completion_type": ("'CHAIN'", "NO_CHAIN"),
    "tx_isolation": ("'READ-UNCOMMITTED'", "REPEATABLE-READ"), "tx_read_only": ("1", 0),
}  # fmt: skip


@pytest.fixture
def wrong(my, my_schema):
    """A server of which each setting is turned the wrong way, until the test ends."""
    known = {name for name, _, servers in pins.MARIADB if servers != "!80000"}
    assert known == set(WRONG)
    my.ask(f"CREATE TABLE {my_schema}.t (id int PRIMARY KEY, v text, c char(3), ts timestamp(6) "
           "null) WITH SYSTEM VERSIONING")  # fmt: skip
    my.ask(f"INSERT INTO {my_schema}.t VALUES (1, '', 'a', '2024-01-02 03:04:05.6'), (2, 'b', '', "
           "NULL), (3, NULL, NULL, NULL)")  # fmt: skip
    try:
        for name, (value, _) in WRONG.items():
            my.ask(f"SET GLOBAL {name} = {value}")
        yield my_schema
    finally:
        for name in WRONG:
            default = "''" if name == "sql_mode" else "DEFAULT"
            my.ask(f"SET GLOBAL {name} = {default}")


def test_every_way_to_open_a_session_pins_it(my, wrong):
    url = my.url(wrong)
    with closing(session.connect(url, "who", "f")) as connection:
        for name, (_, right) in WRONG.items():
            (found,) = session.fetch_one(connection, f"SELECT @@{name}")
            assert (name, str(found).strip(",")) == (name, str(right))
    for side, mode in ((HomeError, "PIPES_AS_CONCAT"), (StoreError, pins.MARIADB_STRICT_MODE)):
        with connected(url, "who", side) as connection:
            for name, (_, right) in {**WRONG, "sql_mode": ("", mode)}.items():
                found = connection.exec_driver_sql(f"SELECT @@{name}").scalar()
                if name == "sql_mode":
                    found, right = set(found.split(",")), set(right.split(","))
                assert (name, found) == (name, right)


def test_rows_are_the_same_whatever_the_server_says(my, wrong):
    rows, _ = read(home_at(my, wrong))
    assert rows.drop_columns("ts").to_pylist() == [
        {"id": 1, "v": "", "c": "a"}, {"id": 2, "v": "b", "c": ""},
        {"id": 3, "v": None, "c": None},
    ]  # fmt: skip
    assert str(rows["ts"][0]) == "2024-01-02 03:04:05.600000+00:00"
    for mode, key in (("replace", ()), ("append", ()), ("merge", ("id",))):
        store = store_at(my, wrong, f"u_{mode}")
        commit_run(store, rows.slice(0, 2), rows.slice(2), mode=mode, key=key, flow=mode)
        again, _ = read(home_at(my, wrong, f"u_{mode}"))
        assert again.sort_by("id").equals(rows)


def test_a_value_that_the_server_changes_is_an_error_whatever_it_keeps_of_warnings(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id int PRIMARY KEY, v varchar(2), n int CHECK (n < 9))")
    kinds = {"id": pa.int32(), "v": pa.string(), "n": pa.int32()}
    store = store_at(my, my_schema)
    my.ask("SET GLOBAL max_error_count = 0, check_constraint_checks = 0")
    try:
        for ids, texts, n in (
            ([1], ["abc"], [1]), ([1], ["a"], [9]), ([1, 1], ["a", "b"], [1, 1]),
        ):  # fmt: skip
            table = pa.table({"id": ids, "v": texts, "n": n}, pa.schema(kinds))
            with pytest.raises((UnfitValue, StoreError)):
                commit_run(store, table, mode="append")
    finally:
        my.ask("SET GLOBAL max_error_count = DEFAULT, check_constraint_checks = DEFAULT")
    assert my.ask(f"SELECT count(*) FROM {my_schema}.t") == [(0,)]
