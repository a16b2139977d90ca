import pyarrow.dataset as ds
import pyarrow.parquet as pq

from hygge import ParquetHome, ParquetStore
from hygge.testing import HomeContract, StoreContract


class TestParquetHome(HomeContract):
    def make(self, table, tmp_path):
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=self.batch_rows)
        options = {"batch_size": self.batch_rows, "split_bytes": 5_000}
        return ParquetHome(path=str(tmp_path / "t.parquet"), options=options)

    make_by_key = make

    def change(self, home):
        with open(home.path, "ab") as file:
            file.write(b"PAR1")


class TestParquetStore(StoreContract):
    def make(self, tmp_path):
        return ParquetStore(path=str(tmp_path / "out"))

    def rows(self, store):
        files = ds.dataset(store.path, format="parquet").files if __import__("os").path.isdir(store.path) else []
        return ds.dataset(files).to_table() if files else None
