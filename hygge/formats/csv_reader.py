"""Read CSV text into tables: the header, the blocks, and the line that an error is on.

Life of a read: the header gives the names; `pyarrow.csv` reads on from there in blocks, to the
stated types where it is exact, else to text that `text_values.fit` converts. Two things make it
begin again, past the rows that it gave: a row longer than a block (a larger block), and a value
that pyarrow refused (all to text, so that the bad value can be found). A mark after the last line
shows that no quoted value swallowed it: a quote that is never closed is an error, not a long
value.
"""

from __future__ import annotations

import csv
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NoReturn, cast

import pyarrow as pa

from hygge.errors import HomeError, UnfitValue
from hygge.formats import text_values
from hygge.formats.text import BLOCK_BYTES, TextReader, lines_before, misencoded, owned_lines
from hygge.model import MIB

if TYPE_CHECKING:
    import _csv

_LARGEST_ROW = 1024 * MIB
_BLOCKS_AHEAD = 2
_WAIT_S = 0.2
_MARK = "\x02hygge\x03"


@dataclass(frozen=True)
class CsvFile:
    """One file: how it is written, and which of its columns have stated types."""

    path: str
    delimiter: str
    quote: str
    column_names: tuple[str, ...] | None
    encoding: str
    stated: frozenset[str]
    sample_bytes: int
    null_values: tuple[str, ...]
    quoted_nulls: bool
    newlines_in_values: bool

    def names(self) -> list[str]:
        """Read the names of the columns."""
        with self.opened({}) as (_, names, _):
            return names

    def first_byte(self) -> int:
        """Return the offset of the first line after the header."""
        with self.opened({}) as (text, _, _):
            return text.tell()

    @contextmanager
    def opened(self, where: Mapping[str, int]) -> Iterator[tuple[TextReader, list[str], int]]:
        """Open the text after the header, or of a range; with the names, and the lines before it.

        Of a range, minus its start stands for the lines: they are counted when an error needs them.
        """
        with TextReader(self.path, self.encoding) as text:
            names, lines = self._header(text)
            if not where:
                yield text, names, lines
                return
            first = text.tell()
        start, end = owned_lines(self.path, where["start"], where["end"], first)
        with TextReader(self.path, self.encoding, start, end) as text:
            yield text, names, -start

    def records(self, where: Mapping[str, int]) -> Iterator[tuple[int, list[str], int]]:
        """Yield line, values, and expected count of values of each record; slow, for errors."""
        with self.opened(where) as (text, names, before):
            if before < 0:
                before = lines_before(self.path, -before)
            lines = (raw.decode(errors="surrogateescape") for raw in iter(text.readline, b""))
            reader = self._reader(lines)
            line = before + 1
            for record in reader:
                if record or len(names) == 1:
                    yield line, record or [""], len(names)
                line = before + reader.line_num + 1

    def _reader(self, lines: Iterable[str], strict: bool = False) -> _csv.Reader:
        csv.field_size_limit(sys.maxsize)
        if not self.quote:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=strict)

    def _header(self, text: TextReader) -> tuple[list[str], int]:
        if self.column_names is not None:
            return list(self.column_names), 0
        lines: list[str] = []
        while raw := text.readline():
            try:
                lines.append(raw.decode())
            except UnicodeDecodeError as error:
                raise misencoded(self.path, len(lines) + 1, text.encoding) from error
            if not "".join(lines).strip("\r\n"):
                continue
            try:
                names = next(record for record in self._reader(lines, strict=True) if record)
            except csv.Error as error:
                if "unexpected end" in str(error):
                    continue  # a quoted name continues on the next line
                names = next(record for record in self._reader(lines) if record)
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise HomeError(
                    f"{self.path} has more than one column named {', '.join(map(repr, repeated))}",
                    "rename one of them in the header",
                )
            return names, len(lines)
        raise HomeError(
            f"{self.path} is empty: it has no header, so no columns",
            "leave it out, or write its header; `header: false` with column_names reads files "
            "without one",
        )


class _BeginAgain(Exception):
    """The file is read again from its start, past the rows that were given."""


class CsvReader:
    """Reads one piece of one file into tables of `schema`."""

    def __init__(
        self,
        file: CsvFile,
        where: Mapping[str, int],
        schema: pa.Schema,
        block: int = BLOCK_BYTES,
    ) -> None:
        self.file, self.where, self.schema, self.block = file, where, schema, block
        self.all_as_text = False

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows, in order."""
        rows_given = 0
        while True:
            try:
                row = 0
                for batch in self._batches():
                    skip = max(0, rows_given - row)
                    if skip < batch.num_rows:
                        table = self._typed(batch.slice(skip), row + skip)
                        rows_given = row + batch.num_rows
                        yield table
                        del table
                    row += batch.num_rows
                return
            except _BeginAgain:
                continue
            except pa.ArrowInvalid as error:
                self._prepare_again(error)

    def _prepare_again(self, error: Exception) -> None:
        """Change how the file is read, or raise what is wrong with it."""
        if "straddl" in str(error) and self.block < _LARGEST_ROW:
            self.block = min(self.block * 8, _LARGEST_ROW)
        elif "out of sync" in str(error):
            raise UnfitValue(
                f"{self.file.path}: a quoted value holds a newline, although newlines_in_values is "
                "false",
                "`options: {newlines_in_values: true}`",
            ) from error
        elif not self.all_as_text:
            self.all_as_text = True
        else:
            self._raise_bad_line(error)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of the wanted columns, as text or in their types, without the mark."""
        import pyarrow.csv as pc

        file = self.file
        with file.opened(self.where) as (text, names, _):
            wanted = self.schema.names or names[:1]
            types = {name: self._read_as(name) for name in wanted}
            marked = next((n for n in wanted if pa.types.is_string(types[n])), wanted[0])
            types[marked] = pa.string()
            last_line = file.delimiter.join(_MARK if name == marked else "" for name in names)
            last: pa.RecordBatch | None = None  # the mark may be in it
            with closing(_Marked(text, last_line.encode())) as source:
                reader = pc.open_csv(
                    cast("IO[bytes]", source),
                    pc.ReadOptions(use_threads=False, block_size=self.block, column_names=names),
                    pc.ParseOptions(
                        delimiter=file.delimiter,
                        quote_char=file.quote or False,
                        newlines_in_values=file.newlines_in_values,
                        ignore_empty_lines=len(names) > 1,
                    ),
                    pc.ConvertOptions(
                        column_types=types,
                        include_columns=wanted,
                        null_values=["", *file.null_values],
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=file.quoted_nulls,
                    ),
                )
                for batch in reader:
                    source.blocks_allowed.release()
                    if batch.num_rows:
                        if last is not None:
                            source.is_awaited = False
                            yield last
                            source.is_awaited = True
                        last = batch
        if last is None or last.column(marked)[last.num_rows - 1].as_py() != _MARK:
            self._raise_open_quote()
        if last.num_rows > 1:
            yield last.slice(0, last.num_rows - 1)

    def _is_inferred(self, name: str) -> bool:
        return name not in self.file.stated

    def _read_as(self, name: str) -> pa.DataType:
        """Return the type that pyarrow.csv is asked for."""
        index = self.schema.get_field_index(name)
        kind = self.schema.field(index).type if index >= 0 else pa.string()
        if self.all_as_text or text_values.must_be_read_as_text(kind, self._is_inferred(name)):
            return pa.string()
        return kind

    def _typed(self, batch: pa.RecordBatch, row: int) -> pa.Table:
        """Return a batch, whose first row is number `row` of the piece, as a table of `schema`."""
        arrays = []
        for field in self.schema:
            array = batch.column(field.name)
            if array.type != field.type:
                try:
                    array = text_values.fit(array, field.type, self._is_inferred(field.name))
                except text_values.Unfit as unfit:
                    self._raise_unfit(field, row + unfit.index, array[unfit.index].as_py())
            elif not self.all_as_text and _has_infinity(array):
                self.all_as_text = True  # its text tells "inf" from a number that is too large
                raise _BeginAgain
            arrays.append(array)
        if not arrays:
            return pa.Table.from_batches([batch]).select([])
        return pa.Table.from_arrays(arrays, schema=self.schema)

    # What is wrong, and on which line: the file is read again, slowly, only for the error.

    def _raise_unfit(self, field: pa.Field, row: int, value: str) -> NoReturn:
        records = enumerate(self.file.records(self.where))
        line: int | str = next((line for number, (line, _, _) in records if number == row), "?")
        where = f"{self.file.path}, line {line}"
        name = field.name
        if value == "":
            hint = 'a quoted "" is no NULL; `options: {quoted_nulls: true}` makes it one'
        elif self._is_inferred(name):
            hint = (
                f"the first {self.file.sample_bytes:,} bytes look like {field.type}: say "
                f"`options: {{types: {{{name}: string}}}}`, or take a larger sample_bytes"
            )
        else:
            hint = (
                f"`options: {{types: {{{name}: string}}}}` keeps it as it is written; "
                "null_values says what means NULL"
            )
        shown = text_values.shortened(value)
        raise UnfitValue(f"{where}, column '{name}': {shown} is no {field.type}", hint)

    def _raise_bad_line(self, error: Exception) -> NoReturn:
        for line, record, expected in self.file.records(self.where):
            where = f"{self.file.path}, line {line}"
            if len(record) != expected:
                raise UnfitValue(
                    f"{where}: {len(record)} columns were found, {expected} are expected: "
                    f"{text_values.shortened(self.file.delimiter.join(record))}",
                    "mend the line; perhaps delimiter or quote are others",
                ) from error
            if any("\udc80" <= sign <= "\udcff" for value in record for sign in value):
                raise misencoded(self.file.path, line, self.file.encoding) from error
        raise UnfitValue(f"{self.file.path}: {str(error).splitlines()[0]}") from error

    def _raise_open_quote(self) -> NoReturn:
        last = 1
        for line, _, _ in self.file.records(self.where):
            last = line
        split = "" if self.file.newlines_in_values else " (or newlines_in_values must be true)"
        raise UnfitValue(
            f"{self.file.path}, line {last}: a quoted value is never closed{split}",
            "the file is cut off, or `quote` is another character ('' for none)",
        )


def _has_infinity(array: pa.Array) -> bool:
    import pyarrow.compute as pc

    return pa.types.is_floating(array.type) and bool(pc.any(pc.is_inf(array)).as_py())


class _Marked:
    """A text with the mark as its last line; file-like for pyarrow.

    No block ends in \r: pyarrow drops a \n that begins the next block, also where both are within
    quotes.

    pyarrow would read 32 blocks ahead, in a thread of its own. It is given as many as batches were
    taken, and `_BLOCKS_AHEAD` more. A reader that has met an error waits for the block that it
    asked for. So it is given one more after a wait, which doubles each time.
    """

    def __init__(self, text: TextReader, mark: bytes) -> None:
        self.text, self.mark = text, mark + b"\n"
        self.last = b"\n"
        self.carriage_return = b""
        """A \r that ended the last block, and begins the next one."""
        self.blocks_allowed = threading.Semaphore(_BLOCKS_AHEAD)
        self.extra_blocks = 0
        self.is_closed = False
        self.is_awaited = True
        """Whether the caller waits for a batch."""

    closed = property(lambda self: self.text.closed)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Give no more. The text itself is closed by the one who opened it."""
        self.is_closed = True
        self.blocks_allowed.release()

    def read(self, n: int) -> bytes:
        while not self.blocks_allowed.acquire(timeout=_WAIT_S * 2**self.extra_blocks):
            if self.is_awaited:
                self.extra_blocks += 1
                break
        return b"" if self.is_closed else self._read(n)

    def _read(self, n: int) -> bytes:
        block = self.text.read(n - len(self.carriage_return))
        if not block:
            return self._rest()
        block, self.carriage_return = self.carriage_return + block, b""
        self.last = block[-1:]
        if self.last == b"\r":
            block, self.carriage_return = block[:-1], b"\r"
        return block or self._read(n)

    def _rest(self) -> bytes:
        end = b"" if self.last in (b"\n", b"\r") else b"\n"
        rest = self.carriage_return + end + self.mark if self.mark else b""
        self.carriage_return = self.mark = b""
        return rest
