"""What the log of a Delta table says of its columns and files, and how the files are read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from hygge.arrow_errors import said
from hygge.batches import conform, slices
from hygge.connectors.delta import library
from hygge.connectors.delta.fit import held_schema
from hygge.connectors.delta.table_files import files_at
from hygge.connectors.files.file_options import FileOptions
from hygge.connectors.files.held_types import is_form_of
from hygge.connectors.files.skipping import matching, within
from hygge.connectors.files.uniting import filled
from hygge.errors import HomeError, SourceChanged, rows_text
from hygge.formats import parquet
from hygge.model import Column, Split
from hygge.places.access import Access, ObjectUrl
from hygge.places.objects import is_object_url
from hygge.shape.settings import FILE_NAME
from hygge.type_words import word_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

NEVER_GIVEN = (
    "time32",
    "time64",
    "duration",
    "timestamp[ns",
    "timestamp[us, tz=E",
    "timestamp[us, tz=+",
    "decimal256",
)
"""Types that no Delta table has."""
_READ_HERE = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors"}
"""Features of readers that change nothing for who reads files by the log."""


@dataclass(frozen=True)
class LogFile:
    """A file of a version."""

    path: str
    """Below the table."""
    size: int
    rows: int | None
    partition: dict[str, str | None]


def columns_of(table: DeltaTable) -> tuple[Column, ...]:
    """Return the columns of a table, with the names that Delta has for their types."""
    fields = json.loads(table.schema().to_json())["fields"]
    native = {field["name"]: field["type"] for field in fields}
    return tuple(
        Column(
            field.name,
            field.type,
            native[field.name] if isinstance(native[field.name], str) else None,
            field.nullable,
        )
        for field in held_schema(table)
    )


def needs_library(table: DeltaTable) -> str:
    """Return why a table cannot be read by its files; empty: it can."""
    protocol, properties = table.protocol(), library.configuration(table)
    features = protocol.reader_features or []
    if str(properties.get("delta.columnMapping.mode", "none")).lower() != "none":
        return "column mapping"
    if "deletionVectors" in features and pa.table(table.deletion_vectors().read_all()).num_rows:
        return "deletion vectors"
    other = [name for name in features if name not in {*_READ_HERE, "columnMapping"}]
    if other:
        return f"the feature {other[0]}"
    paths = pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()
    return "files elsewhere" if any("://" in path for path in paths) else ""


def files_of(table: DeltaTable, condition: pc.Expression | None) -> tuple[list[LogFile], int]:
    """Return the files that may have rows for a condition, and the number of the others."""
    actions = pa.table(table.get_add_actions(flatten=True))
    names = library.partition_columns(table)
    texts = {name: actions[f"partition.{name}"].cast(pa.string()).to_pylist() for name in names}
    counts = actions["num_records"] if "num_records" in actions.column_names else None
    kept = _matching(actions, held_schema(table), condition)
    files = []
    for at in kept:
        rows = None if counts is None else counts[at].as_py()
        path, size = unquote(actions["path"][at].as_py()), actions["size_bytes"][at].as_py()
        files.append(LogFile(path, size, rows, {name: texts[name][at] for name in names}))
    return sorted(files, key=lambda file: file.path), actions.num_rows - len(files)


def _matching(
    actions: pa.Table, schema: pa.Schema, condition: pc.Expression | None
) -> Sequence[int]:
    """Return the numbers of the files that may have rows for which `condition` is true."""
    if condition is None:
        return range(actions.num_rows)
    return matching([_known(row, schema) for row in actions.to_pylist()], schema, condition)


def _known(row: dict[str, Any], schema: pa.Schema) -> pc.Expression:
    """Return what the log says of all rows of a file."""
    known = pc.scalar(True)
    for field in schema:
        column = pc.field(field.name)
        if f"partition.{field.name}" in row:
            value = row[f"partition.{field.name}"]
            known = known & (
                column.is_null() if value is None else column == pa.scalar(value, field.type)
            )
            continue
        if "." in field.name:
            continue  # the log calls the field `b` of a column `a` by the same name
        least, most = row.get(f"min.{field.name}"), row.get(f"max.{field.name}")
        if least is None or most is None or pa.types.is_floating(field.type):
            continue
        if isinstance(most, datetime):  # others keep whole milliseconds
            most += timedelta(milliseconds=1)
        ends = pa.scalar(least, field.type), pa.scalar(most, field.type)
        has_nulls = row.get(f"null_count.{field.name}") != 0
        known = known & within(field.name, *ends, has_nulls)
    return known


def packed(
    url: str, access: Access | None, files: Sequence[LogFile], split_bytes: int
) -> Iterator[tuple[list[list[Any]], int | None, int]]:
    """Yield the pieces of each split, with rows and bytes; at least one split.

    A piece is [path, partition, groups, rows]; its groups are None for all of the file, its rows
    are those that the log counts in the file, or None.
    """
    pieces: list[list[Any]] = []
    rows: int | None = 0
    size, is_first = 0, True
    for file in files:
        for groups, group_rows, group_size in _cut(url, access, file, split_bytes):
            if pieces and size + group_size > split_bytes:
                yield pieces, rows, size
                pieces, rows, size, is_first = [], 0, 0, False
            pieces.append([file.path, file.partition, groups, file.rows])
            rows = None if rows is None or group_rows is None else rows + group_rows
            size += group_size
    if pieces or is_first:
        yield pieces, rows, size


def _cut(
    url: str, access: Access | None, file: LogFile, split_bytes: int
) -> Iterator[tuple[list[int] | None, int | None, int]]:
    if file.size <= 2 * split_bytes:
        yield None, file.rows, file.size
        return
    with parquet.open_parquet(_at(url, access, file.path)) as opened:
        groups = list(parquet.row_groups(opened))
    _check_count(f"{url}/{file.path}", file.rows, sum(rows for rows, _ in groups))
    for index, (rows, size) in enumerate(groups):
        yield [index], rows, size


def read_files(
    url: str, access: Access | None, split: Split, schema: pa.Schema, options: FileOptions
) -> Iterator[pa.Table]:
    """Yield the rows of the files of a split, with the columns of `schema`."""
    for path, partition, groups, counted in split.where["files"]:
        file = _at(url, access, path)
        values = {**partition, FILE_NAME: path, **split.where.get("constants", {})}
        with parquet.open_parquet(file) as opened:
            inside = _inside(opened.schema_arrow.names, schema, values)
            _check_count(f"{url}/{path}", counted, opened.metadata.num_rows)
            if groups is None:
                groups = range(opened.num_row_groups)
        for group in groups:
            batches = parquet.read_row_group(
                file, group, pa.schema([field.with_name(name) for name, field in inside]),
                options.batch_size, options.batch_bytes,
            )  # fmt: skip
            for batch in batches:
                arrays = [batch.column(name) for name, _ in inside]
                table = pa.Table.from_arrays(arrays, names=[field.name for _, field in inside])
                for name in (name for name in schema.names if name in values):
                    kind = schema.field(name).type
                    value = pa.scalar(values[name], pa.string()).cast(kind)
                    table = table.append_column(name, pa.repeat(value, batch.num_rows))
                full = conformed(filled(table, schema), schema, f"{url}/{path}")
                del batch, arrays, table
                yield from slices(full, options.batch_size, options.batch_bytes)
                del full


def _inside(
    held: Sequence[str], schema: pa.Schema, values: Mapping[str, str | None]
) -> list[tuple[str, pa.Field]]:
    """Return the columns of `schema` that a file holds, each with its name there.

    Names of Delta ignore case. Columns of which `values` has the value are not of the file.
    """
    by_folded = {name.lower(): name for name in held}
    return [
        (field.name if field.name in held else by_folded[field.name.lower()], field)
        for field in schema
        if field.name.lower() in by_folded and field.name not in values
    ]


def _check_count(path: str, counted: int | None, held: int) -> None:
    """Raise HomeError where a file, or a table, holds other than the rows that the log counts."""
    if counted is not None and counted != held:
        raise HomeError(
            f"{path}: the log of the table counts {rows_text(counted)} here, and there are "
            f"{held:,}",
            "somebody has changed a file of the table: put it back, or restore the table to a "
            "version that is whole",
        )


def read_by_library(
    table: DeltaTable, schema: pa.Schema, options: FileOptions, constants: Mapping[str, str]
) -> Iterator[pa.Table]:
    """Yield the rows of a version as its library reads them; `constants` are added to them."""
    names = [name for name in schema.names if name not in constants]
    held = 0
    for batch in _scanned(table, names):
        held += batch.num_rows
        rows = pa.Table.from_batches([batch])
        for name, value in constants.items():
            rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
        full = conformed(rows, schema, table.table_uri)
        del rows
        del batch
        yield from slices(full, options.batch_size, options.batch_bytes)
        del full
    _check_count(table.table_uri, _counted(table), held)


def _scanned(table: DeltaTable, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield what the library reads. Raises HomeError where it cannot read a file of the table."""
    try:
        yield from pa.RecordBatchReader.from_stream(table.scan(columns=list(names)))
    except pa.ArrowException as error:
        if library.is_missing(error):
            raise
        raise HomeError(
            f"{table.table_uri} cannot be read by its library: {said(error)}",
            "a file of the table is truncated or damaged: put it back, or restore the table to a "
            "version that is whole",
        ) from error


def _counted(table: DeltaTable) -> int | None:
    """Return the rows of a version by its log; None where a file of it is not counted."""
    actions = pa.table(table.get_add_actions(flatten=True))
    if "num_records" not in actions.column_names or actions["num_records"].null_count:
        return None
    kept = pa.table(table.deletion_vectors().read_all())["selection_vector"]
    deleted = pc.sum(pc.invert(pc.list_flatten(kept))).as_py() or 0
    return int((pc.sum(actions["num_records"]).as_py() or 0) - deleted)


def version_of(url: str, access: Access | None, split: Split) -> DeltaTable:
    """Return the table at the version of a split. Raises SourceChanged where it is gone."""
    try:
        table = library.load(url, access, split.where["version"])
    except Exception as error:
        if not library.is_of_library(error):
            raise
        table = None
    if table is None:
        raise _changed(url, f"version {split.where['version']}")
    return table


def conformed(table: pa.Table, schema: pa.Schema, who: str) -> pa.Table:
    """Return rows of a file with the types that the log gives their columns.

    Raises HomeError for a type of which Delta does not make that one: a cast might change values.
    """
    columns = []
    for field in schema:
        column = table.column(field.name)
        if column.type != field.type:
            if not is_form_of(column.type, field.type):
                raise HomeError(
                    f"{who}: column '{field.name}' is {word_of(column.type)} in this file, and "
                    f"{word_of(field.type)} in the log of the table",
                    "write the file again with the engine that made the table, or leave the column "
                    "out with `columns`",
                )
            column = column.cast(field.type)
        columns.append(column)
    return conform(pa.Table.from_arrays(columns, schema=schema), schema, who)


@contextmanager
def changed(url: str) -> Iterator[None]:
    """Raise errors about a file that is gone as SourceChanged."""
    try:
        yield
    except FileNotFoundError as error:
        raise _changed(url, os.path.basename(error.filename or "") or "a file") from error
    except Exception as error:
        if is_gone(error):
            raise _changed(url, "a file") from error
        raise


def is_gone(error: Exception) -> bool:
    """Return whether a file could not be read since it is not there."""
    is_foreign = isinstance(error, pa.ArrowException) or library.is_of_library(error)
    return is_foreign and library.is_missing(error)


def made_at(url: str, access: Access | None, version: int) -> int:
    """Return when a version was made, in milliseconds since 1970; 0: its entry is gone.

    The library's own history is empty where the path has a `%` or a `#`.
    """
    content = files_at(url, access).get(f"_delta_log/{version:020d}.json") or b""
    for line in content.splitlines():
        if "commitInfo" in (entry := json.loads(line)):
            return int(entry["commitInfo"].get("timestamp", 0))
    return 0


def time_text(milliseconds: int) -> str:
    """Return a time of the log for people."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _at(url: str, access: Access | None, path: str) -> str:
    file = f"{url}/{path}"
    return ObjectUrl(file, access) if is_object_url(url) else file


def _changed(url: str, what: str) -> SourceChanged:
    return SourceChanged(
        f"{url}: {what} of the version that was planned is gone: somebody has vacuumed the table",
        "run it again: it reads the newest version; if it stays so, restore the table to a version "
        "that is whole",
    )
