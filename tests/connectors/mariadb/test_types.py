"""Each type of MariaDB through Parquet and back, and random tables through MariaDB and back."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from hypothesis import given

from hygge import ParquetHome, ParquetStore, SQLHome, SQLStore
from tests.connectors.sql.test_published_types import decides, moved, page, told
from tests.connectors.sql.test_random_tables import COMMON, SOME, goes_and_comes_back, tables
from tests.connectors.sql.type_cases import MARIADB, MARIADB_MISFITS

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


def my_filled(my, schema, cases):
    """A table of one column a case; its name is its number, as MariaDB's names are short."""
    columns = ", ".join(f"c{at} {case.type}" for at, case in enumerate(cases))
    my.ask(f"CREATE TABLE {schema}.every (n integer PRIMARY KEY, {columns})")
    with my.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES'")
        places = ", ".join(["%s"] * (1 + len(cases)))
        for row in range(-1, max(len(case.values) for case in cases)):
            values = [
                as_sent(c, c.values[row]) if 0 <= row < len(c.values) else None for c in cases
            ]
            cursor.execute(f"INSERT INTO {schema}.every VALUES ({places})", [row, *values])


def as_sent(case, value):
    """Return a value as the driver takes it: as texts, bytes and bits would be misread."""
    if "HEX" in case.show:
        return value.encode("latin-1")
    return int(value) if case.type.startswith("bit") else value


def my_shown(my, table, at, case):
    value = case.show.removesuffix("::text").format(c=f"c{at}")
    shown = f"CAST({value} AS CHAR CHARACTER SET utf8mb4)"
    with my.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(f"SELECT n, {shown} FROM {table} ORDER BY n")
        return list(cursor.fetchall())


def test_every_type_of_mariadb_goes_to_parquet_and_back_and_the_page_says_so(
    my, my_schema, tmp_path
):
    my_filled(my, my_schema, MARIADB)
    url, lake = my.url(my_schema), tmp_path / "lake"
    moved(SQLHome("every", connection=url), ParquetStore("lake", path=str(lake)), tmp_path)
    moved(ParquetHome(path=str(lake)), SQLStore("back", connection=url), tmp_path / "b")
    arrow = {field.name: str(field.type) for field in pq.read_table(lake).schema}
    back = dict(
        my.ask(
            "SELECT column_name, column_type FROM information_schema.columns "
            f"WHERE table_schema = '{my_schema}' AND table_name = 'back'"
        )
    )
    wrong = [
        case.type
        for at, case in enumerate(MARIADB)
        if my_shown(my, f"{my_schema}.back", at, case)
        != my_shown(my, f"{my_schema}.every", at, case)
    ]
    assert wrong == []
    lines = [
        "| MariaDB | Arrow and Parquet | back in MariaDB | values tried |",
        "|---|---|---|---|",
        *(
            f"| {c.type} | {arrow[f'c{at}']} | {back[f'c{at}']} | {told(c.values)} |"
            for at, c in enumerate(MARIADB)
        ),
    ]
    page("mariadb", lines)


@pytest.mark.parametrize("misfit", MARIADB_MISFITS, ids=lambda each: f"{each.type} {each.value}")
def test_what_arrow_cannot_hold_of_mariadb(my, my_schema, misfit, tmp_path):
    my.ask(f"CREATE TABLE {my_schema}.m (n integer, v {misfit.type})")
    with my.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
        for n, value in enumerate((misfit.beside, misfit.value, misfit.beside)):
            cursor.execute(f"INSERT INTO {my_schema}.m VALUES (%s, %s)", [n, value])
    url = my.url(my_schema)
    decides(lambda **options: SQLHome("m", connection=url, options=options), misfit, tmp_path)


@SOME
@given(drawn=tables(COMMON))
def test_through_mariadb(pg, schema, my, my_schema, tmp_path, drawn):
    url = my.url(my_schema)

    def between(at):
        return SQLStore("x", table=f"x{at}", connection=url), SQLHome(f"x{at}", connection=url)

    goes_and_comes_back(pg, schema, tmp_path, drawn, between)
