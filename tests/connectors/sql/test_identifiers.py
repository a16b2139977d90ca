"""Names that need quoting, and names that are SQL: both are only names."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge import Flow, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.errors import FlowFailed
from tests.chaos import only_in_chaos
from tests.connectors.sql.own_tables import database, moved

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

NAMES = [
    "Select",
    "two words",
    'quo"te',
    "quo'te",
    "back`tick",
    "dot.dot",
    "100%",
    "%s %(x)s {x}",
    ":colon",
    "back\\slash",
    "-- comment",
    "/* comment",
    "$$ dollar $1",
    "übergrößenträger 中文 🏡",
    "x" * 63,
    " leading",
    'x"; DROP TABLE victim; --',
    "x'); DROP TABLE victim; --",
]


NASTIEST = ("%s %(x)s {x}", ":colon", "x" * 63, 'x"; DROP TABLE victim; --')
"""These go every way that there is."""


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=only_in_chaos) if at % 2 and name not in NASTIEST else name
        for at, name in enumerate(NAMES)
    ],
)
def test_a_table_a_schema_and_columns_of_any_name(pg, name, tmp_path):
    schema, table = quoted(name), quoted(name)
    pg.ask("CREATE TABLE IF NOT EXISTS victim (id integer)")
    with pg.connect() as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"CREATE TABLE {schema}.{table} (id integer PRIMARY KEY, {table} text)")
        connection.execute(f"INSERT INTO {schema}.{table} VALUES (1, 'a'), (2, NULL), (3, '')")

        def rows(of):
            asked = f"SELECT id, {table} FROM {schema}.{of} ORDER BY id"
            return connection.execute(asked).fetchall()

        def move(home, store, **more):
            state = tmp_path / "state"
            Flow(home, store, name=f"f {name}"[:90], engine="inline", state=state, **more).run()

        url, lake = pg.url, str(tmp_path / "lake")
        source = f"{schema}.{table}"
        for options in ({}, {"consistency": "split", "types": {name: "string"}}):
            home = SQLHome("h", table=source, connection=url, options=options, split_by="id")
            move(home, SQLStore("s", table=f'{schema}."new"', connection=url))
            assert rows('"new"') == [(1, "a"), (2, None), (3, "")]
        if name not in NASTIEST:
            return
        home = SQLHome("h", table=source, connection=url, columns=["id", name], cursor="id")
        store = SQLStore("s", table=f'{schema}."merged"', connection=url)
        move(home, store, mode="merge", key=["id"])
        connection.execute(f"UPDATE {schema}.{table} SET id = 4, {table} = 'b' WHERE id = 3")
        move(home, store, mode="merge", key=["id"])
        assert rows('"merged"') == [(1, "a"), (2, None), (3, ""), (4, "b")]
        move(SQLHome("h", table=source, connection=url), ParquetStore("l", path=lake))
        target = SQLStore("s", table=f"{schema}.{quoted(name[:60] + '_')}", connection=url)
        move(ParquetHome(path=lake), target)
        assert rows(quoted(name[:60] + "_")) == [(1, "a"), (2, None), (4, "b")]
        move(ParquetHome(path=lake), target)  # over a table that is there
        assert rows(quoted(name[:60] + "_")) == [(1, "a"), (2, None), (4, "b")]
        assert connection.execute("SELECT count(*) FROM victim").fetchall() == [(0,)]
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


def test_columns_that_differ_in_case_only(pg, schema, tmp_path):
    pg.ask(f'CREATE TABLE {schema}.c (id integer, "ID" text, "Id" numeric(5,2))')
    pg.ask(f"INSERT INTO {schema}.c VALUES (1, 'a', 1.50)")
    lake = str(tmp_path / "lake")
    store = SQLStore("c", table=f"{schema}.d", connection=pg.url)
    for home, to in (
        (SQLHome("c", table=f"{schema}.c", connection=pg.url), ParquetStore("l", path=lake)),
        (ParquetHome(path=lake), store),
    ):
        Flow(home, to, name="f", engine="inline", state=tmp_path / to.name).run()
    assert str(pg.ask(f"SELECT * FROM {schema}.d")) == "[(1, 'a', Decimal('1.50'))]"


def test_a_column_named_as_hygge_names_its_own_is_an_error_before_rows_move(pg, schema, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.c (_hygge_row integer)")
    options = {"types": {"_hygge_row": "int64"}}  # so that rows are decoded
    home = SQLHome("c", table=f"{schema}.c", connection=pg.url, options=options)
    store = SQLStore("c", table=f"{schema}.d", connection=pg.url)
    with pytest.raises(FlowFailed, match="needs the name '_hygge_row'"):
        Flow(home, store, name="f", engine="inline", state=tmp_path / "state").run()


@pytest.mark.parametrize("kind", ["psycopg2", "generic"])
def test_a_percent_sign_in_a_name_through_any_driver(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    rows = pa.table({"id": [1], "100%": [7]})
    base.ask("CREATE TABLE t (id bigint)")
    moved(base.store(schema="evolve"), rows)
    names = "SELECT column_name FROM information_schema.columns WHERE table_name = 't' AND "
    assert base.ask(f"{names} table_schema = '{base.schema}' ORDER BY 1") in (
        [("100%",), ("id",)], [("id",), ("100%",)],
    )  # fmt: skip


def test_a_parent_with_a_percent_sign_is_read_only_through_any_driver(pg, schema, tmp_path):
    pg.ask(f'CREATE TABLE {schema}."100%" (id bigint)')
    pg.ask(f'CREATE TABLE {schema}.child () INHERITS ({schema}."100%")')
    pg.ask(f"INSERT INTO {schema}.child VALUES (1)")
    url = pg.url.replace("://", "+psycopg2://")
    home = SQLHome("c", table=f'{schema}."100%"', connection=url)
    home.only = True  # one of `tables:`
    store = ParquetStore("l", path=str(tmp_path / "lake"))
    assert Flow(home, store, name="f", engine="inline", state=tmp_path / "state").run().rows == 0
