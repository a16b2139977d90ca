import pyarrow.parquet as pq

from hygge import ParquetHome, ParquetStore
from hygge.testing import HomeContract, StoreContract
from tests.readers.foreign import dataset_rows, plant_file


class TestParquetHome(HomeContract):
    def make(self, table, tmp_path):
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=self.batch_rows)
        options = {"batch_size": self.batch_rows, "split_bytes": 5_000}
        return ParquetHome(path=tmp_path / "t.parquet", options=options)

    def change(self, home):
        pq.write_table(pq.read_table(home.path).slice(1), home.path)


class TestParquetStore(StoreContract):
    make = lambda self, tmp_path: ParquetStore(path=tmp_path / "out")  # noqa: E731
    rows, plant_foreign = dataset_rows("parquet"), plant_file
