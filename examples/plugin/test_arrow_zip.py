import os
import zipfile

import pyarrow as pa
from arrow_zip import ArrowZipHome, ArrowZipStore

from hygge.testing import HomeContract, StoreContract


class TestArrowZipHome(HomeContract):
    def make(self, table, tmp_path):
        with zipfile.ZipFile(tmp_path / "t.zip", "w") as file, file.open("t.arrow", "w") as part:
            pa.ipc.new_stream(part, table.schema).write_table(table, self.batch_rows)
        return ArrowZipHome(path=str(tmp_path / "t.zip"))

    def change(self, home):
        os.utime(home.settings.path, (1, 1))


class TestArrowZipStore(StoreContract):
    def make(self, tmp_path):
        return ArrowZipStore(path=str(tmp_path / "t.zip"))

    def rows(self, store):
        if not os.path.exists(store.settings.path):
            return None
        with zipfile.ZipFile(store.settings.path) as file:
            parts = [pa.ipc.open_stream(file.read(n)) for n in file.namelist() if "arrow" in n]
        return pa.concat_tables([part.read_all() for part in parts])
