"""The chart of a run: of each job a bar for each contender, as SVG, for light and dark pages.

The bar is the median of the whole process; the solid part of it is the move. What was wrong or did
not run is written in words where the bar would be.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from .jobs import JOBS
from .report import Facts
from .rounds import DONE, WRONG, Result

WIDTH, LABEL, NUMBER, ROW, GAP = 760, 190, 120, 20, 34
COLOURS = {
    "light": {"text": "#1f2328", "soft": "#59636e", "mine": "#0b6e4f", "peer": "#8c959f",
              "back": "#ffffff", "wrong": "#b42318"},
    "dark": {"text": "#e6edf3", "soft": "#9198a1", "mine": "#3fb68b", "peer": "#6e7681",
             "back": "#0d1117", "wrong": "#ff7b72"},
}  # fmt: skip


def write(folder: Path, facts: Facts, results: list[Result]) -> list[Path]:
    """`chart-light.svg` and `chart-dark.svg`."""
    paths = []
    for name in COLOURS:
        path = folder / f"chart-{name}.svg"
        path.write_text(draw(facts, results, name))
        paths.append(path)
    return paths


def draw(facts: Facts, results: list[Result], theme: str) -> str:
    """The chart for pages of one theme."""
    body, height = _body(facts, results, COLOURS[theme])
    return _svg(body, height)


def draw_both(facts: Facts, results: list[Result]) -> str:
    """The chart for light and dark pages: the browser shows the one that it wants."""
    style = (
        "<style>.dark { display: none } @media (prefers-color-scheme: dark) "
        "{ .light { display: none } .dark { display: inline } }</style>"
    )
    drawn = {theme: _body(facts, results, colours) for theme, colours in COLOURS.items()}
    groups = [f'<g class="{theme}">\n{body}\n</g>' for theme, (body, _) in drawn.items()]
    return _svg("\n".join([style, *groups]), drawn["light"][1])


def _body(facts: Facts, results: list[Result], colours: dict[str, str]) -> tuple[str, float]:
    """What is drawn, and its height."""
    parts: list[str] = []
    y = 26
    for job in dict.fromkeys(result.job for result in results):
        rows = [each for each in results if each.job == job]
        rows.sort(key=lambda each: (each.status != DONE, each.median("whole_s") or 0))
        most = max((each.median("whole_s") or 0 for each in rows if each.status == DONE), default=1)
        parts.append(_text(0, y, JOBS[job].title, colours["text"], "bold"))
        y += ROW + 2
        for row in rows:
            parts += _row(row, y, most, colours)
            y += ROW
        y += GAP - ROW
    note = (
        f"seconds of the whole process; solid: the move; medians of {facts.rounds}; "
        f"TPC-H scale {facts.scale}"
    )
    parts.append(_text(0, y, note, colours["soft"]))
    busy = "; the machine was busy" if facts.is_busy else ""
    parts.append(_text(0, y + 17, f"{facts.machine}; {facts.date}{busy}", colours["soft"]))
    height = y + 30
    back = f'<rect width="{WIDTH}" height="{height}" fill="{colours["back"]}"/>'
    return "\n".join([back, *parts]), height


def _svg(body: str, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" font-family="system-ui, sans-serif" font-size="13">\n'
        f"<title>hygge beside its peers: seconds of each job</title>\n{body}\n</svg>\n"
    )


def _row(row: Result, y: int, most: float, colours: dict[str, str]) -> list[str]:
    mine = row.contender.startswith("hygge")
    colour = colours["mine"] if mine else colours["peer"]
    label = colours["text"] if mine else colours["soft"]
    parts = [_text(LABEL - 8, y, row.contender, label, anchor="end")]
    whole, move = row.median("whole_s"), row.median("move_s")
    if row.status != DONE or whole is None:
        wrong = row.status == WRONG
        words = f"wrong: {row.words}" if wrong else f"{row.status}: {row.words}"
        parts.append(_text(LABEL, y, words[:78], colours["wrong" if wrong else "soft"]))
        return parts
    room = WIDTH - LABEL - NUMBER
    length = max(1.0, room * whole / most)
    solid = min(length, room * (move if move is not None else whole) / most)
    for size, opacity in ((length, 0.4), (solid, 1)):
        parts.append(
            f'<rect x="{LABEL}" y="{y - 11}" width="{size:.1f}" height="14" rx="2" '
            f'fill="{colour}" opacity="{opacity}"/>'
        )
    types = " *" if row.words else ""
    parts.append(_text(LABEL + length + 6, y, f"{whole:.1f} s{types}", label))
    return parts


def _text(x: float, y: float, words: str, colour: str, weight: str = "normal",
          anchor: str = "start") -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y}" fill="{colour}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )
