"""CSV text on its way to tables: the header, the blocks, and the line that an error is on.

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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Any, NoReturn, cast

import pyarrow as pa

from hygge.errors import HomeError, UnfitValue
from hygge.formats import text_values
from hygge.formats.text import BLOCK_BYTES, TextReader, lines_before, misencoded, owned_lines
from hygge.model import MIB

_LARGEST_ROW = 1024 * MIB
_BLOCKS_AHEAD = 2
_MOMENT_S = 0.2
_MARK = "\x02hygge\x03"


@dataclass(frozen=True)
class CsvFile:
    """How one file is written, and which of its columns have stated types."""

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
        with self.opened({}) as (_, names, _):
            return names

    def first_byte(self) -> int:
        """Where the first line behind the header begins."""
        with self.opened({}) as (text, _, _):
            return text.tell()

    @contextmanager
    def opened(self, where: dict[str, Any]) -> Iterator[tuple[TextReader, list[str], int]]:
        """The text behind the header (or of a range), the names, and how many lines are before."""
        with TextReader(self.path, self.encoding) as text:
            names, lines = self._header(text)
            if not where:
                yield text, names, lines
                return
            first = text.tell()
        start, end = owned_lines(self.path, where["start"], where["end"], first)
        with TextReader(self.path, self.encoding, start, end) as text:
            yield text, names, -start  # lines are counted only when an error needs them

    def records(self, where: dict[str, Any]) -> Iterator[tuple[int, list[str], int]]:
        """Line, cells, and expected count of cells of each record; slow, to explain an error."""
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

    def _reader(self, lines: Any, strict: bool = False) -> Any:
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
                    continue  # a quoted name goes on on the next line
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


class _Again(Exception):
    """Begin again, past the rows that were given."""


class CsvReader:
    """One piece of one file on its way to tables."""

    def __init__(
        self,
        form: CsvFile,
        where: dict[str, Any],
        schema: pa.Schema,
        block: int = BLOCK_BYTES,
    ) -> None:
        self.form, self.where, self.schema, self.block = form, where, schema, block
        self.all_as_text = False

    def tables(self) -> Iterator[pa.Table]:
        given = 0
        while True:
            try:
                at = 0
                for batch in self._batches():
                    skip = max(0, given - at)
                    if skip < batch.num_rows:
                        table = self._typed(batch.slice(skip), at + skip)
                        given = at + batch.num_rows
                        yield table
                        del table
                    at += batch.num_rows
                return
            except _Again:
                continue
            except pa.ArrowInvalid as error:
                self._mend(error)

    def _mend(self, error: Exception) -> None:
        """Settle how to begin again, or raise what is wrong."""
        if "straddl" in str(error) and self.block < _LARGEST_ROW:
            self.block = min(self.block * 8, _LARGEST_ROW)
        elif "out of sync" in str(error):
            raise UnfitValue(
                f"{self.form.path}: a quoted value holds a newline, although newlines_in_values is "
                "false",
                "`options: {newlines_in_values: true}`",
            ) from error
        elif not self.all_as_text:
            self.all_as_text = True
        else:
            self._raise_bad_line(error)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """Batches of the wanted columns, as text or in their types; the mark is taken off."""
        import pyarrow.csv as pc

        form = self.form
        with form.opened(self.where) as (text, names, _):
            wanted = self.schema.names or names[:1]
            types = {name: self._read_as(name) for name in wanted}
            marked = next((n for n in wanted if pa.types.is_string(types[n])), wanted[0])
            types[marked] = pa.string()
            last_line = form.delimiter.join(_MARK if name == marked else "" for name in names)
            held: pa.RecordBatch | None = None
            with closing(_Marked(text, last_line.encode())) as source:
                reader = pc.open_csv(
                    cast("IO[bytes]", source),
                    pc.ReadOptions(use_threads=False, block_size=self.block, column_names=names),
                    pc.ParseOptions(
                        delimiter=form.delimiter,
                        quote_char=form.quote or False,
                        newlines_in_values=form.newlines_in_values,
                        ignore_empty_lines=len(names) > 1,
                    ),
                    pc.ConvertOptions(
                        column_types=types,
                        include_columns=wanted,
                        null_values=["", *form.null_values],
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=form.quoted_nulls,
                    ),
                )
                for batch in reader:
                    source.turns.release()
                    if batch.num_rows:
                        if held is not None:
                            source.asked = False
                            yield held
                            source.asked = True
                        held = batch
        if held is None or held.column(marked)[held.num_rows - 1].as_py() != _MARK:
            self._raise_open_quote()
        if held.num_rows > 1:
            yield held.slice(0, held.num_rows - 1)

    def _inferred(self, name: str) -> bool:
        return name not in self.form.stated

    def _read_as(self, name: str) -> pa.DataType:
        at = self.schema.get_field_index(name)
        kind = self.schema.field(at).type if at >= 0 else pa.string()
        if self.all_as_text or text_values.must_be_read_as_text(kind, self._inferred(name)):
            return pa.string()
        return kind

    def _typed(self, batch: pa.RecordBatch, row: int) -> pa.Table:
        arrays = []
        for field in self.schema:
            array = batch.column(field.name)
            if array.type != field.type:
                try:
                    array = text_values.fit(array, field.type, self._inferred(field.name))
                except text_values.Unfit as unfit:
                    self._raise_unfit(field, row + unfit.index, array[unfit.index].as_py())
            elif not self.all_as_text and _is_endless(array):
                self.all_as_text = True  # is it written inf, or a number too large?
                raise _Again
            arrays.append(array)
        if not arrays:
            return pa.Table.from_batches([batch]).select([])
        return pa.Table.from_arrays(arrays, schema=self.schema)

    # What is wrong, and on which line: the file is read again, slowly, only to say it.

    def _raise_unfit(self, field: Any, row: int, value: str) -> NoReturn:
        records = enumerate(self.form.records(self.where))
        line: int | str = next((line for at, (line, _, _) in records if at == row), "?")
        where = f"{self.form.path}, line {line}"
        name = field.name
        if value == "":
            hint = 'a quoted "" is no NULL; `options: {quoted_nulls: true}` makes it one'
        elif self._inferred(name):
            hint = (
                f"the first {self.form.sample_bytes:,} bytes look like {field.type}: say "
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
        for line, record, expected in self.form.records(self.where):
            where = f"{self.form.path}, line {line}"
            if len(record) != expected:
                raise UnfitValue(
                    f"{where}: {len(record)} columns were found, {expected} are expected: "
                    f"{text_values.shortened(self.form.delimiter.join(record))}",
                    "mend the line; perhaps delimiter or quote are others",
                ) from error
            if any("\udc80" <= sign <= "\udcff" for cell in record for sign in cell):
                raise misencoded(self.form.path, line, self.form.encoding) from error
        raise UnfitValue(f"{self.form.path}: {str(error).splitlines()[0]}") from error

    def _raise_open_quote(self) -> NoReturn:
        last = 1
        for line, _, _ in self.form.records(self.where):
            last = line
        split = "" if self.form.newlines_in_values else " (or newlines_in_values must be true)"
        raise UnfitValue(
            f"{self.form.path}, line {last}: a quoted value is never closed{split}",
            "the file is cut off, or `quote` is another character ('' for none)",
        )


def _is_endless(array: Any) -> bool:
    import pyarrow.compute as pc

    return pa.types.is_floating(array.type) and bool(pc.any(pc.is_inf(array)).as_py())


class _Marked:
    """A text with the mark as its last line; file-like for pyarrow.

    No block ends in \r: pyarrow drops a \n that begins the block after it, also where both stand
    within quotes.

    pyarrow would read 32 blocks ahead, in a thread of its own. It is given as many as batches were
    taken, and `_BLOCKS_AHEAD` more. A reader that has met an error waits for the block that it
    asked for, so one is given out of turn after a moment, which doubles each time.
    """

    def __init__(self, text: TextReader, mark: bytes) -> None:
        self.text, self.mark = text, mark + b"\n"
        self.last = b"\n"
        self.held = b""
        self.turns = threading.Semaphore(_BLOCKS_AHEAD)
        self.lent = 0
        self.ended = False
        self.asked = True
        """Whether somebody waits for a batch."""

    closed = property(lambda self: self.text.closed)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """No more is given. Whoever opened the text closes it."""
        self.ended = True
        self.turns.release()

    def read(self, n: int) -> bytes:
        while not self.turns.acquire(timeout=_MOMENT_S * 2**self.lent):
            if self.asked:
                self.lent += 1
                break
        return b"" if self.ended else self._read(n)

    def _read(self, n: int) -> bytes:
        found = self.text.read(n - len(self.held))
        if not found:
            return self._rest()
        found, self.held = self.held + found, b""
        self.last = found[-1:]
        if self.last == b"\r":
            found, self.held = found[:-1], b"\r"
        return found or self._read(n)

    def _rest(self) -> bytes:
        end = b"" if self.last in (b"\n", b"\r") else b"\n"
        rest = self.held + end + self.mark if self.mark else b""
        self.held = self.mark = b""
        return rest
