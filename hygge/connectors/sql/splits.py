"""Ranges of a key: disjoint, together complete, NULL keys included.

A range is half open, compared by the database itself: `low <= key AND key < high`; the first has
no low end and takes the NULL keys, the last has no high end. So rows outside of what was measured,
and keys in any collation, still belong to exactly one range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hygge.connectors.sql.ask import BYTES_PER_SPLIT, ROWS_PER_SPLIT

_LARGER = 5
_A_LANE = 4
"""Splits of a lane, so that the last ones end at about the same time."""


def how_many(splits: int | str, rows: int, row_bytes: float, lanes: int | None = None) -> int:
    """How many splits: as told, or about 200,000 rows or 64 MiB each.

    `lanes`: who reads them, where none is kept for another run. Then five times as much, since each
    split costs a session, unless lanes would be left without work.
    """
    if splits != "auto":
        return int(splits)
    size = int(rows * row_bytes)
    fine = max(1, -(-rows // ROWS_PER_SPLIT), -(-size // BYTES_PER_SPLIT))
    return fine if lanes is None else max(-(-fine // _LARGER), min(fine, _A_LANE * lanes))


def even(low: int, high: int, count: int) -> list[int]:
    """Inner bounds that cut the integers low … high into at most `count` equal ranges."""
    span = high - low + 1
    count = min(count, span)
    return [low + span * at // count for at in range(1, count)]


def dense(low: int, high: int, rows: int) -> bool:
    """Whether equal ranges of integers hold about equally many rows."""
    return high - low + 1 <= 2 * rows


def places(rows: int, count: int) -> list[int]:
    """Numbers (from 1) of the rows, in key order, at which a new range begins."""
    return sorted({1 + rows * at // count for at in range(1, min(count, rows))})


def bounds_of(picked: Sequence[Any]) -> list[Any]:
    """Inner bounds in key order, each once: many rows of one key make one bound."""
    return list(dict.fromkeys(picked))


def ranges(bounds: Sequence[Any]) -> list[dict[str, Any]]:
    """JSON of the ranges between inner bounds; one range without bounds where there are none."""
    ends = [None, *bounds, None]
    return [{"low": ends[at], "high": ends[at + 1]} for at in range(len(ends) - 1)]


def condition(where: dict[str, Any], key: str, bind: Callable[[Any], str]) -> str | None:
    """SQL of one range; `bind` gives the placeholder of a value. None: all rows."""
    low, high = where.get("low"), where.get("high")
    if low is None and high is None:
        return None
    if low is None:
        return f"({key} < {bind(high)} OR {key} IS NULL)"
    if high is None:
        return f"{key} >= {bind(low)}"
    return f"({key} >= {bind(low)} AND {key} < {bind(high)})"


def label(where: dict[str, Any], key: str) -> str:
    """A range for people: `id 100 … 199`."""
    low, high = where.get("low"), where.get("high")
    if low is None and high is None:
        return ""
    return " ".join(
        [key]
        + ([f"from {low}"] if low is not None else [])
        + ([f"before {high}"] if high is not None else [])
    )
