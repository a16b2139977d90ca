"""The first rows of a flow for people, and as JSON: `hygge preview`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pyarrow as pa

from hygge.formats.json_writer import json_lines, unfit_type
from hygge.model import Column
from hygge.report.grid import cell_texts, grid
from hygge.report.text import relative
from hygge.type_words import word_of

_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
_NAMED = 20
"""Columns without room that are named, with their types."""


@dataclass(frozen=True)
class Preview:
    """The first rows of one flow."""

    flow: str
    """Its name."""
    home: str
    """The source, as `Home.describe` gives it."""
    columns: tuple[Column, ...]
    """The columns that the store would get; (): the home has no row, and states no columns."""
    rows: pa.Table | None = field(default=None, repr=False)
    """At most as many rows as were asked for; None: as above."""
    has_more: bool = False
    """True if there are more rows than these."""
    set_aside: int = 0
    """Rows before them that cannot be moved, and that a run would set aside."""


def preview_text(found: Preview, width: int | None) -> str:
    """Return the first rows of a flow as a table at most `width` columns wide (None: any)."""
    lines = [f"{found.flow}: {_amount(found)} of {relative(found.home)}"]
    if found.set_aside:
        rows = f"{found.set_aside:,} row{'s'[: found.set_aside != 1]}"
        lines.append(f"  {rows} before the end of these cannot be moved: a run sets them aside")
    if found.rows is None:
        return "\n".join([*lines, "  its columns are known when the first rows come"])
    schema = found.rows.schema
    types = [type_text(field) for field in schema]
    cells = [cell_texts(column) for column in found.rows.columns]
    rows_of_cells = [types, *([column[at] for column in cells] for at in range(len(found.rows)))]
    right = [any(is_number(field.type) for is_number in _NUMBERS) for field in schema]
    table, shown = grid(schema.names, rows_of_cells, width, right)
    lines += table
    if rest := [f"{field.name} {type_text(field)}" for field in list(schema)[shown:]]:
        names = ", ".join(rest[:_NAMED]) + (", …" if len(rest) > _NAMED else "")
        more = f"{len(rest)} column{'s'[: len(rest) != 1]} more"
        lines.append(f"  and {more}, for which there is no room: {names}")
    return "\n".join(lines)


def preview_json(found: Preview) -> str:
    """Return the first rows of a flow as one line of JSON; values are as JSONL files have them."""
    natives = {column.name: column.native for column in found.columns}
    columns = [
        {
            "name": f.name,
            "type": word_of(f.type),
            "nullable": f.nullable,
            "native": natives.get(f.name),
        }
        for f in (found.rows.schema if found.rows is not None else ())
    ]
    facts = {
        "flow": found.flow, "home": found.home, "columns": columns,
        "has_more": found.has_more, "set_aside": found.set_aside,
    }  # fmt: skip
    rows = b"" if found.rows is None else json_lines(_with_json_forms(found.rows))
    lines = bytes(rows).decode().rstrip("\n").split("\n")  # a text may have U+2028
    return f'{json.dumps(facts, ensure_ascii=False)[:-1]}, "rows": [{", ".join(lines)}]}}'


def type_text(field: pa.Field) -> str:
    """Return the type of a column as `types:` has it."""
    text = word_of(field.type)
    return text if field.nullable else f"{text} not null"


def _amount(found: Preview) -> str:
    number = 0 if found.rows is None else found.rows.num_rows
    if number == 0:
        return "no row"
    if found.has_more:
        return "the first row" if number == 1 else f"the first {number:,} rows"
    return "the one row" if number == 1 else f"all {number:,} rows"


def _with_json_forms(rows: pa.Table) -> pa.Table:
    """Return rows whose columns JSON has a form for; others become the text that people see."""
    for at, column in enumerate(rows.schema):
        if unfit_type(column.type):
            valid = rows.column(at).is_valid().to_pylist()
            texts = cell_texts(rows.column(at))
            shown = [
                text if is_valid else None for text, is_valid in zip(texts, valid, strict=True)
            ]
            rows = rows.set_column(at, column.name, pa.array(shown, pa.string()))
    return rows
