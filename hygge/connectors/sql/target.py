"""A table of a database as SQLAlchemy reflects it: whether it exists, and what fits into it."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

from hygge.batches import plain_schema, widens
from hygge.connectors.sql.types import arrow_for, column_for
from hygge.errors import StoreError, one_of

ORDINAL = "_hygge_row"


class Target(NamedTuple):
    """A table by its names, and the dialect that it is in."""

    schema: str | None
    name: str
    dialect: str


def exists(connection: Any, target: Target) -> bool:
    """Whether there is such a table or view."""
    import sqlalchemy as sa

    return bool(sa.inspect(connection).has_table(target.name, schema=target.schema))


def identity(connection: Any, target: Target) -> str | None:
    """What names a table as it is; the same for as long as nobody makes it anew. None: no table."""
    import sqlalchemy as sa

    if not exists(connection, target):
        return None
    if target.dialect == "postgresql":
        return f"oid {sa.inspect(connection).get_table_oid(target.name, target.schema)}."
    columns = reflected_columns(connection, target)
    return "".join(f"{column['name']} {column['type']}\n" for column in columns)


def table_for(target: Target, schema: pa.Schema | None, staged: bool = False) -> Any:
    """A Table for an Arrow schema; a staged one also numbers its rows."""
    import sqlalchemy as sa

    columns = [
        sa.Column(
            each.name, column_for(each.type, target.dialect, each.name), nullable=each.nullable,
            key=f"c{at}", autoincrement=False,
        )
        for at, each in enumerate(plain_schema(schema) if schema is not None else [])
    ]  # fmt: skip
    if staged:
        columns.append(sa.Column(ORDINAL, sa.BigInteger, key="ordinal", nullable=False))
    return sa.Table(target.name, sa.MetaData(), *columns, schema=target.schema)


def check_fit(connection: Any, target: Target, schema: pa.Schema, there: bool, who: str) -> None:
    """StoreError where the rows' columns do not go into the table as it is."""
    table_for(target, schema)
    if not there:
        return
    kept = {each["name"]: each for each in reflected_columns(connection, target)}
    for each in schema:
        found = kept.pop(each.name, None)
        if found is None:
            raise StoreError(
                f"{who} has no column '{each.name}', which the rows have",
                "add it (ALTER TABLE … ADD COLUMN), leave it out with `columns`, or use `mode: "
                f"replace`; {one_of('its columns', each.name, list(kept))}",
            )
        has = arrow_for(found["type"], target.dialect)[0]
        wants, _ = arrow_for(column_for(each.type, target.dialect, each.name), target.dialect)
        if not (widens(wants, has) or _holds_any(found["type"], wants)) or _rounds(found, each):
            raise StoreError(
                f"{who}: column '{each.name}' is {found['type']}, which cannot keep {each.type} "
                "exactly",
                "change the column's type, or use `mode: replace`",
            )
    for name, found in kept.items():
        fills = found.get("default") is not None or found.get("identity") or found.get("computed")
        if not fills and found.get("autoincrement") is not True:
            raise StoreError(
                f"{who} has column '{name}', which the rows lack",
                "give it a DEFAULT, drop it, or use `mode: replace`",
            )


def _holds_any(found: Any, wants: Any) -> bool:
    """Whether it is a numeric without precision, which PostgreSQL keeps every number in."""
    import sqlalchemy as sa

    exact = isinstance(found, sa.Numeric) and not isinstance(found, sa.Float)
    plain = exact and getattr(found, "precision", None) is None
    return plain and (pa.types.is_decimal(wants) or pa.types.is_integer(wants))


def _rounds(found: Any, field: pa.Field) -> bool:
    """Whether a column of moments keeps fewer digits of the second than the rows have."""
    digits = getattr(found["type"], "precision", None)
    has = {"s": 0, "ms": 3, "us": 6, "ns": 9}.get(getattr(field.type, "unit", ""), 0)
    moments = pa.types.is_timestamp(field.type) or pa.types.is_time(field.type)
    return moments and digits is not None and digits < has


def reflected_columns(connection: Any, target: Target) -> list[Any]:
    import sqlalchemy as sa

    return list(sa.inspect(connection).get_columns(target.name, target.schema))
