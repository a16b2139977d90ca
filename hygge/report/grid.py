"""Tables for the terminal: columns under their names, cut to the width that there is.

A cell is one line: line ends and other control characters are written as `\\n`, `\\x1b`. NULL is
the word NULL, and a text that would look like it has quotes.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence

import pyarrow as pa

from hygge.formats.exact_text import NoText, extension_as_text, has_text, times_as_text
from hygge.formats.text_values import decimals_as_text

_WIDEST = 40
"""Characters of a cell at most."""
_NARROWEST = 8
"""Characters that a cell keeps where a row is cut to fit the terminal."""
_GAP = "  "
NULL = "NULL"


def terminal_width() -> int | None:
    """Return the columns of the terminal, or COLUMNS; None where the output is no terminal."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return None


def cell_texts(column: pa.ChunkedArray) -> list[str]:
    """Return the values of a column as texts of one line each."""
    t, kind = pa.types, column.type
    if t.is_string(kind) or t.is_large_string(kind):
        return [_quoted(each.as_py()) if each.is_valid else NULL for each in _readable(column)]
    try:
        if has_text(kind):
            column = extension_as_text(column)
        elif t.is_temporal(kind) and not t.is_duration(kind) and not t.is_interval(kind):
            column = times_as_text(column)
        elif t.is_decimal(kind):
            column = decimals_as_text(column)
    except NoText as problem:
        return [f"({problem})"] * len(column)
    return [_text(each) for each in column]


def grid(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    right: Sequence[bool],
    widest: int = _WIDEST,
) -> tuple[list[str], int]:
    """Return lines of columns as wide as they need, and how many columns they show.

    `rows` are the cells below the names. Where `width` (in characters) is too small for all
    columns, long cells are cut first, down to eight characters, then columns at the end are left
    out. `right` says which columns are written at the right: numbers. A cell has at most `widest`
    characters.
    """
    cells = [[one_line(name), *(row[at] for row in rows)] for at, name in enumerate(names)]
    widths = [min(widest, max(map(text_width, column))) for column in cells]
    if width is not None:
        widths = _fitted(widths, width - len(_GAP))
    lines = []
    for row in zip(*cells[: len(widths)], strict=True):
        parts = [_padded(*each) for each in zip(row, widths, right, strict=False)]
        lines.append((_GAP + _GAP.join(parts)).rstrip())
    return lines, len(widths)


def one_line(text: str) -> str:
    """Return `text` with its line ends and control characters as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def text_width(text: str) -> int:
    """Return the columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def cut(text: str, width: int) -> str:
    """Return `text`, or as much of it as fits into `width` columns, with `…` for the rest."""
    if text_width(text) <= width:
        return text
    taken, left = [], width - 1
    for character in text:
        left -= _width(character)
        if left < 0:
            break
        taken.append(character)
    return "".join(taken) + "…"


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitted(widths: list[int], width: int) -> list[int]:
    """Return the widths of the columns that fit into `width`: the widest are cut first."""
    widths = list(widths)
    while widths and sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        widest = max(widths)
        if widest > _NARROWEST and _least(widths) <= width:
            widths[widths.index(widest)] -= 1
        elif len(widths) > 1:
            widths.pop()
        else:
            return [max(1, min(widths[0], width))]
    return widths


def _least(widths: list[int]) -> int:
    return sum(min(each, _NARROWEST) for each in widths) + len(_GAP) * (len(widths) - 1)


def _padded(text: str, width: int, right: bool) -> str:
    text = cut(text, width)
    blanks = " " * (width - text_width(text))
    return blanks + text if right else text + blanks


def _readable(column: pa.ChunkedArray) -> list[pa.Scalar]:
    """Return the values of a column of texts; bytes that are no UTF-8 are shown as they are."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        texts = [
            None if each is None else each.decode(errors="backslashreplace")
            for each in column.cast(pa.large_binary()).to_pylist()
        ]
        column = pa.array(texts, pa.large_string())
    return list(column)


def _quoted(text: str) -> str:
    shown = one_line(text)
    is_unclear = shown in ("", NULL) or shown != shown.strip() or shown[0] == shown[-1] == "'"
    return f"'{shown}'" if is_unclear else shown


def _text(value: pa.Scalar) -> str:
    if not value.is_valid:
        return NULL
    kind = value.type
    if pa.types.is_boolean(kind):
        return str(value.as_py()).lower()
    if pa.types.is_floating(kind):
        return str(value.cast(pa.string()).as_py())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return f"0x{value.as_py().hex()}"
    return one_line(str(value.as_py()))
