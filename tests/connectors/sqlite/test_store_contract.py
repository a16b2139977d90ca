from hygge import SQLStore
from hygge.testing import StoreContract
from tests.readers.foreign import sqlite_rows


class TestSQLiteStore(StoreContract):
    def make(self, tmp_path):
        return SQLStore("t", connection=f"sqlite:///{tmp_path}/t.db")

    rows = sqlite_rows
