import zipfile

import pyarrow as pa
from arrow_zip import ArrowZipStore

from hygge.testing import StoreContract


class TestArrowZipStore(StoreContract):
    def make(self, tmp_path):
        return ArrowZipStore(path=str(tmp_path / "t.zip"))

    def rows(self, store):
        try:
            with zipfile.ZipFile(store.settings.path) as file:
                parts = [pa.ipc.open_stream(file.read(n)) for n in file.namelist() if "arrow" in n]
        except FileNotFoundError:
            return None
        return pa.concat_tables([part.read_all() for part in parts])
