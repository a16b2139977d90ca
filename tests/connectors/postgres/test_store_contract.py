"""PostgreSQL keeps the promises of every Store."""

from __future__ import annotations

import pytest

from hygge import SQLStore
from hygge.testing import StoreContract
from tests.servers.postgres import rows_of

pytest_plugins = ["tests.servers.postgres"]


class TestPostgreSQLStore(StoreContract):
    big_batches = 48

    @pytest.fixture(autouse=True)
    def _server(self, pg):
        self.server = pg

    def make(self, tmp_path):
        return SQLStore("t", table=f"{self.server.schema()}.t", connection=self.server.url)

    def rows(self, store):
        return rows_of(self.server, store.table)

    def plant_foreign(self, store):
        self.server.ask(f"CREATE TABLE {store.table} (n bigint, text text)")
        self.server.ask(f"INSERT INTO {store.table} VALUES (1, 'theirs')")
        return lambda: "theirs" in self.rows(store).column("text").to_pylist()

    def make_with_secret(self, secret, tmp_path):
        url = f"postgresql://nobody:{secret}@127.0.0.1:{self.server.port}/postgres"
        return SQLStore("t", connection=url)
