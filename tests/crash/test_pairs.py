"""Every pair of connectors is killed in mid-run, and the run is gone on with."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing

import pyarrow.csv as pc
import pyarrow.dataset as ds
import pytest

from tests.crash.pairs import COLUMNS, ROWS, write_files
from tests.crash.points import ALL
from tests.crash.world import Drivers

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

HOMES = {
    "files": (2, 1, True),
    "PostgreSQL, snapshot": (2, 1, False),
    "PostgreSQL, split": (2, 1, True),
    "PostgreSQL, columns": (2, 1, True),
    "PostgreSQL, own types, split": (2, 1, True),
    "MariaDB, snapshot": (0, 0, False),
    "MariaDB, split": (2, 1, True),
    "SQLite, plain": (2, 1, True),
    "any SQL, ranges": (2, 1, False),
}
"""Of each home: how many splits its first and its second driver seal, and whether they are kept."""
STORES = ("directory", "file", "PostgreSQL", "MariaDB", "SQLite", "any SQL")
MODES = ("append", "merge")


@pytest.fixture(scope="module")
def drivers():
    found = Drivers("tests.crash.pairs")
    yield found
    found.close()


@pytest.fixture(scope="module")
def sources(pg, my, tmp_path_factory):
    """The place of each source, as `home_of` reads it."""
    folder = tmp_path_factory.mktemp("sources")
    write_files(folder / "files")
    values = ", ".join(["%s"] * len(COLUMNS))
    schema, own = pg.schema(), pg.schema()
    with pg.connect() as connection:
        connection.execute(
            f"CREATE TABLE {schema}.s (id bigint PRIMARY KEY, v text, x float8, wide text)"
        )
        connection.cursor().executemany(f"INSERT INTO {schema}.s VALUES ({values})", ROWS)
        connection.execute(
            f"CREATE TABLE {own}.s (id int PRIMARY KEY, v varchar(9), x numeric, wide text)"
        )
        connection.execute(f"ALTER TABLE {own}.s ADD r regclass")  # so its COPY is text
        connection.execute(f"INSERT INTO {own}.s SELECT * FROM {schema}.s")
        connection.execute(f"ANALYZE {schema}.s, {own}.s")
    mine = my.schema()
    with my.connect(database=mine) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE s (id bigint PRIMARY KEY, v varchar(9), x double, wide text)")
        cursor.executemany(f"INSERT INTO s VALUES ({values})", ROWS)
    with closing(sqlite3.connect(folder / "s.db")) as connection:
        connection.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, v TEXT, x REAL, wide TEXT)")
        connection.executemany("INSERT INTO s VALUES (?, ?, ?, ?)", ROWS)
        connection.commit()
    return {
        "files": str(folder / "files"),
        "PostgreSQL": f"{pg.url}#{schema}.s",
        "PostgreSQL, own types": f"{pg.url}#{own}.s",
        "MariaDB": f"{my.url(mine)}#s",
        "SQLite": f"sqlite:///{folder}/s.db#s",
        "any SQL": f"{through_psycopg2(pg)}#{schema}.s",
    }


def through_psycopg2(pg):
    return pg.url.replace("postgresql:", "postgresql+psycopg2:")


@pytest.fixture
def target(pg, my, tmp_path):
    """Make the place of a store, as `store_of` reads it, and what reads it without hygge."""

    def made(kind):
        columns = ", ".join(COLUMNS)
        if kind == "directory":
            path = tmp_path / "out"
            return str(path), lambda: rows_of(ds.dataset(path, format="parquet").to_table())
        if kind == "file":
            nulls = pc.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
            path = tmp_path / "out.csv"
            return str(path), lambda: rows_of(pc.read_csv(path, convert_options=nulls))
        if kind == "MariaDB":
            schema = my.schema()
            return f"{my.url(schema)}#t", lambda: my.ask(f"SELECT {columns} FROM {schema}.t")
        if kind == "SQLite":

            def asked():
                with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
                    return connection.execute(f"SELECT {columns} FROM t").fetchall()

            return f"sqlite:///{tmp_path}/t.db#t", asked
        schema = pg.schema()
        url = pg.url if kind == "PostgreSQL" else through_psycopg2(pg)
        return f"{url}#{schema}.t", lambda: pg.ask(f"SELECT {columns} FROM {schema}.t")

    return made


def rows_of(table):
    return list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))


def in_numbers(rows):
    """Rows by id, with a numeric as a float."""
    return sorted((n, v, round(float(x), 9), wide) for n, v, x, wide in rows)


ALIKE = [home for home in HOMES if home.split(", ")[0] in STORES]
PAIRS = [
    *((home, store, "replace") for home, store in itertools.product(HOMES, STORES)),
    *((home, home.split(", ")[0], mode) for home, mode in itertools.product(ALIKE, MODES)),
]
if not ALL:  # of 72 pairs; each Home and each Store is among them
    PAIRS = PAIRS[::4]


@pytest.mark.parametrize(("home", "store", "mode"), PAIRS, ids=map(", ".join, PAIRS))
def test_a_run_that_is_killed_in_mid_run_is_gone_on_with(
    drivers, sources, target, tmp_path, home, store, mode
):
    """Two drivers die where both ends are of one kind, which may have a way of their own."""
    name, _, way = home.rpartition(", ")
    place, seen = target(store)
    asked = {
        "home": [way, sources[name or home]], "store": [store, place], "mode": mode,
        "state": str(tmp_path / "state"),
    }  # fmt: skip
    first_seals, second_seals, is_kept = HOMES[home]
    first = drivers.ask(**asked, after=first_seals)
    assert (first["code"], first["reads"]) == (-9, list(range(first_seals))), first
    kept = first_seals if is_kept else 0
    if home in ALIKE:
        second = drivers.ask(**asked, after=second_seals)
        assert second["code"] == -9, second
        assert second["reads"] == list(range(kept, kept + second_seals))
        kept += second_seals if is_kept else 0
    last = drivers.ask(**asked, after=-1)
    assert last["code"] == 0, last
    assert last["rows"] == len(ROWS)
    assert last["resumed"] == kept
    assert last["reads"] == list(range(kept, last["splits"]))
    assert in_numbers(seen()) == in_numbers(ROWS)
