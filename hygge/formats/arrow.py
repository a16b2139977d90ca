"""Arrow IPC files (Feather V2) as a Store: a directory of files, or one file.

A foreign reader sees the old files or the new ones, never a mixture: a run is shown by one rename.
Every Arrow type is kept exactly.

On an object store (`s3://bucket/prefix`) files come one by one: see
`hygge/connectors/files/prefix.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa

from hygge.connectors.files.parts import Writer
from hygge.connectors.files.store import FileStore, FileStoreOptions


class ArrowOptions(FileStoreOptions):
    """How Arrow files are written."""

    compression: Literal["none", "lz4", "zstd"] = "lz4"


class ArrowStore(FileStore):
    """`ArrowStore("users", path="data/users")`."""

    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc")

    class Settings(FileStore.Settings):
        options: ArrowOptions = ArrowOptions()

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        return _ArrowWriter(path, schema, self.settings.options.compression)

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        writer = _ArrowWriter(target, schema, self.settings.options.compression)
        for part in parts:
            with pa.OSFile(part, "rb") as source:
                reader = pa.ipc.open_file(source)
                for at in range(reader.num_record_batches):
                    writer.write(pa.Table.from_batches([reader.get_batch(at)]))
        writer.close()

    def count(self, path: str) -> int:
        import pyarrow.dataset as ds
        from pyarrow.fs import LocalFileSystem

        # It reads the heads of the messages, and decompresses nothing.
        return int(ds.IpcFileFormat().make_fragment(path, LocalFileSystem()).count_rows())


class _ArrowWriter:
    """An Arrow file that is being written."""

    def __init__(self, path: str, schema: pa.Schema, compression: str) -> None:
        codec = None if compression == "none" else compression
        self.file: Any = pa.OSFile(path, "wb")
        self.writer = pa.ipc.new_file(
            self.file, schema, options=pa.ipc.IpcWriteOptions(compression=codec)
        )

    def write(self, table: pa.Table) -> None:
        self.writer.write_table(table)

    def size(self) -> int:
        return int(self.file.tell())

    def close(self) -> None:
        self.writer.close()
        self.file.close()
