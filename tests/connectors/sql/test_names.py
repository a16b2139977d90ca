"""Names that a database would cut, fold or refuse are an error before rows move."""

from __future__ import annotations

import sqlite3

import pyarrow as pa
import pytest

from hygge.connectors.databases.home import SQLHome
from hygge.connectors.databases.store import SQLStore
from hygge.errors import ConfigError, StoreError
from hygge.model import Run, Ticket

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

KINDS = ("postgresql", "psycopg2", "mariadb", "sqlite")


@pytest.fixture
def store_for(request, tmp_path):
    """Return a function that makes a Store for a table of a fresh schema of this database."""

    def make(kind, name='"t"'):
        if kind == "sqlite":
            return SQLStore("t", table=name, connection=f"sqlite:///{tmp_path}/x.db")
        if kind == "mariadb":
            schema = request.getfixturevalue("my_schema")
            return SQLStore("t", table=name, connection=request.getfixturevalue("my").url(schema))
        pg, schema = request.getfixturevalue("pg"), request.getfixturevalue("schema")
        url = pg.url.replace("://", "+psycopg2://") if kind == "psycopg2" else pg.url
        return SQLStore("t", table=f"{schema}.{name}", connection=url)

    return make


def rows_of(*names):
    """Return one row in which each column holds a number of its own; no column may be NULL."""
    fields = [pa.field(name, pa.int64(), nullable=False) for name in names]
    return pa.table([[at] for at in range(len(names))], schema=pa.schema(fields))


def moved(store, rows, known=True, mode="append", run="r1", key=()):
    """Move rows; return those that the commit applied."""
    started, base = Run(run, "f", mode, key), store.head("f")
    schema = rows.schema if known else None
    store.prepare(started, schema)
    receipt = store.stage(Ticket(run, 0), schema, iter([rows]))
    commit = store.commit(started, base, [receipt], None)
    store.discard(started)
    return commit


N62, N63 = "n" * 62, "n" * 63
REFUSED = {
    "one byte too long": ((N62 + "12",), {"postgresql": "64 bytes, and 63", "psycopg2": "64"}),
    "one character too long": (
        (N63 + "12",),
        {"mariadb": "65 characters, and 64", "postgresql": "65 bytes", "psycopg2": "65 bytes"},
    ),
    "63 bytes in fewer characters": (("ä" * 32,), {"postgresql": "64 bytes", "psycopg2": "64"}),
    "alike when cut": ((N63 + "1", N63 + "2"), {"postgresql": "64 bytes", "psycopg2": "64 bytes"}),
    "other case": (("id", "ID"), {"mariadb": "one column", "sqlite": "one column"}),
    "other case of é": (("é", "É"), {"mariadb": "one column"}),
    "a blank at the end": (("a ",), {"mariadb": "ends with a blank"}),
    "empty": (("",), {"postgresql": "empty", "psycopg2": "empty", "mariadb": "empty"}),
    "NUL": (("a\0b",), dict.fromkeys(KINDS, r"'a\\x00b' of a column holds the character NUL")),
    "an emoji": (("🏡",), {"mariadb": "beyond U"}),
    "system columns": (("id", "ctid"), {"postgresql": "'ctid'", "psycopg2": "'ctid'"}),
    "SQLite's rowid": (("rowid", "oid"), {}),
    "alike for 62 bytes": ((N62 + "1", N62 + "2"), {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_comes_to_its_own_name_or_is_an_error_before_rows_move(kind, store_for):
    for at, (why, (names, words)) in enumerate(REFUSED.items()):
        store, rows = store_for(kind, f'"a long name of a table, number {at}"'), rows_of(*names)
        if kind not in words:
            assert moved(store, rows, mode="replace").applied == 1, why
            assert [name for name, _ in store.head("f").columns] == list(names)
            continue
        for mode in ("append", "replace"):
            with pytest.raises(StoreError, match=words[kind]) as caught:
                store.prepare(Run("r1", "f", mode), rows.schema)
            assert caught.value.hint, why
        with pytest.raises(StoreError, match=words[kind]):
            moved(store, rows, known=False)
        store.discard(Run("r1", "f"))


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("postgresql", N63 + "1", "64 bytes, and 63 are possible"),
        ("postgresql", "ä" * 32, "64 bytes"),
        ("psycopg2", N63 + "1", "64 bytes"),
        ("mariadb", N63 + "12", "65 characters, and 64 are possible"),
        ("mariadb", "t ", "ends with a blank"),
        ("mariadb", "🏡", "beyond"),
        ("sqlite", "a\0b", "NUL"),
    ],
)
def test_a_table_of_such_a_name_is_an_error_of_the_settings(kind, name, words, store_for):
    with pytest.raises(ConfigError, match=words) as caught:
        store_for(kind, f'"{name}"')
    assert caught.value.hint


def test_a_home_reads_no_other_table_whose_name_is_the_beginning(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.{N63} (id int)")
    with pytest.raises(ConfigError, match="64 bytes"):
        SQLHome("h", table=f"{schema}.{N63}1", connection=pg.url)


def test_mariadb_counts_characters_and_takes_64_of_them(my, store_for):
    store = store_for("mariadb", "ü" * 64)
    assert moved(store, rows_of("ö" * 64)).applied == 1


@pytest.mark.parametrize("kind", ["postgresql", "psycopg2"])
@pytest.mark.parametrize(
    ("ddl", "words"),
    [
        ("CREATE SEQUENCE {0}.t", "a sequence"),
        ("CREATE TABLE {0}.x (i int); CREATE INDEX t ON {0}.x (i)", "an index"),
        ("CREATE TYPE {0}.t AS (i int)", "a type"),
        ("CREATE DOMAIN {0}.t AS int", "a type"),
        ("CREATE MATERIALIZED VIEW {0}.t AS SELECT 1 AS id", "a materialized view"),
        ("CREATE VIEW {0}.t AS SELECT 1 AS id", "takes no rows"),
    ],
)
def test_something_else_of_the_tables_name_is_an_error_before_rows_move(
    pg, schema, store_for, kind, ddl, words
):
    with pg.connect() as people:
        people.execute(ddl.format(schema))
    for mode in ("append", "replace"):
        with pytest.raises(StoreError, match=words):
            store_for(kind).prepare(Run("r1", "f", mode), rows_of("id").schema)


def test_in_sqlite_an_index_of_the_tables_name_is_an_error_before_rows_move(store_for, tmp_path):
    with sqlite3.connect(tmp_path / "x.db") as people:
        people.execute("CREATE TABLE x (i)")
        people.execute("CREATE INDEX t ON x (i)")
    with pytest.raises(StoreError, match="is an index"):
        store_for("sqlite").prepare(Run("r1", "f"), rows_of("id").schema)


def test_sqlite_tells_letters_beyond_ascii_apart(store_for, tmp_path):
    with sqlite3.connect(tmp_path / "x.db") as people:
        people.execute("CREATE TABLE t (é bigint, É bigint DEFAULT 7)")
    assert moved(store_for("sqlite"), rows_of("é")).applied == 1
    with sqlite3.connect(tmp_path / "x.db") as people:
        assert people.execute("SELECT é, É FROM t").fetchall() == [(0, 7)]


@pytest.mark.parametrize("kind", ["postgresql", "psycopg2"])
def test_two_long_names_that_begin_alike_each_get_the_index_of_their_merge(kind, store_for):
    for end in "12":
        store = store_for(kind, f'"{N62}{end}"')
        assert moved(store, rows_of("id"), mode="merge", key=("id",)).applied == 1
        assert moved(store, rows_of("id"), mode="merge", key=("id",), run="r2").applied == 1


@pytest.mark.parametrize(
    ("kind", "most"), {"sqlite": 2000, "mariadb": 1015, "postgresql": 1600}.items()
)
def test_more_columns_than_a_table_takes_are_an_error_before_rows_move(kind, most, store_for):
    rows = pa.table({f"c{n}": pa.array([1], pa.int16()) for n in range(most + 1)})
    with pytest.raises(StoreError, match=f"the rows have {most + 1:,} columns, and .* {most:,}"):
        store_for(kind).examine(Run("r1", "f"), rows.schema)
    assert moved(store_for(kind), rows.drop_columns(["c0"])).applied == 1
