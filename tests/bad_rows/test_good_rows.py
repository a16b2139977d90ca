"""A row that the table takes is never set aside, whatever its rules are.

Where no commit sets aside what nobody can ask for before, the plan says so.

Each case moves a few rows with `on_bad_row: set_aside` into a table that somebody made.
"""

from __future__ import annotations

from dataclasses import replace

import duckdb
import pyarrow as pa
import pytest

from hygge import Flow, SQLStore
from hygge.cli.main import main
from hygge.connectors.databases.bad_values import remarks
from hygge.connectors.mariadb.database import MARIADB
from hygge.connectors.sql import table_facts
from hygge.connectors.sqlite.database import SQLITE
from hygge.errors import FlowFailed
from hygge.model import Limits
from tests.bad_rows.test_rules import moved
from tests.bad_rows.test_stores import Rows
from tests.connectors.sql.own_tables import Lite, Maria, Postgres, database

pytest_plugins = ["tests.servers.mariadb", "tests.servers.postgres"]
NOT_ASKED = "is not set aside, but fails the run: "


@pytest.fixture(params=["postgresql", "psycopg2", "mariadb", "sqlite"])
def base(request, tmp_path):
    return database(request, request.param, tmp_path)


@pytest.fixture
def lite(tmp_path):
    return Lite(tmp_path / "x.db")


def taken(base, tmp_path, table, **limits):
    """Move the rows; return the ids of those that were set aside, and what the store said."""
    store = base.store()
    report, bad = moved(tmp_path, store, table, **limits)
    assert report.applied == table.num_rows - len(bad)
    return {*bad}, " ".join(store.remarks(table.schema))


def ints(**columns):
    return pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})


def test_a_row_that_is_refused_holds_no_key(base, tmp_path):
    base.ask("CREATE TABLE t (id bigint UNIQUE, a bigint UNIQUE, b bigint UNIQUE CHECK (b > 0))")
    table = ints(
        id=[0, 1, 2, 3, 4, 5, 6, 7],
        a=[1, 1, 9, 2, 2, 11, 11, 1],
        b=[5, 6, 6, 5, 7, 0, 8, 6],
    )
    # One after the other: 1 has the a of 0, 3 the b of 0, 5 breaks the check, 7 has both.
    refused, said = taken(base, tmp_path, table)
    assert refused == {1, 3, 5, 7}
    assert sorted(base.ask("SELECT id FROM t")) == [(0,), (2,), (4,), (6,)]
    assert NOT_ASKED not in said


def test_percent_signs_mean_themselves(base, tmp_path):
    mark = "`" if base.name == "mariadb" else '"'
    name = f"{mark}a%b{mark}"
    base.ask(f"CREATE TABLE t (id bigint, {name} varchar(9) UNIQUE CHECK ({name} LIKE 'x%'))")
    table = pa.table({"id": range(4), "a%b": ["x1", "y", "x2", "x1"]})
    assert taken(base, tmp_path, table)[0] == {1, 3}


LITE = {
    "a column that the rows lack": (
        ["CREATE TABLE t (id INTEGER, v TEXT, w TEXT DEFAULT 'z', CHECK (\"w\" > v))"],
        "check (\"w\" > v)",
    ),
    "the name of the table": (
        ["CREATE TABLE t (id INTEGER, v TEXT, CHECK (t.v <> 'y'))"], "check (t.v <> 'y')",
    ),
    "the number of the row": (
        ["CREATE TABLE t (id INTEGER, v TEXT, CHECK (rowid > 0))"], "check (rowid > 0)",
    ),
    "a trigger": (
        [
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1, 'old')",
            "CREATE TRIGGER g INSERT ON t BEGIN DELETE FROM t WHERE id = NEW.id; END",
        ],
        "each key of the table",
    ),
    "a length that means nothing": (["CREATE TABLE t (id INTEGER, v VARCHAR(1))"], ""),
    "a comment": (["CREATE TABLE t (id INTEGER, v TEXT CHECK (v > '' -- no)\n))"], ""),
}  # fmt: skip


@pytest.mark.parametrize("what", LITE)
def test_what_sqlite_takes(lite, tmp_path, what):
    statements, not_asked = LITE[what]
    for statement in statements:
        lite.ask(statement)
    refused, said = taken(lite, tmp_path, pa.table({"id": [1, 2, 3], "v": ["x", "12", "xx"]}))
    assert refused == set()
    assert NOT_ASKED not in said
    lines = remarks(lite.store()._goal(), replace(SQLITE, sets_aside=False), ["id", "v"], True)
    assert [NOT_ASKED + not_asked in line for line in lines] == [True] * bool(not_asked)


def test_a_clause_on_conflict_of_sqlite_is_overruled_with_and_without_set_aside(lite, tmp_path):
    lite.ask("CREATE TABLE t (id INTEGER UNIQUE ON CONFLICT REPLACE, v INTEGER)")
    table = ints(id=[1, 1, 2], v=[1, 2, 3])
    given = {"name": "f", "engine": "inline", "mode": "append", "state": str(tmp_path / "1")}
    with pytest.raises(FlowFailed, match="UNIQUE"):
        Flow(Rows(table), lite.store(), limits=Limits(), **given).run()
    assert taken(lite, tmp_path, table)[0] == {1}
    assert lite.ask("SELECT * FROM t") == [(1, 1), (2, 3)]


@pytest.mark.parametrize("driver", ["", "psycopg2"])
def test_what_postgres_takes(pg, schema, tmp_path, driver):
    base = Postgres(pg, schema, driver)
    base.ask("CREATE TABLE t (id bigint UNIQUE, p bigint, w bigint DEFAULT 9, CHECK (p < w))")
    base.ask("CREATE TABLE heir (LIKE t) INHERITS (t)")
    base.ask("INSERT INTO heir VALUES (1, 1)")
    base.ask("CREATE TABLE old (id bigint PRIMARY KEY)")
    base.ask("CREATE TABLE young () INHERITS (old)")
    base.ask("INSERT INTO old VALUES (1)")
    base.ask("INSERT INTO young VALUES (2)")
    base.ask("ALTER TABLE t ADD FOREIGN KEY (p) REFERENCES old")
    base.ask("ALTER TABLE t ADD CONSTRAINT own CHECK (tableoid <> 0 AND id > 0)")
    base.ask(
        "ALTER TABLE t ADD g bigint GENERATED ALWAYS AS (id * 2) STORED NOT NULL CHECK (g > 0)"
    )
    base.ask("CREATE UNIQUE INDEX ON t ((id + 1))")
    refused, said = taken(base, tmp_path, ints(id=[1, 2], p=[1, 2], g=[None, -1]))
    assert refused == {2}  # the keys of a child are not those of its parent
    assert (NOT_ASKED in said) == bool(driver)
    for name in ("check 't_check'", "check 'own'", "unique index t_expr_idx"):
        assert (name in said) == bool(driver)
    assert base.ask("SELECT id, p, g FROM ONLY t") == [(1, 1, 2)]


def test_a_trigger_may_fill_in_what_is_not_null(request, tmp_path):
    for kind in ("postgresql", "mariadb"):
        base = database(request, kind, tmp_path)
        base.ask("CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL CHECK (n > 0))")
        if isinstance(base, Maria):
            base.ask("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.n = NEW.id")
        else:
            base.ask(
                "CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN NEW.n := NEW.id; RETURN NEW; END'"
            )
            base.ask("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION g()")
        refused, said = taken(base, tmp_path / kind, ints(id=[1, 2], n=[None, -1]))
        assert refused == set()
        assert NOT_ASKED not in said
        assert sorted(base.ask("SELECT n FROM t")) == [(1,), (2,)]


def test_triggers_that_mysql_does_not_show_to_a_user(my, my_schema, tmp_path, monkeypatch):
    """The server is MariaDB, which shows them, and is taken for MySQL."""
    monkeypatch.setattr(table_facts, "is_mariadb", lambda connection: False)
    base, user = Maria(my, my_schema), f"w{my_schema}"
    base.ask("CREATE TABLE t (id bigint, n bigint NOT NULL, UNIQUE (n))")
    my.ask(f"CREATE USER {user}@'127.0.0.1'")
    may = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, CREATE TEMPORARY TABLES"
    my.ask(f"GRANT {may} ON {my_schema}.* TO {user}@'127.0.0.1'")
    narrow, table = SQLStore("t", connection=my.url(my_schema, user)), ints(id=[1, 2], n=[1, 1])
    (said,) = remarks(narrow._goal(), replace(MARIADB, sets_aside=False), ["id", "n"], True)
    assert "GRANT TRIGGER" in said
    my.ask(f"GRANT TRIGGER ON {my_schema}.t TO {user}@'127.0.0.1'")
    assert {*moved(tmp_path, narrow, table)[1]} == {2}


def test_the_plan_and_the_report_say_what_is_not_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with duckdb.connect("x.duckdb") as base:
        base.execute("CREATE TABLE t (id BIGINT, b TEXT COLLATE NOCASE DEFAULT '', CHECK (id > 0))")
    (tmp_path / "in.csv").write_text("id\n1\n2\n")
    (tmp_path / "flows.yml").write_text(
        "flows:\n  f:\n    home: in.csv\n    store: x.duckdb#t\n"
        "    mode: append\n    on_bad_row: set_aside\n"
    )
    for command in (["plan", "flows.yml"], ["flows.yml", "--inline"]):
        assert main(command) == 0
        assert f"{NOT_ASKED}every rule of the table" in "".join(capsys.readouterr())
