"""A server that answers to a MariaDB URL and is MySQL: rows go through SQLAlchemy.

No MySQL server runs here: a MariaDB that is taken for MySQL stands for it.
"""

from __future__ import annotations

import pytest

from hygge import Flow, ParquetStore, SQLHome, SQLStore
from hygge.connectors.mariadb import session
from hygge.errors import ConfigError, FlowFailed
from hygge.model import Run

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
