"""Flows of DuckDB as people write them, by the command line and without Ray."""

from __future__ import annotations

import re
import sqlite3

import duckdb
import pytest

from hygge.cli.main import main
from tests.chaos import only_in_chaos


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with duckdb.connect("src.duckdb") as connection:
        connection.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, name VARCHAR, at_ TIMESTAMPTZ); "
            "INSERT INTO orders SELECT i, 'n' || i, TIMESTAMPTZ '2024-01-01 00:00:00+00' "
            "FROM range(50) r(i); CREATE SCHEMA raw; CREATE TABLE raw.lines AS FROM orders; "
            "CREATE VIEW names AS SELECT name FROM orders"
        )
    return tmp_path


def write(text):
    with open("flows.yml", "w") as file:
        file.write(f"flows:\n  {text}\n")


def rows(statement, at="out.duckdb"):
    with duckdb.connect(at, read_only=True) as connection:
        return connection.execute(statement).fetchall()


def test_check_plan_run_preview_and_verify(here, capsys):
    write("f: {home: src.duckdb#orders, store: out.duckdb#orders, mode: merge}")
    for command in ("check", "plan"):
        assert main([command, "flows.yml"]) == 0
    said = capsys.readouterr().out
    assert "until the run ends it is locked: others can read it, nobody can write it" in said
    assert "while a run commits, no other program can open the file" in said
    assert main(["flows.yml", "--inline"]) == 0
    assert main(["flows.yml", "--inline"]) == 0
    assert rows("SELECT count(*), count(DISTINCT id) FROM orders") == [(50, 50)]
    capsys.readouterr()
    assert main(["preview", "flows.yml"]) == 0
    assert "2024-01-01" in capsys.readouterr().out
    assert main(["verify", "flows.yml"]) == 0
    assert "f: same; 50 rows in the source, 50 in the store" in capsys.readouterr().out


def test_a_family_of_every_table_with_masks(here):
    write(
        'f: {home: {connection: "duckdb:///src.duckdb", tables: ["*.*"]}, '
        'store: {connection: "duckdb:///out.duckdb", table: "{schema}_{table}"}, '
        "mask: {name: {keep_last: 1}}}"
    )
    assert main(["flows.yml", "--inline"]) == 0
    assert rows("SELECT count(*) FROM main_orders") == [(50,)]
    assert rows("SELECT count(*) FROM raw_lines WHERE name LIKE '*%'") == [(50,)]


def test_discover_and_move_know_a_file_by_its_bytes_and_by_its_name(here, capsys):
    assert main(["discover", "src.duckdb"]) == 0
    said = re.sub(" +", " ", capsys.readouterr().out)
    assert "orders 50 id id, at_" in said
    assert "and 1 view: --views" in said
    assert main(["move", "src.duckdb#orders", "out.ddb#t", "--inline"]) == 0
    assert rows("SELECT count(*) FROM t", "out.ddb") == [(50,)]


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        ("home: src.duckdb, store: out", "'home' is a DuckDB database without a table"),
        ("home: src.duckdb#nope, store: out", "there is no table 'nope'"),
        ("home: no.duckdb#t, store: out", "there is no DuckDB database"),
        (
            'home: src.duckdb#orders, store: {connection: "duckdb:///o.duckdb", table: t, '
            "options: {on_value: as_text}}",
            "DuckDB does not support `on_value`",
        ),
    ],
)
def test_what_cannot_be_is_said_in_words(flow, said, here, capsys):
    write(f"f: {{{flow}}}")
    assert main(["plan", "flows.yml"]) != 0
    assert said in capsys.readouterr().err


def test_rows_that_the_table_refuses_are_set_aside(here, capsys):
    with duckdb.connect("out.duckdb") as connection:
        connection.execute(
            "CREATE TABLE t (id INTEGER, name VARCHAR NOT NULL, at_ TIMESTAMP_NS); "
            "CREATE UNIQUE INDEX lowered ON t(lower(name))"
        )
    write(
        'f: {home: {connection: "duckdb:///src.duckdb", query: "SELECT id, '
        "CASE WHEN id > 9 THEN name END AS name, CASE WHEN id = 20 THEN TIMESTAMP '1600-01-01' "
        "ELSE TIMESTAMP '2024-01-01' END AS at_ FROM orders\"}, store: out.duckdb#t, "
        "mode: append, on_bad_row: set_aside, max_bad_rows: 20, max_bad_share: 50%}"
    )
    assert main(["plan", "flows.yml"]) == 0
    assert "not set aside, but fails the run: a unique index" in capsys.readouterr().out
    assert main(["flows.yml", "--inline"]) == 0
    assert rows("SELECT count(*), min(id) FROM t") == [(39, 10)]  # 1600 is too far for its column


@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=only_in_chaos)])
def test_flows_at_once_read_and_write_the_same_files(here, engine, request):
    if engine == "ray":
        request.getfixturevalue("ray_here")
    write(
        "a: {home: src.duckdb#orders, store: out.duckdb#a}\n"
        "  b: {home: src.duckdb#raw.lines, store: out.duckdb#b}\n"
        "  c: {home: src.duckdb#orders, store: src.duckdb#raw.copy}"
    )
    assert main(["flows.yml", *(["--inline"] if engine == "inline" else [])]) == 0
    assert rows("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)") == [(50, 50)]
    assert rows("SELECT count(*) FROM raw.copy", "src.duckdb") == [(50,)]


def test_a_flow_reads_and_writes_one_file(here):
    """Its lock for reading ends before the commit."""
    write("f: {home: src.duckdb#orders, store: src.duckdb#raw.copy, mode: merge}")
    for count in (51, 52):
        with duckdb.connect("src.duckdb") as connection:
            connection.execute(f"INSERT INTO orders VALUES ({count}, 'new', NULL)")
        assert main(["flows.yml", "--inline"]) == 0
        assert rows("SELECT count(*) FROM raw.copy", "src.duckdb") == [(count,)]
    write("f: {home: src.duckdb#orders, store: src.duckdb#main.orders, mode: merge}")
    assert main(["flows.yml", "--inline"]) != 0


def test_an_append_by_cursor_reads_rows_at_the_watermark_once(here):
    write(
        'f: {home: {connection: "duckdb:///src.duckdb", table: orders, cursor: at_}, '
        "store: out.duckdb#t, mode: append}"
    )
    assert main(["flows.yml", "--inline"]) == 0
    with duckdb.connect("src.duckdb") as connection:
        connection.execute(
            "INSERT INTO orders VALUES (50, 'tie', '2024-01-01 00:00:00+00'), "
            "(51, 'later', '2024-01-01 00:00:00.000001+00')"
        )
    for _ in range(2):
        assert main(["flows.yml", "--inline"]) == 0
        assert rows("SELECT count(*), count(DISTINCT id) FROM t") == [(52, 52)]


@pytest.mark.parametrize("out", ["out.duckdb#out", "{connection: 'sqlite:///out.db', table: out}"])
def test_the_newest_row_of_a_key_is_told_by_number_also_where_it_is_kept_as_text(here, out, capsys):
    with duckdb.connect("src.duckdb") as connection:
        connection.execute(
            "CREATE TABLE log AS SELECT 1 AS id, 10::HUGEINT AS seq, 'new' AS name "
            "UNION ALL SELECT 1, 9, 'old' UNION ALL SELECT 1, -11, 'older'"
        )
    home = 'connection: "duckdb:///src.duckdb", table: log, cursor: seq'
    write(f"f: {{home: {{{home}}}, store: {out}, mode: merge, key: id}}")
    assert main(["flows.yml", "--inline"]) == 1
    said = "".join(capsys.readouterr())
    assert "cursor 'seq' is HUGEINT, which arrives as text" in said
    (stated,) = re.findall(r"options: {types: {seq: '.*?'}}", said)
    write(f"f: {{home: {{{home}, {stated}}}, store: {out}, mode: merge, key: id}}")
    assert main(["flows.yml", "--inline"]) == 0
    if "sqlite" in out:
        with sqlite3.connect("out.db") as connection:
            assert connection.execute("SELECT name FROM out").fetchall() == [("new",)]
    else:
        assert rows("SELECT name FROM out") == [("new",)]


def test_a_file_that_is_named_as_its_schema_is_refused_in_words(here, capsys):
    with duckdb.connect("raw.duckdb") as connection:
        connection.execute("CREATE SCHEMA raw; CREATE TABLE raw.raw.t AS SELECT 1 AS id")
    write("f: {home: raw.duckdb#raw.t, store: out.duckdb#t}")
    assert main(["flows.yml", "--inline"]) == 1
    assert "give the file another name than the schema" in "".join(capsys.readouterr())
    (here / "raw.duckdb").rename("other.duckdb")
    write("f: {home: other.duckdb#raw.t, store: out.duckdb#t}")
    assert main(["flows.yml", "--inline"]) == 0
    assert rows("SELECT id FROM t") == [(1,)]
