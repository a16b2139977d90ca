"""The DuckDB table that a run writes to: its columns, and whether the rows fit them exactly."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import plain_schema, widens
from hygge.connectors.duckdb.catalog import Column
from hygge.connectors.duckdb.session import quoted
from hygge.connectors.duckdb.types import column_type, is_text_borne, read_as
from hygge.connectors.sql.heads import OR_REPLACE
from hygge.connectors.sql.names import ascii_folded
from hygge.connectors.sql.own_columns import check_added, check_written
from hygge.errors import StoreError, one_of
from hygge.model import Head
from hygge.type_words import word_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_UNITS = ("s", "ms", "us", "ns")


@dataclass(frozen=True)
class TargetColumn:
    """A column that rows are written to."""

    name: str
    type: str
    source: str
    """The name of the rows' column."""
    notnull: bool = False
    is_written: bool = True
    """False for a column that the table generates: the values of the rows are left out."""
    is_from_text: bool = False
    """True where the rows have texts: the commit compares them with what the column keeps."""

    def ddl(self) -> str:
        """Return the column's part of CREATE TABLE."""
        return f"{quoted(self.name)} {self.type}{' NOT NULL' if self.notnull else ''}"

    def value(self) -> str:
        """Return SQL of the value of a staged row."""
        return f"CAST({quoted(self.source)} AS {self.type})"


def new_columns(schema: pa.Schema) -> list[TargetColumn]:
    """Return the columns of a table that hygge makes; UnfitValue if DuckDB cannot keep a type."""
    return [
        TargetColumn(field.name, column_type(field), field.name, not field.nullable)
        for field in plain_schema(schema)
    ]


def existing_columns(
    connection: DuckDBPyConnection,
    present: Sequence[Column],
    schema: pa.Schema,
    who: str,
    dealt_with: Collection[str] = (),
) -> list[TargetColumn]:
    """Return the columns of an existing table that take those of `schema`.

    Columns that are `dealt_with` may differ: the commit makes that good. Raises StoreError if a
    column is missing, does not fit, or must be written but is not in the rows.
    """
    by_name = {ascii_folded(column.name): column for column in present}
    targets = []
    for field in plain_schema(schema):
        column = by_name.pop(ascii_folded(field.name), None)
        if column is None:
            if field.name in dealt_with:
                targets.append(TargetColumn(field.name, column_type(field), field.name))
                continue
            raise StoreError(
                f"{who} has no column '{field.name}', which the rows have",
                f"add it (ALTER TABLE … ADD COLUMN, or `schema: evolve`), leave it out with "
                f"`columns`, {OR_REPLACE}; "
                f"{one_of('its columns', field.name, [c.name for c in present])}",
            )
        fits = column.generated or field.name in dealt_with
        if not fits and not can_keep(connection, column, field):
            raise StoreError(
                f"{who}: column '{column.name}' is {column.type}, which cannot keep "
                f"{word_of(field.type)} exactly",
                f"make it {column_type(field)} (`schema: evolve` widens it), {OR_REPLACE}",
            )
        targets.append(
            TargetColumn(
                column.name,
                column.type,
                field.name,
                is_written=not column.generated,
                is_from_text=is_text(field.type),
            )
        )
    check_written([target.name for target in targets if target.is_written], who)
    left = [
        column.name
        for column in by_name.values()
        if not column.generated and column.default is None and column.name not in dealt_with
    ]
    if left:
        raise StoreError(
            f"{who} has column '{left[0]}', which the rows lack",
            f"give it a DEFAULT, drop it, leave it NULL with `schema: evolve`, {OR_REPLACE}",
        )
    return targets


def can_keep(connection: DuckDBPyConnection, column: Column, field: pa.Field) -> bool:
    """Return whether a column keeps every value of the rows unchanged."""
    wanted = canonical(connection, column_type(field))
    if wanted == column.type:
        return True
    if is_text(field.type) and is_text_borne(column.type):
        return True  # the commit looks at each of them
    if column.type == "VARCHAR":
        return wanted in ("JSON", "UUID")  # DuckDB's texts of them say the same
    if column.type in ("HUGEINT", "UHUGEINT"):
        t = pa.types
        is_whole = t.is_unsigned_integer if column.type == "UHUGEINT" else t.is_integer
        return bool(is_whole(field.type))
    has, wants = arrow_of(connection, column.type), arrow_of(connection, wanted)
    if has is None or wants is None or pa.types.is_nested(wants):
        return False
    return widens(wants, has) or _is_finer(wants, has)


def is_text(kind: pa.DataType) -> bool:
    """Return whether the values of a type are texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def canonical(connection: DuckDBPyConnection, name: str) -> str:
    """Return a type as DuckDB writes it."""
    return str(connection.sql(f"SELECT CAST(NULL AS {name}) AS v").types[0])


def arrow_of(connection: DuckDBPyConnection, name: str) -> pa.DataType | None:
    """Return the Arrow type of a column's values; None where they are read as another type."""
    known = read_as(connection.sql(f"SELECT CAST(NULL AS {name}) AS v").types[0])
    return known[0] if known is not None and known[1] == name else None


def _is_finer(wants: pa.DataType, has: pa.DataType) -> bool:
    """Whether a moment or time has more digits there; DuckDB refuses one that is too far for it."""
    t = pa.types
    zones = getattr(wants, "tz", None) == getattr(has, "tz", None)
    same = (t.is_timestamp(wants) and t.is_timestamp(has)) or (t.is_time(wants) and t.is_time(has))
    return bool(same and zones and _UNITS.index(wants.unit) < _UNITS.index(has.unit))


def must_stay(present: Sequence[Column], schema: pa.Schema) -> bool:
    """Whether a `replace` must keep the table, for the columns that it fills itself."""
    names = {ascii_folded(name) for name in schema.names}
    return any(
        column.generated or (column.is_supplied and ascii_folded(column.name) not in names)
        for column in present
    )


def check_replace(
    present: Sequence[Column], schema: pa.Schema, heads: Iterable[Head], who: str
) -> None:
    """Raise StoreError where a replace would lose columns of the table that people added.

    `heads` are those of the table.
    """
    if not must_stay(present, schema):
        check_added([column.name for column in present], schema.names, heads, who)
