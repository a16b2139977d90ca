"""Changes (`_op`) into PostgreSQL, MariaDB and what goes through SQLAlchemy."""

from __future__ import annotations

import json

import pytest

from hygge import SQLHome, SQLStore
from hygge.cli.main import main
from hygge.connectors.mariadb import session
from hygge.errors import FlowFailed
from hygge.model import Limits
from tests.changes.moving import AFTER, CHANGES, flow, home_of, write

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]
KINDS = ("postgresql", "postgresql+psycopg2", "mariadb", "mysql")


@pytest.fixture(params=KINDS)
def there(request, monkeypatch):
    """The URL of a schema, and what asks it."""
    kind = request.param
    if kind.startswith("postgresql"):
        pg = request.getfixturevalue("pg")
        schema = request.getfixturevalue("schema")
        monkeypatch.setenv("PGOPTIONS", f"-c search_path={schema}")
        url = pg.url.replace("postgresql:", f"{kind}:")
        return url, lambda sql: pg.ask(sql.replace("#", f"{schema}."))
    my, schema = request.getfixturevalue("my"), request.getfixturevalue("my_schema")
    if kind == "mysql":
        monkeypatch.setattr(session, "is_mariadb", lambda url, who, side: False)
    return my.url(schema), lambda sql: my.ask(sql.replace("#", f"{schema}."))


def test_changes_are_applied_to_a_new_table_and_to_one_that_is_there(there, tmp_path):
    url, ask = there
    home, store = home_of("jsonl", tmp_path), SQLStore("t", connection=url)
    report = flow(home, store, tmp_path).run()
    rows = "SELECT id, v FROM #t ORDER BY id"
    assert [tuple(row) for row in ask(rows)] == AFTER
    assert (report.rows, report.applied, report.superseded) == (8, 4, 4)
    more = [(9, "delete", 1, None), (10, "update", 3, "c3"), (11, "insert", 4, "d")]
    write("jsonl", tmp_path / "changes.jsonl" / "9.jsonl", more)
    report = flow(home, store, tmp_path).run()
    assert [tuple(row) for row in ask(rows)] == [(3, "c3"), (4, "d")]
    assert "changes: 2 inserted or updated, 3 deleted" in report.note


def test_a_cursor_tells_the_order_of_changes_in_any_splits(there, tmp_path):
    url, ask = there
    ask("CREATE TABLE #c (seq bigint PRIMARY KEY, _op varchar(9), id bigint, v varchar(9))")
    for row in CHANGES[::-1]:
        values = ", ".join("NULL" if value is None else repr(value) for value in row)
        ask(f"INSERT INTO #c VALUES ({values})")
    home = SQLHome("c", connection=url, cursor="seq", changes=True, options={"splits": 3})
    flow(home, SQLStore("t", connection=url), tmp_path).run()
    assert [tuple(row) for row in ask("SELECT id, v FROM #t ORDER BY id")] == AFTER
    ask("INSERT INTO #c VALUES (9, 'delete', 1, NULL), (10, 'insert', 5, 'e')")
    flow(home, SQLStore("t", connection=url), tmp_path).run()
    assert [tuple(row) for row in ask("SELECT id, v FROM #t ORDER BY id")] == [AFTER[1], (5, "e")]


def test_a_delete_needs_no_value_of_a_table_that_wants_them(there, tmp_path):
    url, ask = there
    ask(
        "CREATE TABLE #t (seq bigint, id bigint PRIMARY KEY, v varchar(5) NOT NULL CHECK (v <> ''))"
    )
    ask("INSERT INTO #t VALUES (0, 2, 'old'), (0, 8, 'stays')")
    rows = [*CHANGES, (9, "insert", 5, "much too long"), (10, "insert", 6, None)]
    home = home_of("parquet", tmp_path, rows)
    limits = Limits(on_bad_row="set_aside", max_bad_share=1.0)
    report = flow(home, SQLStore("t", connection=url), tmp_path, limits=limits).run()
    assert [tuple(row) for row in ask("SELECT id, v FROM #t ORDER BY id")] == [*AFTER, (8, "stays")]
    assert report.set_aside == 2


def test_a_foreign_key_that_keeps_a_row_refuses_the_run(there, tmp_path):
    url, ask = there
    ask("CREATE TABLE #t (seq bigint, id bigint PRIMARY KEY, v varchar(9))")
    ask("CREATE TABLE #child (id bigint, FOREIGN KEY (id) REFERENCES #t (id))")
    ask("INSERT INTO #t VALUES (0, 2, 'old')")
    ask("INSERT INTO #child VALUES (2)")
    with pytest.raises(FlowFailed):
        flow(home_of("parquet", tmp_path), SQLStore("t", connection=url), tmp_path).run()
    assert [tuple(row) for row in ask("SELECT id, v FROM #t ORDER BY id")] == [(2, "old")]


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2"])
def test_the_right_to_delete_is_asked_for_before_rows_move(
    driver, pg, schema, tmp_path, monkeypatch, capsys
):
    role = f"r{schema}"
    pg.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    pg.ask(f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}")
    pg.ask(f"CREATE TABLE {schema}.t (seq bigint, id bigint PRIMARY KEY, v text)")
    pg.ask(f"GRANT INSERT, UPDATE, SELECT ON {schema}.t TO {role}")
    home_of("parquet", tmp_path)
    url = pg.url.replace("postgres@", f"{role}:x@").replace("postgresql:", f"{driver}:")
    home = {"path": "changes.parquet", "changes": True}
    moving = {"home": home, "store": f"{url}#{schema}.t", "mode": "merge", "key": ["id"]}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yml").write_text(json.dumps({"flows": {"f": moving}}))
    for command in (["plan", "f.yml"], ["f.yml", "--inline"]):
        assert main(command) == 1
        assert "may not DELETE" in capsys.readouterr().err
    pg.ask(f"GRANT DELETE ON {schema}.t TO {role}")
    assert main(["plan", "f.yml"]) == 0
    assert "applies what `_op` says" in capsys.readouterr().out


def test_types_of_postgres_stay_where_changes_come_from_another_one(pg, schema, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.c (seq bigint, _op text, id uuid, v inet, w jsonb)")
    first = "00000000-0000-4000-8000-00000000000"
    pg.ask(
        f"INSERT INTO {schema}.c VALUES (1, 'insert', '{first}1', '10.0.0.1', '{{}}'), "
        f"(2, 'insert', '{first}2', '10.0.0.2', NULL), (3, 'delete', '{first}2', NULL, NULL)"
    )
    home = SQLHome("c", table=f"{schema}.c", connection=pg.url, cursor="seq", changes=True)
    store = SQLStore("t", table=f"{schema}.t", connection=pg.url)
    flow(home, store, tmp_path).run()
    assert pg.ask(f"SELECT id::text, v::text FROM {schema}.t") == [(f"{first}1", "10.0.0.1/32")]
    kinds = (
        "SELECT string_agg(format_type(atttypid, -1), ' ' ORDER BY attnum) FROM pg_attribute "
        f"WHERE attrelid = '{schema}.t'::regclass AND attnum > 0"
    )
    assert pg.ask(kinds) == [("bigint uuid inet jsonb",)]
    pg.ask(f"INSERT INTO {schema}.c VALUES (4, 'delete', '{first}1', NULL, NULL)")
    flow(home, store, tmp_path).run()
    assert pg.ask(f"SELECT count(*) FROM {schema}.t") == [(0,)]
