"""A table `t` in each database: made by people, written by a Store, asked without hygge."""

from __future__ import annotations

import functools
import sqlite3
from types import SimpleNamespace

import pytest

from hygge.connectors.anysql import store as any_store
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.sql.goal import Goal, SQLStoreOptions
from hygge.model import Run, Ticket
from tests.chaos import only_in_chaos

KINDS = (
    "postgresql",
    "psycopg2",
    "mariadb",
    pytest.param("generic", marks=only_in_chaos),
    "sqlite",
)
"""`psycopg2` and `generic` go through the code for any database."""


class Lite:
    """A SQLite file, and a Store for its table `t`."""

    name = "sqlite"

    def __init__(self, path):
        self.path = str(path)

    def store(self, **options):
        return SQLStore("t", connection=f"sqlite:///{self.path}", options=options)

    def ask(self, sql):
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


class Maria:
    """A database of MariaDB, and a Store for its table `t`."""

    name = "mariadb"

    def __init__(self, server, schema, table="t"):
        self.server, self.schema, self.table = server, schema, table

    def store(self, **options):
        return SQLStore(self.table, connection=self.server.url(self.schema), options=options)

    def ask(self, sql):
        with self.server.connect(database=self.schema) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())


class Generic(Maria):
    """The same through the code for any database, as a MySQL server is written."""

    name = "generic"

    def store(self, **options):
        url = self.server.url(self.schema)
        goal = Goal(url, "shop#t", self.table, SQLStoreOptions(**options))
        names = ("head", "prepare", "examine", "stage", "commit", "discard")
        return SimpleNamespace(
            **{name: functools.partial(getattr(any_store, name), goal) for name in names}
        )


class Postgres:
    """A schema of PostgreSQL, and a Store for its table `t`."""

    def __init__(self, server, schema, driver=""):
        self.server, self.schema, self.driver = server, schema, driver
        self.name = driver or "postgresql"

    def store(self, **options):
        url = self.server.url
        if self.driver:
            url = url.replace("://", f"+{self.driver}://")
        return SQLStore("t", table=f"{self.schema}.t", connection=url, options=options)

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


def moved(store, rows, mode="append", run="r1", key=(), flow="f"):
    """Move rows; return the commit."""
    started, base = Run(run, flow, mode, key), store.head(flow)
    store.prepare(started, rows.schema)
    receipt = store.stage(Ticket(run, 0), rows.schema, iter([rows]))
    try:
        return store.commit(started, base, [receipt], None)
    finally:
        store.discard(started)
