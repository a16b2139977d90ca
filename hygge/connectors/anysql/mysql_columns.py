"""Columns that MySQL or its drivers would give otherwise than they are, and how they are read.

MySQL prints a FLOAT with six digits, whatever it holds. As a DOUBLE it prints every bit.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge.connectors.sql.floats import first_odd
from hygge.errors import ConfigError, UnfitValue

_DIALECTS = ("mysql", "mariadb")
_READ_BY = b"hygge.read_by"
_EXPRESSIONS = {"FLOAT": b"* 1e0", "BIT": b"+ 0"}
"""By the name of a type: what a column is followed by in a SELECT. -0.0 stays -0.0."""
_KINDS = {"FLOAT": pa.float32(), "BIT": pa.uint64(), "YEAR": pa.int16()}
_FLOAT = 4
"""The number of FLOAT in the protocol."""


def kind_of(native: Any, dialect: str) -> pa.DataType | None:
    """Return the Arrow type of a column that SQLAlchemy has no common class for, or another one."""
    if dialect not in _DIALECTS:
        return None
    return _KINDS.get(type(native).__name__)


def marked(field: pa.Field, native: Any, dialect: str) -> pa.Field:
    """Return a field that says how its column is read."""
    expression = _EXPRESSIONS.get(type(native).__name__) if dialect in _DIALECTS else None
    return field if expression is None else field.with_metadata({_READ_BY: expression})


def exact(column: Any, field: pa.Field) -> Any:
    """Return what reads a column as it is, of SQLAlchemy's type of `column`."""
    import sqlalchemy as sa

    expression = (field.metadata or {}).get(_READ_BY, b"").decode()
    if not expression:
        return column
    sign, number = expression.split()
    return sa.type_coerce(column.op(sign)(sa.literal_column(number)), column.type)


def check_floats(dialect: str, batch: pa.Table, who: str) -> None:
    """Raise UnfitValue for the first float of rows to write that MySQL has no number for."""
    if dialect not in _DIALECTS:
        return
    for name, column in zip(batch.column_names, batch.columns, strict=True):
        if (shown := first_odd(column, infinities=True)) is not None:
            raise UnfitValue(
                f"{who}: column '{name}' holds {shown}, which MySQL has no number for",
                "leave these rows out with `where`, or give NULL or 0.0 in a query of the home",
            ).at(name, shown)


def refuse_floats(dialect: str, description: Any, who: str) -> None:
    """Raise ConfigError for a FLOAT in what a query gives, of which the driver tells six digits."""
    floats = [str(column[0]) for column in description or () if column[1] == _FLOAT]
    if floats and dialect in _DIALECTS:
        raise ConfigError(
            f"{who}: column '{floats[0]}' of the query is a FLOAT, of which MySQL gives six digits",
            f"write it as a DOUBLE, which has all of them: {floats[0]} * 1e0 AS {floats[0]}",
        )
