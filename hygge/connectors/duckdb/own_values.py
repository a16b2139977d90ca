"""What a DuckDB table makes of values: texts in columns of other types, and numbers of sequences.

The caller has begun the transaction.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hygge.connectors.duckdb import staging
from hygge.connectors.duckdb.catalog import Column
from hygge.connectors.duckdb.publish import Move
from hygge.connectors.duckdb.session import fetch_value, quoted, text
from hygge.connectors.duckdb.types import is_text_borne
from hygge.errors import Rejected, rows_text

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT = re.compile(r"nextval\('((?:[^']|'')+)'\)")
_SEQUENCE = """
SELECT increment_by, last_value, max_value FROM duckdb_sequences()
WHERE database_name = current_database() AND schema_name = ? AND sequence_name = ?
"""


def check_texts(move: Move) -> None:
    """Raise Rejected where a column would make something else of a text than it says.

    A uuid and JSON are the same in any of their spellings.
    """
    for column in move.written:
        if not column.is_from_text or not is_text_borne(column.type):
            continue
        came, kind = quoted(column.source), column.type
        changed = f"TRY_CAST({came} AS {kind}) IS NULL"
        if kind not in ("UUID", "JSON"):
            changed += f" OR CAST(TRY_CAST({came} AS {kind}) AS VARCHAR) <> {came}"
        found = move.connection.execute(
            f"SELECT count(*), min({came}) FROM {staging.source(move.files)} "
            f"WHERE {came} IS NOT NULL AND ({changed})"
        ).fetchall()
        ((rows, value),) = found
        if rows:
            raise Rejected(
                f"{move.who}: column '{column.name}' is {kind}, which does not keep the text of "
                f"{rows_text(rows)}, such as {value!r}",
                "correct these values, leave such rows out with `where`, or make the column "
                "VARCHAR",
            )


def move_sequences(move: Move, present: Sequence[Column]) -> list[str]:
    """Move the sequences that number written columns past their values; return what to say."""
    defaults = {column.name: column.default or "" for column in present}
    notes = []
    for column in move.written if move.files else ():
        default = _DEFAULT.search(defaults[column.name])
        if default is None:
            continue
        name = default[1].replace("''", "'")
        highest = fetch_value(
            move.connection,
            f"SELECT max({column.value()})::HUGEINT FROM {staging.source(move.files)}",
        )
        if highest is None:
            continue
        notes += _moved(move, name, int(highest))
    return notes


def _moved(move: Move, name: str, highest: int) -> list[str]:
    import duckdb

    schema, _, own = name.rpartition(".")
    parts = [(schema or move.schema).strip('"'), own.strip('"')]
    found: list[tuple[Any, ...]] = move.connection.execute(_SEQUENCE, parts).fetchall()
    if not found:
        return [f"the sequence {name} stays where it is: it is not found by that name"]
    ((step, last, most),) = found
    if step < 0 or (last is not None and last >= highest):
        return []
    if highest > most:
        return [f"the sequence {name} stays where it is: it ends before {highest}"]
    if tuple(map(int, duckdb.__version__.split(".")[:1])) < (2,):
        return [f"the sequence {name} stays where it is: this DuckDB cannot move one"]
    move.connection.execute(f"SELECT setval({text(name)}, {highest})")
    return [f"the sequence {name} goes on after {highest}"]
