"""Values that are read from MariaDB: rows as lines of CSV, and those lines as Arrow.

`select_list` makes the server write each row as one line. A text is in quotes; a NULL is empty and
has no quotes. A column that may hold large values stands in the result twice: a value of more than
64 KiB comes in a column of its own before the line, and is left out of the line, so that no line is
longer than the server allows. `table_of` turns a block of such lines into a table.

The types are those of the plan, so nothing is guessed. A value that its type cannot hold raises
UnfitValue, or becomes NULL where `on_value` says so. Only a block that holds a misfit is looked at
value by value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from hygge.connectors.mariadb.catalog import Column
from hygge.connectors.mariadb.session import quoted
from hygge.connectors.mariadb.types import BYTES, LARGE, SHAPES, TEXTS
from hygge.connectors.mariadb.wire import Block
from hygge.connectors.sql.ask import OnValue
from hygge.errors import UnfitValue
from hygge.type_words import word_of

_LARGE_BYTES = 65_536
"""The longest value that is part of the line."""
_FILLER_COLUMN = "\x00filler"
"""What a line begins with: bytes that `wire` has overwritten, before the first comma."""
_NO_DIGIT = 255


def select_list(
    columns: Sequence[Column], schema: pa.Schema, is_oracle: bool
) -> tuple[str, list[str]]:
    """Return what to SELECT for these columns, and the names of those with large values.

    It is one column for each name returned, in their order, and the line. `is_oracle`: in the
    server's sql_mode CONCAT takes NULL for ''.
    """
    large = [column for column in columns if column.kind in LARGE]
    fields = [_csv_field(each, schema.field(each.name).type, is_oracle) for each in columns]
    line = "CONCAT(" + ", ".join(f"',', {value}" for value in fields) + ", '\n')"
    apart = [
        f"IF(LENGTH({_raw(column)}) > {_LARGE_BYTES}, {_raw(column)}, NULL)" for column in large
    ]
    return ", ".join([*apart, line]), [column.name for column in large]


def is_hexadecimal(column: Column, kind: pa.DataType) -> bool:
    """Whether the line has a column's bytes as hexadecimal digits."""
    return column.kind in BYTES and pa.types.is_binary(kind)


def _raw(column: Column) -> str:
    """Return SQL of a column's own bytes, texts in utf8mb4."""
    name = quoted(column.name)
    if column.kind in SHAPES:
        return f"ST_AsText({name})"
    if column.kind in TEXTS and column.charset not in (None, "utf8mb4"):
        return f"CONVERT({name} USING utf8mb4)"
    return name


def _csv_field(column: Column, kind: pa.DataType, is_oracle: bool) -> str:
    """Return SQL of a column's field in the line: one argument of CONCAT, or several."""
    value = _raw(column)
    if column.kind in LARGE:
        value = f"IF(LENGTH({value}) > {_LARGE_BYTES}, NULL, {value})"
    plain = value
    is_quoted = True
    if is_hexadecimal(column, kind):
        value = f"'\"', HEX({value}), '\"'"
    elif column.kind in (*TEXTS, *BYTES, *SHAPES):
        value = f"'\"', REPLACE({value}, '\"', '\"\"'), '\"'"
    else:
        is_quoted = False
    if column.kind in ("bit", "bit1"):
        value += " + 0"
    elif column.kind == "float":
        value = f"CAST({value} AS DOUBLE)"  # as FLOAT it would be written with six digits
    if not column.nullable and column.kind not in LARGE:
        return value
    if is_quoted:
        value = f"CONCAT({value})"
    # IF is much slower, but in Oracle's mode COALESCE sees no NULL: CONCAT has made '' of it.
    return f"IF({plain} IS NULL, '', {value})" if is_oracle else f"COALESCE({value}, '')"


@dataclass(frozen=True)
class Reading:
    """How the lines of one table or query are read."""

    who: str
    schema: pa.Schema
    hexadecimal: frozenset[str] = frozenset()
    """Columns that the line has as hexadecimal digits."""
    large: tuple[str, ...] = ()
    """Columns whose large values come before the line, in the order of the result."""
    on_value: dict[str, OnValue] = field(default_factory=dict)


def table_of(block: Block, reading: Reading) -> pa.Table:
    """Return the rows of a block; raise UnfitValue for a misfit."""
    try:
        parsed = _parsed(block, {f.name: _csv_type(reading, f) for f in reading.schema})
        is_exact = True
    except pa.ArrowInvalid:
        parsed = _parsed(block, {f.name: _text_type(reading, f) for f in reading.schema})
        is_exact = False
    arrays = []
    for at, column in enumerate(reading.schema):
        array = _one_array(parsed.column(at))
        if not is_exact:
            array = _checked(array, _csv_type(reading, column), column.name, reading)
        if column.name in reading.hexadecimal:
            array = _bytes_of(array)
        elif array.type == pa.string():
            array = _checked(array, column.type, column.name, reading)
        if array.type != column.type:
            # A time zone is added, or a double is narrowed to the float that it is exactly.
            array = array.cast(column.type)
        if column.name in reading.large and block.large:
            array = _with_large(array, reading.large.index(column.name), block)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=reading.schema)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def _parsed(block: Block, kinds: dict[str, pa.DataType]) -> pa.Table:
    """Return a block's CSV as columns of these types; raise ArrowInvalid for a misfit."""
    from pyarrow import csv

    lines = pa.py_buffer(block.lines)
    return csv.read_csv(
        pa.BufferReader(lines),
        read_options=csv.ReadOptions(
            column_names=[_FILLER_COLUMN, *kinds], block_size=lines.size + 1, use_threads=False
        ),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=kinds,
            include_columns=list(kinds),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            true_values=["1"],
            false_values=["0"],
        ),
    )


def _csv_type(reading: Reading, column: pa.Field) -> pa.DataType:
    """Return the type that a column's fields are parsed as."""
    kind = column.type
    if column.name in reading.hexadecimal or pa.types.is_decimal256(kind):
        return pa.string()  # pyarrow.csv does not read these types
    if pa.types.is_timestamp(kind):
        return pa.timestamp(kind.unit)  # the session's times are those of UTC
    return pa.float64() if pa.types.is_floating(kind) else kind


def _text_type(reading: Reading, column: pa.Field) -> pa.DataType:
    """Return the type to parse a column's fields as where some column holds a misfit."""
    kind = _csv_type(reading, column)
    return kind if kind in (pa.string(), pa.large_string(), pa.binary()) else pa.string()


def _checked(texts: pa.Array, kind: pa.DataType, name: str, reading: Reading) -> pa.Array:
    """Return texts as values of a type; misfits are NULL or raise UnfitValue, by `on_value`."""
    if texts.type == kind:
        return texts
    try:
        return _cast(texts, kind)
    except pa.ArrowInvalid:
        pass
    misfits = [text for text in texts.unique().drop_null().to_pylist() if not _fits(text, kind)]
    if reading.on_value.get(name) != "set_null":
        raise UnfitValue(
            f"{reading.who}: column '{name}' holds {misfits[0]!r}, which {word_of(kind)} "
            "cannot hold",
            f"decide: options: {{on_value: {{{name}: set_null}}}} reads such values as NULL, "
            f"{{on_value: {{{name}: as_text}}}} reads the column as text",
        )
    import pyarrow.compute as pc

    is_misfit = pc.is_in(texts, value_set=pa.array(misfits, texts.type))
    return _cast(pc.if_else(is_misfit, pa.scalar(None, texts.type), texts), kind)


def _fits(text: str, kind: pa.DataType) -> bool:
    try:
        _cast(pa.array([text]), kind)
    except pa.ArrowInvalid:
        return False
    return True


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return texts as values of a type; raise ArrowInvalid for a misfit."""
    import pyarrow.compute as pc

    if pa.types.is_boolean(kind):
        numbers = texts.cast(pa.int64())
        if not pc.all(pc.fill_null(pc.is_in(numbers, pa.array([0, 1, None])), True)).as_py():
            raise pa.ArrowInvalid("neither 0 nor 1")
        return numbers.cast(kind)
    if pa.types.is_time(kind):
        moments = pc.binary_join_element_wise("1970-01-01", texts, " ")
        return moments.cast(pa.timestamp(kind.unit)).cast(kind)
    return texts.cast(kind)


def _bytes_of(digits: pa.Array) -> pa.Array:
    """Return texts of hexadecimal digits as the bytes that they mean."""
    import numpy as np

    buffers = digits.buffers()
    count, offset = len(digits), digits.offset
    ends = np.frombuffer(buffers[1], np.int32)[offset : offset + count + 1]
    text = np.frombuffer(buffers[2], np.uint8)[ends[0] : ends[-1]] if buffers[2] else b""
    value = np.full(256, _NO_DIGIT, np.uint8)
    for digit in range(16):
        value[ord(f"{digit:X}")] = digit
    halves = value[np.frombuffer(text, np.uint8)]
    data = (halves[0::2] << 4) | halves[1::2]
    validity = None if digits.null_count == 0 else digits.is_valid().buffers()[1]
    bounds = ((ends - ends[0]) // 2).astype(np.int32)
    return pa.Array.from_buffers(
        pa.binary(), count, [validity, pa.py_buffer(bounds), pa.py_buffer(data)]
    )


def _with_large(array: pa.Array, column: int, block: Block) -> pa.Array:
    """Return the array with the values that came before the line, for the large column `column`."""
    import numpy as np

    values = {large.row: large.value for large in block.large if large.column == column}
    if not values:
        return array
    import pyarrow.compute as pc

    rows = sorted(values)
    mask = np.zeros(len(array), bool)
    mask[rows] = True
    replacements = pa.array([values[row] for row in rows], pa.binary())
    try:
        replacements = replacements.cast(array.type)
    except pa.ArrowInvalid as error:
        raise UnfitValue(
            f"a value of more than 64 KiB is no {word_of(array.type)}",
            "leave such rows out with `where`, or read the column as binary with `types`",
        ) from error
    return pc.replace_with_mask(array, pa.array(mask), replacements)
