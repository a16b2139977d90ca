"""What a column of an existing table would change in silence is an error; nothing is visible."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from hygge.connectors.anysql.fit import check_values
from hygge.connectors.anysql.session import connected
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.files.parquet import ParquetHome
from hygge.connectors.sql.target import Target, table_for
from hygge.errors import FlowFailed, Rejected, StoreError, UnfitValue
from hygge.run.flow import Flow
from tests.connectors.sql import own_tables

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

POSTGRES = [
    ("varchar(3)", "abc", "abc "),
    ("varchar(3)", "ab ", "éab "),
    ("char(3)", "abc", "ab"),
    ("char(3)", "ab ", ""),
    ("name", "n" * 63, "n" * 64),
    ('"char"', "a", "ab"),
    ("dom", "abc", "abc   "),
]
MARIADB = [
    ("varchar(3)", "ab ", "abc "),
    ("char(3)", "ab", "ab "),
    ("binary(3)", b"abc", b"ab"),
    ("enum('a','b')", "b", "2"),
    ("enum('a','b')", "a", "A"),
    ("set('a','b')", "a,b", "b,a"),
    ("set('a','b')", "", "a,a"),
]


def moved(store, folder, mode, *values):
    rows = pa.table({"id": pa.array(range(len(values)), pa.int64()), "v": pa.array(values)})
    pq.write_table(rows, folder / "rows.parquet")
    home = ParquetHome("rows", path=str(folder / "rows.parquet"))
    key = "id" if mode == "merge" else ()
    return Flow(home, store, name="f", mode=mode, key=key, engine="inline", state=folder).run()


@pytest.mark.parametrize("mode", ["append", "merge"])
@pytest.mark.parametrize(("kind", "good", "bad"), POSTGRES)
def test_through_psycopg2(pg, schema, tmp_path, kind, good, bad, mode):
    pg.ask(f"CREATE DOMAIN {schema}.dom AS varchar(3)")
    kind = f"{schema}.{kind}" if kind == "dom" else kind
    pg.ask(f"CREATE TABLE {schema}.t (id bigint PRIMARY KEY, v {kind})")
    url = pg.url.replace("postgresql:", "postgresql+psycopg2:")
    store = SQLStore("t", table=f"{schema}.t", connection=url)
    with pytest.raises(FlowFailed) as caught:
        moved(store, tmp_path, mode, good, bad, None)
    assert "column 'v' is " in str(caught.value)
    assert repr(bad)[:42] in str(caught.value)
    assert pg.ask(f"SELECT * FROM {schema}.t") == []
    moved(store, tmp_path, mode, good, None)
    assert pg.ask(f"SELECT v FROM {schema}.t ORDER BY id") == [(good,), (None,)]


@pytest.mark.parametrize(("kind", "good", "bad"), MARIADB)
def test_the_rules_of_mysql(my, my_schema, kind, good, bad):
    """Of `check_values` alone: MariaDB's own connector writes to this server."""
    my.ask(f"CREATE TABLE {my_schema}.t (id bigint, v {kind})")
    schema = pa.schema([("v", pa.binary() if isinstance(good, bytes) else pa.string())])
    target = Target(my_schema, "t", "mariadb")
    source = table_for(target._replace(name="s"), schema, staged=True)
    with connected(my.url(my_schema), "shop", StoreError) as connection:
        source.create(connection)
        into = sa.insert(source)
        connection.execute(into, [{"c0": good, "ordinal": 0}, {"c0": None, "ordinal": 1}])
        check_values(connection, target, list(schema), [source], "shop")
        connection.execute(into, [{"c0": bad, "ordinal": 2}])
        with pytest.raises(Rejected, match=r"column 'v' is .* \(1 such values\)"):
            check_values(connection, target, list(schema), [source], "shop")


US, F64 = pa.timestamp("us"), pa.float64()
IN_MYSQL = [
    ("tinytext", "x" * 256, pa.string()),
    ("text", "x" * 65537, pa.string()),
    ("tinyblob", b"x" * 257, pa.binary()),
    ("varbinary(3)", b"abcd", pa.binary()),
    ("varchar(3) CHARACTER SET latin1", "Ж", pa.string()),
    ("year", "5", pa.string()),
    ("bit(4)", "9", pa.string()),
    ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", pa.string()),
    ("inet6", "::00FF", pa.string()),
    ("float", 16777217.0, F64),
    ("float(7,2)", 1.239, pa.float32()),
    ("double(7,2)", 1.239, F64),
    ("mediumint", 2**30, pa.int32()),
    ("int unsigned", -1, pa.int32()),
    ("decimal(5,1)", Decimal("1.25"), pa.decimal128(5, 2)),
    ("datetime(3)", datetime(2020, 1, 1, 1, 1, 1, 1), US),
    ("timestamp NOT NULL", None, pa.timestamp("s")),
]


def test_no_type_of_mysql_changes_a_value_in_silence(my, my_schema):
    db = own_tables.Generic(my, my_schema)
    for number, (ddl, value, kind) in enumerate(IN_MYSQL):
        db.table = f"t{number}"
        db.ask(f"CREATE TABLE {db.table} (v {ddl})")
        with pytest.raises((StoreError, UnfitValue)):
            own_tables.moved(db.store(), pa.table({"v": pa.array([value], kind)}))
            pytest.fail(f"{ddl} took {value!r:.40}")
        assert db.ask(f"SELECT * FROM {db.table}") == [], ddl


def test_a_float_of_mysql_takes_what_it_holds(my, my_schema):
    db = own_tables.Generic(my, my_schema)
    db.ask("CREATE TABLE t (v float)")
    for number, kind in enumerate((pa.float32(), F64)):
        rows = pa.table({"v": pa.array([0.5, None, 16777216.0], kind)})
        own_tables.moved(db.store(), rows, run=f"r{number}", flow=f"f{number}")
    assert db.ask("SELECT count(*), sum(v = 0.5), sum(v = 16777216) FROM t") == [(6, 2, 2)]


@pytest.mark.parametrize("mode", ["replace", "append", "merge"])
def test_every_float_goes_through_psycopg2(mode, pg, schema, tmp_path):
    store = SQLStore(
        f"{schema}.t", connection=pg.url.replace("postgresql:", "postgresql+psycopg2:")
    )
    values = [-0.0, 0.0, 5e-324, -1.7976931348623157e308, 0.1, None, math.inf, -math.inf]
    moved(store, tmp_path, mode, *values)
    came = [value for (value,) in pg.ask(f"SELECT v FROM {schema}.t ORDER BY id")]
    assert list(map(repr, came)) == list(map(repr, values))
