"""Files of a table: as a commit adds them, and as the library reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from hygge.arrow_errors import said
from hygge.connectors.files.held_types import is_form_of
from hygge.connectors.iceberg.partitions import text_key
from hygge.connectors.iceberg.staging import PARTITION
from hygge.connectors.iceberg.types import arrow_schema, id_of, ids_of
from hygge.errors import HomeError, HyggeError, rows_text
from hygge.extension_types import as_marked
from hygge.model import MIB
from hygge.type_words import word_of

_BATCH_ROWS = 131_072


@dataclass(frozen=True)
class Found:
    """A staged file."""

    name: str
    url: str
    footer: Any
    size: int

    @cached_property
    def schema(self) -> pa.Schema:
        """Its columns, with their ids."""
        return self.footer.schema.to_arrow_schema()


def data_files(metadata: Any, found: Iterable[Found]) -> list[Any]:
    """Return staged files as a commit adds them, with the statistics of their footers."""
    from pyiceberg.io.pyarrow import (
        compute_statistics_plan,
        data_file_statistics_from_parquet_metadata,
        parquet_path_to_id_mapping,
    )
    from pyiceberg.manifest import DataFile, DataFileContent
    from pyiceberg.manifest import FileFormat as Format
    from pyiceberg.typedef import Record

    schema = metadata.schema()
    ids = parquet_path_to_id_mapping(schema)
    wanted = compute_statistics_plan(schema, metadata.properties)
    counts = compute_statistics_plan(schema, {"write.metadata.metrics.default": "counts"})

    def told(one: Found, columns: Any) -> Any:
        return data_file_statistics_from_parquet_metadata(
            parquet_metadata=one.footer, stats_columns=columns, parquet_column_mapping=ids
        ).to_serialized_dict()

    def file_of(one: Found) -> Any:
        try:
            statistics = told(one, wanted)
        except (OverflowError, ValueError):  # a date beyond Python's, a text that cannot be cut
            statistics = told(one, counts)
        key = (one.schema.metadata or {}).get(PARTITION, b"[]")
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=one.url,
            file_format=Format.PARQUET,
            partition=Record(*text_key(key.decode())),
            file_size_in_bytes=one.size,
            sort_order_id=None,
            spec_id=metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics,
        )

    return [file_of(one) for one in found]


def entries(table: Any) -> Iterator[Any]:
    """Yield the entry of each data file of the newest snapshot."""
    from pyiceberg.manifest import ManifestContent

    snapshot = table.current_snapshot()
    for manifest in snapshot.manifests(table.io) if snapshot is not None else ():
        if manifest.content == ManifestContent.DATA:
            yield from manifest.fetch_manifest_entry(table.io, discard_deleted=True)


def planned(scan: Any, where: str, side: type[HyggeError]) -> list[Any]:
    """Return the files of a scan; raise `side` where the library cannot tell which rows count."""
    try:
        return list(scan.plan_files())
    except ValueError as error:
        if "equality deletes" not in str(error):
            raise
        raise side(
            f"{where} has rows that were deleted by their values (equality deletes), which "
            "pyiceberg does not read",
            "let the engine that wrote it rewrite its data files, then run it again",
        ) from error


def read_task(
    metadata: Any,
    io: Any,
    task: Any,
    schema: Any,
    batch_rows: int = _BATCH_ROWS,
    batch_bytes: int = 32 * MIB,
) -> Iterator[pa.Table]:
    """Yield the rows of one file of a plan that count, with the columns of `schema`, in order.

    `schema` is Iceberg's; of a file that is older, columns are found by their ids. Rows that
    positional deletes name are left out. Files without ids, and those of other formats, are read
    by the library. Raises HomeError where the library would change values.
    """
    from pyiceberg.io.pyarrow import _read_all_delete_files

    columns = arrow_schema(schema)
    plain = pa.schema([field.remove_metadata() for field in columns])
    deletes = _read_all_delete_files(io, [task])
    filled = {field.name for field in schema.fields if field.initial_default is not None}
    names = _plain_names(io, task, columns, filled)
    if names is None:
        yield from _by_library(metadata, io, task, schema, plain, deletes, batch_rows)
        return
    gone = [np.asarray(positions) for positions in deletes.get(task.file.file_path, ())]
    positions = np.unique(np.concatenate(gone)) if gone else None
    with _opened(io, task.file.file_path) as file:
        wanted = [name for name in names if name is not None]
        at = 0
        # The uncompressed size of encoded pages is below that of Arrow's arrays.
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        row_bytes = max(
            (2 * each.total_byte_size / max(1, each.num_rows) for each in groups), default=1
        )
        batch_rows = max(1, min(batch_rows, int(batch_bytes / max(1, row_bytes))))
        for batch in file.iter_batches(batch_rows, columns=wanted, use_threads=False):
            table = _selected(batch, names, plain, task.file.file_path)
            if positions is not None:
                here = positions[(positions >= at) & (positions < at + batch.num_rows)] - at
                stays = np.ones(batch.num_rows, bool)
                stays[here] = False
                table = table.filter(pa.array(stays))
            at += batch.num_rows
            yield table
        check_count(task, at)


def _by_library(
    metadata: Any, io: Any, task: Any, schema: Any, plain: pa.Schema, deletes: Any, batch_rows: int
) -> Iterator[pa.Table]:
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan

    for field in plain:
        if _holds_structs(field.type):
            raise HomeError(
                f"{task.file.file_path} is no Parquet file of Iceberg's own (its columns have no "
                f"ids, or others than those of the table), and column '{field.name}' has structs "
                "within lists or maps: read otherwise, a NULL would become an empty list",
                f"leave '{field.name}' out with `columns`, or let the engine that wrote the table "
                "rewrite its files",
            )
    scan = ArrowScan(metadata, io, schema, AlwaysTrue())
    gone = sum(len(np.unique(np.asarray(each))) for each in deletes.get(task.file.file_path, ()))
    at = gone
    for batch in _read_by(scan, task, deletes):
        at += batch.num_rows
        table = as_marked(pa.Table.from_batches([batch])).select(plain.names)
        for start in range(0, table.num_rows, batch_rows):
            yield table.slice(start, batch_rows).cast(plain)
    if not gone:  # a position may be named twice, by two files of deletes
        check_count(task, at)


def _read_by(scan: Any, task: Any, deletes: Any) -> Iterator[pa.RecordBatch]:
    """Yield what the library reads of a file. Raises HomeError for one that it cannot read."""
    try:
        yield from scan._record_batches_from_scan_tasks_and_deletes([task], deletes)
    except ValueError as error:
        raise HomeError(
            f"{task.file.file_path} is no file of the table: {said(error)}",
            "put it back, or let the engine that wrote the table roll it back to a snapshot that "
            "is whole",
        ) from error


def check_count(task: Any, held: int) -> None:
    """Raise HomeError where a file holds other than the rows that the metadata counts."""
    counted = task.file.record_count
    if counted != held:
        raise HomeError(
            f"{task.file.file_path}: the metadata of the table counts {rows_text(counted)} in "
            f"this file, and there are {held:,}",
            "somebody has changed the file: put it back, or let the engine that wrote the table "
            "roll it back to a snapshot that is whole",
        )


def _holds_structs(kind: pa.DataType) -> bool:
    """Return whether a type has a struct below a list or a map."""
    t = pa.types
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    is_many = t.is_list(kind) or t.is_large_list(kind) or t.is_map(kind)
    if t.is_map(kind):
        inner = [kind.item_type]
    return any((is_many and t.is_struct(each)) or _holds_structs(each) for each in inner)


@contextmanager
def _opened(io: Any, url: str) -> Iterator[Any]:
    """Open a Parquet file of a table. Raises HomeError where it is none."""
    import pyarrow.parquet as pq

    scheme, netloc, path = io.parse_location(url)
    with io.fs_by_scheme(scheme, netloc).open_input_file(path) as source:
        try:
            file = pq.ParquetFile(
                source, pre_buffer=scheme != "file", page_checksum_verification=True
            )
        except pa.ArrowInvalid as error:
            raise HomeError(
                f"{url} cannot be read as Parquet: {said(error)}",
                "it is truncated or damaged: put it back, or let the engine that wrote the table "
                "roll it back to a snapshot that is whole",
            ) from error
        yield file


def _plain_names(
    io: Any, task: Any, columns: pa.Schema, filled: set[str]
) -> list[str | None] | None:
    """Return the name in the file of each column (None: it lacks it), found by the ids.

    `filled` are the columns that have a value in files which lack them.

    None for the whole where the library must read the file: it has no ids, it is of another format,
    or a nested column has changed.
    """
    if task.file.file_format.value != "PARQUET":
        return None
    with _opened(io, task.file.file_path) as file:
        held = {id_of(field): field for field in file.schema_arrow}
    if None in held or not held:
        return None
    names: list[str | None] = []
    for field in columns:
        there = held.get(id_of(field))
        if there is None:
            if not field.nullable or field.name in filled or len(task.file.partition):
                return None  # a value of the partition may stand for it
            names.append(None)
            continue
        renamed = pa.schema([field.with_name(there.name)])
        if field.type.num_fields and ids_of(pa.schema([there])) != ids_of(renamed):
            return None
        names.append(there.name)
    return names if any(names) else None


def _selected(
    batch: pa.RecordBatch, names: list[str | None], schema: pa.Schema, url: str
) -> pa.Table:
    """Return rows with the columns of `schema`; HomeError for a type that is none of its forms."""
    arrays = []
    for name, field in zip(names, schema, strict=True):
        array = pa.nulls(batch.num_rows, field.type) if name is None else batch.column(name)
        if isinstance(array.type, pa.ExtensionType):
            array = array.storage
        if array.type != field.type and not is_form_of(array.type, field.type):
            raise HomeError(
                f"{url}: column '{field.name}' is {word_of(array.type)} in this file, and "
                f"{word_of(field.type)} in the table",
                "write the file again with the engine that made the table, or leave the column "
                "out with `columns`",
            )
        arrays.append(array if array.type == field.type else array.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
