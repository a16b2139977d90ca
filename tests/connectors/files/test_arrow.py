from pyarrow import feather

from hygge import ArrowHome, ArrowStore
from hygge.testing import HomeContract, StoreContract
from tests.readers.foreign import dataset_rows, plant_file


class TestArrowHome(HomeContract):
    def make(self, table, tmp_path):
        feather.write_feather(table, tmp_path / "t.arrow", chunksize=self.batch_rows)
        return ArrowHome(path=tmp_path / "t.arrow", options={"split_bytes": 5_000})

    def change(self, home):
        feather.write_feather(feather.read_table(home.path).slice(1), home.path)


class TestArrowStore(StoreContract):
    make = lambda self, tmp_path: ArrowStore(path=tmp_path / "out")  # noqa: E731
    rows, plant_foreign = dataset_rows("arrow"), plant_file
