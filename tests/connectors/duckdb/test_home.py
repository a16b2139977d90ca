"""SQLHome on DuckDB: types that its own export would change, splits by rowid, cursor, the lock."""

from __future__ import annotations

import os
import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest

from hygge import SQLHome, SQLStore
from hygge.connectors.duckdb import session
from hygge.connectors.sql import pins
from hygge.errors import ConfigError, HomeError, SourceChanged, SourceMissing, Transient, UnfitValue
from hygge.model import Run, Ticket


def home_of(path, table="t", **settings):
    if "query" in settings:
        return SQLHome(connection=f"duckdb:///{path}", **settings)
    return SQLHome(table, connection=f"duckdb:///{path}", **settings)


def read(home, since=None):
    with home.open(since) as plan:
        tables = [batch for split in plan.splits for batch in home.read(split)]
        schema = pa.schema([(column.name, column.type) for column in plan.columns])
    return pa.concat_tables([schema.empty_table(), *tables])


AS_TEXT = {
    "HUGEINT": "-170141183460469231731687303715884105727",
    "UHUGEINT": "340282366920938463463374607431768211455",
    "TIMETZ": "12:00:00+05:30",
    "INTERVAL": "1 year 3 days 04:05:06.789",
    "BIT": "0101",
    "JSON": '{"a": [1]}',
    "UUID": "0192d5a8-0000-7000-8000-000000000000",
}


def test_what_the_export_to_arrow_would_change_is_read_as_text(path, sql):
    columns = ", ".join(f"'{text}'::{kind} AS \"{kind}\"" for kind, text in AS_TEXT.items())
    sql(
        f"CREATE TABLE t AS SELECT {columns}, 12::BIGNUM AS big, union_value(n := 1) AS u, "
        "'a'::ENUM('a', 'b') AS e, [{'h': 5::HUGEINT}] AS l, MAP {'k': '01'::BIT} AS m, "
        "1.5::DECIMAL(5, 2) AS d, [1, 2]::INTEGER[2] AS pair"
    )
    (row,) = read(home_of(path)).to_pylist()
    assert {kind: row[kind] for kind in AS_TEXT} == AS_TEXT
    assert (row["big"], row["u"], row["e"], row["l"]) == ("12", "1", "a", [{"h": "5"}])
    assert (row["m"], str(row["d"]), row["pair"]) == ([("k", "01")], "1.50", [1, 2])


def test_infinite_moments_are_an_error_or_what_on_value_says(path, sql):
    sql("CREATE TABLE t AS SELECT 'infinity'::DATE AS d, '-infinity'::TIMESTAMPTZ AS z, 1 AS n")
    with pytest.raises(UnfitValue, match="column 'd' holds infinity"):
        read(home_of(path))
    with pytest.raises(UnfitValue, match="column 'd' holds infinity"):
        read(home_of(path, query="SELECT '-infinity'::DATE AS d"))
    assert read(home_of(path, options={"on_value": "as_text"})).to_pylist() == [
        {"d": "infinity", "z": "-infinity", "n": 1}
    ]
    ways = {"on_value": {"d": "set_null", "z": "as_text"}}
    assert read(home_of(path, options=ways)).to_pylist()[0]["d"] is None
    sql("CREATE TABLE u AS SELECT '24:00:00'::TIME AS d, '24:00:00'::TIME_NS AS n")
    with pytest.raises(UnfitValue, match="column 'd' holds 24:00:00, which is no time"):
        read(home_of(path, "u"))
    ways = {"on_value": {"d": "set_null", "n": "as_text"}}
    assert read(home_of(path, "u", options=ways)).to_pylist() == [{"d": None, "n": "24:00:00"}]


def test_a_type_that_nobody_knows_is_refused_unless_it_is_read_as_text(path):
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n, NULL::GEOMETRY AS g")
    with pytest.raises(HomeError, match="column 'g' is GEOMETRY, which hygge does not know"):
        read(home_of(path))
    assert read(home_of(path, options={"types": {"g": "string"}})).num_rows == 1
    assert read(home_of(path, columns=["n"])).column_names == ["n"]


def test_stated_types_columns_and_conditions(path, sql):
    sql("CREATE TABLE t AS SELECT i AS id, (i / 2)::VARCHAR AS half FROM range(10) r(i)")
    home = home_of(
        path,
        columns=["half"],
        where="id > 3 -- the rest",
        options={"types": {"half": "decimal(4,1)"}},
    )
    assert str(read(home)["half"][0]) == "2.0"
    with pytest.raises(UnfitValue, match="column 'half' holds what"):
        read(home_of(path, options={"types": {"half": "int64"}}))
    with pytest.raises(SourceMissing, match="has no column 'nope'"):
        read(home_of(path, columns=["nope"]))
    with pytest.raises(SourceMissing, match="has no column 'ID'") as raised:
        read(home_of(path, split_by="ID"))
    assert "did you mean 'id'?" in raised.value.hint
    with pytest.raises(SourceMissing, match="there is no table 'T2'"):
        read(home_of(path, "T2"))


def test_splits_by_rowid_cover_what_deletes_left(path, sql):
    sql("CREATE TABLE t AS SELECT i AS id FROM range(300000) r(i); DELETE FROM t WHERE id % 3 = 0;")
    home = home_of(path, options={"splits": 4})
    with home.open() as plan:
        assert len(plan.splits) == 4
        assert plan.splits[0].label.startswith("rowid before")
    seen = read(home)["id"].to_pylist()
    assert len(seen) == len(set(seen)) == 200_000


def test_a_query_and_a_view_are_one_split(path, sql):
    sql("CREATE TABLE t AS SELECT i AS id FROM range(10) r(i); CREATE VIEW v AS FROM t")
    for home in (home_of(path, query="SELECT id + 1 AS id FROM t -- all;"), home_of(path, "v")):
        with home.open() as plan:
            assert len(plan.splits) == 1
        assert read(home).num_rows == 10
    with pytest.raises(HomeError, match="more than one column named 'id'"):
        read(home_of(path, query="SELECT a.id, b.id FROM t a, t b"))


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("BIGINT", "7", "8"),
        ("HUGEINT", "7", "8"),
        ("DECIMAL(10,2)", "7.10", "7.20"),
        ("TIMESTAMP", "'2024-01-01 10:00:00.5'", "'2024-01-01 10:00:01'"),
        ("TIMESTAMPTZ", "'2024-01-01 10:00:00+02'", "'2024-01-01 10:00:01+02'"),
        ("DATE", "'2024-01-01'", "'2024-01-02'"),
        ("VARCHAR", "'2024-01-01'", "'2024-01-02'"),
    ],
)
def test_a_cursor_reads_what_is_beyond_the_watermark(kind, first, second, path, sql):
    sql(f"CREATE TABLE t (moved {kind}, n INTEGER); INSERT INTO t VALUES ({first}, 1), (NULL, 2)")
    home = home_of(path, cursor="moved", options={"null_cursor": "skip"})
    with home.open() as plan:
        watermark = plan.watermark
    assert read(home).num_rows == 2
    sql(f"INSERT INTO t VALUES ({second}, 3)")
    assert read(home, watermark)["n"].to_pylist() == [3]


@pytest.mark.parametrize("value", ["'infinity'::TIMESTAMP", "'x'::BLOB", "uuid()", "[1]"])
def test_a_cursor_that_cannot_be_followed_is_refused(value, path, sql):
    sql(f"CREATE TABLE t AS SELECT {value} AS moved")
    with pytest.raises((HomeError, ConfigError), match="cursor 'moved'"):
        read(home_of(path, cursor="moved"))


def test_nobody_writes_while_a_plan_is_open_and_a_change_after_it_is_seen(path, sql, monkeypatch):
    sql("CREATE TABLE t AS SELECT 1 AS id")
    home = home_of(path)
    with home.open() as plan:
        assert "it is locked" in plan.snapshot
        with pytest.raises(duckdb.Error, match="different configuration"):
            sql("INSERT INTO t VALUES (2)")
    sql("INSERT INTO t VALUES (2)")
    with pytest.raises(SourceChanged):
        list(home.read(plan.splits[0]))
    monkeypatch.setattr(session, "LOCK_WAIT_S", 0.2)
    with duckdb.connect(path), pytest.raises(Transient, match="is open in this process already"):
        read(home)


def test_what_a_killed_program_left_in_its_log_is_read_and_kept(path, sql):
    sql("CREATE TABLE t AS SELECT 1 AS id")
    code = (
        "import duckdb, os; c = duckdb.connect({!r}); c.execute('INSERT INTO t VALUES (2)'); "
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code.format(path)], check=False)
    assert os.path.exists(f"{path}.wal")
    assert read(home_of(path))["id"].to_pylist() == [1, 2]
    store, run = SQLStore("t", connection=f"duckdb:///{path}"), Run("r", "f", "append")
    three = pa.table({"id": pa.array([3], pa.int32())})
    store.prepare(run, three.schema)
    receipt = store.stage(Ticket("r", 0), three.schema, iter([three]))
    store.commit(run, None, [receipt], None)
    assert sql("SELECT id FROM t ORDER BY id") == [(1,), (2,), (3,)]


def test_what_is_no_duckdb_file_is_told(tmp_path):
    (tmp_path / "x.duckdb").write_text("no database at all, but long enough to be looked at")
    with pytest.raises(HomeError, match="is it a DuckDB database"):
        read(home_of(tmp_path / "x.duckdb"))
    with pytest.raises(SourceMissing, match="there is no DuckDB database"):
        read(home_of(tmp_path / "y.duckdb"))


def test_every_session_is_pinned_whatever_the_instance_says(path, sql):
    sql("CREATE TABLE t AS SELECT 'a' AS v")
    wrong = {"true": "false", "false": "true", "": "NOCASE", "UTC": "Asia/Tokyo", "ASC": "DESC"}
    wrong |= {"gregorian": "japanese", "NULLS_LAST": "NULLS_FIRST"}
    with duckdb.connect(path, read_only=True) as users:
        for name, value in pins.DUCKDB.items():
            users.execute(f"SET GLOBAL {name} = '{wrong[value]}'")
        with session.reading(path, "who") as connection:
            for name, value in pins.DUCKDB.items():
                now = session.fetch_value(connection, "SELECT current_setting(?)", name)
                now = {"preserve_case": "true"}.get(str(now), str(now).lower())  # 2's word for it
                assert (name, now) == (name, value.lower())
        home = SQLHome("t", connection=f"duckdb:///{path}", where="v = 'A'")
        with home.open() as plan:
            assert not [batch for split in plan.splits for batch in home.read(split)]
