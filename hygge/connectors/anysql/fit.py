"""Values that a column of an existing table would change in silence.

An INSERT cuts blanks at the end that a varchar has no place for, pads what is shorter than a char,
cuts a text for PostgreSQL's types `name` and `"char"`, and MySQL takes a text that is none of an
enum's for a number, keeps the length of a text modulo 256 or 65536, rounds to `float`, and writes
the time of now for NULL in a `timestamp NOT NULL`. No database calls that an error, so the staged
rows are looked at before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from hygge.connectors.sql.target import Target, reflected_columns
from hygge.errors import Rejected
from hygge.type_words import value_text

if TYPE_CHECKING:
    import sqlalchemy as sa

_LONGEST_NAME = 63
_FLOAT_BITS = 24
"""A float of MySQL that is declared with more bits is a double."""
_MOST_BYTES = {
    kind + of: 2**bits - 1
    for kind, bits in (("TINY", 8), ("", 16), ("MEDIUM", 24))
    for of in ("TEXT", "BLOB")
}
"""What the types of MySQL hold; INSERT … SELECT cuts what is longer, without a warning."""
# The base type of each column, also below domains, where it is a type that changes texts.
_POSTGRES = """
WITH RECURSIVE d(name, oid, typmod) AS (
  SELECT a.attname::text, a.atttypid, a.atttypmod FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = coalesce(:schema, current_schema()) AND c.relname = :name
    AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT d.name, t.typbasetype, CASE WHEN d.typmod <> -1 THEN d.typmod ELSE t.typtypmod END
  FROM d JOIN pg_type t ON t.oid = d.oid WHERE t.typtype = 'd')
SELECT d.name, t.typname::text, d.typmod FROM d JOIN pg_type t ON t.oid = d.oid
WHERE t.typname IN ('varchar', 'bpchar', 'name', 'char')
"""


class _Rule(NamedTuple):
    """What a column does to values that are not made for it."""

    column: str
    type: str
    changes: Any
    """Given a column of the staged rows: the SQL condition of the values that it would change."""


def check_values(
    connection: sa.Connection,
    target: Target,
    fields: Sequence[pa.Field],
    staged: Sequence[Any],
    who: str,
) -> None:
    """Raise Rejected for the first value of the staged tables that the target would change.

    `fields` are the columns that are written.
    """
    import sqlalchemy as sa

    t = pa.types
    judged = [
        field.name
        for field in fields
        if t.is_string(field.type)
        or t.is_binary(field.type)
        or t.is_floating(field.type)
        or t.is_timestamp(field.type)
    ]
    rules = [rule for rule in _rules(connection, target) if rule.column in judged]
    if not rules:
        return
    for source in staged:
        columns = {column.name: column for column in source.columns}
        bad = [rule.changes(columns[rule.column]) for rule in rules]
        counts = [sa.func.sum(sa.case((condition, 1), else_=0)) for condition in bad]
        counted = connection.execute(sa.select(*counts).select_from(source)).one()
        for rule, condition, count in zip(rules, bad, counted, strict=True):
            if count:
                column = columns[rule.column]
                example = connection.execute(sa.select(column).where(condition).limit(1)).scalar()
                raise Rejected(
                    f"{who}: column '{rule.column}' is {rule.type}, which would change "
                    f"{value_text(example)} ({count:,} such values)",
                    "widen the column in the database, or leave these rows out with `where`",
                )


def _rules(connection: sa.Connection, target: Target) -> Iterator[_Rule]:
    if target.dialect == "postgresql":
        yield from _in_postgres(connection, target)
        return
    is_mysql = target.dialect in ("mysql", "mariadb")
    for column in reflected_columns(connection, target):
        yield from _of_type(column["name"], column["type"], is_mysql)
        if is_mysql:
            yield from _in_mysql(column)


def _in_postgres(connection: sa.Connection, target: Target) -> Iterator[_Rule]:
    import sqlalchemy as sa

    values = {"schema": target.schema, "name": target.name}
    for name, kind, typmod in connection.execute(sa.text(_POSTGRES), values):
        length = typmod - 4
        if kind == "name":
            yield _Rule(name, "name", lambda c: sa.func.octet_length(c) > _LONGEST_NAME)
        elif kind == "char":
            yield _Rule(name, '"char"', lambda c: sa.func.octet_length(c) > 1)
        elif length > 0 and kind == "varchar":
            yield _Rule(name, f"varchar({length})", _longer_than(length))
        elif length > 0:
            yield _Rule(name, f"char({length})", _is_not_of(length))


def _of_type(name: str, kind: Any, is_mysql: bool) -> Iterator[_Rule]:
    """Yield the rule of a column as SQLAlchemy reflects its type."""
    import sqlalchemy as sa

    members = getattr(kind, "enums", None)
    options = getattr(kind, "values", None)
    length = getattr(kind, "length", None)
    if is_mysql and members:
        labels = [label.encode() for label in members]
        yield _Rule(name, "an enum", lambda c: sa.cast(c, sa.LargeBinary).not_in(labels))
    elif is_mysql and isinstance(options, tuple | list):
        yield _Rule(name, "a set", _is_no_set_of(options))
    elif length is None:
        return
    elif isinstance(kind, sa.CHAR | sa.NCHAR):
        changes = _ends_blank(length) if is_mysql else _is_not_of(length)
        yield _Rule(name, f"char({length})", changes)
    elif isinstance(kind, sa.String):
        yield _Rule(name, f"varchar({length})", _longer_than(length))
    elif isinstance(kind, sa.BINARY) and is_mysql:
        yield _Rule(name, f"binary({length})", lambda c: sa.func.octet_length(c) != length)


def _in_mysql(column: Any) -> Iterator[_Rule]:
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    name, kind = column["name"], column["type"]
    word = type(kind).__name__
    if word in _MOST_BYTES:
        most = _MOST_BYTES[word]
        yield _Rule(name, word.lower(), lambda c: sa.func.octet_length(c) > most)
    elif isinstance(kind, mysql.FLOAT) and (kind.precision or 0) <= _FLOAT_BITS:
        yield _Rule(name, "float", lambda c: sa.cast(c, mysql.FLOAT()) != c)
    elif isinstance(kind, sa.TIMESTAMP) and not column.get("nullable", True):
        yield _Rule(name, "timestamp NOT NULL", lambda c: c.is_(None))


def _longer_than(length: int) -> Callable[[Any], Any]:
    return lambda column: _letters(column) > length


def _is_not_of(length: int) -> Callable[[Any], Any]:
    return lambda column: _letters(column) != length


def _ends_blank(length: int) -> Callable[[Any], Any]:
    """Return the condition for a char of MySQL, which gives no blanks at the end back."""
    import sqlalchemy as sa

    return lambda column: sa.or_(_letters(column) > length, column.like("% "))


def _is_no_set_of(labels: Sequence[str]) -> Callable[[Any], Any]:
    """Return the condition of texts that a set of MySQL would write otherwise, or not hold."""
    import sqlalchemy as sa

    def changes(column: Any) -> Any:
        parts = [sa.case((sa.func.find_in_set(label, column) > 0, label)) for label in labels]
        written = sa.func.concat_ws(",", *parts)
        return sa.cast(written, sa.LargeBinary) != sa.cast(column, sa.LargeBinary)

    return changes


def _letters(column: Any) -> Any:
    """Return the number of letters, with the blanks at the end that LEN of SQL Server ignores."""
    import sqlalchemy as sa

    return sa.func.char_length(column + "|") - 1
