"""JSON lines as a Store: a directory of files, or one file where the path ends in `.jsonl`.

A foreign reader (DuckDB's glob, `pyarrow.dataset`) sees the old files or the new ones, never a
mixture: a run is shown by one rename. Each row is one object on one line, with every column.

NULL is null and "" is "". Integers are written whole, whatever their size; decimals as texts
("12.50"), because most readers would take a number through a float; timestamps as
"2024-02-29T10:00:00.000000", those with a time zone in UTC with a Z; binary as base64 text. JSON
has no NaN: NaN and infinities are the texts "NaN", "Infinity", "-Infinity". `JsonlHome` reads all
of it back exactly where `types:` state what it is.

On an object store (`s3://bucket/prefix`) files come one by one: see
`hygge/connectors/files/prefix.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa

from hygge.batches import slices
from hygge.connectors.files.parts import Writer
from hygge.connectors.files.store import FileStore, FileStoreOptions
from hygge.errors import UnfitValue
from hygge.formats.json_values import NO_JSON
from hygge.formats.text import (
    SUFFIX_OF,
    Compression,
    concatenate,
    open_compressed,
    settled_compression,
    with_compressed,
)
from hygge.formats.text_values import base64_text, moments_text, plain_decimals
from hygge.model import MIB, StoreTraits

_ROWS, _BYTES = 65_536, 32 * MIB
"""What is turned into text at a time."""


class JsonlStoreOptions(FileStoreOptions):
    """How JSON lines are written."""

    compression: Compression | None = None
    """none, gzip or zstd. Default: what the path's suffix says, else none."""


class JsonlStore(FileStore):
    """`JsonlStore("events", path="data/events.jsonl.gz")`."""

    traits: ClassVar[StoreTraits] = replace(FileStore.traits, lossy=NO_JSON)
    suffixes: ClassVar[tuple[str, ...]] = with_compressed(".jsonl", ".ndjson")

    class Settings(FileStore.Settings):
        options: JsonlStoreOptions = JsonlStoreOptions()

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        super().__init__(name, **settings)
        stated = self.settings.options.compression
        self.compression = settled_compression(self.path, self.single, stated)

    def suffix(self) -> str:
        return ".jsonl" + SUFFIX_OF[self.compression]

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        return _JsonlWriter(path, self.compression)

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        concatenate(parts, target, self.compression)

    def check_schema(self, schema: pa.Schema) -> None:
        for field in schema:
            if unheld := _unheld(field.type):
                raise UnfitValue(
                    f"column '{field.name}' is {field.type}, and JSON has no form for {unheld}",
                    "leave it out with `columns`, or write parquet",
                )


def _unheld(kind: Any) -> str | None:
    t = pa.types
    if str(kind).startswith(NO_JSON):
        return str(kind)
    if t.is_struct(kind) and len({kind.field(i).name for i in range(kind.num_fields)}) < len(kind):
        return f"{kind} with two fields of one name"
    if t.is_nested(kind):
        inner = [kind.field(i).type for i in range(kind.num_fields)]
        found = (_unheld(each) for each in inner)
        return next((each for each in found if each), None)
    return None


class _JsonlWriter:
    """One file of lines."""

    def __init__(self, path: str, compression: Compression) -> None:
        self.out = open_compressed(path, compression)

    def write(self, table: pa.Table) -> None:
        for piece in slices(table, _ROWS, _BYTES):
            self.out.stream.write(_lines(piece))

    def size(self) -> int:
        return self.out.size()

    def close(self) -> None:
        self.out.close()


def _lines(table: pa.Table) -> Any:
    """The rows as lines: each column as JSON texts, joined row by row by Arrow itself."""
    import pyarrow.compute as pc

    if table.num_columns == 0 or table.num_rows == 0:
        return b"{}\n" * table.num_rows
    columns = [column.combine_chunks() for column in table.columns]
    lines = _objects(table.column_names, columns, end="}\n")
    # Arrow keeps the texts of an array one behind the other: together they are the lines.
    total = pc.sum(pc.binary_length(lines)).as_py()
    return lines.buffers()[2].slice(0, total)


def _objects(names: Sequence[str], columns: Sequence[Any], end: str = "}") -> Any:
    """One object of all columns for each row."""
    pieces: list[Any] = []
    for name, column in zip(names, columns, strict=True):
        begin = ", " if pieces else "{"
        pieces += [f"{begin}{_quoted(name)}: ", _with_null(column)]
    return _joined(*pieces, end)


def _lists(column: Any) -> Any:
    """One list for each row; its items are written as a column of their own."""
    import pyarrow.compute as pc

    counts = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64())
    ends = pc.cumulative_sum(counts)
    starts = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    items: Any = pa.LargeListArray.from_arrays(starts, _with_null(column.flatten()))
    text = _joined("[", pc.binary_join(items, pa.scalar(", ", pa.large_string())), "]")
    return pc.if_else(column.is_valid(), text, None)


def _with_null(column: Any) -> Any:
    """Each value as JSON text, NULL as null."""
    import pyarrow.compute as pc

    return pc.fill_null(_literals(column).cast(pa.large_string()), "null")


def _joined(*pieces: Any) -> Any:
    """Texts joined row by row; a str stands in every row, and NULL makes NULL."""
    import pyarrow.compute as pc

    large = pa.large_string()
    each = [pa.scalar(p, large) if isinstance(p, str) else p.cast(large) for p in pieces]
    return pc.binary_join_element_wise(*each, pa.scalar("", large))


def _literals(column: Any) -> Any:
    """Each value as JSON text; NULL stays NULL."""
    import pyarrow.compute as pc

    t: Any = pa.types
    kind = column.type
    if t.is_boolean(kind) or t.is_integer(kind) or t.is_null(kind):
        return column.cast(pa.string())
    if t.is_floating(kind):
        return _floats(column)
    if t.is_string(kind) or t.is_large_string(kind):
        return _texts(column)
    if t.is_struct(kind) and kind.num_fields == 0:
        return pc.if_else(column.is_valid(), pa.scalar("{}", pa.large_string()), None)
    if t.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return pc.if_else(column.is_valid(), _objects(names, column.flatten()), None)
    if t.is_nested(kind):
        return _lists(column)
    if t.is_decimal(kind):
        text = plain_decimals(column)
    elif t.is_timestamp(kind):
        text = pc.replace_substring(moments_text(column), " ", "T", max_replacements=1)
    elif t.is_date(kind) or t.is_time(kind):
        text = column.cast(pa.string())
    else:
        text = base64_text(column)
    return _joined('"', text, '"')


def _floats(column: Any) -> Any:
    import pyarrow.compute as pc

    text = column.cast(pa.string())
    # Many readers take -0 for an integer, and lose its sign.
    text = pc.if_else(pc.equal(text, pa.scalar("-0")), pa.scalar("-0.0"), text)
    if pc.all(pc.is_finite(column)).as_py() in (True, None):
        return text
    for arrow, ours in (("nan", '"NaN"'), ("inf", '"Infinity"'), ("-inf", '"-Infinity"')):
        text = pc.if_else(pc.equal(text, pa.scalar(arrow)), pa.scalar(ours), text)
    return text


def _texts(column: Any) -> Any:
    import pyarrow.compute as pc

    text = column.cast(pa.large_string())
    if pc.any(pc.match_substring_regex(text, r"[\x00-\x1f]")).as_py():
        made = [None if v is None else _quoted(v) for v in text.to_pylist()]
        return pa.array(made, pa.large_string())
    text = pc.replace_substring(text, "\\", "\\\\")
    text = pc.replace_substring(text, '"', '\\"')
    return _joined('"', text, '"')


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
