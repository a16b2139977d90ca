"""A table that stops fitting while a run is staged refuses it: the run is over, and undone."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from hygge import SQLStore
from hygge.connectors.mariadb import session as my_session
from hygge.errors import FlowFailed
from tests.chaos import only_in_chaos
from tests.fitting import ROWS, Heard, flow, goes_anew, refused

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

POSTGRES_TRIGGER = """
    CREATE FUNCTION {s}.no() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'no bad rows'; END $$;
    CREATE TRIGGER tr BEFORE {event} ON {s}.t FOR EACH ROW EXECUTE FUNCTION {s}.no()
"""
# Of each case: the mode, what happens to the table, and what mends it.
POSTGRES = {
    "a column is dropped": ("append", "ALTER TABLE {s}.t DROP v", "ALTER TABLE {s}.t ADD v text"),
    "a column is wanted": (
        "append",
        "ALTER TABLE {s}.t ADD w int NOT NULL DEFAULT 1; ALTER TABLE {s}.t ALTER w DROP DEFAULT",
        "ALTER TABLE {s}.t DROP w",
    ),
    "another type": (
        "append",
        "ALTER TABLE {s}.t ALTER id TYPE int2",
        "ALTER TABLE {s}.t ALTER id TYPE int8",
    ),
    "NOT NULL": (
        "append",
        "ALTER TABLE {s}.t ALTER v SET NOT NULL",
        "ALTER TABLE {s}.t ALTER v DROP NOT NULL",
    ),
    "CHECK": (
        "append",
        "ALTER TABLE {s}.t ADD CONSTRAINT c CHECK (id < 3)",
        "ALTER TABLE {s}.t DROP CONSTRAINT c",
    ),
    "UNIQUE": (
        "append",
        "ALTER TABLE {s}.t ADD CONSTRAINT c UNIQUE (v)",
        "ALTER TABLE {s}.t DROP CONSTRAINT c",
    ),
    "UNIQUE that is checked at the end": (
        "append",
        "ALTER TABLE {s}.t ADD CONSTRAINT c UNIQUE (v) DEFERRABLE INITIALLY DEFERRED",
        "ALTER TABLE {s}.t DROP CONSTRAINT c",
    ),
    "RAISE": (
        "append", POSTGRES_TRIGGER.replace("{event}", "INSERT"), "DROP TRIGGER tr ON {s}.t"
    ),
    "RAISE in a merge": (
        "merge", POSTGRES_TRIGGER.replace("{event}", "INSERT"), "DROP TRIGGER tr ON {s}.t"
    ),
    "RAISE in a replace": (
        "replace", POSTGRES_TRIGGER.replace("{event}", "INSERT"), "DROP TRIGGER tr ON {s}.t"
    ),
    "the table is dropped": (
        "append again", "DROP TABLE {s}.t", "CREATE TABLE {s}.t (id int8, v text)"
    ),
    "the table is a view": (
        "append",
        "DROP TABLE {s}.t; CREATE VIEW {s}.t AS SELECT 0::int8 AS id, 'old' AS v",
        "DROP VIEW {s}.t; CREATE TABLE {s}.t (id int8, v text)",
    ),
    "somebody else's table": (
        "replace",
        "DROP TABLE {s}.t; CREATE TABLE {s}.t (id int8, v text); "
        "INSERT INTO {s}.t VALUES (0, 'old')",
        "DROP TABLE {s}.t",
    ),
}  # fmt: skip
_SIGNAL = (
    "CREATE TRIGGER {s}.tr BEFORE {event} ON {s}.t FOR EACH ROW "
    "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no bad rows'"
)
MARIADB = {
    "a column is dropped": (
        "append", "ALTER TABLE {s}.t DROP v", "ALTER TABLE {s}.t ADD v longtext"
    ),
    "a column is wanted": (
        "append", "ALTER TABLE {s}.t ADD w int NOT NULL", "ALTER TABLE {s}.t DROP w"
    ),
    "another type": (
        "append", "ALTER TABLE {s}.t MODIFY v longblob", "ALTER TABLE {s}.t MODIFY v longtext"
    ),
    "NOT NULL": (
        "append",
        "ALTER TABLE {s}.t MODIFY v longtext NOT NULL",
        "ALTER TABLE {s}.t MODIFY v longtext NULL",
    ),
    "CHECK": (
        "append",
        "ALTER TABLE {s}.t ADD CONSTRAINT c CHECK (id < 3)",
        "ALTER TABLE {s}.t DROP CONSTRAINT c",
    ),
    "UNIQUE": (
        "append", "ALTER TABLE {s}.t ADD UNIQUE u (v(9))", "ALTER TABLE {s}.t DROP INDEX u"
    ),
    "SIGNAL": ("append", _SIGNAL.replace("{event}", "INSERT"), "DROP TRIGGER {s}.tr"),
    "SIGNAL in a merge": ("merge", _SIGNAL.replace("{event}", "INSERT"), "DROP TRIGGER {s}.tr"),
    "SIGNAL in a replace": ("replace", _SIGNAL.replace("{event}", "DELETE"), "DROP TRIGGER {s}.tr"),
    "a trigger that fails": (
        "append",
        "CREATE TRIGGER {s}.tr BEFORE INSERT ON {s}.t FOR EACH ROW INSERT INTO {s}.none VALUES (1)",
        "DROP TRIGGER {s}.tr",
    ),
    "the table is dropped": (
        "append again", "DROP TABLE {s}.t", "CREATE TABLE {s}.t (id bigint, v longtext)"
    ),
    "the table is a view": (
        "append",
        "DROP TABLE {s}.t; CREATE VIEW {s}.t AS SELECT 0 AS id, 'old' AS v",
        "DROP VIEW {s}.t; CREATE TABLE {s}.t (id bigint, v longtext)",
    ),
    "somebody else's table": (
        "replace",
        "DROP TABLE {s}.t; CREATE TABLE {s}.t (v longtext, id bigint); "
        "INSERT INTO {s}.t VALUES ('old', 0)",
        "DROP TABLE {s}.t",
    ),
}  # fmt: skip
SQLITE = {
    "a column is dropped": ("append", "ALTER TABLE t DROP v", "ALTER TABLE t ADD v TEXT"),
    "a column is wanted": (
        "append",
        "DROP TABLE t; CREATE TABLE t (id INTEGER, v TEXT, w INTEGER NOT NULL)",
        "DROP TABLE t; CREATE TABLE t (id INTEGER, v TEXT)",
    ),
    "NOT NULL": (
        "append",
        "DROP TABLE t; CREATE TABLE t (id INTEGER, v TEXT NOT NULL)",
        "DROP TABLE t; CREATE TABLE t (id INTEGER, v TEXT)",
    ),
    "CHECK": (
        "append",
        "DROP TABLE t; CREATE TABLE t (id INTEGER CHECK (id < 3), v TEXT)",
        "DROP TABLE t; CREATE TABLE t (id INTEGER, v TEXT)",
    ),
    "UNIQUE": ("append", "CREATE UNIQUE INDEX u ON t (v)", "DROP INDEX u"),
    "RAISE(ABORT)": (
        "append",
        "CREATE TRIGGER tr BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'no bad rows'); END",
        "DROP TRIGGER tr",
    ),
    "RAISE(ROLLBACK)": (
        "merge",
        "CREATE TRIGGER tr BEFORE INSERT ON t BEGIN SELECT RAISE(ROLLBACK, 'no bad rows'); END",
        "DROP TRIGGER tr",
    ),
    "a trigger that fails": (
        "append",
        "CREATE TRIGGER tr BEFORE INSERT ON t BEGIN INSERT INTO none VALUES (1); END",
        "DROP TRIGGER tr",
    ),
    "the table is dropped": ("append again", "DROP TABLE t", "CREATE TABLE t (id INTEGER, v TEXT)"),
    "the table is a view": (
        "append",
        "DROP TABLE t; CREATE VIEW t AS SELECT 0 AS id, 'old' AS v",
        "DROP VIEW t; CREATE TABLE t (id INTEGER, v TEXT)",
    ),
    "somebody else's table": (
        "replace",
        "DROP TABLE t; CREATE TABLE t (v TEXT, id INTEGER); INSERT INTO t VALUES ('old', 0)",
        "DROP TABLE t",
    ),
}  # fmt: skip


def tried(store, ask, seen, case, state):
    """Run a flow that is refused, mend the table, and run the flow again; return the refusal."""
    mode, change, mend = case
    if mode == "replace":
        ask("DROP TABLE {s}.t")
        goes_anew(store, mode, state)  # so the table is one of hygge's
    if mode == "append again":
        mode = "append"
        goes_anew(store, mode, state)
    error = refused(store, mode, state, lambda: ask(change))
    ask(mend)
    if mode != "replace":
        assert [row for row in seen() if row[0]] == []
    goes_anew(store, mode, state)
    assert sorted(row for row in seen() if row[0]) == ROWS
    return error


@pytest.mark.parametrize("case", POSTGRES)
@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2"])
def test_a_table_of_postgresql_that_stops_fitting_refuses_the_run(
    pg, schema, tmp_path, driver, case
):
    def ask(sql):
        pg.ask(sql.replace("{s}", schema))

    ask("CREATE TABLE {s}.t (id int8, v text); INSERT INTO {s}.t VALUES (0, 'old')")
    store = SQLStore("t", connection=pg.url.replace("postgresql", driver, 1), table=f"{schema}.t")
    error = tried(
        store, ask, lambda: pg.ask(f"SELECT id, v FROM {schema}.t"), POSTGRES[case], tmp_path
    )
    assert "RAISE" not in case or "no bad rows" in error.message


@pytest.fixture(params=["postgresql", "postgresql+psycopg2"])
def writer(pg, schema, request):
    """The Store of a user with rights to one table and its schema, and the name of the user."""
    name = f"w{schema}"
    pg.ask(f"CREATE ROLE {name} LOGIN PASSWORD 'p'; GRANT ALL ON SCHEMA {schema} TO {name}")
    pg.ask(f"CREATE TABLE {schema}.t (id int8, v text); GRANT ALL ON {schema}.t TO {name}")
    url = f"{request.param}://{name}:p@127.0.0.1:{pg.port}/postgres"
    return SQLStore("t", connection=url, table=f"{schema}.t"), name


def test_a_right_in_postgresql_that_is_taken_away_refuses_the_run(pg, schema, writer, tmp_path):
    store, name = writer
    right = f"INSERT ON {schema}.t"
    case = ("append", f"REVOKE {right} FROM {name}", f"GRANT {right} TO {name}")
    tried(store, pg.ask, lambda: pg.ask(f"SELECT id, v FROM {schema}.t"), case, tmp_path)


def test_a_head_that_may_not_be_read_leaves_a_run_that_the_next_one_finishes(
    pg, schema, writer, tmp_path
):
    store, name = writer
    heard, commit = Heard(), store.commit

    def without_right(*given):
        pg.ask(f"REVOKE USAGE ON SCHEMA {schema} FROM {name}")
        return commit(*given)

    store.commit = without_right
    with pytest.raises(FlowFailed, match="permission denied"):
        flow(store, "append", tmp_path).run(heard)
    del store.commit
    assert "everything is staged and decided; running it again finishes it" in heard.words
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
    report = flow(store, "append", tmp_path).run()
    assert (report.rows, report.resumed) == (len(ROWS), 2)


@pytest.fixture(params=["MariaDB", pytest.param("MySQL", marks=only_in_chaos)])
def my_ask(request, my, my_schema, monkeypatch):
    """Run statements; the server is MariaDB, and then one that is taken for MySQL."""
    if request.param == "MySQL":
        monkeypatch.setattr(my_session, "is_mariadb", lambda url, who, side: False)

    def ask(sql):
        for each in sql.replace("{s}", my_schema).split("; "):
            my.ask(each)

    ask("CREATE TABLE {s}.t (id bigint, v longtext); INSERT INTO {s}.t VALUES (0, 'old')")
    ask.is_mysql = request.param == "MySQL"
    return ask


@pytest.mark.parametrize("case", MARIADB)
def test_a_table_of_mariadb_that_stops_fitting_refuses_the_run(
    my, my_schema, my_ask, tmp_path, case
):
    store = SQLStore("t", connection=my.url(my_schema))
    seen = f"SELECT id, v FROM {my_schema}.t"
    error = tried(store, my_ask, lambda: my.ask(seen), MARIADB[case], tmp_path)
    assert "SIGNAL" not in case or "no bad rows" in error.message


def test_a_right_in_mariadb_that_is_taken_away_refuses_the_run(my, my_schema, my_ask, tmp_path):
    user = f"w{my_schema}"
    my.ask(f"CREATE USER {user}@'127.0.0.1'")
    my.ask(f"GRANT CREATE, ALTER, DROP, INDEX ON {my_schema}.* TO {user}@'127.0.0.1'")
    my.ask(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {my_schema}.* TO {user}@'127.0.0.1'")
    rights = f"INSERT ON {my_schema}.* {{}} {user}@'127.0.0.1'"
    case = ("append", f"REVOKE {rights.format('FROM')}", f"GRANT {rights.format('TO')}")
    store = SQLStore("t", connection=my.url(my_schema, user))
    tried(store, my_ask, lambda: my.ask(f"SELECT id, v FROM {my_schema}.t"), case, tmp_path)


@pytest.mark.parametrize("case", SQLITE)
def test_a_table_of_sqlite_that_stops_fitting_refuses_the_run(tmp_path, case):
    path = tmp_path / "t.db"

    def ask(sql):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(sql.replace("{s}.", ""))

    def seen():
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT id, v FROM t").fetchall()

    ask("CREATE TABLE t (id INTEGER, v TEXT); INSERT INTO t VALUES (0, 'old')")
    store = SQLStore("t", connection=f"sqlite:///{path}")
    error = tried(store, ask, seen, SQLITE[case], tmp_path / "state")
    assert "RAISE" not in case or "no bad rows" in error.message
