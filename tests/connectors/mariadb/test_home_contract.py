from dataclasses import replace

import pytest

from hygge import SQLHome
from hygge.testing import HomeContract
from tests.connectors.mariadb.rows import create_table

pytest_plugins = ["tests.servers.mariadb"]
# MariaDB has no columns for these; -0.0, NaN and the infinities cannot even be asked for.
NO_COLUMN = (
    "duration", "decimal256(76", "double", "float", "halffloat", "fixed_size_binary",
    "time64[ns]", "timestamp[ns", *(f"timestamp[{unit}, tz=" for unit in ("s", "ms", "us")),
)  # fmt: skip


class TestMariaDBHome(HomeContract):
    big_rows = 16_000

    @pytest.fixture(autouse=True)
    def _server(self, my):
        self.server = my

    def make(self, table, tmp_path, **more):
        schema = self.server.schema()
        options = {"batch_size": self.batch_rows, **more.pop("options", {})}
        home = SQLHome("t", connection=self.server.url(schema), options=options, **more)
        home.traits = replace(home.traits, lossy=(*home.traits.lossy, *NO_COLUMN))
        create_table(self.server, schema, "t", table)
        return home

    def make_by_key(self, table, tmp_path):
        return self.make(table, tmp_path, split_by="k", options={"splits": 4})

    def make_with_cursor(self, table, tmp_path):
        return self.make(table, tmp_path, cursor="n")

    def make_with_secret(self, secret, tmp_path):
        url = f"mysql+pymysql://nobody:{secret}@127.0.0.1:{self.server.port}/mysql"
        return SQLHome("t", connection=url)
