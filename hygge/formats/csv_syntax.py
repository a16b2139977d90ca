"""The syntax of a CSV text: how it is written, and a check that it is written so throughout.

pyarrow.csv takes a malformed text for something else in silence: it goes on with the value after a
closing quote, and an unclosed quote takes the rows behind it along. So each block passes `Check`
before pyarrow sees it. The quotes of a well-formed text can be counted: the first, third, fifth one
opens a value (after a delimiter, a line end, or the quote before it), and the others close it
(before a delimiter, a line end, or the next quote). A block with quotes is tested at once, by
`hygge/formats/csv_bits.py`; where that is not sure that all is right, `Check` compares the
neighbours of all quotes. A block without a quote costs three searches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from hygge.errors import UnfitValue
from hygge.formats import csv_bits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Fault = Literal["after", "within", "open", "nul", "line ends", "escape", "dangling"]
NO_DELIMITER = "\x1f"
"""The delimiter of a file of one column: a character that texts do not hold."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV text is written. An empty text means that there is no such character."""

    delimiter: str
    quote: str = '"'
    escape: str = ""
    comment: str = ""
    skip_lines: int = 0

    def with_found(self, found: list[str] | None) -> Dialect:
        """Return it with the delimiter and the quote that were found in the sample."""
        dialect = replace(self, delimiter=found[0], quote=found[1]) if found else self
        if dialect.escape == dialect.quote:
            return replace(dialect, escape="")  # another word for quotes that are doubled
        return dialect


class Malformed(Exception):
    """The text is not well-formed at `offset`, in bytes of the text without comments."""

    def __init__(self, fault: Fault, offset: int) -> None:
        super().__init__(fault, offset)
        self.fault, self.offset = fault, offset


class Check:
    """Checks a text block by block. A block must not end within a pair of an escape."""

    def __init__(
        self,
        dialect: Dialect,
        one_column: bool,
        newlines: bool = True,
        line_end: str = "",
        nulls: tuple[str, ...] = (),
    ) -> None:
        self.delimiter, self.quote = dialect.delimiter.encode(), dialect.quote.encode()
        self.escape, self.comment = dialect.escape.encode(), dialect.comment.encode()
        self.is_inside = False
        """Whether the text goes on within quotes."""
        self.offset = 0
        """Bytes of the text, without comments, before the next block."""
        self._one_column = one_column
        self._last = b"\n"
        self._opened_at = 0
        self._ends = {line_end}
        self._in_comment = False
        others = self.quote + self.escape + self.delimiter + (b"\r\n" if newlines else b"")
        escaped = [null.encode() for null in nulls if dialect.escape and null[0] == dialect.escape]
        self._nulls = tuple(null for null in escaped if len(null) == 2)
        """Values such as \\N, which stand for NULL and for no escaped character."""
        self.plain_nulls = [null for null in nulls if null.encode() not in self._nulls]
        """The other values that stand for NULL."""
        self._pair = re.compile(re.escape(self.escape) + b"[" + re.escape(others) + b"]")
        self._comment_start = re.compile(rb"(?:^|(?<=[\r\n]))" + re.escape(self.comment))

    def without_pairs(self, block: bytes) -> bytes:
        """Return a block of the same length in which no escaped sign is taken for one."""
        if self.escape and self.escape in block:
            return self._pair.sub(b"xx", block)
        return block

    def feed(self, block: bytes) -> bytes:
        """Check the next block; return it without comments. Raises Malformed."""
        plain = self.without_pairs(block)
        if self.comment:
            block, plain = self._without_comments(block, plain)
        if not block:
            return block
        was_inside, last = self.is_inside, self._last
        if self.escape and self.escape in plain:
            nulls = self._whole_values(plain, last)
            masked = bytearray(plain)
            for at in nulls:
                masked[at : at + 2] = b"xx"
            plain = bytes(masked)
        else:
            nulls = []
        self._check(plain)
        length, self._last = len(block), plain[-1:]
        if nulls:
            block = self._without_nulls(block, plain, nulls, was_inside)
        self.offset += length
        return block

    def finish(self, rest: bytes = b"") -> bytes:
        """Check the end of the text; `rest` was carried to it. Return it. Raises Malformed."""
        end = rest[len(rest.rstrip(b"\r")) :]
        rest = self.feed(rest[: len(rest) - len(end)]) + end
        if self.is_inside:
            raise Malformed("open", self._opened_at)
        return rest

    def carry(self, block: bytes) -> int:
        """Return how many bytes at the end of a block belong to the next one."""
        count = len(block) - len(block.rstrip(b"\r"))  # \r\r\n ends one line
        if self.escape:
            rest = block[: len(block) - count]
            count += (len(rest) - len(rest.rstrip(self.escape))) % 2
            before = rest[:-2]
            is_pair = (len(before) - len(before.rstrip(self.escape))) % 2 == 1
            if self._nulls and rest.endswith(self._nulls) and not is_pair:
                count += 2
        return count

    def _whole_values(self, plain: bytes, last: bytes) -> list[int]:
        """Return where the escapes begin that are whole values for NULL. Raises Malformed."""
        places = []
        borders = (self.delimiter, b"\r", b"\n", b"")
        for match in re.finditer(re.escape(self.escape), plain):
            at = match.start()
            before = plain[at - 1 : at] if at else last
            is_whole = before in borders and plain[at + 2 : at + 3] in borders
            if plain[at : at + 2] not in self._nulls or not is_whole:
                is_last = at == len(plain) - 1
                raise Malformed("dangling" if is_last else "escape", self.offset + at)
            places.append(at)
        return places

    def _without_nulls(
        self, block: bytes, plain: bytes, places: list[int], was_inside: bool
    ) -> bytes:
        """Return a block in which values for NULL are empty. Raises Malformed within quotes."""
        kept, at, is_inside = [], 0, was_inside
        for place in places:
            if self.quote:
                is_inside ^= plain.count(self.quote, at, place) % 2 == 1
            if is_inside:
                raise Malformed("escape", self.offset + place)
            kept.append(block[at:place])
            at = place + 2
        return b"".join([*kept, block[at:]])

    def _without_comments(self, block: bytes, plain: bytes) -> tuple[bytes, bytes]:
        """Return both forms of a block without the lines that are comments."""
        kept: list[tuple[int, int]] = []
        at, is_inside, length = 0, self.is_inside, len(plain)
        if self._in_comment:
            at = _line_end(block, 0)
            self._in_comment = at == length and block[-1:] not in (b"\n", b"\r")
        for match in self._comment_start.finditer(plain):
            start = match.start()
            if start < at:
                continue
            if start == 0 and self._last not in (b"\n", b"\r"):
                continue
            if self.quote:
                is_inside ^= plain.count(self.quote, at, start) % 2 == 1
            if is_inside:
                kept.append((at, start))
                at = start
                continue
            kept.append((at, start))
            at = _line_end(block, start)
            self._in_comment = at == length and block[-1:] not in (b"\n", b"\r")
        if at == 0:
            return block, plain
        kept.append((at, length))
        return (
            b"".join(block[start:end] for start, end in kept),
            b"".join(plain[start:end] for start, end in kept),
        )

    def _check(self, plain: bytes) -> None:
        import numpy as np

        if b"\x00" not in plain and self._is_surely_right(plain):
            return
        was_inside = self.is_inside
        signs = np.frombuffer(plain, np.uint8)
        quotes = None
        if self.quote and (self.quote in plain or self._last == self.quote):
            quotes = np.flatnonzero(signs == self.quote[0])
            self._check_quotes(plain, signs, quotes)
        if b"\x00" in plain:
            self._refuse("nul", np.flatnonzero(signs == 0), quotes, was_inside)
        self._check_line_ends(plain, signs, quotes, was_inside)

    def _is_surely_right(self, plain: bytes) -> bool:
        """Whether a fast test of a block finds no fault in it; what it holds is noted then."""
        has_quotes = bool(self.quote) and (self.quote in plain or self._last == self.quote)
        has_returns, knows_feeds = b"\r" in plain, "\n" in self._ends
        if not (has_quotes or has_returns) and (self.is_inside or knows_feeds):
            return True
        state = csv_bits.State(self.is_inside, self._last[0], None, knows_feeds)
        found = csv_bits.look(plain, state, self.quote, self.delimiter, self._one_column)
        if found is None or (found.has_feeds and not knows_feeds and "\r" in self._ends):
            return False
        self.is_inside = found.is_inside
        if found.opened_at is not None:
            self._opened_at = self.offset + found.opened_at
        if found.has_feeds:
            self._ends.add("\n")
        return True

    def _check_quotes(
        self, plain: bytes, signs: NDArray[np.uint8], quotes: NDArray[np.int64]
    ) -> None:
        """Compare what stands beside each quote, and note whether the block ends within quotes."""
        import numpy as np

        is_border = np.zeros(256, np.bool_)
        is_border[[self.quote[0], self.delimiter[0], 10, 13]] = True
        if self._last == self.quote and not self.is_inside and not is_border[signs[0]]:
            raise Malformed("after", self.offset - 1)
        opening = quotes[1::2] if self.is_inside else quotes[::2]
        closing = quotes[::2] if self.is_inside else quotes[1::2]
        before = signs.take(opening - 1)
        if len(opening) and opening[0] == 0:
            before[0] = self._last[0]
        ends_in_quote = len(closing) and closing[-1] == len(signs) - 1
        after = signs.take((closing[:-1] if ends_in_quote else closing) + 1)
        opens, closes = is_border.take(before), is_border.take(after)
        if not (opens.all() and closes.all()):
            faults: list[tuple[int, Fault]] = []
            if not opens.all():
                faults.append((int(opening[opens.argmin()]), "within"))
            if not closes.all():
                faults.append((int(closing[closes.argmin()]), "after"))
            at, fault = min(faults)
            raise Malformed(fault, self.offset + at)
        self.is_inside ^= len(quotes) % 2 == 1
        if self.is_inside or plain.endswith(self.quote):  # which may be the first one of two
            begins = opening[before != self.quote[0]]
            if len(begins):
                self._opened_at = self.offset + int(begins[-1])

    def _check_line_ends(
        self,
        plain: bytes,
        signs: NDArray[np.uint8],
        quotes: NDArray[np.int64] | None,
        was_inside: bool,
    ) -> None:
        """Refuse a carriage return alone where lines end in a line feed: it would cut a line."""
        import numpy as np

        if "\n" not in self._ends and b"\n" in plain:
            feeds = _outside(np.flatnonzero(signs == 10), quotes, was_inside)
            if len(feeds):
                self._ends.add("\n")
                if "\r" in self._ends:
                    raise Malformed("line ends", self.offset + int(feeds[0]))
        if b"\r" not in plain:
            return
        returns = np.flatnonzero(signs == 13)
        following = signs[np.minimum(returns + 1, len(signs) - 1)]
        is_alone = following != 10
        if not self._one_column:
            is_alone &= following != 13  # \r\r\n is a line end and a blank line
        is_alone[returns == len(signs) - 1] = True
        alone = _outside(returns[is_alone], quotes, was_inside)
        if len(alone):
            self._ends.add("\r")
            if "\n" in self._ends:
                raise Malformed("line ends", self.offset + int(alone[0]))

    def _refuse(
        self,
        fault: Fault,
        places: NDArray[np.int64],
        quotes: NDArray[np.int64] | None,
        was_inside: bool,
    ) -> None:
        outside = _outside(places, quotes, was_inside)
        if len(outside):
            raise Malformed(fault, self.offset + int(outside[0]))


def _outside(
    places: NDArray[np.int64], quotes: NDArray[np.int64] | None, was_inside: bool
) -> NDArray[np.int64]:
    """Return the places of a block that are not within quotes."""
    import numpy as np

    if quotes is None:
        return places[:0] if was_inside else places
    is_inside = (np.searchsorted(quotes, places) + was_inside) % 2 == 1
    outside: NDArray[np.int64] = places[~is_inside]
    return outside


def _line_end(text: bytes, start: int) -> int:
    """Return where the line that begins at `start` is over, with its line end."""
    match = _LINE_END.search(text, start)
    return match.end() if match else len(text)


_LINE_END = re.compile(rb"\r\n|\n|\r")


def count_line_ends(text: bytes) -> int:
    """Return how many lines of a text have an end."""
    return csv_bits.count_of(text, b"\n") or text.count(b"\r")


def value_at(text: bytes, offset: int, dialect: Dialect) -> tuple[int, int]:
    """Return the number of the column, and where the value begins, at `offset` of a record."""
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    escape = dialect.escape.encode()
    column = start = at = 0
    is_inside = False
    while at < offset:
        sign = text[at : at + 1]
        if sign == escape:
            at += 1
        elif sign == quote and (is_inside or at == start):
            is_inside = not is_inside
            if not is_inside and text[at + 1 : at + 2] == quote:
                is_inside, at = True, at + 1
        elif sign == delimiter and not is_inside:
            column, start = column + 1, at + 1
        at += 1
    return column, start


def malformed(
    where: str, fault: Fault, text: bytes, start: int, at: int, dialect: Dialect, newlines: bool
) -> UnfitValue:
    """Return the error for a record that is not well-formed.

    `where` names file, line and column; `start` is where the value begins in `text`, and `at` where
    the fault is; `newlines`: whether values may hold line ends.
    """
    value = text[start : min(at + 40, start + 400) if fault != "open" else start + 60]
    shown = value.decode(errors="replace").rstrip("\r\n")
    if "\n" not in shown or fault == "open":
        shown = shown.splitlines()[0] if shown else ""
    shown = shown.replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0")
    later = count_line_ends(text[start:at])
    down = f", {later} {'line' if later == 1 else 'lines'} further down" if later else ""
    split = "" if newlines else " (or newlines_in_values must be true)"
    quote, escape = dialect.quote, dialect.escape
    plain = "`options: {quote: none}` takes quotes for text"
    doubled = f"a quote within a quoted value is written twice ({quote}{quote})"
    if fault in ("after", "within") and text[max(0, at - 1) : at] == b"\\" and not escape:
        doubled = (
            "`options: {escape: '\\'}` where a backslash stands before a quote; else " + doubled
        )
    escaped = text[at + 1 : at + 2].decode(errors="replace")
    sentences = {
        "after": (f"text stands after a closing quote{down}: {shown}", f"{doubled}; {plain}"),
        "within": (f"a quote stands within a value that is not quoted: {shown}",
                   f"put the value in quotes: {doubled}; {plain}"),
        "open": (f"a quoted value is never closed{split}: {shown}",
                 f"the file is cut off, or `quote` is another character; {plain}"),
        "nul": (f"a NUL byte stands in it: {shown}",
                "say `options: {encoding: utf-16}` where that is how it is written (utf-16-le and "
                "utf-16-be have no byte order mark); else the file is damaged"),
        "line ends": (f"a carriage return stands alone where lines end in a line feed: {shown}",
                      "put a value that holds it in quotes, or write the file again with one kind "
                      "of line ends"),
        "escape": (f"{escape} stands before {escaped!r}, and it is not sure what that means: "
                   f"{shown}",
                   f"it may stand before a quote, a delimiter, a line end or another {escape}; "
                   f"write {escape}{escape} for the character itself, or leave `escape` out"),
        "dangling": (f"the text ends after {escape}, before which it escapes",
                     "the file is cut off, or `escape` is another character"),
    }  # fmt: skip
    message, hint = sentences[fault]
    return UnfitValue(f"{where}: {message}", hint)
