"""Every pair of connectors is killed in mid-run, and the run is gone on with."""

from __future__ import annotations

import io
import itertools
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.dataset as ds
import pyarrow.json as pj
import pyarrow.parquet as pq
import pytest
from obstore.store import from_url

from tests.crash.pairs import COLUMNS, FILE_STORES, ROWS, write_files
from tests.crash.points import ALL
from tests.crash.world import Drivers
from tests.servers import s3

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

HOMES = {
    "Parquet": (2, 1, True),
    "Arrow": (2, 1, True),
    "CSV": (2, 1, True),
    "JSONL": (2, 1, True),
    "bucket": (2, 1, True),
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
STORES = (*FILE_STORES, "PostgreSQL", "MariaDB", "SQLite", "any SQL")
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
    write_files(folder)
    bucket = prefix()
    for path in (folder / "parquet").iterdir():
        objects(bucket).put(path.name, path.read_bytes())
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
        **{kind: str(folder / kind.lower()) for kind in ("Parquet", "Arrow", "CSV", "JSONL")},
        "bucket": bucket,
        "PostgreSQL": f"{pg.url}#{schema}.s",
        "PostgreSQL, own types": f"{pg.url}#{own}.s",
        "MariaDB": f"{my.url(mine)}#s",
        "SQLite": f"sqlite:///{folder}/s.db#s",
        "any SQL": f"{through_psycopg2(pg)}#{schema}.s",
    }


def prefix():
    """The URL of a prefix where nothing is yet."""
    return f"s3://{s3.BUCKET}/{uuid.uuid4().hex[:12]}"


def objects(url):
    """A client for what lies under a prefix, without hygge."""
    names = {name.lower(): value for name, value in s3.environment().items()}
    return from_url(url, config=names, client_options={"allow_http": True})


def read_bucket(url):
    found = objects(url)
    names = [each["path"] for page in found.list() for each in page]
    parts = [
        pq.read_table(io.BytesIO(bytes(found.get(name).bytes())))
        for name in names if name.endswith(".parquet")
    ]  # fmt: skip
    return pa.concat_tables(parts)


def read_json_lines(path):
    return pa.concat_tables(pj.read_json(part) for part in Path(path).rglob("*.jsonl"))


def read_csv(path):
    nulls = pc.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    return pc.read_csv(path, convert_options=nulls)


READERS = {
    "Parquet": lambda path: ds.dataset(path, format="parquet").to_table(),
    "one Parquet": pq.read_table,
    "Arrow": lambda path: ds.dataset(path, format="ipc").to_table(),
    "one CSV": read_csv,
    "JSONL": read_json_lines,
    "bucket": read_bucket,
}
SUFFIXES = {"one Parquet": ".parquet", "one CSV": ".csv"}


def through_psycopg2(pg):
    return pg.url.replace("postgresql:", "postgresql+psycopg2:")


@pytest.fixture
def target(pg, my, tmp_path):
    """Make the place of a store, as `store_of` reads it, and what reads it without hygge."""

    def made(kind):
        columns = ", ".join(COLUMNS)
        if kind in FILE_STORES:
            path = prefix() if kind == "bucket" else str(tmp_path / f"out{SUFFIXES.get(kind, '')}")
            return path, lambda: rows_of(READERS[kind](path))
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
OF_ONE_KIND = [
    (home, home.split(", ")[0], mode)
    for home, mode in itertools.product(ALIKE, MODES)
    if home not in FILE_STORES or mode == "append"
]
PAIRS = [
    *((home, store, "replace") for home, store in itertools.product(HOMES, STORES)),
    *OF_ONE_KIND,
]
if not ALL:  # each Home and each Store is among them
    PAIRS = [*((home, STORES[-at % len(STORES)], "replace") for at, home in enumerate(HOMES, 1)),
             *OF_ONE_KIND[::4]]  # fmt: skip


@pytest.mark.parametrize(("home", "store", "mode"), PAIRS, ids=map(", ".join, PAIRS))
def test_a_run_that_is_killed_in_mid_run_is_gone_on_with(
    drivers, sources, target, tmp_path, home, store, mode
):
    """Two drivers die where both ends are of one kind, which may have a way of their own."""
    name, _, way = home.rpartition(", ")
    place, seen = target(store)
    asked = {
        "home": [way, sources[name or home]], "store": [store, place], "mode": mode,
        "state": str(tmp_path / "state"), "environment": s3.environment(),
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
