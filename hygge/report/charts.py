"""Charts of a report's page, as SVG text: colours come from the page's variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from hygge.errors import rows_text
from hygge.report.progress import count_text, duration_text

WIDTH = 420
"""Narrow, so that its letters are legible on a phone."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 18, 20
_LANE, _ROW = 54, 18
_LETTERS = 46
"""Letters that fit above a bar, of its name and of what it says, also in the size of a phone."""
HOW = {"staged": "staged", "failed": "failed", "given_up": "given up"}
"""How an attempt at a split ended, and the words for it."""
Point = Sequence[float]
"""(seconds, rows, bytes, splits done, lanes), as `hygge/run/recorder.py` keeps them."""


@dataclass(frozen=True)
class Bar:
    """One bar of a chart."""

    name: str
    start: float
    """Where it begins, in the unit of the axis."""
    end: float
    text: str
    """What it says, beside it and when it is pointed at."""
    kind: str = "done"
    """The class of its colour."""


def throughput(points: Sequence[Point]) -> str:
    """Return rows in a second over time; "" with fewer than two points in time."""
    rates = [
        (after[0], max(0.0, (after[1] - before[1]) / (after[0] - before[0])))
        for before, after in pairwise(points)
        if after[0] > before[0]
    ]
    highest = max((rate for _, rate in rates), default=0.0)
    if not highest:
        return ""
    return _steps(
        [(0.0, rates[0][1]), *rates],
        highest,
        f"{count_text(round(highest))} rows/s at most",
        "rate",
    )


def lanes(points: Sequence[Point]) -> str:
    """Return the lanes that worked over time; "" where none was seen at work."""
    seen = [(point[0], float(point[4])) for point in points]
    most = max((count for _, count in seen), default=0.0)
    if not most:
        return ""
    return _steps(seen, most, f"{most:.0f} lane{'s'[: most != 1]} at most", "lanes", height=90)


def _steps(
    points: Sequence[tuple[float, float]], highest: float, label: str, kind: str, height: int = 150
) -> str:
    """Return an area of steps: each value holds since the point before it."""
    last = points[-1][0] or 1.0
    inner = height - _TOP - _BOTTOM

    def x(seconds: float) -> float:
        return _LEFT + seconds / last * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + inner * (1 - value / (highest or 1.0))

    path = [f"M{x(points[0][0]):.1f} {y(0):.1f}"]
    for before, after in pairwise(points):
        path.append(f"L{x(before[0]):.1f} {y(after[1]):.1f} L{x(after[0]):.1f} {y(after[1]):.1f}")
    path.append(f"L{x(last):.1f} {y(0):.1f} Z")
    body = (
        f'<path class="{kind}" d="{" ".join(path)}"/>'
        f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>'
        f'<text x="{_LEFT}" y="12">{escape(label)}</text>'
        f'<text x="{_LEFT}" y="{height - 5}">0 s</text>'
        f'<text class="end" x="{WIDTH - _RIGHT}" y="{height - 5}">{duration_text(last)}</text>'
    )
    return _svg(body, height, label)


def bars(rows: Sequence[Bar], title: str) -> str:
    """Return one line a bar, over a common axis; "" without bars."""
    if not rows:
        return ""
    first = min(bar.start for bar in rows)
    span = max(bar.end for bar in rows) - first or 1.0
    line, left = 34, _LEFT
    body = []
    for number, bar in enumerate(rows):
        top = number * line
        x = left + (bar.start - first) / span * (WIDTH - left - _RIGHT)
        width = max(2.0, (bar.end - bar.start) / span * (WIDTH - left - _RIGHT))
        body.append(
            f"<g><title>{escape(f'{bar.name}: {bar.text}')}</title>"
            f'<text x="{left}" y="{top + 12}">{escape(_fitted(bar))}</text>'
            f'<text class="end dim" x="{WIDTH - _RIGHT}" y="{top + 12}">{escape(bar.text)}</text>'
            f'<rect class="track" x="{left}" y="{top + 17}" width="{WIDTH - left - _RIGHT}" '
            f'height="9" rx="2"/>'
            f'<rect class="{escape(bar.kind)}" x="{x:.1f}" y="{top + 17}" width="{width:.1f}" '
            f'height="9" rx="2"/></g>'
        )
    return _svg("".join(body), len(rows) * line + 4, title)


def columns(rows: Sequence[Bar], title: str) -> str:
    """Return upright bars side by side, as high as `end`; "" without bars."""
    if not rows:
        return ""
    height, highest = 110, max(bar.end for bar in rows) or 1.0
    step = min(60.0, (WIDTH - _LEFT - _RIGHT) / len(rows))
    body = []
    for number, bar in enumerate(rows):
        tall = max(2.0, bar.end / highest * (height - _TOP - 4))
        body.append(
            f"<g><title>{escape(f'{bar.name}: {bar.text}')}</title>"
            f'<rect class="{escape(bar.kind)}" x="{_LEFT + number * step:.1f}" '
            f'y="{height - 2 - tall:.1f}" width="{max(2.0, step - 4):.1f}" height="{tall:.1f}" '
            f'rx="2"/></g>'
        )
    label = f'<text x="{_LEFT}" y="12">{escape(f"{duration_text(highest)} at most")}</text>'
    return _svg(label + "".join(body), height, title)


def gantt(attempts: Mapping[str, Any], seconds: float) -> str:
    """Return a row a lane, a bar an attempt at a split; "" where no attempt is known.

    `attempts` is what `hygge/run/attempts.py` keeps. The axis ends at `seconds`, or at the last
    bar. A lane may read a split while it still stages the one before; such a bar is drawn from the
    end of the one before, and says its true times.
    """
    rows = [dict(zip(attempts["columns"], bar, strict=True)) for bar in attempts.get("bars", ())]
    if not rows:
        return ""
    lanes = sorted({row["lane"] for row in rows})
    last = max([seconds, *(row["ended"] for row in rows)]) or 1.0
    inner = WIDTH - _LANE - _RIGHT
    body = []
    for number, lane in enumerate(lanes):
        top, drawn = number * _ROW, 0.0
        body.append(
            f'<text class="lane" x="{_LEFT}" y="{top + 12}">lane {lane}</text>'
            f'<rect class="track" x="{_LANE}" y="{top + 7}" width="{inner}" height="2"/>'
        )
        for row in (row for row in rows if row["lane"] == lane):
            x = _LANE + max(row["began"], drawn) / last * inner
            drawn = max(drawn, row["ended"])
            width = max(1.0, drawn / last * inner - x + _LANE - 0.5)
            kind = next(how for how in HOW if row[how])
            place = f'x="{min(x, WIDTH - _RIGHT - 1):.1f}" width="{width:.1f}"'
            drawing = f'<rect class="{kind}" {place} y="{top + 2}" height="12" rx="1"/>'
            if row["failed"] and kind == "staged":  # a stripe: some of many
                drawing += f'<rect class="failed" {place} y="{top + 10}" height="4"/>'
            title = escape(_attempts_text(lane, row))
            body.append(f"<g><title>{title}</title>{drawing}</g>")
    foot = len(lanes) * _ROW + 14
    body.append(
        f'<text class="lane" x="{_LANE}" y="{foot}">0 s</text>'
        f'<text class="lane end" x="{WIDTH - _RIGHT}" y="{foot}">{duration_text(last)}</text>'
    )
    counts = {how: sum(row[how] for row in rows) for how in HOW}
    said = ", ".join(f"{counts[how]} {words}" for how, words in HOW.items() if counts[how])
    return _svg("".join(body), foot + 4, f"attempts at splits over time, by lane: {said}")


def _attempts_text(lane: int, row: Mapping[str, Any]) -> str:
    """Return what a bar of `gantt` says when it is pointed at."""
    when = f"{row['began']:.1f} s to {row['ended']:.1f} s"
    if row["split"] is not None:
        how = next(words for name, words in HOW.items() if row[name])
        what = f"split {row['split']} {how}"
    else:
        counts = [f"{row[name]} {words}" for name, words in HOW.items() if row[name]]
        what = f"attempts: {', '.join(counts)}"
    rows = f", {rows_text(row['rows'])}" if row["staged"] else ""
    return f"lane {lane}, {when}: {what}{rows}"


def _fitted(bar: Bar) -> str:
    """Return the name of a bar, as far as there is room beside what it says."""
    room = max(8, _LETTERS - len(bar.text))
    return bar.name if len(bar.name) <= room else f"{bar.name[: room - 1]}…"


def _svg(body: str, height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{body}</svg>"
    )
