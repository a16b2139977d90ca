"""Parquet files as a Home: one file, a directory, a glob, hive partitions.

Splits are runs of row groups. Files of one Home may differ in column order; a column that one file
lacks, or has in a type that does not hold the first file's values, is an error that names both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from hygge.batches import conform, plain, plain_schema
from hygge.connectors.files.home import FileHome, Piece
from hygge.connectors.files.listing import SourceFile, source
from hygge.connectors.files.object_listing import on_objects
from hygge.errors import HomeError, HyggeError
from hygge.model import MIB, Column

_STREAM_BYTES, _FAR_BYTES = 64 * 1024, 2 * MIB
"""Read at a time of each column; without it a row group's columns are read whole, into memory."""


class ParquetHome(FileHome):
    """`ParquetHome("users", path="data/users")`."""

    imports = ("pyarrow.parquet",)
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq", ".parq")

    def schema_of(self, files: Sequence[SourceFile]) -> tuple[Column, ...]:
        first: pa.Schema | None = None
        for file in files:
            opened = _open(file.path)
            with opened:
                schema = plain_schema(opened.schema_arrow)
                native = [opened.schema.column(i) for i in range(len(opened.schema))]
            if first is None:
                first = schema
                physical = {
                    c.path: str(c.logical_type)
                    if str(c.logical_type) != "None"
                    else c.physical_type
                    for c in native
                }
            elif not schema.equals(first):
                try:
                    conform(self.chosen(schema).empty_table(), self.chosen(first), "it")
                except HyggeError as error:
                    raise HomeError(
                        f"{file.path} does not go with {files[0].path}: {error.message}",
                        "move them in flows of their own, or choose the common ones with `columns`",
                    ) from error
        assert first is not None  # find() gives at least one file
        return tuple(Column(f.name, f.type, physical.get(f.name), f.nullable) for f in first)

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        with _open(file.path) as opened:
            meta = opened.metadata
            groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
            for at, group in enumerate(groups):
                size = sum(group.column(i).total_compressed_size for i in range(group.num_columns))
                yield Piece({"group": at}, group.num_rows, size)
            if not groups:
                yield Piece({}, 0, 0)

    def open_reader(
        self, file: SourceFile, where: dict[str, Any], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        if "group" not in where:
            return
        options = self.settings.options
        try:
            with _open(file.path) as opened:
                rows = _rows_a_batch(opened.metadata.row_group(where["group"]), options)
                reader = opened.iter_batches(
                    batch_size=rows,
                    row_groups=[where["group"]],
                    columns=schema.names,
                    use_threads=False,
                )
                for batch in reader:
                    yield plain(pa.Table.from_batches([batch])).select(schema.names)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file.path, error) from error


def _rows_a_batch(group: Any, options: Any) -> int:
    """Rows of about batch_bytes; the uncompressed size of encoded pages is below Arrow's."""
    size = max(1, group.total_byte_size * 2)
    fit = int(options.batch_bytes * group.num_rows // size)
    return max(1, min(int(options.batch_size), fit))


def _open(path: str) -> Any:
    import pyarrow.parquet as pq

    try:
        far = on_objects(path)  # each request for a column's bytes costs a journey
        return pq.ParquetFile(
            source(path, 0) if far else path,
            pre_buffer=False,
            buffer_size=_FAR_BYTES if far else _STREAM_BYTES,
            page_checksum_verification=True,
        )
    except (PermissionError, FileNotFoundError):
        raise
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> HomeError:
    said = str(error).split("\n")[0]
    return HomeError(
        f"{path} cannot be read as Parquet: {said}",
        "it is truncated, damaged, or of another format; write it again, or give its `type`",
    )
