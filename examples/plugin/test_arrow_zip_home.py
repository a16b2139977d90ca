import os
import zipfile

import pyarrow as pa
from arrow_zip import ArrowZipHome

from hygge.testing import HomeContract


class TestArrowZipHome(HomeContract):
    def make(self, table, tmp_path):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, self.batch_rows)
        with zipfile.ZipFile(tmp_path / "t.zip", "w") as file:
            file.writestr("t.arrow", sink.getvalue())
        return ArrowZipHome(path=str(tmp_path / "t.zip"))

    def change(self, home):
        os.utime(home.settings.path, (1, 1))
