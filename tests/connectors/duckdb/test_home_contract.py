import asyncio

from hygge import SQLHome, SQLStore
from hygge.testing import HomeContract


class TestDuckDBHome(HomeContract):
    def make(self, table, tmp_path, **settings):
        url = f"duckdb:///{tmp_path}/t.duckdb"
        asyncio.run(SQLStore("t", connection=url).write(table))
        return SQLHome("t", connection=url, options={"batch_size": self.batch_rows}, **settings)

    def make_by_key(self, table, tmp_path):
        return self.make(table, tmp_path, split_by="k")

    def make_with_cursor(self, table, tmp_path):
        return self.make(table, tmp_path, cursor="n")
