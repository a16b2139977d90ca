"""Columns for which a table has values of its own: numbers, generated values, defaults."""

from __future__ import annotations

import functools
import sqlite3
from types import SimpleNamespace

import pyarrow as pa
import pytest

from hygge.connectors.anysql import store as any_store
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.sql.goal import Goal, SQLStoreOptions
from hygge.errors import Rejected, StoreError
from hygge.model import Run, Ticket

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


class Lite:
    """A SQLite file, and a Store for its table `t`."""

    name = "sqlite"

    def __init__(self, path):
        self.path = str(path)

    def store(self):
        return SQLStore("t", connection=f"sqlite:///{self.path}")

    def ask(self, sql):
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


class Maria:
    """A database of MariaDB, and a Store for its table `t`."""

    name = "mariadb"

    def __init__(self, server, schema):
        self.server, self.schema = server, schema

    def store(self):
        return SQLStore("t", connection=self.server.url(self.schema))

    def ask(self, sql):
        with self.server.connect(database=self.schema) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())


class Generic(Maria):
    """The same through the code for any database, as a MySQL server is written."""

    name = "generic"

    def store(self):
        url = self.server.url(self.schema)
        goal = Goal(url, "shop#t", "t", SQLStoreOptions())
        names = ("head", "prepare", "stage", "commit", "discard")
        return SimpleNamespace(
            **{name: functools.partial(getattr(any_store, name), goal) for name in names}
        )


class Postgres:
    """A schema of PostgreSQL, and a Store for its table `t`."""

    def __init__(self, server, schema, driver=""):
        self.server, self.schema, self.driver = server, schema, driver
        self.name = driver or "postgresql"

    def store(self):
        url = self.server.url
        if self.driver:
            url = url.replace("://", f"+{self.driver}://")
        return SQLStore("t", table=f"{self.schema}.t", connection=url)

    def ask(self, sql):
        with self.server.connect() as connection:
            connection.execute(f"SET search_path = {self.schema}")
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []


def database(request, kind, tmp_path):
    """Return the database of this kind, with nothing in it."""
    if kind == "sqlite":
        return Lite(tmp_path / "x.db")
    if kind in ("mariadb", "generic"):
        make = Maria if kind == "mariadb" else Generic
        return make(request.getfixturevalue("my"), request.getfixturevalue("my_schema"))
    driver = "" if kind == "postgresql" else kind
    return Postgres(request.getfixturevalue("pg"), request.getfixturevalue("schema"), driver)


@pytest.fixture(params=["postgresql", "psycopg2", "mariadb", "sqlite"])
def any_database(request, tmp_path):
    return database(request, request.param, tmp_path)


def moved(store, rows, mode="append", run="r1", key=()):
    """Move rows; return the commit."""
    started, base = Run(run, "f", mode, key), store.head("f")
    store.prepare(started, rows.schema)
    receipt = store.stage(Ticket(run, 0), rows.schema, iter([rows]))
    try:
        return store.commit(started, base, [receipt], None)
    finally:
        store.discard(started)


NULLS = pa.table({"id": pa.array([7, None, 0], pa.int64()), "n": [1, 2, 3]})


@pytest.mark.parametrize("mode", ["append", "merge"])
@pytest.mark.parametrize(
    ("kind", "ddl"),
    [
        ("mariadb", "CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, n bigint)"),
        ("sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY, n bigint)"),
        ("sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, n bigint)"),
        ("generic", "CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, n bigint)"),
    ],
)
def test_null_does_not_become_the_tables_next_number(request, tmp_path, kind, ddl, mode):
    base = database(request, kind, tmp_path)
    base.ask(ddl)
    with pytest.raises(Rejected, match="1 rows have NULL in column 'id'") as caught:
        moved(base.store(), NULLS, mode, key=("n",))
    assert caught.value.hint
    assert base.ask("SELECT * FROM t") == []
    known = NULLS.filter(pa.array([True, False, True]))
    assert moved(base.store(), known, mode, run="r2", key=("n",)).applied == 2
    assert base.ask("SELECT * FROM t ORDER BY n") == [(7, 1), (0, 3)]


def test_a_part_of_a_key_is_no_number_that_sqlite_gives(tmp_path):
    base = Lite(tmp_path / "x.db")
    base.ask("CREATE TABLE t (id INTEGER, n bigint, PRIMARY KEY (id, n))")
    with pytest.raises(StoreError, match="has column 'id', which the rows lack"):
        base.store().prepare(Run("r1", "f", "append"), pa.schema([("n", pa.int64())]))
    assert moved(base.store(), NULLS).applied == 3
    assert base.ask("SELECT * FROM t ORDER BY n") == [(7, 1), (None, 2), (0, 3)]
