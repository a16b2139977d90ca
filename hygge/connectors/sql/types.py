"""Types of databases through SQLAlchemy: Arrow for what a catalog says, and a column for Arrow.

A type without an exact Arrow counterpart (json, uuid, intervals, arrays, numeric without precision)
is read as the database's own text of it. `column_for` refuses what a column could not keep exactly.
"""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

from hygge.errors import UnfitValue
from hygge.model import Watermark
from hygge.type_words import word_of

_SIZED_INTEGERS = ("postgresql", "mysql", "mariadb", "mssql")
"""Dialects whose integer types have a stated size."""
_MYSQL = ("mysql", "mariadb")
_CASTS_TO_TEXT = ("postgresql",)
"""Dialects that can cast every type to text."""


def refuse_inexact(schema: pa.Schema, dialect: str, who: str, zones: bool) -> None:
    """Raise UnfitValue for a column whose values would fit, but come back as another type."""
    for field in schema:
        kind: Any = field.type
        if pa.types.is_timestamp(kind) and kind.tz not in (None, "UTC") and zones:
            remedy = "turn it into UTC before, or keep its moments only: options: {zones: utc}"
        elif kind == pa.uint64() and dialect not in (*_MYSQL, "postgresql"):
            remedy = "make it decimal(20,0), or int64 where it fits, before"
        elif type(kind) is pa.FixedSizeBinaryType:
            remedy = "make it binary before"
        else:
            continue
        raise UnfitValue(
            f"{who}: column '{field.name}' is {word_of(kind)}, which {dialect} would give "
            "back otherwise",
            remedy,
        )


def arrow_for(kind: Any, dialect: str) -> tuple[Any, bool]:
    """The Arrow type of a reflected column; True if it must be cast to text to be read."""
    import sqlalchemy as sa

    if isinstance(kind, sa.Boolean):
        return pa.bool_(), False
    if isinstance(kind, sa.Integer):
        return _integer(kind, dialect), False
    if isinstance(kind, sa.Float):
        narrow = isinstance(kind, sa.REAL) and dialect in ("postgresql", "mssql")
        return (pa.float32() if narrow else pa.float64()), False
    if isinstance(kind, sa.Numeric):
        precision, scale = kind.precision, kind.scale or 0
        if precision and 1 <= precision <= 76 and 0 <= scale <= precision:
            make = pa.decimal128 if precision <= 38 else pa.decimal256
            return make(precision, scale), False
        return pa.string(), True
    if isinstance(kind, sa.DateTime):
        return pa.timestamp("us", "UTC" if kind.timezone else None), False
    if isinstance(kind, sa.Date):
        return pa.date32(), False
    if isinstance(kind, sa.Time):
        return (pa.string(), True) if kind.timezone else (pa.time64("us"), False)
    if isinstance(kind, sa.LargeBinary | sa.types._Binary):
        return pa.binary(), False
    plain = isinstance(kind, sa.String) and not isinstance(kind, sa.JSON)
    return pa.string(), dialect in _CASTS_TO_TEXT and not plain


def _integer(kind: Any, dialect: str) -> Any:
    import sqlalchemy as sa

    unsigned = bool(getattr(kind, "unsigned", False))
    name = type(kind).__name__.upper()
    if dialect not in _SIZED_INTEGERS:
        return pa.int64()
    if name == "TINYINT":
        return pa.uint8() if unsigned or dialect == "mssql" else pa.int8()
    if isinstance(kind, sa.SmallInteger):
        return pa.uint16() if unsigned else pa.int16()
    if isinstance(kind, sa.BigInteger):
        return pa.uint64() if unsigned else pa.int64()
    return pa.uint32() if unsigned else pa.int32()


def column_for(kind: Any, dialect: str, column: str) -> Any:
    """The SQLAlchemy type that keeps every value of `kind`, or UnfitValue."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    t: Any = pa.types
    is_mysql = dialect in _MYSQL
    if t.is_boolean(kind):
        return sa.Boolean()
    if t.is_integer(kind):
        if kind == pa.uint64():
            return mysql.BIGINT(unsigned=True) if is_mysql else sa.Numeric(20, 0)
        bits = kind.bit_width + (1 if t.is_unsigned_integer(kind) else 0)
        if bits <= 16:
            return sa.SmallInteger()
        return sa.Integer() if bits <= 32 else sa.BigInteger()
    if t.is_floating(kind):
        narrow = kind.bit_width <= 32 and dialect == "postgresql"
        return sa.REAL() if narrow else sa.Double()
    if t.is_decimal(kind) and kind.scale >= 0:
        return sa.Numeric(kind.precision, kind.scale)
    if kind in (pa.string(), pa.large_string()):
        return mysql.LONGTEXT() if is_mysql else sa.Text()
    if t.is_binary(kind) or t.is_large_binary(kind) or type(kind) is pa.FixedSizeBinaryType:
        return mysql.LONGBLOB() if is_mysql else sa.LargeBinary()
    if t.is_date(kind):
        return sa.Date()
    if t.is_timestamp(kind) and kind.unit != "ns" and not (kind.tz and dialect != "postgresql"):
        return mysql.DATETIME(fsp=6) if is_mysql else sa.DateTime(timezone=bool(kind.tz))
    if t.is_time(kind) and kind.unit != "ns":
        return mysql.TIME(fsp=6) if is_mysql else sa.Time()
    raise UnfitValue(
        f"column '{column}' is {word_of(kind)}, which a column of {dialect} cannot keep exactly",
        "leave it out with `columns`, or turn it into text or separate columns before",
    )


def to_json(value: Any) -> Watermark:
    """A cursor or key value in JSON form."""
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def from_json(value: Any, kind: Any) -> Any:
    """The value that `to_json` wrote, for a column of this Arrow type."""
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    if pa.types.is_time(kind):
        return time.fromisoformat(value)
    return Decimal(value) if pa.types.is_decimal(kind) else value
