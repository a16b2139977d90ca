"""What a column of an existing table would change in silence is an error; nothing is visible."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from hygge.connectors.anysql.fit import check_values
from hygge.connectors.anysql.session import connected
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.files.parquet import ParquetHome
from hygge.connectors.sql.target import Target, table_for
from hygge.errors import FlowFailed, Rejected, StoreError
from hygge.run.flow import Flow

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
