"""Find how a CSV text is written, from a sample of it: its delimiter, its quote, its header.

As DuckDB does it, the sample is read with each candidate, and the one counts with which every
record has as many values as the first. But where two of them do, or where the first line may be a
row as well as a header, nothing is guessed: the error says what to state.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from hygge import arrays
from hygge.errors import HomeError
from hygge.formats.csv_syntax import NO_DELIMITER, Dialect
from hygge.formats.text_values import shortened

SAMPLE_BYTES = 64 * 1024
TAB = "\t"
DELIMITERS = (",", ";", "\t", "|")
_RARE_DELIMITERS = ("\x01", "^", "~", ":", " ")
"""Never taken by themselves: where one of them fits, it has to be stated. Texts have blanks too, so
a blank counts only where it makes a column of numbers or dates below a name."""
_MOST = 0.8
"""The share of lines that speaks for a delimiter, where the first line has none of it."""
_LINE_END = re.compile(r"\r\n|\n|\r")

_SEP = re.compile(r"(sep=.)[\r\n]", re.IGNORECASE)
_TYPED = re.compile(r"[+-]?[.,]?\d|(true|false|[+-]?inf|[+-]?infinity|nan)$|.*\d{2}", re.IGNORECASE)
"""The beginning of each name that may be a number, a bool, a date or a timestamp as well."""

_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}\S*$")

Infer = Callable[[pa.Array], pa.DataType]


@dataclass(frozen=True)
class Stated:
    """What the options say; None is to be found."""

    delimiter: str | None
    quote: str | None
    header: bool | None
    columns: int | None
    """The number of `column_names`, where the file has no header."""
    decimal: str
    usual: str
    """The delimiter that the file's name speaks for."""


@dataclass(frozen=True)
class _Reading:
    """The sample as one pair of delimiter and quote reads it."""

    dialect: Dialect
    records: list[list[str]]
    is_clean: bool

    @property
    def counts(self) -> list[int]:
        return [len(record) for record in self.records]

    @property
    def is_consistent(self) -> bool:
        return self.is_clean and len(set(self.counts)) == 1 and self.counts[0] > 1

    @property
    def share(self) -> float:
        """The share of the records with as many values as the first one has."""
        counts = self.counts
        return counts.count(counts[0]) / len(counts)


def find(path: str, sample: str, is_cut: bool, dialect: Dialect, stated: Stated) -> Dialect:
    """Return `dialect` with the delimiter and the quote of a sample.

    `is_cut`: the text goes on after the sample. Raises HomeError where there is doubt.
    """
    if is_cut and (ends := list(_LINE_END.finditer(sample[:-1]))):
        sample = sample[: ends[-1].end()]
    sample = _without_title(sample, dialect.skip_lines)
    if excel := _SEP.match(sample):
        raise HomeError(
            f"{path}: the first line is {excel[1]!r}, by which Excel is told the delimiter",
            f"say `options: {{skip_lines: {dialect.skip_lines + 1}}}`",
        )

    def rare() -> Iterator[_Reading]:
        for sign in _RARE_DELIMITERS:
            if sign in sample:
                yield _read(sample, replace(candidates[0], delimiter=sign), is_cut)

    quotes = ('"', "'") if stated.quote is None else (stated.quote,)
    if "'" not in sample:
        quotes = quotes[:1]
    for quote in quotes[::-1]:
        delimiters = tuple(sign for sign in DELIMITERS if sign in sample) or DELIMITERS[:1]
        if stated.delimiter is not None:
            delimiters = (stated.delimiter,)
        candidates = [replace(dialect, delimiter=sign, quote=quote) for sign in delimiters]
        if quote != quotes[0]:
            candidates = [each for each in candidates if _is_quoted(sample, each)]
        readings = [_read(sample, candidate, is_cut) for candidate in candidates]
        readings = [reading for reading in readings if reading.records]
        if quote != quotes[0]:
            readings = [reading for reading in readings if reading.is_consistent]
        if readings:
            return _best(path, readings, stated, rare)
    return replace(dialect, delimiter=stated.delimiter or stated.usual, quote=quotes[0])


def check_header(
    path: str,
    sample: str,
    is_cut: bool,
    dialect: Dialect,
    infer: Infer,
    null_values: Sequence[str],
    known: Collection[str] = (),
) -> None:
    """Raise HomeError where the first line of a sample may be a row as well as a header.

    It is a header where it has one of the names that are `known` from the options.
    """
    if is_cut and (ends := list(_LINE_END.finditer(sample[:-1]))):
        sample = sample[: ends[-1].end()]
    sample = _without_title(sample, dialect.skip_lines)
    records = _read(sample, dialect, is_cut).records
    if not records:
        return
    first = records[0]
    if any(name in known for name in first):
        return
    rows = [record for record in records[1:] if len(record) == len(first)]
    nulls = {"", *null_values}
    named = [index for index, name in enumerate(first) if name not in nulls]
    again = sum(any(row[index] == first[index] for row in rows) for index in named)
    data = header = 0
    if again * 2 > len(first) or any(_TYPED.match(first[index]) for index in named):
        # Only here are types needed: what infers them is slow to load.
        for index in named:
            values = [row[index] for row in rows if row[index] not in nulls]
            kind = _family(infer(arrays.texts([first[index]])))
            family = _family(infer(arrays.texts(values))) if values else kind
            if family != "text":
                data += family == kind
                header += family != kind
    is_row = data > 0 and (header == 0 or data >= header)
    if not is_row and not (header == 0 and again * 2 > len(first)):
        return
    shown = shortened(dialect.delimiter.join(first))
    raise HomeError(
        f"{path}: the first line may be a row as well as the names of the columns: {shown}",
        "say `options: {header: true}` where it names the columns, or `options: {header: false, "
        "column_names: […]}` where it is a row",
    )


def describe(dialect: Dialect, stated: Stated, columns: int) -> str:
    """Return what was found of a dialect, as a sentence for people; "": all of it was stated."""
    parts = []
    if stated.delimiter is None:
        parts.append("one column" if columns == 1 else shown_delimiter(dialect))
    if stated.quote is None:
        parts.append(f"quote {dialect.quote}")
    if stated.header is None:
        parts.append("the first line names the columns")
    return ", ".join(parts)


def _best(
    path: str, readings: list[_Reading], stated: Stated, rare: Callable[[], Iterator[_Reading]]
) -> Dialect:
    if stated.delimiter is not None:
        return readings[0].dialect
    one_column = replace(readings[0].dialect, delimiter=NO_DELIMITER)
    if stated.columns == 1:
        return one_column
    if stated.columns is not None:
        readings = [each for each in readings if each.counts[0] == stated.columns] or readings
    consistent = [reading for reading in readings if reading.is_consistent]
    if len(consistent) > 1:
        consistent = [r for r in consistent if r.dialect.delimiter != stated.decimal]
        usual = [r for r in consistent if r.dialect.delimiter == stated.usual != ","]
        consistent = usual or consistent
    if len(consistent) > 1:
        raise _doubt(path, consistent)
    if consistent:
        return consistent[0].dialect
    splitting = [reading for reading in readings if reading.counts[0] > 1]
    splitting.sort(key=lambda reading: reading.share, reverse=True)
    if len(splitting) > 1 and splitting[1].share > splitting[0].share / 2:
        raise _doubt(path, splitting[:2])
    if splitting:
        return splitting[0].dialect
    for reading in readings:
        _refuse_title(path, reading)
    for reading in rare():
        if reading.is_consistent and (reading.dialect.delimiter != " " or _has_typed(reading)):
            raise HomeError(
                f"{path} may be one column, or be delimited by "
                f"{_shown(reading.dialect.delimiter)}, which every line has",
                f"state `options: {{delimiter: {_stated(reading.dialect.delimiter)}}}`; where it "
                f"is one column, a delimiter that does not occur: {_stated(TAB)}",
            )
    if all(max(reading.counts) == 1 for reading in readings):
        return replace(one_column, delimiter=stated.usual)
    return one_column


def _has_typed(reading: _Reading) -> bool:
    """Whether a column of the sample is of numbers or dates, and not of parts of moments."""
    first, *rows = reading.records
    if all(_MOMENT.match(" ".join(row)) for row in rows):
        return False
    return any(
        not _TYPED.match(name) and all(_TYPED.match(row[index]) for row in rows)
        for index, name in enumerate(first)
        if rows
    )


def _refuse_title(path: str, reading: _Reading) -> None:
    """Raise HomeError where the first lines have one value, and most others equally many."""
    rows = reading.counts[1:]
    usual = max(set(rows), key=rows.count, default=1)
    if usual == 1 or rows.count(usual) < _MOST * len(rows):
        return
    sign, title = _shown(reading.dialect.delimiter), 1 + rows.index(usual)
    first = shortened(reading.records[0][0])
    titles = "the first line is" if title == 1 else f"the first {title} lines are"
    raise HomeError(
        f"{path}: the first line has no {sign}, and those after it have {usual - 1}: {first}",
        f"where {titles} a title, say `options: {{skip_lines: {title}}}` (or "
        "`comment`); where it is one column, state a delimiter that does not occur: "
        '`options: {delimiter: "\\t"}`',
    )


def _doubt(path: str, readings: Sequence[_Reading]) -> HomeError:
    one, other = (reading.dialect.delimiter for reading in readings[:2])
    counts = [str(reading.counts[0]) for reading in readings[:2]]
    return HomeError(
        f"{path} may be delimited by {_shown(one)} or by {_shown(other)}: its first line has "
        f"{counts[0]} or {counts[1]} values",
        f"state which: `options: {{delimiter: {_stated(one)}}}`, or {_stated(other)}",
    )


def _is_quoted(sample: str, dialect: Dialect) -> bool:
    """Whether each value that begins with the quote ends with it, and most lines have one."""
    quote, sign = re.escape(dialect.quote), re.escape(dialect.delimiter)
    begin = f"(?:^|(?<=[{sign}\\r\\n])){quote}"
    begins = len(re.findall(begin, sample))
    whole = f"{begin}(?:[^{quote}]|{quote}{quote})*{quote}(?=[{sign}\\r\\n]|$)"
    lines = len(_LINE_END.findall(sample))
    is_other = re.search(f'(?:^|(?<=[{sign}\\r\\n]))"', sample)
    return bool(begins) and begins * 2 >= lines and not is_other and (
        len(re.findall(whole, sample)) == begins
    )  # fmt: skip


def _read(sample: str, dialect: Dialect, is_cut: bool) -> _Reading:
    csv.field_size_limit(sys.maxsize)
    lines = _Lines(sample, dialect.comment)
    options = {"quotechar": dialect.quote} if dialect.quote else {"quoting": csv.QUOTE_NONE}
    reader = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        escapechar=dialect.escape or None,
        strict=True,
        **options,
    )
    records: list[list[str]] = []
    is_clean = True
    try:
        for record in reader:
            if record:
                records.append(record)
            lines.is_at_start = True
    except csv.Error as error:
        is_clean = is_cut and "unexpected end" in str(error)
    return _Reading(dialect, records, is_clean)


class _Lines:
    """The lines of a sample, without comments."""

    def __init__(self, sample: str, comment: str) -> None:
        self.sample, self.comment = sample, comment
        self.is_at_start = True

    def __iter__(self) -> Iterator[str]:
        for line in io.StringIO(self.sample, newline=""):
            if self.is_at_start and self.comment and line.startswith(self.comment):
                continue
            self.is_at_start = False
            yield line


def _without_title(sample: str, count: int) -> str:
    for _ in range(count):
        end = _LINE_END.search(sample)
        sample = sample[end.end() :] if end else ""
    return sample


def _family(kind: pa.DataType) -> str:
    t = pa.types
    if t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind):
        return "number"
    if t.is_string(kind):
        return "text"
    return "bool" if t.is_boolean(kind) else "time"


def shown_delimiter(dialect: Dialect) -> str:
    """Return what separates the values, for people."""
    is_one = dialect.delimiter == NO_DELIMITER
    return "one column" if is_one else f"delimiter {_shown(dialect.delimiter)}"


def _shown(sign: str) -> str:
    return "tab" if sign == TAB else f"'{sign}'".replace("\x01", r"\x01")


def _stated(sign: str) -> str:
    return {TAB: r'"\t"', "\x01": r'"\x01"'}.get(sign, f'"{sign}"')
