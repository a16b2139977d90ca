"""One file or object of a Home as a plan names it, and the hive partitions of its folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa

from hygge.errors import HomeError

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
COMPRESSED = re.compile(r"(?i)\.(gz|gzip|zst|zstd|bz2|xz|zip|lz4|br|sz|snappy|7z|z)$")


@dataclass(frozen=True)
class SourceFile:
    """One file of a Home, as it was when the run was planned.

    `mtime_ns` is the version of its content; for an object a number made of its ETag. `keys` are
    its hive partitions, (column, value) each.
    """

    path: str
    size: int
    mtime_ns: int
    keys: tuple[tuple[str, str | None], ...] = ()


def is_hidden(name: str) -> bool:
    """Whether a name is none of the data: `.a.crc`, `_SUCCESS`, `_temporary`; not `_year=2024`."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def check_compression(paths: Iterable[str], suffixes: Sequence[str]) -> None:
    """Raise HomeError for a file of a folder that is of this format, but cannot be decompressed."""
    endings = tuple(suffixes)
    for path in paths:
        name = path.lower()
        inner = COMPRESSED.sub("", name)
        if name.endswith(endings) or inner == name:
            continue
        if "." not in inner.rpartition("/")[2]:
            raise HomeError(
                f"{path} would be left out: it is compressed, and its name does not say what is "
                "in it",
                "name it by its type (such as .csv.gz), move it away, or name with a pattern what "
                "is to be read",
            )
        if inner.endswith(endings):
            ending = path.rpartition(".")[2]
            raise HomeError(
                f"{path} would be left out: hygge does not read files of this type that are "
                f"compressed as .{ending}",
                "decompress it or move it away, or name with a pattern what is to be read",
            )


def partitions(folders: Iterable[str]) -> tuple[tuple[str, str | None], ...]:
    """Return the hive partitions that names of folders state: `year=2024` → ("year", "2024")."""
    keys = []
    for folder in folders:
        name, equals, value = folder.partition("=")
        if equals and name:
            keys.append((unquote(name), None if value == HIVE_NULL else unquote(value)))
    return tuple(keys)


def partition_columns(files: Iterable[SourceFile]) -> dict[str, pa.DataType]:
    """Return the partition columns: int64 where every value is a plain integer, else text.

    Raises HomeError where two files are partitioned by different columns.
    """
    values_of: dict[str, list[str]] = {}
    columns: tuple[str, ...] | None = None
    for file in files:
        names = tuple(name for name, _ in file.keys)
        if columns is not None and names != columns:
            raise HomeError(
                f"{file.path} is partitioned by {', '.join(names) or 'nothing'}, "
                f"the files before it by {', '.join(columns) or 'nothing'}",
                "name one partitioned directory at a time",
            )
        columns = names
        for name, value in file.keys:
            values_of.setdefault(name, [])
            if value is not None:
                values_of[name].append(value)
    return {
        name: pa.int64() if _are_integers(values) else pa.string()
        for name, values in values_of.items()
    }


def _are_integers(values: list[str]) -> bool:
    return bool(values) and all(_is_integer(value) for value in values)


def _is_integer(text: str) -> bool:
    digits = re.fullmatch("-?[0-9]{1,19}", text)
    return bool(digits) and str(int(text)) == text and abs(int(text)) < 2**63


def with_partitions(table: pa.Table, schema: pa.Schema, keys: dict[str, str | None]) -> pa.Table:
    """Return the table with a column for each hive partition that `schema` has."""
    for name, text in keys.items():
        index = schema.get_field_index(name)
        if index < 0:
            continue
        field = schema.field(index)
        value: int | str | None = text
        if text is not None and pa.types.is_integer(field.type):
            value = int(text)
        table = table.append_column(field, pa.repeat(pa.scalar(value, field.type), table.num_rows))
    return table
