"""`hygge bad`: the rows that the runs of a file have set aside."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hygge.journal.bad_files import BadFiles, flows_with_bad_rows
from hygge.places.place import place_at

if TYPE_CHECKING:
    from hygge.coordinator.coordinator import Coordinator

_SHOWN = ("flow", "run", "split", "file", "line", "column", "value", "reason", "text")
_LONGEST = 60


def bad(arguments: argparse.Namespace, coordinator: Coordinator) -> int:
    """Print the bad rows of the selected flows, the newest run first."""
    rows = list(_rows(coordinator))
    if arguments.json:
        for row in rows:
            print(json.dumps({name: row[name] for name in _SHOWN}, ensure_ascii=False))
    elif rows:
        print(_table(rows))
    else:
        print(f"{arguments.file}: no row is set aside")
    return 0


def _rows(coordinator: Coordinator) -> Iterator[dict[str, Any]]:
    """Yield the bad rows of the selected flows, and of their tables."""
    place = place_at(coordinator.file.state)
    identities = [coordinator.identity(spec.name) for spec in coordinator.file.flows]
    for flow, runs in flows_with_bad_rows(place):
        if not any(flow == one or flow.startswith(f"{one}.") for one in identities):
            continue
        for run in runs:
            yield from BadFiles(place, flow).read(run).to_pylist()


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows in columns under their names; a run stands above its rows."""
    shown = ("line", "column", "value", "reason")
    lines: list[str] = []
    before = None
    for row in rows:
        if (row["flow"], row["run"], row["file"]) != before:
            before = (row["flow"], row["run"], row["file"])
            lines += [""] if lines else []
            lines.append("  ".join(text for text in before if text))
            same = [
                other for other in rows if (other["flow"], other["run"], other["file"]) == before
            ]
            widths = [
                max(len(name), *(len(_cell(other[name])) for other in same)) for name in shown
            ]
            lines.append(_line(shown, widths))
        lines.append(_line([_cell(row[name]) for name in shown], widths))
    return "\n".join(lines)


def _line(cells: tuple[str, ...] | list[str], widths: list[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"  {'  '.join(padded)}".rstrip()


def _cell(value: object) -> str:
    text = "" if value is None else str(value).replace("\n", "\\n").replace("\r", "\\r")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
