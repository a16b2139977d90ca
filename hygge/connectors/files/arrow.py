"""Arrow IPC files (Feather V2) and IPC streams as a Home: splits are runs of record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from hygge.batches import conform, plain, plain_schema
from hygge.connectors.files.home import FileHome, Piece
from hygge.connectors.files.listing import SourceFile, source
from hygge.errors import HomeError, HyggeError
from hygge.model import MIB, Column

_MAGIC = b"ARROW1"


class ArrowHome(FileHome):
    """`ArrowHome("users", path="data/users.arrow")`."""

    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc", ".arrows")

    def schema_of(self, files: Sequence[SourceFile]) -> tuple[Column, ...]:
        first: pa.Schema | None = None
        for file in files:
            with _open(file.path) as (reader, _):
                schema = plain_schema(reader.schema)
            if first is None:
                first = schema
            try:
                conform(self.chosen(schema).empty_table(), self.chosen(first), "it")
            except HyggeError as error:
                raise HomeError(
                    f"{file.path} does not go with {files[0].path}: {error.message}",
                    "move them in flows of their own, or choose the common ones with `columns`",
                ) from error
        assert first is not None  # find() gives at least one file
        return tuple(Column(f.name, f.type, str(f.type), f.nullable) for f in first)

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        with _open(file.path) as (reader, is_file):
            if not is_file:
                yield Piece(bytes=file.size)
                return
            count = reader.num_record_batches
        # Batches are small here and there: a piece is a run of them of about 16 MiB.
        step = max(1, min(count, 16 * MIB * count // max(1, file.size)))
        for start in range(0, max(count, 1), step):
            stop = min(start + step, count)
            yield Piece(
                {"from": start, "to": stop}, None, file.size * (stop - start) // max(1, count)
            )

    def open_reader(
        self, file: SourceFile, where: dict[str, Any], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        try:
            with _open(file.path) as (reader, is_file):
                if is_file:
                    batches = (reader.get_batch(i) for i in range(where["from"], where["to"]))
                else:
                    batches = iter(reader)
                for batch in batches:
                    yield plain(pa.Table.from_batches([batch]).select(schema.names))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file.path, error) from error


class _open:
    """A file reader where the magic says so, else a stream reader; closed at the end."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> tuple[Any, bool]:
        self.source = source(self.path)
        try:
            is_file = self.source.read(len(_MAGIC)) == _MAGIC
            self.source.seek(0)
            opener = pa.ipc.open_file if is_file else pa.ipc.open_stream
            return opener(self.source), is_file
        except (pa.ArrowException, OSError) as error:
            self.source.close()
            raise _unreadable(self.path, error) from error

    def __exit__(self, *_: object) -> None:
        self.source.close()


def _unreadable(path: str, error: Exception) -> HomeError:
    return HomeError(
        f"{path} cannot be read as an Arrow file: {str(error).splitlines()[0] or 'no content'}",
        "it is truncated, damaged, or of another format (Feather V1 is one); write it again",
    )
