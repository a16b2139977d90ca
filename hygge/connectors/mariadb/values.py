"""Lines of CSV that MariaDB wrote, as Arrow: exactly, or UnfitValue, or NULL where that was asked.

The types are those of the plan, so nothing is guessed. Only where a block holds a misfit is it
looked at value by value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from hygge.connectors.mariadb.catalog import Known
from hygge.connectors.mariadb.session import quoted
from hygge.connectors.mariadb.types import BYTES, LARGE, SHAPES, TEXTS
from hygge.connectors.mariadb.wire import Block
from hygge.connectors.sql.ask import OnValue
from hygge.errors import UnfitValue

_FILLER = "\x00filler"
_NO_DIGIT = 255


@dataclass(frozen=True)
class Reading:
    """How the lines of one table or query are read."""

    who: str
    schema: pa.Schema
    hexadecimal: frozenset[str] = frozenset()
    """Binary columns whose cells are digits."""
    wide: tuple[str, ...] = ()
    """Columns whose large values come beside the line."""
    on_value: dict[str, OnValue] = field(default_factory=dict)


def table_of(block: Block, reading: Reading) -> pa.Table:
    """The rows of a block."""
    try:
        cells = _parsed(block, {each.name: _cell_type(reading, each) for each in reading.schema})
        exact = True
    except pa.ArrowInvalid:
        cells = _parsed(block, {each.name: _text_type(reading, each) for each in reading.schema})
        exact = False
    arrays = []
    for at, each in enumerate(reading.schema):
        column = cells.column(at)
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks)
        kind = _cell_type(reading, each)
        if not exact:
            array = _looked_at(array, kind, each.name, reading)
        if array.type == pa.string() and each.name not in reading.hexadecimal:
            array = _looked_at(array, each.type, each.name, reading)
        if each.name in reading.hexadecimal:
            array = _bytes_of(array)
        if array.type != each.type:
            array = array.cast(each.type)  # the filled zone, and float32 of its exact double
        if each.name in reading.wide and block.wide:
            array = _with_wide(array, reading.wide.index(each.name), block)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=reading.schema)


def _parsed(block: Block, kinds: dict[str, pa.DataType]) -> pa.Table:
    from pyarrow import csv

    lines = pa.py_buffer(block.lines)
    return csv.read_csv(
        pa.BufferReader(lines),
        read_options=csv.ReadOptions(
            column_names=[_FILLER, *kinds], block_size=lines.size + 1, use_threads=False
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


def _cell_type(reading: Reading, each: pa.Field) -> pa.DataType:
    """The type that a cell is parsed as."""
    if each.name in reading.hexadecimal or pa.types.is_decimal256(each.type):
        return pa.string()  # which is what pyarrow.csv knows
    if pa.types.is_timestamp(each.type):
        return pa.timestamp(each.type.unit)  # the session's times are those of UTC
    return pa.float64() if pa.types.is_floating(each.type) else each.type


def _text_type(reading: Reading, each: pa.Field) -> pa.DataType:
    kind = _cell_type(reading, each)
    return kind if kind in (pa.string(), pa.large_string(), pa.binary()) else pa.string()


def _looked_at(texts: Any, kind: pa.DataType, name: str, reading: Reading) -> Any:
    """Texts as their type; each misfit by itself."""
    if texts.type == kind:
        return texts
    try:
        return _cast(texts, kind)
    except pa.ArrowInvalid:
        pass
    misfits = [each for each in texts.unique().drop_null().to_pylist() if not _fits(each, kind)]
    if reading.on_value.get(name) != "set_null":
        raise UnfitValue(
            f"{reading.who}: column '{name}' holds {misfits[0]!r}, which {kind} cannot hold",
            f"decide: options: {{on_value: {{{name}: set_null}}}} reads such values as NULL, "
            f"{{on_value: {{{name}: as_text}}}} reads the column as text",
        )
    import pyarrow.compute as pc

    bad = pc.is_in(texts, value_set=pa.array(misfits, texts.type))
    return _cast(pc.if_else(bad, pa.scalar(None, texts.type), texts), kind)


def _fits(text: str, kind: pa.DataType) -> bool:
    try:
        _cast(pa.array([text]), kind)
    except pa.ArrowInvalid:
        return False
    return True


def _cast(texts: Any, kind: pa.DataType) -> Any:
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


def _bytes_of(digits: Any) -> Any:
    """Texts of hexadecimal digits as the bytes that they mean."""
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


def _with_wide(array: Any, column: int, block: Block) -> Any:
    """The array with the values that came beside the line."""
    import numpy as np

    found = sorted((row, value) for row, at, value in block.wide if at == column)
    if not found:
        return array
    mask = np.zeros(len(array), bool)
    mask[[row for row, _ in found]] = True
    values = pa.array([value for _, value in found], pa.binary())
    try:
        values = values.cast(array.type)
    except pa.ArrowInvalid as error:
        raise UnfitValue(f"a value of more than 64 KiB is no {array.type}: {error}") from error
    import pyarrow.compute as pc

    return pc.replace_with_mask(array, pa.array(mask), values)


_LINE = 65_536
"""Bytes of a value that still goes into the line."""


def line_of(chosen: list[Known], kinds: pa.Schema, oracle: bool) -> tuple[str, list[str]]:
    """What a SELECT asks for: the lead columns and the line; and the names of the lead ones.

    `oracle`: CONCAT takes NULL for '' in the server's sql_mode.
    """
    wide = [each.name for each in chosen if each.kind in LARGE]
    cells = [_cell(each, kinds.field(each.name).type, oracle) for each in chosen]
    line = "CONCAT(" + ", ".join(f"',', {cell}" for cell in cells) + ", '\n')"
    lead = [
        f"IF(LENGTH({_raw(each)}) > {_LINE}, {_raw(each)}, NULL)"
        for each in chosen
        if each.kind in LARGE
    ]
    return ", ".join([*lead, line]), wide


def is_hex(known: Known, kind: pa.DataType) -> bool:
    """Whether the cells of a column are its bytes in hexadecimal digits."""
    return known.kind in BYTES and pa.types.is_binary(kind)


def _raw(known: Known) -> str:
    """A column's own bytes, texts in utf8mb4."""
    name = quoted(known.name)
    if known.kind in SHAPES:
        return f"ST_AsText({name})"
    convert = known.kind in TEXTS and known.charset not in (None, "utf8mb4")
    return f"CONVERT({name} USING utf8mb4)" if convert else name


def _cell(known: Known, kind: pa.DataType, oracle: bool) -> str:
    value = _raw(known)
    if known.kind in LARGE:
        value = f"IF(LENGTH({value}) > {_LINE}, NULL, {value})"
    bare_value = value
    if known.kind in ("bit", "bit1"):
        value += " + 0"
    elif known.kind == "float":
        value = f"CAST({value} AS DOUBLE)"
    elif is_hex(known, kind):
        value = f"'\"', HEX({value}), '\"'"
    elif known.kind in (*TEXTS, *BYTES, *SHAPES):
        value = f"'\"', REPLACE({value}, '\"', '\"\"'), '\"'"
    several = value.startswith("'")
    if known.nullable or known.kind in LARGE:
        value = f"CONCAT({value})" if several else value
        # The first is much slower, and the second sees no NULL in that mode.
        return f"IF({bare_value} IS NULL, '', {value})" if oracle else f"COALESCE({value}, '')"
    return value
