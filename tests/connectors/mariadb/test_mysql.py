"""A server that answers to a MariaDB URL and is MySQL: rows go through SQLAlchemy.

No MySQL server runs here: a MariaDB that is taken for MySQL stands for it.
"""

from __future__ import annotations

import math
from datetime import time

import pyarrow as pa
import pytest

from hygge import Flow, ParquetStore, SQLHome, SQLStore
from hygge.connectors.anysql import catalog as anysql_catalog
from hygge.connectors.mariadb import catalog, session
from hygge.errors import ConfigError, FlowFailed, UnfitValue
from hygge.model import Run, Ticket

pytest_plugins = ["tests.servers.mariadb"]


@pytest.fixture
def mysql(my, my_schema, monkeypatch):
    monkeypatch.setattr(session, "is_mariadb", lambda url, who, side: False)
    with my.connect(database=my_schema) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        cursor.execute("INSERT INTO t VALUES (1, 'a'), (2, NULL)")
        connection.commit()
    return my.url(my_schema)


def test_rows_are_read_and_written_through_sqlalchemy(mysql, tmp_path):
    home = SQLHome("t", connection=mysql)
    with home.open() as plan:
        assert "MySQL: read row by row" in plan.reason
        assert sum(table.num_rows for split in plan.splits for table in home.read(split)) == 2
    copied = Flow(home, SQLStore("copy", connection=mysql), engine="inline", state=tmp_path)
    assert copied.run().rows == 2


@pytest.mark.parametrize("options", [{"on_value": "set_null"}, {"consistency": "split"}])
def test_a_home_refuses_an_option_that_mysql_does_not_support(mysql, tmp_path, options):
    flow = Flow(
        SQLHome("t", connection=mysql, options=options),
        ParquetStore("t", path=tmp_path / "out"),
        engine="inline",
        state=tmp_path / "state",
    )
    with pytest.raises(
        FlowFailed, match=f"MySQL does not support `{next(iter(options))}`"
    ) as caught:
        flow.run()
    assert "take" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()


def test_a_store_refuses_an_option_that_mysql_does_not_support(mysql):
    store = SQLStore("t", connection=mysql, options={"on_value": {"v": "as_text"}})
    with pytest.raises(ConfigError, match="MySQL does not support `on_value`"):
        store.prepare(Run("20260101T000000-aaaaaaaa", "f", "append"), None)


COLUMNS = "f float, g float(7,2), y year, b bit(12), t time(6)"
VALUES = "16777215, 12345.67, 2024, b'101000000001', '23:59:59.000001'"


def rows_of(mysql, **home):
    with (read := SQLHome("v", connection=mysql, **home)).open() as plan:
        tables = [table for split in plan.splits for table in read.read(split)]
    return [row for table in tables for row in table.to_pylist()], plan


@pytest.fixture
def values(mysql, my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.v ({COLUMNS})")
    my.ask(f"INSERT INTO {my_schema}.v VALUES ({VALUES})")
    return mysql


def test_values_are_those_that_the_server_holds(values):
    """MySQL prints a FLOAT with six digits; its drivers give a TIME as a duration."""
    (row,), plan = rows_of(values, table="v", cursor="f")
    assert plan.watermark == 16777215.0
    assert row == {
        "f": 16777215.0, "g": pa.scalar(12345.67, pa.float32()).as_py(), "y": 2024,
        "b": 0b101000000001, "t": time(23, 59, 59, 1),
    }  # fmt: skip
    types = {name: "string" for name in "fgybt"}
    (row,), _ = rows_of(values, table="v", options={"types": types})
    assert row["f"] == "16777215"
    assert row["t"] == "23:59:59.000001"


def test_a_float_of_a_query_is_no_number_of_six_digits(values):
    with pytest.raises(ConfigError, match="column 'f' of the query is a FLOAT") as caught:
        rows_of(values, query="SELECT f, y FROM v")
    select = caught.value.hint.rpartition(": ")[2]
    (row,), _ = rows_of(values, query=f"SELECT {select} FROM v")
    assert row == {"f": 16777215.0}


def test_a_time_beyond_a_day_is_an_error_and_no_cursor(values, my, my_schema):
    my.ask(f"UPDATE {my_schema}.v SET t = '25:00:00'")
    with pytest.raises(UnfitValue, match="column 't' is time, but holds 1 day"):
        rows_of(values, table="v")
    (row,), _ = rows_of(values, table="v", columns=["t"], options={"types": {"t": "string"}})
    assert row == {"t": "25:00:00.000000"}
    with pytest.raises(ConfigError, match="go beyond a day"):
        rows_of(values, table="v", cursor="t")


def test_a_table_takes_the_rows_of_one_of_its_own_definition(values, my, my_schema, tmp_path):
    my.ask(f"CREATE TABLE {my_schema}.w LIKE {my_schema}.v")
    for name in "vw":  # a float(7,2) rounds what it takes, and a year reads 1 as 2001
        my.ask(f"ALTER TABLE {my_schema}.{name} DROP COLUMN g, DROP COLUMN y, DROP COLUMN b")
    home, store = SQLHome("v", connection=values), SQLStore("w", connection=values)
    Flow(home, store, mode="append", engine="inline", state=tmp_path).run()
    one, other = (my.ask(f"SELECT f * 1e0, t FROM {my_schema}.{name}") for name in "vw")
    assert one == other


@pytest.mark.parametrize("value", [-0.0, math.nan, -math.inf])
def test_a_float_that_mysql_has_no_number_for_is_an_error(value, mysql, my, my_schema):
    rows, store = pa.table({"x": [0.0, 1.5, value]}), SQLStore("w", connection=mysql)
    store.prepare(Run("r", "f", "append"), rows.schema)
    with pytest.raises(UnfitValue, match=f"(?i)column 'x' holds {value}, which MySQL") as caught:
        store.stage(Ticket("r", 0), rows.schema, iter([rows]))
    assert caught.value.column == "x"


@pytest.mark.parametrize("listed", [catalog.tables, anysql_catalog.tables])
def test_a_merge_table_of_mariadb_is_a_view_of_others(my, my_schema, listed):
    for name, row in (("a", 1), ("b", 2)):
        my.ask(f"CREATE TABLE {my_schema}.{name} (id int NOT NULL) ENGINE=MyISAM")
        my.ask(f"INSERT INTO {my_schema}.{name} VALUES ({row})")
    union = f"UNION=({my_schema}.a, {my_schema}.b)"
    my.ask(f"CREATE TABLE {my_schema}.both (id int NOT NULL) ENGINE=MERGE {union}")
    listing = listed(my.url(my_schema), "who", [f"{my_schema}.*"])
    here = {each.name: each.view for each in listing.tables if each.schema == my_schema}
    assert here == {"a": False, "b": False, "both": True}
