"""A fast test that the quotes and the line ends of a block of CSV are right, 64 bytes at a time.

Each byte of the block becomes one bit of a mask: is it a quote, a line end, within quotes? Whether
a byte is within quotes is the parity of the quotes up to it, which shifts and XORs give for all of
them at once. The test costs half of looking at the place of each quote. It only says that
nothing is wrong; where that is not sure, `hygge/formats/csv_syntax.py` looks at the places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.uint64]

_FEED, _RETURN = 10, 13
_PIECE_BYTES = 1024 * 1024
"""Looked at together: the masks of a piece stay in the processor's cache."""


@dataclass(frozen=True)
class State:
    """What is known between two bytes of a text."""

    is_inside: bool
    """Whether the text goes on within quotes."""
    last: int
    """The byte before."""
    opened_at: int | None = None
    """Where in the block the last quoted value begins, if one that matters begins there."""
    has_feeds: bool = False
    """Whether a line feed stands in the block outside of quotes."""


def look(
    block: bytes, state: State, quote: bytes, delimiter: bytes, one_column: bool
) -> State | None:
    """Return the state behind the block; None where something may be wrong with it.

    A carriage return outside of quotes is right before a line feed, and (unless `one_column`)
    before another carriage return.
    """
    import numpy as np

    signs = np.frombuffer(block, np.uint8)
    signs_of = [*quote, *delimiter]
    has_returns = b"\r" in block
    start = 0
    after: State | None = state
    while start < len(block) and after is not None:
        end = min(start + _PIECE_BYTES, len(block))
        while has_returns and end < len(block) and block[end - 1] == _RETURN:
            end += 1
        after = _look(signs[start:end], start, after, signs_of, has_returns, one_column)
        start = end
    return after


def line_ends(block: bytes, quote: bytes) -> NDArray[np.int64]:
    """Return the places of the line feeds that are not within quotes.

    The block begins with a record. Without a quote all of them are.
    """
    import numpy as np

    bits = np.unpackbits(_ends(block, quote).view(np.uint8), bitorder="little")
    return np.flatnonzero(bits)


class LineEnds:
    """The `line_ends` of a block, counted and not listed: few of them are asked for."""

    def __init__(self, block: bytes, quote: bytes) -> None:
        import numpy as np

        self._mask = _ends(block, quote)
        self._counts = np.cumsum(_count_ones(self._mask), dtype=np.int64)
        self.count = int(self._counts[-1]) if len(self._counts) else 0

    def place(self, number: int) -> int:
        """Return the place of the line end `number`, from 0; -1 for -1, before the block."""
        if number < 0:
            return -1
        word = int(self._counts.searchsorted(number, "right"))
        ones = int(self._mask[word])
        for _ in range(number - (int(self._counts[word - 1]) if word else 0)):
            ones &= ones - 1
        return word * 64 + (ones & -ones).bit_length() - 1

    def has_short_lines(self) -> bool:
        """Whether a line has at most two bytes, with its end."""
        import numpy as np

        begins = _next(self._mask, True)
        return bool(np.bitwise_or.reduce(self._mask & (begins | _next(begins, True))))


def count_of(block: bytes, sign: bytes, start: int = 0, end: int | None = None) -> int:
    """Return how often one byte stands in a part of a block: as `bytes.count`, and quicker."""
    end = len(block) if end is None else end
    if end - start < _PIECE_BYTES // 4:
        return block.count(sign, start, end)
    import numpy as np

    signs = np.frombuffer(block, np.uint8)[start:end]
    return sum(
        int(np.count_nonzero(signs[at : at + _PIECE_BYTES // 4] == sign[0]))
        for at in range(0, len(signs), _PIECE_BYTES // 4)
    )


def last_line_end(block: bytes, quote: bytes) -> int:
    """Return the last of `line_ends`; -1 where there is none."""
    if not quote or quote not in block:
        return block.rfind(b"\n")
    last = _last(_ends(block, quote)) if block else None
    return -1 if last is None else last


def _ends(block: bytes, quote: bytes) -> Mask:
    import numpy as np

    signs = np.frombuffer(block, np.uint8)
    feeds = _mask(signs, _FEED)
    if quote and quote in block:
        feeds &= ~_parity(_mask(signs, quote[0]), False)
    return feeds


def _look(
    signs: NDArray[np.uint8],
    offset: int,
    state: State,
    signs_of: list[int],
    has_returns: bool,
    one_column: bool,
) -> State | None:
    import numpy as np

    *quote, delimiter = signs_of
    feeds = _mask(signs, _FEED)
    returns = _mask(signs, _RETURN) if has_returns else None
    last = int(signs[-1])
    if not quote:
        if returns is not None and _alone(returns, feeds, one_column).any():
            return None
        return State(False, last, None, state.has_feeds or bool(feeds.any()))
    quotes = _mask(signs, quote[0])
    inside = _parity(quotes, state.is_inside)
    borders = _mask(signs, delimiter)
    borders |= feeds
    borders |= quotes
    if returns is not None:
        borders |= returns
    opening = quotes & inside
    faults = opening & ~_next(borders, state.last in (quote[0], delimiter, _FEED, _RETURN))
    if used := len(signs) % 64:  # behind the piece anything may come
        borders[-1] |= np.uint64(2**64 - 2**used)
    has_closed = state.last == quote[0] and not state.is_inside
    faults |= _next(quotes ^ opening, has_closed) & ~borders
    if returns is not None:
        faults |= _alone(returns, feeds, one_column) & ~inside
    if np.bitwise_or.reduce(faults):
        return None
    is_inside = bool(inside[-1] >> np.uint64(63))
    opened_at = state.opened_at
    if is_inside or last == quote[0]:  # which may be the first one of two
        begun = _last(opening & ~_next(quotes, state.last == quote[0]))
        opened_at = opened_at if begun is None else offset + begun
    has_feeds = state.has_feeds or bool(np.bitwise_or.reduce(feeds & ~inside))
    return State(is_inside, last, opened_at, has_feeds)


def _mask(signs: NDArray[np.uint8], sign: int) -> Mask:
    """Return a bit for each byte, the first one lowest: whether it is `sign`."""
    import numpy as np

    packed = np.packbits(signs == sign, bitorder="little")
    if missing := -len(packed) % 8:
        packed = np.append(packed, np.zeros(missing, np.uint8))
    return packed.view("<u8")


def _next(mask: Mask, first: bool) -> Mask:
    """Return the mask moved by one byte: whether the byte before is in `mask`."""
    import numpy as np

    moved = mask << np.uint64(1)
    moved[1:] |= mask[:-1] >> np.uint64(63)
    moved[0] |= np.uint64(first)
    return moved


def _before(mask: Mask) -> Mask:
    """Return whether the byte behind is in `mask`; of the last byte it is not."""
    import numpy as np

    moved = mask >> np.uint64(1)
    moved[:-1] |= mask[1:] << np.uint64(63)
    return moved


def _count_ones(mask: Mask) -> Mask:
    """Return how many bytes of each 64 are in `mask`."""
    import numpy as np

    ones = mask - (mask >> np.uint64(1) & np.uint64(0x5555555555555555))
    pairs = np.uint64(0x3333333333333333)
    ones = (ones & pairs) + (ones >> np.uint64(2) & pairs)
    ones = ones + (ones >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: Mask = ones * np.uint64(0x0101010101010101) >> np.uint64(56)
    return counts


def _parity(quotes: Mask, is_odd: bool) -> Mask:
    """Return whether the quotes up to and with each byte are odd, `is_odd` before the first."""
    import numpy as np

    parity, moved = quotes.copy(), np.empty_like(quotes)
    for bits in (1, 2, 4, 8, 16, 32):
        parity ^= np.left_shift(parity, np.uint64(bits), out=moved)
    words = parity >> np.uint64(63)
    before = np.empty_like(words)
    before[0] = is_odd
    before[1:] = words[:-1]
    parity ^= -np.bitwise_xor.accumulate(before)  # all bits of a word, or none
    return parity


def _alone(returns: Mask, feeds: Mask, one_column: bool) -> Mask:
    """Return the carriage returns that begin no line end."""
    alone = returns & ~_before(feeds)
    return alone if one_column else alone & ~_before(returns)


def _last(mask: Mask) -> int | None:
    """Return the last byte that is in `mask`."""
    word = len(mask) - 1 - int((mask[::-1] != 0).argmax())
    value = int(mask[word])
    return word * 64 + value.bit_length() - 1 if value else None
