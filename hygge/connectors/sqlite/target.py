"""The SQLite table that a run writes to: its columns, and whether the rows fit them exactly."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hygge.batches import plain_schema, widens
from hygge.connectors.sql.heads import OR_REPLACE
from hygge.connectors.sql.names import ascii_folded
from hygge.connectors.sql.own_columns import check_added, check_written
from hygge.connectors.sqlite import catalog
from hygge.connectors.sqlite.session import quoted
from hygge.connectors.sqlite.types import affinity_of, arrow_for, declared_for
from hygge.errors import StoreError, one_of
from hygge.formats.exact_text import has_text
from hygge.model import Head
from hygge.type_words import word_of

_ONE_WORD = re.compile(r"\w+(\(\s*[+-]?\d+\s*(,\s*[+-]?\d+\s*)?\))?")
_UNCHANGED = (pa.int64(), pa.float64(), pa.binary())
"""Types whose values a column without a declared type keeps, whatever its affinity."""


@dataclass(frozen=True)
class TargetColumn:
    """A column that rows are written to."""

    name: str
    declared: str
    type: pa.DataType
    """The Arrow type that values are converted to before they are written."""
    notnull: bool = False
    is_written: bool = True
    """False for a column that the table generates: the values of the rows are left out."""

    def ddl(self) -> str:
        """Return the column's part of CREATE TABLE; a type of several words is quoted."""
        declared = self.declared
        if declared and not _ONE_WORD.fullmatch(declared):
            declared = quoted(declared)
        return f"{quoted(self.name)} {declared}{' NOT NULL' if self.notnull else ''}"


def target_columns(
    connection: sqlite3.Connection, target: str, stays: bool, schema: pa.Schema, who: str
) -> list[TargetColumn]:
    """Return where the columns of `schema` go: in the table that is there, or in a new one.

    `stays`: a table that is there stays, also where it need not.
    """
    present = catalog.columns(connection, target)
    if present and (stays or must_stay(present, schema)):
        return existing_columns(present, schema, who)
    return new_columns(schema)


def must_stay(present: Sequence[catalog.Column], schema: pa.Schema) -> bool:
    """Whether a `replace` must keep the table, for the columns that it fills itself."""
    names = {ascii_folded(name) for name in schema.names}
    return any(
        column.generated or (column.is_supplied and ascii_folded(column.name) not in names)
        for column in present
    )


def check_replace(
    present: Sequence[catalog.Column], schema: pa.Schema, heads: Iterable[Head], who: str
) -> None:
    """Raise StoreError where a replace would lose columns of the table that people added.

    `heads` are those of the table.
    """
    names = {ascii_folded(name) for name in schema.names}
    if not must_stay(present, schema):
        check_added([column.name for column in present], schema.names, heads, who)
        return
    columns = {ascii_folded(column.name) for column in present}
    new = [name for name in schema.names if ascii_folded(name) not in columns]
    if new:
        raise StoreError(
            f"{who} has no column '{new[0]}', which the rows have, and columns it fills itself, "
            "which would go if it was made anew",
            f"add it (ALTER TABLE … ADD COLUMN), or leave it out with `columns`; "
            f"{one_of('its columns', new[0], [column.name for column in present])}",
        )
    lacking = [column for column in present if ascii_folded(column.name) not in names]
    unfilled = [column.name for column in lacking if not column.is_supplied]
    if unfilled:
        raise StoreError(
            f"{who} has column '{unfilled[0]}', which the rows lack, and other columns that the "
            "table fills itself, which would go with it",
            "drop the column, or use `mode: merge`",
        )


def new_columns(schema: pa.Schema) -> list[TargetColumn]:
    """Return the columns of a table that hygge makes for `schema`.

    Raises UnfitValue if SQLite cannot keep a type.
    """
    return [
        TargetColumn(
            field.name, declared_for(field.type, field.name), field.type, not field.nullable
        )
        for field in plain_schema(schema)
    ]


def existing_columns(
    columns: Sequence[catalog.Column], schema: pa.Schema, who: str
) -> list[TargetColumn]:
    """Return the columns of an existing table that take those of `schema`.

    Raises StoreError if a column is missing, does not fit, or must be written but is not in the
    rows.
    """
    by_name = {ascii_folded(column.name): column for column in columns}
    targets = []
    for field in plain_schema(schema):
        column = by_name.pop(ascii_folded(field.name), None)
        if column is not None and column.generated:
            declared = declared_for(field.type, field.name)
            targets.append(TargetColumn(column.name, declared, field.type, is_written=False))
            continue
        if column is None:
            raise StoreError(
                f"{who} has no column '{field.name}', which the rows have",
                f"add it (ALTER TABLE … ADD COLUMN, or `schema: evolve`), leave it out with "
                f"`columns`, {OR_REPLACE}; "
                f"{one_of('its columns', field.name, [c.name for c in columns])}",
            )
        targets.append(TargetColumn(column.name, column.declared, _fitting(column, field, who)))
    check_written([target.name for target in targets if target.is_written], who)
    left = [column.name for column in by_name.values() if not column.fills_itself]
    if left:
        raise StoreError(
            f"{who} has column '{left[0]}', which the rows lack",
            f"give it a DEFAULT, drop it, leave it NULL with `schema: evolve`, {OR_REPLACE}",
        )
    return targets


def can_keep(column: catalog.Column, field: pa.Field) -> bool:
    """Return whether a column keeps every value of the rows unchanged."""
    return kept_as(column, field) is not None


def _fitting(column: catalog.Column, field: pa.Field, who: str) -> pa.DataType:
    """Return the Arrow type to write; raise StoreError if the column would change values."""
    kept = kept_as(column, field)
    if kept is None:
        declared = f"'{column.declared}'" if column.declared else "declared without a type"
        raise StoreError(
            f"{who}: column '{column.name}' is {declared}, which cannot keep "
            f"{word_of(field.type)} exactly",
            f"make it {declared_for(field.type, column.name)} (`schema: evolve` widens it), "
            f"{OR_REPLACE}",
        )
    return kept


def kept_as(column: catalog.Column, field: pa.Field) -> pa.DataType | None:
    """Return the Arrow type in which a column keeps every value of the rows; None: in none."""
    kind, wanted = field.type, arrow_for(column.declared)
    affinity = affinity_of(column.declared)
    fits = False
    if wanted is None:
        # Nothing is declared: values go in as they are, unless the affinity changes them.
        wanted = kind
        fits = kind in _UNCHANGED or (affinity == "BLOB" and kind == pa.string())
    elif has_text(kind):
        fits, wanted = wanted == pa.string() and affinity in ("TEXT", "BLOB"), kind
    elif widens(kind, wanted):
        fits = affinity in ("TEXT", "BLOB") or wanted != pa.string()
        if pa.types.is_decimal(wanted) and affinity != "TEXT":
            fits = wanted.precision <= 15  # kept as REAL: more digits would be lost
    return wanted if fits else None


def create_table(
    connection: sqlite3.Connection, table: str, columns: Sequence[TargetColumn]
) -> None:
    """Create a table; `table` is its name as SQL."""
    ddl = ", ".join(column.ddl() for column in columns)
    connection.execute(f"CREATE TABLE {table} ({ddl})")


def key_index(target: str) -> str:
    """Return the name of the unique index that the first merge makes."""
    return f"_hygge_key_{target}"


def identity(connection: sqlite3.Connection, target: str) -> str | None:
    """Return what identifies the table as it is; None if there is no table.

    It is the CREATE TABLE statement without its last bracket, so it stays a prefix of the
    statement when somebody adds columns.
    """
    sql = catalog.created_by(connection, target)
    return None if sql is None else sql.removesuffix(")")
