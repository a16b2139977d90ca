import duckdb

from hygge import SQLStore
from hygge.testing import StoreContract
from tests.readers.foreign import duckdb_rows


class TestDuckDBStore(StoreContract):
    def make(self, tmp_path):
        return SQLStore("t", connection=f"duckdb:///{tmp_path}/t.duckdb")

    rows = duckdb_rows

    def plant_foreign(self, store):
        path = store.settings.connection.removeprefix("duckdb:///")
        with duckdb.connect(path) as theirs:
            theirs.execute("CREATE TABLE t AS SELECT 1 AS n, 'theirs' AS tag")

        def still_there():
            with duckdb.connect(path, read_only=True) as theirs:
                return (1, "theirs") in theirs.execute("SELECT n, tag FROM t").fetchall()

        return still_there
