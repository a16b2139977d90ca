"""Whether a column of MariaDB takes values of an Arrow type, and which of them it would change.

Some columns change values without an error or a warning: CHAR drops blanks at the end, BINARY adds
zeros, ENUM takes '1' for its first label, YEAR takes 5 for 2005, DATETIME drops digits of the
second, TINYTEXT holds '' where a LONGTEXT of 256 bytes is inserted, a NULL in TIMESTAMP NOT NULL
may be the time of now. So a table takes rows of its own definition, and what the run table holds is
looked at before it becomes visible.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import widens
from hygge.connectors.mariadb.catalog import Column
from hygge.connectors.mariadb.session import fetch_all, literal, quoted
from hygge.connectors.mariadb.types import TEXTS
from hygge.connectors.sql.goal import Goal
from hygge.errors import UnfitValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymysql.connections import Connection

FRACTION_DIGITS = {"s": 0, "ms": 3, "us": 6}
_BINARY = "COLLATE utf8mb4_nopad_bin"
_LABEL = re.compile(r"'((?:[^']|'')*)'")
_ROUNDING = re.compile(r"(float|double)\(\d+,\d+\)")
_MOST_BYTES = {
    kind + of: 2**bits - 1
    for kind, bits in (("tiny", 8), ("", 16), ("medium", 24))
    for of in ("text", "blob")
}
"""INSERT … SELECT of a longer value takes its length modulo 256, 65536 …, without a warning."""
_NO_TEXTS = ("uuid", "inet4", "inet6", "json")
"""Texts that have neither a length nor a character set of their own."""


def takes(goal: Goal, column: Column, own: pa.DataType, kind: pa.DataType) -> bool:
    """Whether a column, which is read as `own`, can hold values of an Arrow type.

    Which of them it does not hold exactly is looked at value by value: see `changes`.
    """
    t = pa.types
    if kind == pa.float16():
        kind = pa.float32()
    if t.is_date(kind):
        kind = pa.date32()
    if _ROUNDING.match(column.native):
        return False
    if t.is_timestamp(kind) and t.is_timestamp(own):
        has_zone = kind.tz in (None, "UTC") or goal.options.zones == "utc"
        return has_zone and bool(kind.tz) == bool(own.tz) and kind.unit in FRACTION_DIGITS
    if t.is_time(kind) and t.is_time(own):
        return kind.unit in FRACTION_DIGITS
    return widens(kind, own)


def digits_of(column: Column) -> int:
    """Return the digits of the second that `datetime(n)`, `timestamp(n)` or `time(n)` keeps."""
    match = re.search(r"\((\d)\)", column.native)
    return int(match[1]) if match else 0


def changes(column: Column, kind: pa.DataType) -> str | None:
    """Return SQL that is true for staged values which the column would change; None: for none."""
    name = quoted(column.name)
    conditions: list[str] = []
    if column.kind in ("datetime", "datetime utc", "timestamp", "time"):
        digits = digits_of(column)
        if FRACTION_DIGITS.get(getattr(kind, "unit", ""), 0) > digits:
            conditions.append(f"MICROSECOND({name}) % {10 ** (6 - digits)} <> 0")
        if column.kind == "timestamp" and not column.nullable:
            conditions.append(f"{name} IS NULL")
    elif column.kind == "year":
        conditions.append(f"{name} BETWEEN 1 AND 99")
    elif column.kind == "binary":
        conditions.append(f"LENGTH({name}) <> {_length(column)}")
    elif column.kind == "varbinary":
        conditions.append(f"LENGTH({name}) > {_length(column)}")
    elif column.kind == "enum":
        labels = ", ".join(literal(label) for label in _labels(column))
        conditions.append(f"{name} {_BINARY} NOT IN ({labels})")
    elif column.kind == "set":
        chosen = (
            f"IF(FIND_IN_SET({literal(label)}, {name} {_BINARY}), {literal(label)}, NULL)"
            for label in _labels(column)
        )
        conditions.append(f"CONCAT_WS(',', {', '.join(chosen)}) <> {name} {_BINARY}")
    elif column.kind in ("char", "varchar"):
        conditions.append(f"CHAR_LENGTH({name}) > {_length(column)}")
        if column.kind == "char":
            conditions.append(f"{name} {_BINARY} LIKE '% '")
    is_recoded = column.kind in TEXTS and column.kind not in _NO_TEXTS
    is_recoded = is_recoded and column.charset not in (None, "utf8mb4")
    recoded = f"CONVERT({name} USING {column.charset})" if is_recoded else name
    if is_recoded:
        there = f"CONVERT({recoded} USING utf8mb4)"
        conditions.append(f"{there} {_BINARY} <> {name} {_BINARY}")
    if column.kind in _MOST_BYTES:
        conditions.append(f"LENGTH({recoded}) > {_MOST_BYTES[column.kind]}")
    return " OR ".join(conditions) if conditions else None


def _length(column: Column) -> int:
    match = re.search(r"\((\d+)\)", column.native)
    return int(match[1]) if match else 1


def _labels(column: Column) -> list[str]:
    """Return the labels of an enum or a set, which the catalog writes as SQL does."""
    return [label.replace("''", "'") for label in _LABEL.findall(column.native)]


def check_values(
    connection: Connection,
    goal: Goal,
    staged: str,
    columns: Sequence[Column],
    schema: pa.Schema,
    which: str = "TRUE",
) -> None:
    """Raise UnfitValue for the first staged value that the target would change in silence.

    `staged` is the run table as SQL; `columns` are those of the target; `which` rows are judged.
    """
    by_name = {column.name: column for column in columns}
    for field in schema:
        column = by_name.get(field.name)
        condition = None if column is None else changes(column, field.type)
        if column is None or condition is None:
            continue
        rows = fetch_all(
            connection,
            f"SELECT {quoted(field.name)} FROM {staged} WHERE ({condition}) AND {which} LIMIT 1",
        )
        if rows:
            value = "NULL" if rows[0][0] is None else f"{rows[0][0]!s:.80}"
            raise UnfitValue(
                f"{goal.who}: column '{field.name}' is {column.native}"
                f"{f' of {column.charset}' if column.charset else ''}, which would change a value "
                f"of the rows: {value}",
                "change the column's type in the database, or leave such rows out with `where`",
            )
