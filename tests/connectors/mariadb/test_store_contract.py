import pytest

from hygge import SQLStore
from hygge.testing import StoreContract
from tests.connectors.mariadb.rows import create_table, read_directly

pytest_plugins = ["tests.servers.mariadb"]


class TestMariaDBStore(StoreContract):
    big_batches = 48

    @pytest.fixture(autouse=True)
    def _server(self, my):
        self.server = my

    def make(self, tmp_path):
        return SQLStore("t", connection=self.server.url(self.server.schema()))

    def rows(self, store):
        return read_directly(self.server, store.settings.connection.rpartition("/")[2], "t")

    def plant_foreign(self, store):
        schema = store.settings.connection.rpartition("/")[2]
        import pyarrow as pa

        create_table(self.server, schema, "t", pa.table({"n": [1], "text": ["theirs"]}))
        return lambda: "theirs" in self.rows(store).column("text").to_pylist()

    def make_with_secret(self, secret, tmp_path):
        url = f"mysql+pymysql://nobody:{secret}@127.0.0.1:{self.server.port}/mysql"
        return SQLStore("t", connection=url)
