"""MariaDB as a Store: values are written exactly or refused, and what others made stays."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from hygge import Flow, SQLStore
from hygge.connectors.mariadb import load, target
from hygge.errors import (
    HyggeError,
    Rejected,
    StoreError,
    UnfitValue,
)
from hygge.testing.values import difference
from tests.connectors.mariadb.rows import (
    ROWS,
    commit_run,
    home_at,
    read,
    read_directly,
    store_at,
    table_names,
)
from tests.connectors.mariadb.test_home import TYPES

pytest_plugins = ["tests.servers.mariadb"]


# Values


def test_what_mariadb_holds_comes_back_from_mariadb(my, my_schema):
    columns = ", ".join(f"`{name}` {kind}" for name, (kind, *_) in TYPES.items())
    my.ask(f"CREATE TABLE {my_schema}.s ({columns})")
    values = ", ".join(literal for _, _, literal, _ in TYPES.values())
    my.ask(f"INSERT INTO {my_schema}.s VALUES ({', '.join(['NULL'] * len(TYPES))}), ({values})")
    table, plan = read(home_at(my, my_schema, "s"))
    commit_run(store_at(my, my_schema), table)
    again, copied = read(home_at(my, my_schema))
    assert difference(again, table) is None
    assert [each.type for each in copied.columns] == [each.type for each in plan.columns]


@pytest.mark.parametrize("charset", ["latin1", "utf8mb4", "ucs2"])
def test_the_databases_own_character_set_does_not_matter(charset, my):
    schema = my.schema()
    my.ask(f"ALTER DATABASE {schema} CHARACTER SET {charset}")
    table = pa.table({"v": ["🏡 é", "\\N", "NULL", "", None, 'a"b\tc\nd\\\0e\r', "ж" * 40_000]})
    commit_run(store_at(my, schema), table)
    assert difference(read_directly(my, schema, "t"), table) is None


def test_a_value_that_is_larger_than_a_packet_arrives(my, my_schema):
    value = b"\0\xff\t\\" * 4_500_000  # 18 MB, and twice as much on its way
    table = pa.table({"v": [value, b"", None]})
    commit_run(store_at(my, my_schema), table)
    found = my.ask(f"SELECT LENGTH(v), MD5(v) FROM {my_schema}.t WHERE v <> ''")
    assert found == [(len(value), hashlib.md5(value).hexdigest())]
    assert read(home_at(my, my_schema))[0].column("v").to_pylist() == [value, b"", None]


MISFITS = [
    (pa.float64(), math.nan, "nan"),
    (pa.float64(), -0.0, "-0.0"),
    (pa.float32(), math.inf, "inf"),
    (pa.date32(), -719_163, "0000-12-31"),
    (pa.timestamp("us"), 253_402_300_800_000_000, "10000-01-01 00:00:00"),
    (pa.timestamp("us", "UTC"), -62_135_596_800_000_001, "0000-12-31 23:59:59.999999 UTC"),
]


@pytest.mark.parametrize(("kind", "value", "text"), MISFITS)
def test_what_mariadb_has_no_value_for_is_the_users_choice(kind, value, text, my, my_schema):
    plain = {pa.date32(): pa.int32(), pa.float32(): kind, pa.float64(): kind}.get(kind, pa.int64())
    column = pa.array([value, None], plain).cast(kind)
    table = pa.table({"n": [1, 2], "v": column})
    with pytest.raises(UnfitValue, match=f"column 'v' holds .*{text}") as caught:
        commit_run(store_at(my, my_schema), table)
    assert "{on_value: {v: set_null}}" in caught.value.hint
    commit_run(store_at(my, my_schema, options={"on_value": {"v": "set_null"}}), table)
    assert read_directly(my, my_schema, "t").column("v").to_pylist() == [None, None]
    commit_run(store_at(my, my_schema, "u", options={"on_value": {"v": "as_text"}}), table)
    assert isinstance(read_directly(my, my_schema, "u").column("v")[0].as_py(), str)


def test_moments_keep_that_they_are_utc_and_other_zones_are_asked_for(my, my_schema):
    moment = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    table = pa.table({"v": pa.array([moment], pa.timestamp("us", "UTC"))})
    commit_run(store_at(my, my_schema), table)
    assert read(home_at(my, my_schema))[0].equals(table)
    berlin = table.cast(pa.schema([("v", pa.timestamp("us", "Europe/Berlin"))]))
    with pytest.raises(UnfitValue, match="column 'v' is timestamp") as caught:
        commit_run(store_at(my, my_schema, "u"), berlin)
    assert "zones: utc" in caught.value.hint
    commit_run(store_at(my, my_schema, "u", options={"zones": "utc"}), berlin)
    assert read(home_at(my, my_schema, "u"))[0].equals(table)


def test_a_warning_fails_the_split(my, my_schema, monkeypatch):
    real = target.column_ddl
    monkeypatch.setattr(
        target, "column_ddl", lambda *given: real(*given).replace("longtext", "varchar(3)")
    )
    with pytest.raises(UnfitValue, match="Data truncated for column 'v' at row 2"):
        commit_run(store_at(my, my_schema), pa.table({"v": ["abc", "abcd"]}))
    assert table_names(my, my_schema) == []
    # And the test bites: without the look at the warnings the value would be cut in silence.
    monkeypatch.setattr(load, "_check_warnings", lambda *_, **__: None)
    commit_run(store_at(my, my_schema), pa.table({"v": ["abc", "abcd"]}))
    assert read_directly(my, my_schema, "t").column("v").to_pylist() == ["abc", "abc"]


def test_decimals_beyond_their_precision_are_an_error(my, my_schema):
    commit_run(store_at(my, my_schema), pa.table({"v": [Decimal("1.5")]}))
    my.ask(f"ALTER TABLE {my_schema}.t MODIFY v decimal(3,1)")
    wide = pa.table({"v": pa.array([Decimal("100.5")], pa.decimal128(5, 1))})
    with pytest.raises(StoreError, match="column 'v' is decimal"):
        commit_run(store_at(my, my_schema), wide, mode="append")
    with pytest.raises(UnfitValue, match="decimal.38,39"):
        commit_run(
            store_at(my, my_schema, "u"), pa.table({"v": pa.array([None], pa.decimal128(38, 39))})
        )


# What stands there


def test_grants_comments_and_indexes_stay_when_a_table_is_replaced(my, my_schema):
    store = store_at(my, my_schema)
    commit_run(store, ROWS)
    my.ask(f"CREATE USER IF NOT EXISTS g{my_schema}@127.0.0.1")
    my.ask(f"GRANT SELECT ON {my_schema}.t TO g{my_schema}@127.0.0.1")
    my.ask(
        f"ALTER TABLE {my_schema}.t COMMENT 'of ours', ADD INDEX `by ``v` (v(10)), "
        "ADD UNIQUE KEY u (id)"
    )
    before = my.ask(f"SHOW CREATE TABLE {my_schema}.t")
    commit_run(store, pa.table({"id": [7], "v": ["new"]}))
    assert my.ask(f"SHOW CREATE TABLE {my_schema}.t") == before
    with my.connect() as root, root.cursor() as cursor:
        cursor.execute(f"SHOW GRANTS FOR g{my_schema}@127.0.0.1")
        assert any("SELECT" in row[0] and ".`t`" in row[0] for row in cursor.fetchall())
    with pytest.raises(HyggeError, match="Duplicate entry '8'"):
        commit_run(store, pa.table({"id": [8, 8], "v": ["x", "y"]}))
    assert my.ask(f"SELECT id FROM {my_schema}.t") == [(7,)]
    assert table_names(my, my_schema) == ["t"]


def test_a_replaced_table_may_have_other_columns(my, my_schema):
    store = store_at(my, my_schema)
    commit_run(store, ROWS)
    other = pa.table({"name": ["x"], "day": [date(2024, 1, 1)]})
    commit_run(store, other)
    assert difference(read_directly(my, my_schema, "t"), other) is None


def test_triggers_and_foreign_keys_stay_with_their_table(my, my_schema):
    store = store_at(my, my_schema)
    commit_run(store, ROWS)
    my.ask(f"ALTER TABLE {my_schema}.t ADD PRIMARY KEY (id)")
    # By which it is not hygge's any more: what hygge made is told by its columns.
    my.ask(f"UPDATE {my_schema}._hygge_heads SET made = NULL")
    with pytest.raises(StoreError, match="hygge did not make it"):
        commit_run(store, ROWS)
    my.ask(f"DROP TABLE {my_schema}.t")
    my.ask(f"DELETE FROM {my_schema}._hygge_heads")
    commit_run(store, ROWS)
    my.ask(f"CREATE TABLE {my_schema}.log (n int)")
    my.ask(
        f"CREATE TRIGGER {my_schema}.tr AFTER INSERT ON {my_schema}.t FOR EACH ROW "
        f"INSERT INTO {my_schema}.log VALUES (NEW.id)"
    )
    commit_run(store, ROWS)
    assert my.ask(f"SELECT COUNT(*) FROM {my_schema}.log") == [(3,)]
    my.ask(f"ALTER TABLE {my_schema}.t ADD INDEX (id)")
    foreign = f"FOREIGN KEY (id) REFERENCES {my_schema}.t (id)"
    my.ask(f"CREATE TABLE {my_schema}.child (id bigint, {foreign})")
    my.ask(f"INSERT INTO {my_schema}.child VALUES (1)")
    with pytest.raises(StoreError, match="rows of child may refer to it"):
        commit_run(store, pa.table({"id": [9], "v": ["x"]}))
    assert my.ask(f"SELECT COUNT(*) FROM {my_schema}.t") == [(3,)]
    my.ask(f"DELETE FROM {my_schema}.child")
    with pytest.raises(StoreError, match="other columns than the rows, and a trigger"):
        commit_run(store, pa.table({"id": [9]}))


def test_a_table_without_transactions_is_refused(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id bigint, v text CHARACTER SET utf8mb4) ENGINE = MyISAM")
    with pytest.raises(StoreError, match="MyISAM, which has no transactions"):
        commit_run(store_at(my, my_schema), ROWS, mode="append")


def test_rows_go_into_a_table_of_somebody_elses_making(my, my_schema):
    my.ask(
        f"CREATE TABLE {my_schema}.t (n int AUTO_INCREMENT PRIMARY KEY, id bigint UNIQUE, "
        "v longtext CHARACTER SET utf8mb4, at timestamp DEFAULT CURRENT_TIMESTAMP)"
    )
    store = store_at(my, my_schema)
    commit_run(store, ROWS, mode="append")
    assert my.ask(f"SELECT n, id, v FROM {my_schema}.t") == [(1, 1, "a"), (2, 2, "b"), (3, 3, None)]
    with pytest.raises(Rejected, match="Duplicate entry '3'"):
        commit_run(store, pa.table({"id": [4, 3], "v": ["x", "y"]}), mode="append")
    assert my.ask(f"SELECT COUNT(*) FROM {my_schema}.t") == [(3,)]
    with pytest.raises(StoreError, match="has no column 'w'"):
        commit_run(store, pa.table({"id": [4], "w": ["x"]}), mode="append")


def test_the_key_of_the_source_is_the_key_of_the_table(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.s (a int, b date, v text, PRIMARY KEY (b, a))")
    my.ask(f"INSERT INTO {my_schema}.s VALUES (1, '2024-01-01', 'x')")
    flow = Flow(home_at(my, my_schema, "s"), store_at(my, my_schema), name="k", engine="inline")
    flow.run()
    assert "PRIMARY KEY (`b`,`a`)" in my.ask(f"SHOW CREATE TABLE {my_schema}.t")[0][1]


ODD = ["a`b.c d", 'quote"', "percent %s:x", "select", "日本", "x" * 64, "a'b -- c"]


def test_any_name_is_only_a_name(my, my_schema):
    for at, name in enumerate(ODD):
        table = pa.table({name: [1, 2], ODD[at - 1]: ["v", None]})
        whole = '"' + name.replace('"', '""') + '"'
        store = SQLStore("x", table=f"{my_schema}.{whole}", connection=my.url("mysql"))
        for mode in ("replace", "append", "replace"):
            commit_run(store, table, mode=mode, flow=name)
        assert difference(read_directly(my, my_schema, name), table) is None
    assert table_names(my, my_schema) == sorted(ODD)


# Merge


def test_the_last_by_cursor_wins_and_keys_that_look_alike_stay_apart(my, my_schema):
    store = store_at(my, my_schema)
    kinds = pa.schema([("k", pa.string()), ("at", pa.int64()), ("v", pa.string())])
    first = pa.table({"k": ["a", "A", "a ", "ä"], "at": [1, 1, 1, 1], "v": list("wxyz")}, kinds)
    commit_run(store, first, mode="merge", key=["k"], cursor="at")
    assert difference(read_directly(my, my_schema, "t"), first) is None
    one = pa.table({"k": ["a", "new"], "at": [5, 2], "v": ["late", "n1"]}, kinds)
    two = pa.table({"k": ["a", "new"], "at": [4, 2], "v": ["early", "n2"]}, kinds)
    commit = commit_run(store, one, two, mode="merge", key=["k"], cursor="at")
    assert (commit.applied, commit.superseded) == (2, 2)
    found = dict(my.ask(f"SELECT CONCAT(k, '|'), v FROM {my_schema}.t"))
    assert found == {"a|": "late", "A|": "x", "a |": "y", "ä|": "z", "new|": "n2"}


@pytest.mark.parametrize(("ids", "words"), [([1, None], "is NULL in"), ([1, 1], "is not unique")])
def test_keys_that_name_no_row_are_rejected(ids, words, my, my_schema):
    table = pa.table({"id": pa.array(ids, pa.int64()), "v": ["a", "b"]})
    with pytest.raises(Rejected, match=words):
        commit_run(store_at(my, my_schema), table, mode="merge", key=["id"])
    assert table_names(my, my_schema) == []
