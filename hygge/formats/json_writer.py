"""Write JSON lines: each row is one object on one line, with every column.

NULL is null and "" is "". Integers are written whole, whatever their size; decimals as texts
("12.50"), because most readers would take a number through a float; timestamps as
"2024-02-29T10:00:00.000000", those with a time zone in UTC with a Z; binary as base64 text. JSON
has no NaN: NaN and infinities are the texts "NaN", "Infinity", "-Infinity".
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa

from hygge.batches import slices
from hygge.errors import UnfitValue
from hygge.formats.exact_text import (
    NoText,
    check_utf8,
    extension_as_text,
    has_text,
    refuse_no_text,
    times_as_text,
)
from hygge.formats.format import FileStatistics, RowCounter
from hygge.formats.json_values import NO_JSON
from hygge.formats.text import CompressedFile, Compression
from hygge.formats.text_values import base64_text, decimals_as_text
from hygge.model import MIB
from hygge.type_words import formats_with, word_of

_ROWS, _BYTES = 65_536, 32 * MIB
"""The most that is turned into text at a time."""


def check_json_schema(schema: pa.Schema) -> None:
    """Raise UnfitValue for a column whose type JSON has no form for."""
    for field in schema:
        if unfit := unfit_type(field.type):
            raise UnfitValue(
                f"column '{field.name}' is {word_of(field.type)}, and JSON has no form for {unfit}",
                f"leave it out with `columns`, or write {formats_with(field.type)}",
            )


def unfit_type(kind: pa.DataType) -> str | None:
    """Return the type, at any depth within `kind`, that JSON has no form for."""
    t = pa.types
    is_unknown = isinstance(kind, pa.BaseExtensionType) and not has_text(kind)
    if is_unknown or str(kind).startswith(NO_JSON):
        return word_of(kind)
    if not t.is_nested(kind):
        return None
    fields = [kind.field(index) for index in range(kind.num_fields)]
    if t.is_struct(kind) and len({field.name for field in fields}) < len(fields):
        return f"{word_of(kind)} with two fields of one name"
    unfit = (unfit_type(field.type) for field in fields)
    return next((text for text in unfit if text), None)


class JsonlWriter:
    """One file of lines."""

    def __init__(self, path: str, schema: pa.Schema, compression: Compression) -> None:
        self._out = CompressedFile(path, compression)
        self._counter = RowCounter(schema)

    def write(self, table: pa.Table) -> None:
        self._counter.add(table)
        for piece in slices(table, _ROWS, _BYTES):
            self._out.stream.write(json_lines(piece))

    def size(self) -> int:
        return self._out.size()

    def close(self) -> FileStatistics:
        self._out.close()
        return self._counter.statistics()


def json_lines(table: pa.Table) -> pa.Buffer | bytes:
    """Return the rows as lines: each column as JSON texts, joined row by row by Arrow itself."""
    import pyarrow.compute as pc

    if table.num_columns == 0 or table.num_rows == 0:
        return b"{}\n" * table.num_rows
    pieces: list[str | pa.Array] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            check_utf8(column)
            texts = _texts_or_null(column.combine_chunks())
        except NoText as problem:
            raise refuse_no_text(name, problem) from None
        pieces += [f"{', ' if pieces else '{'}{_quoted(name)}: ", texts]
    lines = _join(*pieces, "}\n")
    # Arrow keeps the texts of an array one after the other in one buffer: that is the file's text.
    total = pc.sum(pc.binary_length(lines)).as_py()
    return lines.buffers()[2].slice(0, total)


def _objects(names: Sequence[str], columns: Sequence[pa.Array]) -> pa.Array:
    """Return one object of all columns for each row."""
    pieces: list[str | pa.Array] = []
    for name, column in zip(names, columns, strict=True):
        begin = ", " if pieces else "{"
        pieces += [f"{begin}{_quoted(name)}: ", _texts_or_null(column)]
    return _join(*pieces, "}")


def _maps(column: pa.Array) -> pa.Array:
    """Return one object for each row; the keys are texts, and no map has one twice."""

    kind = column.type
    pairs = column.cast(pa.list_(pa.struct([("key", kind.key_type), kind.item_field])))
    entries = pairs.flatten()
    members = _join(_strings(entries.field(0)), ": ", _texts_or_null(entries.field(1)))
    return _joined("{", pairs, members, "}")


def _lists(column: pa.Array) -> pa.Array:
    """Return one list for each row; its items are written as a column of their own."""
    return _joined("[", column, _texts_or_null(column.flatten()), "]")


def _joined(begin: str, column: pa.Array, texts: pa.Array, end: str) -> pa.Array:
    """Return the `texts` of the items of a column of lists, joined for each row."""
    import pyarrow.compute as pc

    counts = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64())
    ends = pc.cumulative_sum(counts)
    starts = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    items = pa.LargeListArray.from_arrays(starts, texts)
    text = _join(begin, pc.binary_join(items, pa.scalar(", ", pa.large_string())), end)
    return pc.if_else(column.is_valid(), text, None)


def _texts_or_null(column: pa.Array) -> pa.Array:
    """Return each value as JSON text, NULL as null."""
    import pyarrow.compute as pc

    return pc.fill_null(literals(column).cast(pa.large_string()), "null")


def _join(*pieces: str | pa.Array) -> pa.Array:
    """Join texts row by row; a str is the same in every row, and NULL makes NULL."""
    import pyarrow.compute as pc

    large = pa.large_string()
    texts = [pa.scalar(p, large) if isinstance(p, str) else p.cast(large) for p in pieces]
    return pc.binary_join_element_wise(*texts, pa.scalar("", large))


def literals(column: pa.Array) -> pa.Array:
    """Return each value as JSON text; NULL stays NULL."""
    import pyarrow.compute as pc

    t = pa.types
    kind = column.type
    if has_text(kind):
        return _strings(extension_as_text(column))
    if t.is_boolean(kind) or t.is_integer(kind) or t.is_null(kind):
        return column.cast(pa.string())
    if t.is_floating(kind):
        return _floats(column)
    if t.is_string(kind) or t.is_large_string(kind):
        return _strings(column)
    if t.is_struct(kind) and kind.num_fields == 0:
        return pc.if_else(column.is_valid(), pa.scalar("{}", pa.large_string()), None)
    if t.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return pc.if_else(column.is_valid(), _objects(names, column.flatten()), None)
    if t.is_map(kind):
        return _maps(column)
    if t.is_nested(kind):
        return _lists(column)
    if t.is_decimal(kind):
        text = decimals_as_text(column)
    elif t.is_timestamp(kind):
        text = pc.replace_substring(times_as_text(column), " ", "T", max_replacements=1)
    elif t.is_date(kind) or t.is_time(kind):
        text = times_as_text(column)
    else:
        text = base64_text(column)
    return _join('"', text, '"')


def _floats(column: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    text = column.cast(pa.string())
    # Many readers take -0 for an integer, and lose its sign.
    text = pc.if_else(pc.equal(text, pa.scalar("-0")), pa.scalar("-0.0"), text)
    if pc.all(pc.is_finite(column)).as_py() in (True, None):
        return text
    for arrow_text, json_text in (("nan", '"NaN"'), ("inf", '"Infinity"'), ("-inf", '"-Infinity"')):
        text = pc.if_else(pc.equal(text, pa.scalar(arrow_text)), pa.scalar(json_text), text)
    return text


def _strings(column: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    text = column.cast(pa.large_string())
    if pc.any(pc.match_substring_regex(text, r"[\x00-\x1f]")).as_py():
        quoted = [None if value is None else _quoted(value) for value in text.to_pylist()]
        return pa.array(quoted, pa.large_string())
    text = pc.replace_substring(text, "\\", "\\\\")
    text = pc.replace_substring(text, '"', '\\"')
    return _join('"', text, '"')


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
