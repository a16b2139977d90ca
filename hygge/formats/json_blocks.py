"""Blocks of JSON lines as bytes: cut a text into them, and look at one before it is parsed.

numpy looks at a piece of a block at a time, which stays in the processor's cache: that is several
times as fast as `bytes.count`, and as looking at a whole block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hygge.formats.text import TextReader

_EXPONENT = re.compile(rb"[eE][-+]?[0-9]+")
_MINUS_ZERO = re.compile(rb"-0[\s,\]}]")
_PIECE = 256 * 1024


def line_blocks(text: TextReader, size: int) -> Iterator[bytes]:
    """Yield runs of whole lines, each about `size` bytes, or one line where that is longer."""
    unfinished: list[bytes] = []
    while chunk := text.read(size):
        end = chunk.rfind(b"\n") + 1
        if not end:
            unfinished.append(chunk)
            continue
        yield b"".join([*unfinished, chunk[:end]])
        unfinished = [chunk[end:]] if end < len(chunk) else []
    if unfinished:
        yield b"".join(unfinished)


def count_objects(block: bytes) -> int | None:
    """Return the number of lines, or None where one of them does not begin with {.

    The last line may have no end. (pyarrow.json crashes on a line that is `null`.)
    """
    import numpy as np

    if not block.startswith(b"{"):
        return None
    signs, count = np.frombuffer(block, np.uint8), 1
    for start in range(0, len(block) - 1, _PIECE):
        piece = signs[start : start + _PIECE + 1]
        ends = piece[:-1] == 10
        if (ends & (piece[1:] != 123)).any():  # the sign behind a line end is no {
            return None
        count += int(np.count_nonzero(ends))
    return count


def has_minus_zero(block: bytes) -> bool:
    """Whether a number may be -0, which no integer gives back."""
    return _MINUS_ZERO.search(block) is not None


def doubtful_numbers(block: bytes) -> list[str]:
    """Return the runs of digits that float64 may not give back: over 15, or with an exponent.

    Those within texts are among them, which costs time and nothing else.
    """
    import numpy as np

    if not _may_have_doubtful(block):
        return []
    signs = np.frombuffer(block, np.uint8)
    digit = np.zeros(len(signs) + 2, np.bool_)
    digit[1:-1] = (signs - 48 < 10) | (signs == 46)  # 0-9 and the point; uint8 wraps below 0
    edges = np.flatnonzero(digit[1:] != digit[:-1])
    starts, ends = edges[::2], edges[1::2]
    after = signs[np.minimum(ends, len(signs) - 1)]
    doubtful = (ends - starts > 15) | (after == 69) | (after == 101)
    numbers = []
    for start, end in zip(starts[doubtful].tolist(), ends[doubtful].tolist(), strict=True):
        exponent = _EXPONENT.match(block, end)
        if exponent or end - start > 15:
            numbers.append(block[start : exponent.end() if exponent else end].decode())
    return numbers


def _may_have_doubtful(block: bytes) -> bool:
    """Whether `doubtful_numbers` may find one. Looks at each eighth sign, and for exponents."""
    import numpy as np

    signs = np.frombuffer(block, np.uint8)
    eighth = signs[::8]
    digit = (eighth - 48 < 10) | (eighth == 46)
    if (digit[1:] & digit[:-1]).any():  # a run of 16 has two of these signs, one after the other
        return True
    for start in range(0, len(block), _PIECE):
        piece = signs[max(0, start - 1) : start + _PIECE]
        before = piece[:-1]
        # 1e5, and 1.e5, which is no JSON. Bit 5 makes E and e the same.
        if (((piece[1:] | 32) == 101) & ((before - 48 < 10) | (before == 46))).any():
            return True
    return False
