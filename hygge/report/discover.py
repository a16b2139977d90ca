"""What there is at a place, for people and as JSON: `hygge discover`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from hygge.connectors.files.discovery import DataSet
from hygge.connectors.sql.listing import TableFacts
from hygge.report.grid import cut, grid, one_line
from hygge.report.progress import bytes_text, count_text

_NAMED = 8
"""Schemas that are named, of those that no pattern took."""


@dataclass(frozen=True)
class Found:
    """What there is at a place."""

    what: str
    """The place, for people."""
    tables: tuple[TableFacts, ...] = ()
    files: tuple[DataSet, ...] = ()
    is_database: bool = False
    default_schema: str = ""
    other_schemas: tuple[str, ...] = ()
    """Schemas with tables that no pattern took."""
    views: int = 0
    """Views that were left out."""
    name: str = ""
    """The name of its connection in a flows.yml."""
    patterns: tuple[str, ...] = ()
    """The patterns that took these tables."""
    excluded: tuple[str, ...] = ()
    """The patterns that left tables out."""
    written: object = field(default=None, repr=False)
    """Its connection in a flows.yml, without secrets; None: it needs none."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables that `written` needs, which stand for its secrets → their values."""


def found_text(found: Found, width: int | None) -> str:
    """Return a table of what there is, at most `width` characters wide (None: any)."""
    if found.is_database:
        return _tables_text(found, width)
    readable = [each for each in found.files if each.is_readable]
    number = sum(each.files for each in found.files)
    sets = f"{len(found.files)} data set{'s'[: len(found.files) != 1]}"
    lines = [f"{found.what}: {sets} in {number:,} file{'s'[: number != 1]}"]
    rows = [
        [
            one_line(each.name), _rows_text(each.rows, each.is_exact), bytes_text(each.bytes),
            f"{each.files:,}", each.kind, one_line(", ".join(each.columns)),
        ]
        for each in readable
    ]  # fmt: skip
    if rows:
        lines += _grid(["name", "rows", "bytes", "files", "type", "columns"], rows, width)
    for each in found.files:
        if not each.is_readable:
            is_lake = each.kind.endswith(" table")
            article = "an" if each.kind[0] in "AEIOU" else "a"
            what = f"{article} {each.kind}" if is_lake else "not readable as it is"
            lines.append(f"  {one_line(each.name)} is {what}: {each.problem}")
    if not found.files:
        lines.append("  no file of a known type is there, or no pattern takes one")
    return "\n".join(lines)


def found_json(found: Found) -> str:
    """Return what there is as one line of JSON; it holds no secret."""
    tables = [
        {
            **asdict(each.table),
            **{key: value for key, value in asdict(each).items() if key != "table"},
        }
        for each in found.tables
    ]
    content = {
        "place": found.what, "tables": tables, "files": [asdict(each) for each in found.files],
        "other_schemas": found.other_schemas,
    }  # fmt: skip
    return json.dumps(content, ensure_ascii=False)


def _tables_text(found: Found, width: int | None) -> str:
    number = len(found.tables)
    lines = [f"{found.what}: {number:,} table{'s'[: number != 1]}"]
    is_short = all(each.table.schema == found.default_schema for each in found.tables)
    rows = [
        [
            one_line(each.table.name if is_short else each.table.text)
            + (" (view)" if each.table.view else ""),
            _rows_text(each.rows, each.is_exact),
            "" if each.bytes is None else bytes_text(each.bytes),
            one_line(", ".join(each.key)),
            one_line(", ".join(each.cursors)),
        ]
        for each in found.tables
    ]
    if rows:
        lines += _grid(["table", "rows", "bytes", "key", "cursor"], rows, width)
    else:
        lines.append("  there is no table in it that this user sees")
    if any(each.rows is None and not each.is_locked for each in found.tables):
        lines.append("  of some the rows are not known: --count counts them")
    refused = [each.table.text for each in found.tables if not each.table.readable]
    if refused:
        lines.append(f"  this user may not read: {one_line(', '.join(refused))}")
    locked = [each.table.text for each in found.tables if each.is_locked]
    if locked:
        names = one_line(", ".join(locked))
        lines.append(f"  another program has locked: {names}; run it again when that has ended")
    if found.views:
        lines.append(f"  and {found.views} view{'s'[: found.views != 1]}: --views")
    if found.other_schemas:
        shown = one_line(", ".join(found.other_schemas[:_NAMED]))
        more = ", …" if len(found.other_schemas) > _NAMED else ""
        pattern = f"--pattern '{one_line(found.other_schemas[0])}.*'"
        lines.append(f"  other schemas with tables: {shown}{more} ({pattern})")
    return "\n".join(lines)


def _rows_text(rows: int | None, is_exact: bool) -> str:
    if rows is None:
        return "?"
    return f"{rows:,}" if is_exact else f"about {count_text(rows)}"


def _grid(names: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    right = [name in ("rows", "bytes", "files") for name in names]
    lines, _ = grid(names, rows, None, right, 60)
    return lines if width is None else [cut(line, width) for line in lines]
