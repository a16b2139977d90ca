"""Ranges of a key: disjoint, together complete, NULL keys included.

A range is half open and compared by the database itself: `low <= key AND key < high`. The first
range has no low end and takes the NULL keys; the last has no high end. So rows outside of the
measured bounds, and keys in any collation, still belong to exactly one range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hygge.connectors.sql.ask import BYTES_PER_SPLIT, ROWS_PER_SPLIT

_TIMES_LARGER, _TIMES_LARGER_ALONE = 5, 25
_SPLITS_PER_LANE = 4
"""So that all lanes end at about the same time."""


def how_many(splits: int | str, rows: int, row_bytes: float, lanes: int | None = None) -> int:
    """The number of splits: as given, or splits of about 200,000 rows or 64 MiB.

    `lanes` is the number of readers where no split is kept for another run. Splits are then five
    times as large, since each costs a session, unless lanes would be without work. One reader alone
    takes 25 times as much at once: between two splits its source waits.
    """
    if splits != "auto":
        return int(splits)
    size = int(rows * row_bytes)
    fine = max(1, -(-rows // ROWS_PER_SPLIT), -(-size // BYTES_PER_SPLIT))
    if lanes is None:
        return fine
    if lanes < 2:
        return -(-fine // _TIMES_LARGER_ALONE)
    return max(-(-fine // _TIMES_LARGER), min(fine, _SPLITS_PER_LANE * lanes))


def even(low: int, high: int, count: int) -> list[int]:
    """Inner bounds that cut the integers low … high into at most `count` equal ranges."""
    span = high - low + 1
    count = min(count, span)
    return [low + span * at // count for at in range(1, count)]


def dense(low: int, high: int, rows: int) -> bool:
    """True where equal ranges of integers hold about equally many rows."""
    return high - low + 1 <= 2 * rows


def places(rows: int, count: int) -> list[int]:
    """Numbers (from 1) of the rows, in key order, at which a new range begins."""
    return sorted({1 + rows * at // count for at in range(1, min(count, rows))})


def bounds_of(picked: Sequence[Any]) -> list[Any]:
    """The inner bounds in key order without repetition: many rows of one key make one bound."""
    return list(dict.fromkeys(picked))


def ranges(bounds: Sequence[Any]) -> list[dict[str, Any]]:
    """The ranges between inner bounds, for JSON; one range without ends where there are none."""
    ends = [None, *bounds, None]
    return [{"low": ends[at], "high": ends[at + 1]} for at in range(len(ends) - 1)]


def condition(where: dict[str, Any], key: str, bind: Callable[[Any], str]) -> str | None:
    """The SQL of one range, or None for all rows; `bind` gives the placeholder of a value."""
    low, high = where.get("low"), where.get("high")
    if low is None and high is None:
        return None
    if low is None:
        return f"({key} < {bind(high)} OR {key} IS NULL)"
    if high is None:
        return f"{key} >= {bind(low)}"
    return f"({key} >= {bind(low)} AND {key} < {bind(high)})"


def label(where: dict[str, Any], key: str) -> str:
    """A range for people: `id from 100 before 200`."""
    low, high = where.get("low"), where.get("high")
    if low is None and high is None:
        return ""
    return " ".join(
        [key]
        + ([f"from {low}"] if low is not None else [])
        + ([f"before {high}"] if high is not None else [])
    )
