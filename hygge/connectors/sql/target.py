"""A table of a database as SQLAlchemy reflects it: whether it exists, and what fits into it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pyarrow as pa

from hygge.batches import plain_schema, widens
from hygge.connectors.sql.heads import OR_REPLACE
from hygge.connectors.sql.types import arrow_for, column_for
from hygge.errors import StoreError, one_of
from hygge.type_words import word_of

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.dialects.postgresql.base import PGInspector

ORDINAL = "_hygge_row"
"""The column of a staged table that numbers its rows."""


Misfit = Callable[[pa.Field], "tuple[str, str] | tuple[()] | None"]
"""See `check_fit`."""


class Target(NamedTuple):
    """A table: its names, and the dialect of its database."""

    schema: str | None
    name: str
    dialect: str


def exists(connection: sa.Connection, target: Target) -> bool:
    """True if there is such a table or view."""
    import sqlalchemy as sa

    return bool(sa.inspect(connection).has_table(target.name, schema=target.schema))


def identity(connection: sa.Connection, target: Target) -> str | None:
    """A text that stays the same until the table is dropped and made again; None: no table."""
    import sqlalchemy as sa

    if not exists(connection, target):
        return None
    if target.dialect == "postgresql":
        inspector = cast("PGInspector", sa.inspect(connection))
        return f"oid {inspector.get_table_oid(target.name, target.schema)}."
    columns = reflected_columns(connection, target)
    return "".join(f"{column['name']} {column['type']}\n" for column in columns)


def table_for(target: Target, schema: pa.Schema | None, staged: bool = False) -> sa.Table:
    """The SQLAlchemy table for an Arrow schema; a staged table also numbers its rows."""
    import sqlalchemy as sa

    columns = [
        sa.Column(
            field.name, column_for(field.type, target.dialect, field.name),
            nullable=field.nullable, key=f"c{at}", autoincrement=False,
        )
        for at, field in enumerate(plain_schema(schema) if schema is not None else [])
    ]  # fmt: skip
    if staged:
        columns.append(sa.Column(ORDINAL, sa.BigInteger, key="ordinal", nullable=False))
    return sa.Table(target.name, sa.MetaData(), *columns, schema=target.schema)


def check_fit(
    connection: sa.Connection,
    target: Target,
    schema: pa.Schema,
    there: bool,
    who: str,
    misfit: Misfit | None = None,
    dealt_with: Collection[str] = (),
) -> None:
    """Raise StoreError if the columns of the rows do not fit into the existing table.

    Columns that are `dealt_with` may differ: the commit makes that good.

    `misfit` knows more of types than SQLAlchemy does: it returns the type of the table's column and
    that of the rows where the first does not hold the second, () where it does, None where it does
    not know.
    """
    table_for(target, schema)
    if not there:
        return
    columns = {column["name"]: column for column in reflected_columns(connection, target)}
    names = list(columns)
    for field in schema:
        column = columns.pop(field.name, None)
        if field.name in dealt_with:
            continue
        if column is None:
            raise StoreError(
                f"{who} has no column '{field.name}', which the rows have",
                f"add it (ALTER TABLE … ADD COLUMN, or `schema: evolve`), leave it out with "
                f"`columns`, {OR_REPLACE}; "
                f"{one_of('its columns', field.name, names)}",
            )
        if column.get("computed"):
            continue  # its values are not written
        types = misfit(field) if misfit is not None else None
        if types is None:
            types = misfit_of(column, field, target)
        if types:
            raise StoreError(
                f"{who}: column '{field.name}' is {types[0]}, which cannot keep {types[1]} exactly",
                f"change the column's type (`schema: evolve` widens it), {OR_REPLACE}",
            )
    for name, column in columns.items():
        fills = column.get("default") is not None
        fills = fills or column.get("identity") or column.get("computed")
        if name in dealt_with:
            continue
        if not fills and column.get("autoincrement") is not True:
            raise StoreError(
                f"{who} has column '{name}', which the rows lack",
                f"give it a DEFAULT, drop it, leave it NULL with `schema: evolve`, {OR_REPLACE}",
            )


def misfit_of(column: Any, field: pa.Field, target: Target) -> tuple[str, str] | tuple[()]:
    """Return the types of a column and of the rows, if the column does not keep them."""
    has = arrow_for(column["type"], target.dialect)[0]
    wants, _ = arrow_for(column_for(field.type, target.dialect, field.name), target.dialect)
    fits = widens(wants, has) or _holds_any(column["type"], wants)
    changes = _rounds(column, field, target.dialect) or _reads_otherwise(column, target.dialect)
    if fits and not changes:
        return ()
    return str(column["type"]), word_of(field.type)


def _holds_any(kind: Any, wants: pa.DataType) -> bool:
    """True for a numeric without precision, in which PostgreSQL keeps every number."""
    import sqlalchemy as sa

    exact = isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float)
    plain = exact and getattr(kind, "precision", None) is None
    return plain and (pa.types.is_decimal(wants) or pa.types.is_integer(wants))


def _rounds(column: Any, field: pa.Field, dialect: str) -> bool:
    """True if a column of timestamps keeps fewer digits of the second than the rows have."""
    kind = column["type"]
    digits = getattr(kind, "precision", None)
    if hasattr(kind, "fsp"):  # MySQL's types keep whole seconds where nothing is said
        digits = kind.fsp or 0
    elif dialect == "mssql" and type(kind).__name__ in ("DATETIME", "SMALLDATETIME"):
        digits = 0  # a DATETIME of SQL Server counts in 3.33 milliseconds
    has = {"s": 0, "ms": 3, "us": 6, "ns": 9}.get(getattr(field.type, "unit", ""), 0)
    moments = pa.types.is_timestamp(field.type) or pa.types.is_time(field.type)
    return moments and digits is not None and digits < has


def _reads_otherwise(column: Any, dialect: str) -> bool:
    """True for types of MySQL that round what they take, or read a text as something else.

    These are float(7,2), and types that are read as texts and are none: year, bit, uuid, inet6.
    """
    import sqlalchemy as sa

    kind = column["type"]
    if dialect not in ("mysql", "mariadb"):
        return False
    if isinstance(kind, sa.Float):
        return getattr(kind, "scale", None) is not None
    reads_text = arrow_for(kind, dialect)[0] == pa.string()
    return reads_text and not isinstance(kind, sa.String | sa.JSON)


def reflected_columns(connection: sa.Connection, target: Target) -> list[Any]:
    """The columns of a table as SQLAlchemy reflects them."""
    import sqlalchemy as sa

    with warnings.catch_warnings():
        # Of types that SQLAlchemy does not know it says so, and gives NullType.
        warnings.filterwarnings("ignore", "Did not recognize type", sa.exc.SAWarning)
        return list(sa.inspect(connection).get_columns(target.name, target.schema))
