"""PostgreSQL keeps the promises of every Home."""

from __future__ import annotations

import pytest
from sqlalchemy.dialects import postgresql

from hygge import SQLHome
from hygge.connectors.anysql.values import encode
from hygge.connectors.sql.types import column_for
from hygge.testing import HomeContract

pytest_plugins = ["tests.servers.postgres"]


class TestPostgreSQLHome(HomeContract):
    big_rows = 24_000

    @pytest.fixture(autouse=True)
    def _server(self, pg):
        self.server = pg

    def make(self, table, tmp_path, **settings):
        named = f"{self.server.schema()}.t"
        make_table(self.server, table, named)
        options = {"batch_size": self.batch_rows, "splits": 3}
        return SQLHome(table=named, connection=self.server.url, options=options, **settings)

    def make_by_key(self, table, tmp_path):
        return self.make(table, tmp_path, split_by="k")

    def make_with_cursor(self, table, tmp_path):
        return self.make(table, tmp_path, cursor="n")

    def make_with_secret(self, secret, tmp_path):
        url = f"postgresql://nobody:{secret}@127.0.0.1:{self.server.port}/postgres"
        return SQLHome("t", connection=url)

    def change(self, home):
        self.server.ask(f"INSERT INTO {home.table} SELECT * FROM {home.table}")


def make_table(server, table, named):
    """Write these rows into a new table, with no code that reads them."""
    kinds = [
        column_for(field.type, "postgresql", field.name).compile(postgresql.dialect())
        for field in table.schema
    ]
    columns = [f'"{name}" {kind}' for name, kind in zip(table.column_names, kinds, strict=True)]
    values = [encode(table.column(n), "test", n) for n in table.column_names]
    with server.connect() as connection:
        connection.execute(f"CREATE TABLE {named} ({', '.join(columns)})")
        with connection.cursor().copy(f"COPY {named} FROM STDIN") as copy:
            for row in zip(*values, strict=True):
                copy.write_row(row)
        connection.execute(f"ANALYZE {named}")
