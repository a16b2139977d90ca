"""Read CSV text into tables: the blocks, and what is wrong with a value.

Life of a read: the header gives the names (`hygge/formats/csv_file.py`). From there on blocks are
checked (`hygge/formats/csv_syntax.py`), and `pyarrow.csv` reads them, to the stated types where it
is exact, else to text that `text_values.fit` converts. Two things make it begin again, past the
rows that it gave: a row longer than a block (a larger block), and a value that pyarrow refused (all
to text, so that the bad value can be found). A mark after the last line shows that no row was lost.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, NoReturn, cast

import pyarrow as pa

from hygge.errors import HomeError, UnfitValue
from hygge.formats import text_forms, text_values
from hygge.formats.csv_file import CsvFile, unfit_count
from hygge.formats.csv_syntax import Check, Malformed
from hygge.formats.text import BLOCK_BYTES, TextReader, misencoded
from hygge.model import MIB
from hygge.type_words import word_of

_LARGEST_ROW = 1024 * MIB
_BLOCKS_AHEAD = 2
_WAIT_S = 0.2
_MOST_WAIT_S = 2.0
MARK = "\x02hygge\x03"


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
            except Malformed as malformed:
                self.file.raise_malformed(self.where, malformed)
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
            check = file.check(names, text)
            wanted = self.schema.names or names[:1]
            types, marked, last_line = self.marked(wanted, names)
            last: pa.RecordBatch | None = None  # the mark may be in it
            with _read_by_pyarrow(_Marked(text, check, last_line)) as (source, handles):
                reader = pc.open_csv(
                    cast("IO[bytes]", handles.pop()),
                    pc.ReadOptions(use_threads=False, block_size=self.block, column_names=names),
                    pc.ParseOptions(**self.parse_options(names)),
                    pc.ConvertOptions(**self.convert_options(wanted, types, check)),
                )
                try:
                    for batch in reader:
                        source.blocks_allowed.release()
                        if batch.num_rows:
                            if last is not None:
                                source.is_awaited = False
                                yield last
                                source.is_awaited = True
                            last = batch
                finally:
                    source.close()
                    del reader
        if last is None or last.column(marked)[last.num_rows - 1].as_py() != MARK:
            raise HomeError(
                f"{file.path}: rows at its end were not read", "report this as a defect of hygge"
            )
        if last.num_rows > 1:
            yield last.slice(0, last.num_rows - 1)

    def marked(
        self, wanted: list[str], names: list[str]
    ) -> tuple[dict[str, pa.DataType], str, bytes]:
        """Return the types to ask for, the column with the mark, and the line that has it."""
        types = {name: self.read_as(name) for name in wanted}
        marked = next((n for n in wanted if pa.types.is_string(types[n])), wanted[0])
        types[marked] = pa.string()
        line = self.file.dialect.delimiter.join(MARK if name == marked else "" for name in names)
        return types, marked, line.encode()

    def parse_options(self, names: list[str]) -> dict[str, Any]:
        """Return the arguments of `pyarrow.csv.ParseOptions`."""
        dialect = self.file.dialect
        return {
            "delimiter": dialect.delimiter,
            "quote_char": dialect.quote or False,
            "escape_char": dialect.escape or False,
            "newlines_in_values": self.file.newlines_in_values,
            "ignore_empty_lines": len(names) > 1,
        }

    def convert_options(
        self, wanted: list[str], types: dict[str, pa.DataType], check: Check
    ) -> dict[str, Any]:
        """Return the arguments of `pyarrow.csv.ConvertOptions`."""
        return {
            "column_types": types,
            "include_columns": wanted,
            "null_values": ["", *check.plain_nulls],
            "strings_can_be_null": True,
            "quoted_strings_can_be_null": self.file.quoted_nulls,
        }

    def is_inferred(self, name: str) -> bool:
        """Whether the type of a column comes from the sample."""
        return name not in self.file.stated

    def read_as(self, name: str) -> pa.DataType:
        """Return the type that pyarrow.csv is asked for."""
        index = self.schema.get_field_index(name)
        kind = self.schema.field(index).type if index >= 0 else pa.string()
        is_inferred = self.is_inferred(name)
        if self.all_as_text or text_values.must_be_read_as_text(kind, is_inferred):
            return pa.string()
        if self.file.forms.applies_to(kind):
            return pa.string()
        return kind

    def _typed(self, batch: pa.RecordBatch, row: int) -> pa.Table:
        """Return a batch, whose first row is number `row` of the piece, as a table of `schema`."""
        arrays = []
        for field in self.schema:
            array = batch.column(field.name)
            if array.type != field.type:
                try:
                    is_inferred = self.is_inferred(field.name)
                    plain = self.file.forms.plain(array, field.type, is_inferred)
                    array = text_values.fit(plain, field.type, is_inferred)
                except text_values.Unfit as unfit:
                    self._raise_unfit(field, row + unfit.index, array[unfit.index].as_py())
            elif not self.all_as_text and has_infinity(array):
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
        raise self.unfit(field, line, value)

    def unfit(self, field: pa.Field, line: int | str, value: str) -> UnfitValue:
        """Return the error for a value on a line that its column cannot hold."""
        name = field.name
        if value == "":
            hint = 'a quoted "" is no NULL; `options: {quoted_nulls: true}` makes it one'
        elif self.is_inferred(name):
            hint = (
                f"the first {self.file.sample_bytes:,} bytes look like {word_of(field.type)}: say "
                f"`options: {{types: {{{name}: string}}}}`, or take a larger sample_bytes"
            )
        else:
            hint = (
                f"`options: {{types: {{{name}: string}}}}` keeps it as it is written; "
                "null_values says what means NULL"
            )
        hint = text_forms.hint_for(value, field.type) + hint
        shown = text_values.shortened(value)
        where = f"{self.file.path}, line {line}, column '{name}'"
        return UnfitValue(f"{where}: {shown} is no {word_of(field.type)}", hint).at(name, value)

    def _raise_bad_line(self, error: Exception) -> NoReturn:
        for line, record, expected in self.file.records(self.where):
            if len(record) != expected:
                shown = text_values.shortened(self.file.dialect.delimiter.join(record))
                raise unfit_count(self.file.path, line, len(record), expected, shown) from error
            if any("\udc80" <= sign <= "\udcff" for value in record for sign in value):
                raise misencoded(self.file.path, line, self.file.encoding) from error
        raise UnfitValue(f"{self.file.path}: {str(error).splitlines()[0]}") from error


def has_infinity(array: pa.Array) -> bool:
    """Whether an array of floats holds an infinity, which may be a number that is too large."""
    import pyarrow.compute as pc

    return pa.types.is_floating(array.type) and bool(pc.any(pc.is_inf(array)).as_py())


class _Handle:
    """The file that pyarrow holds; no traceback ever does."""

    def __init__(self, source: _Marked) -> None:
        self.read, self.close = source.read, source.close
        self.readable, self.writable, self.seekable = _yes, _no, _no
        self._text = source.text

    closed = property(lambda self: self._text.closed)


def _yes() -> bool:
    return True


def _no() -> bool:
    return False


@contextmanager
def _read_by_pyarrow(source: _Marked) -> Iterator[tuple[_Marked, list[_Handle]]]:
    """Give pyarrow a source; at the end, wait until no thread of pyarrow holds it any more.

    A thread that lets go of a Python object while the interpreter ends aborts the process. The
    caller takes the handle out of the list.
    """
    handle = _Handle(source)
    is_gone = threading.Event()
    reference = weakref.ref(handle, lambda _: is_gone.set())
    handles = [handle]
    del handle
    try:
        yield source, handles
    finally:
        source.close()
        handles.clear()
        if reference() is not None:
            is_gone.wait(_MOST_WAIT_S)


class _Marked:
    """A text that is checked, with the mark as its last line; file-like for pyarrow.

    No block ends in \r: pyarrow drops a \n that begins the next block, also where both are within
    quotes.

    pyarrow would read 32 blocks ahead, in a thread of its own. It is given as many as batches were
    taken, and `_BLOCKS_AHEAD` more. A reader that has met an error waits for the block that it
    asked for. So it is given one more after a wait, which doubles each time.
    """

    def __init__(self, text: TextReader, check: Check, mark: bytes) -> None:
        self.text, self.check, self.mark = text, check, mark + b"\n"
        self.last = b"\n"
        self.carried = b""
        """What ended the last block, and begins the next one."""
        self.blocks_allowed = threading.Semaphore(_BLOCKS_AHEAD)
        self.extra_blocks = 0
        self.is_closed = False
        self.is_awaited = True
        """Whether the caller waits for a batch."""

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
        while block := self.text.read(n - len(self.carried)):
            block = self.carried + block if self.carried else block
            count = self.check.carry(block)
            self.carried = block[len(block) - count :]
            block = self.check.feed(block[:-count] if count else block)
            if block:
                self.last = block[-1:]
                return block
        return self._rest()

    def _rest(self) -> bytes:
        if not self.mark:
            return b""
        rest = self.check.finish(self.carried)
        last = self.carried[-1:] or self.last
        rest += (b"" if last in (b"\n", b"\r") else b"\n") + self.mark
        self.carried = self.mark = b""
        return rest
