"""Read JSON lines into tables: a fast way that is exact, and a slow way that explains errors.

A block is whole lines. `pyarrow.json` parses it against the schema; dates, times, timestamps and
binary come as text, which `text_values.fit` converts strictly. What the fast way refuses, and what
it would accept although it should not (a line that is no object, invalid UTF-8, a number that
float64 does not give back), goes through Python's json line by line, with numbers as their text.
The slow way gives the exact values, or an error that names file, line and column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn, cast

import pyarrow as pa

from hygge.errors import UnfitValue, one_of
from hygge.formats import text_values
from hygge.formats.json_blocks import count_objects, doubtful_numbers, has_minus_zero, line_blocks
from hygge.formats.json_values import Json, Misfit, as_json, parse, texts_of, value_of
from hygge.formats.text import BLOCK_BYTES, TextReader, lines_before, misencoded
from hygge.type_words import word_of

if TYPE_CHECKING:
    import pyarrow.json as pj


@dataclass(frozen=True)
class JsonlFile:
    """One file: how it is written, and which of its columns have stated types."""

    path: str
    encoding: str
    stated: frozenset[str]
    sample_bytes: int
    strict: bool
    """Whether a field that the schema does not have is an error (no `columns` were chosen)."""
    left_out: frozenset[str] = frozenset()
    """Fields that are not read, and no error although the schema does not have them."""
    as_json: frozenset[str] = frozenset()
    """The columns whose values are given as the JSON text that stands there."""

    def tables(self, where: Mapping[str, int], schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the rows of the file, or of the byte range `where`, as tables of `schema`."""
        start, end = where.get("start", 0), where.get("end")
        with TextReader(self.path, self.encoding, start, end) as text:
            lines = 0
            for block in line_blocks(text, BLOCK_BYTES):
                table = self.fast(block, schema)
                if table is not None:
                    lines += table.num_rows
                else:
                    table = self.slow(block, schema, (start, lines))
                    lines += block.count(b"\n")
                if table.num_rows:
                    yield table
                del table

    def has_fast_way(self, schema: pa.Schema) -> bool:
        """Whether `fast` reads any block of this schema."""
        return self.as_json.isdisjoint(schema.names) and (
            schema_for_pyarrow(schema, self.strict, self.stated) is not None
        )

    def _on_other_fields(self) -> Literal["error", "infer", "ignore"]:
        if not self.strict:
            return "ignore"
        return "infer" if self.left_out else "error"

    def fast(self, block: bytes, schema: pa.Schema) -> pa.Table | None:
        """Return the block as a table, or None where the slow way must read it."""
        import pyarrow.json as pj

        lines = count_objects(block)
        if lines is None or not self.as_json.isdisjoint(schema.names):
            return None
        options = self.parse_options(schema)
        if options is None or not self.numbers_are_exact(block, schema):
            return None
        try:
            block.decode()
            table = pj.read_json(
                cast("IO[bytes]", pa.BufferReader(block)),
                pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
                options,
            )
        except (pa.ArrowException, UnicodeDecodeError):
            return None
        return self.converted(table, schema, lines)

    def parse_options(self, schema: pa.Schema) -> pj.ParseOptions | None:
        """Return what pyarrow.json is told; None where it would not be exact."""
        import pyarrow.json as pj

        parsed_as = schema_for_pyarrow(schema, self.strict, self.stated)
        if parsed_as is None:
            return None
        return pj.ParseOptions(
            explicit_schema=parsed_as, unexpected_field_behavior=self._on_other_fields()
        )

    def converted(self, table: pa.Table, schema: pa.Schema, lines: int) -> pa.Table | None:
        """Return in `schema` what pyarrow.json made of so many lines; None: it is not exact."""
        if self.strict and not {*table.column_names} <= {*schema.names, *self.left_out}:
            return None  # the slow way names the field
        if table.num_rows != lines:
            return None  # two objects on a line, or one on several
        arrays = []
        try:
            for field in schema:
                array = table.column(field.name)
                if array.type != field.type:
                    if pa.types.is_nested(field.type):
                        return None  # an object has other fields, which a cast would drop
                    array = text_values.fit(array, field.type, False)
                elif field.type == pa.float32() and _has_infinity(array):
                    return None
                arrays.append(array)
        except (pa.ArrowException, text_values.Unfit):
            return None
        if not arrays:
            return table.select([])
        return pa.Table.from_arrays(arrays, schema=schema)

    def numbers_are_exact(self, block: bytes, schema: pa.Schema) -> bool:
        """Whether the types of inferred columns give back every number: not so a -0 of integers."""
        inferred = [field.type for field in schema if field.name not in self.stated]
        if any(_has(kind, pa.types.is_integer) for kind in inferred) and has_minus_zero(block):
            return False
        if not any(_has(kind, pa.types.is_floating) for kind in inferred):
            return True
        numbers = doubtful_numbers(block)
        try:
            return not numbers or not text_values.is_inexact(pa.array(numbers, pa.string()))
        except pa.ArrowInvalid:
            return False  # not a number after all (1.2.3.4 in a text): look closer

    def slow(self, block: bytes, schema: pa.Schema, begin: tuple[int, int]) -> pa.Table:
        """Return the block as a table, or raise UnfitValue.

        `begin` is where it begins: the start of the byte range, and the lines read since.
        """
        known = set(schema.names)
        rows: list[dict[str, Json]] = []
        numbers: list[int] = []
        texts: list[dict[str, str]] = []
        keeps_text = not self.as_json.isdisjoint(known)
        for number, raw in enumerate(block.split(b"\n")):
            row = self._parsed(raw, begin, number)
            if row is None:
                continue
            others = [name for name in row if name not in known and name not in self.left_out]
            if self.strict and (unknown := others):
                self._fail(
                    begin,
                    number,
                    f": field '{unknown[0]}' is none that the first {self.sample_bytes:,} bytes "
                    "have",
                    f"{one_of('fields', unknown[0], known)}; state it in `types`, take a larger "
                    "sample_bytes, or choose `columns`",
                )
            rows.append(row)
            numbers.append(number)
            if keeps_text:
                texts.append(texts_of(raw.decode()))
        columns: list[list[Any]] = []  # arrays of them are made once all of them fit
        for field in schema:
            if field.name in self.as_json:
                columns.append(_kept(field.name, rows, texts))
                continue
            stated = field.name in self.stated
            values = []
            for row, number in zip(rows, numbers, strict=True):
                try:
                    values.append(value_of(row.get(field.name), field.type, stated))
                except RecursionError:
                    self._fail(
                        begin,
                        number,
                        f", column '{field.name}': nested too deeply",
                        "leave it out with `columns`",
                    )
                except Misfit as misfit:
                    message = f", column '{field.name}': {misfit} is no {word_of(field.type)}"
                    hint = self._hint(field.name, field.type, row.get(field.name))
                    self._fail(begin, number, message, hint, (field.name, row.get(field.name)))
            columns.append(values)
        arrays = [
            pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)
        ]
        if not arrays:
            return pa.table({"row": pa.nulls(len(rows))}).select([])
        return pa.Table.from_arrays(arrays, schema=schema)

    def _parsed(self, raw: bytes, begin: tuple[int, int], number: int) -> dict[str, Json] | None:
        """Return the object on a line; None for a blank line."""
        if not raw.strip():
            return None
        try:
            row = parse(raw.decode())
        except UnicodeDecodeError as error:
            raise misencoded(self.path, self._line(begin, number), self.encoding) from error
        except (ValueError, RecursionError) as error:
            shown = text_values.shortened(raw.decode(errors="replace"))
            reason, hint = _fault(raw, error)
            self._fail(begin, number, f": {reason}: {shown}", hint)
        if isinstance(row, dict) and b"\\u" in raw:
            self._refuse_surrogates(row, begin, number)
        if not isinstance(row, dict):
            shown = text_values.shortened(raw.decode(errors="replace"))
            self._fail(
                begin, number, f": {shown} is no JSON object", "each line must be one object"
            )
        return row

    def _refuse_surrogates(self, row: dict[str, Json], begin: tuple[int, int], number: int) -> None:
        """Raise UnfitValue for a text with half of a surrogate pair, which is no character."""
        for name, value in row.items():
            try:
                f"{name}{as_json(value)}".encode()
            except RecursionError:
                continue  # it is refused when its type is found, or its value
            except UnicodeEncodeError:
                shown = text_values.shortened(as_json(value))
                name = name.encode(errors="backslashreplace").decode()
                self._fail(
                    begin,
                    number,
                    f", column '{name}': {shown} has half of a surrogate pair, which is no text",
                    "mend the text at the source: a character beyond U+FFFF needs both halves",
                )

    def _hint(self, name: str, kind: pa.DataType, value: Json) -> str:
        is_mixed = pa.types.is_struct(kind) != isinstance(value, dict)
        remedy = f"`options: {{types: {{{name}: {'json' if is_mixed else 'string'}}}}}`"
        if name in self.stated:
            return f"{remedy} keeps it as it is written"
        return (
            f"the first {self.sample_bytes:,} bytes look like {word_of(kind)}: say {remedy}, or "
            "take a larger sample_bytes"
        )

    def _line(self, begin: tuple[int, int], number: int) -> int:
        """Return the line in the file of line `number` of a block."""
        start, lines = begin
        return lines_before(self.path, start) + lines + number + 1

    def _fail(
        self,
        begin: tuple[int, int],
        number: int,
        message: str,
        hint: str,
        at: tuple[str, Json] | None = None,
    ) -> NoReturn:
        error = UnfitValue(f"{self.path}, line {self._line(begin, number)}{message}", hint)
        raise error if at is None else error.at(at[0], as_json(at[1]))

    def sample(self, skips_bad: bool = False) -> list[tuple[int, dict[str, Json]]]:
        """Return (line, object) of the lines in the first `sample_bytes`; at least of one line.

        `skips_bad`: a line that is no object is left out.
        """
        with TextReader(self.path, self.encoding) as text:
            block = next(line_blocks(text, self.sample_bytes), b"")
        rows = []
        for number, raw in enumerate(block.split(b"\n")):
            try:
                row = self._parsed(raw, (0, 0), number)
            except UnfitValue:
                if not skips_bad:
                    raise
                continue
            if row is not None:
                rows.append((number + 1, row))
        return rows


def _fault(raw: bytes, error: Exception) -> tuple[str, str]:
    """Return what is wrong with a line that is no JSON, and what to do."""
    hint = "each line must be one whole JSON object"
    if isinstance(error, RecursionError):
        return "nested too deeply", hint
    if not isinstance(error, json.JSONDecodeError):
        return str(error), hint
    if b"\x00" in raw:
        return "a NUL byte stands in it", (
            "say `options: {encoding: utf-16}` where that is how it is written (utf-16-le and "
            "utf-16-be have no byte order mark); else the file is damaged"
        )
    reason = f"no JSON from character {error.pos + 1} on"
    text = raw.decode(errors="replace").strip()
    if text.startswith("\ufeff"):
        return "a byte order mark stands within the file", "join files without their marks"
    if text.startswith("[") or text == "{":
        return reason, f"{hint}; `jq -c` writes others so (an array: `jq -c '.[]'`)"
    if error.msg.startswith("Extra data"):
        return "more stands after the first object", f"{hint}, with nothing after it"
    return reason, f"{hint}; where it is the last line, the file may be cut off"


def _kept(name: str, rows: list[dict[str, Json]], texts: list[dict[str, str]]) -> list[str | None]:
    """Return the JSON texts of a column; null, and a field that is not there, is NULL."""
    return [
        None if row.get(name) is None else text[name] for row, text in zip(rows, texts, strict=True)
    ]


def schema_for_pyarrow(
    schema: pa.Schema, nested: bool, stated: Collection[str]
) -> pa.Schema | None:
    """Return the schema that pyarrow.json is asked for; None where it would not be exact.

    Without `nested`, a struct is read the slow way: pyarrow drops its unknown fields in silence. So
    is a decimal that is not `stated`: pyarrow takes a text such as "007" for a number.
    """
    t = pa.types
    fields = []
    for field in schema:
        kind = field.type
        if t.is_nested(kind):
            if not nested or not _is_exact_nested(kind):
                return None
        elif t.is_float16(kind) or (t.is_decimal(kind) and field.name not in stated):
            return None
        elif t.is_temporal(kind) or text_values.is_bytes(kind):
            kind = pa.string()
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def _is_exact_nested(kind: pa.DataType) -> bool:
    t = pa.types
    if t.is_list(kind):
        return _is_exact_nested(kind.value_type)
    if t.is_struct(kind):
        return all(_is_exact_nested(kind.field(i).type) for i in range(kind.num_fields))
    plain = t.is_string(kind) or t.is_boolean(kind) or t.is_integer(kind)
    return bool(plain or kind == pa.float64())


def _has(kind: pa.DataType, is_it: Callable[[pa.DataType], bool]) -> bool:
    """Whether a type is of a kind, or has one within."""
    if is_it(kind):
        return True
    return any(_has(kind.field(index).type, is_it) for index in range(kind.num_fields))


def _has_infinity(array: pa.ChunkedArray) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.is_inf(array)).as_py())
