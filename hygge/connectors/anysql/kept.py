"""What a `replace` keeps of a table in any database, and what would be lost with it.

The table stays where its columns are those of the rows, beside columns that it fills itself: its
rows are deleted, and the new ones inserted. Otherwise it is made anew, which is an error where
people gave it something that the catalog shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import plain_schema
from hygge.connectors.sql.own_columns import check_added
from hygge.connectors.sql.target import Target, reflected_columns
from hygge.connectors.sql.types import arrow_for, column_for
from hygge.errors import Rejected, StoreError
from hygge.model import Head

if TYPE_CHECKING:
    import sqlalchemy as sa

_POSTGRES = """
SELECT relacl IS NOT NULL OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid
        AND attacl IS NOT NULL), relowner <> current_user::regrole, relhastriggers,
    relhasrules, relrowsecurity OR EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid),
    reloptions IS NOT NULL
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = coalesce(:schema, current_schema()) AND relname = :name
"""
_REFERRING = """
SELECT conrelid::regclass::text AS child, conname AS name FROM pg_constraint k
JOIN pg_class c ON c.oid = confrelid JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = coalesce(:schema, current_schema()) AND relname = :name AND contype = 'f'
    AND conrelid <> confrelid AND confdeltype IN ('c', 'n', 'd')
"""
_NO_TRANSACTIONS = ("myisam", "aria", "memory", "csv", "archive")
_CHANGING = ("CASCADE", "SET NULL", "SET DEFAULT")
_WORDS = ("its grants", "its owner", "its triggers", "its rules", "its policies", "its parameters")


def stays(connection: sa.Connection, target: Target, schema: pa.Schema) -> bool:
    """Whether the rows go into the table as it is: it fills all other columns itself."""
    fields = {field.name: field for field in plain_schema(schema)}
    order = []
    for column in reflected_columns(connection, target):
        field = fields.pop(column["name"], None)
        if column.get("computed"):
            continue
        if field is None:
            if not _is_supplied(column):
                return False
            continue
        order.append(column["name"])
        wanted = column_for(field.type, target.dialect, field.name)
        types = [arrow_for(kind, target.dialect)[0] for kind in (column["type"], wanted)]
        if types[0] != types[1] or column.get("nullable", True) != field.nullable:
            return False
    return not fields and order == [name for name in schema.names if name in order]


def _is_supplied(column: Any) -> bool:
    """Whether the table has a value of its own for a column that rows lack."""
    default = column.get("default")
    return (
        bool(column.get("identity") or column.get("computed"))
        or str(default or "NULL").upper() != "NULL"
    )


def check_replace(
    connection: sa.Connection,
    target: Target,
    schema: pa.Schema,
    heads: Iterable[Head],
    who: str,
) -> None:
    """Raise Rejected where a table that is made anew would lack what people gave the old one."""
    if stays(connection, target, schema):
        return
    columns = reflected_columns(connection, target)
    present = [column["name"] for column in columns if not _is_supplied(column)]
    check_added(present, schema.names, heads, who)
    lost = _properties(connection, target, columns)
    if lost:
        raise Rejected(
            f"{who} has other columns than the rows, and something depends on it: "
            f"{', '.join(lost[:5])}{' …' if len(lost) > 5 else ''}",
            "drop what depends on it, add new columns yourself (ALTER TABLE … ADD COLUMN), or keep "
            "the columns with `columns`",
        )


def check_table(connection: sa.Connection, target: Target, who: str) -> None:
    """Raise StoreError for a target whose rows `adopt` cannot replace in one transaction."""
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    with suppress(NotImplementedError):
        if target.name in inspector.get_view_names(target.schema):
            raise StoreError(f"{who} is a view, and `adopt` takes tables", "name a table")
    with suppress(NotImplementedError, sa.exc.NoSuchTableError):
        options = inspector.get_table_options(target.name, target.schema)
        engine = next((str(value) for key, value in options.items() if "engine" in key), "InnoDB")
        if engine.lower() in _NO_TRANSACTIONS:
            raise StoreError(
                f"{who} is kept by {engine}, which has no transactions: a reader would see it "
                "empty",
                "ALTER TABLE … ENGINE = InnoDB",
            )


def check_foreign_keys(connection: sa.Connection, target: Target, who: str) -> None:
    """Raise Rejected where deleting the old rows would change rows of other tables.

    PostgreSQL is asked for all of its schemas; of other databases, those in the target's own.
    """
    import sqlalchemy as sa

    if target.dialect == "postgresql":
        values = {"schema": target.schema, "name": target.name}
        rows = connection.execute(sa.text(_REFERRING), values).all()
        found = [(row.child, row.name) for row in rows]
    else:
        found = []
        with suppress(NotImplementedError):
            keys = sa.inspect(connection).get_multi_foreign_keys(schema=target.schema)
            for (_, child), entries in keys.items():
                found += [
                    (child, str(entry["name"]))
                    for entry in entries
                    if child != target.name
                    and entry["referred_table"] == target.name
                    and entry["referred_schema"] in (target.schema, None)
                    and str(entry.get("options", {}).get("ondelete")).upper() in _CHANGING
                ]
    if found:
        child, name = found[0]
        raise Rejected(
            f"{who} cannot be replaced: rows of {child} that refer to its rows would be removed or "
            f"changed (foreign key {name})",
            "use `mode: merge`, or make that key ON DELETE NO ACTION",
        )


def _properties(connection: sa.Connection, target: Target, columns: Iterable[Any]) -> list[str]:
    """Return what a table made anew would not have, as far as the catalog shows it, in words."""
    import sqlalchemy as sa

    inspector, at = sa.inspect(connection), (target.name, target.schema)
    properties = []
    for word, ask in (
        ("index", inspector.get_indexes),
        ("unique constraint", inspector.get_unique_constraints),
        ("foreign key", inspector.get_foreign_keys),
        ("check", inspector.get_check_constraints),
    ):
        with suppress(NotImplementedError):
            names = [str(entry["name"]) for entry in ask(*at)]
            properties += [f"{word} {name}" for name in names if not name.startswith("_hygge_key_")]
    with suppress(NotImplementedError):
        properties += ["its comment"] * bool(inspector.get_table_comment(*at).get("text"))
    for column in columns:
        properties += [f"the comment of column {column['name']}"] * bool(column.get("comment"))
        properties += [f"the default of column {column['name']}"] * _is_supplied(column)
    if target.dialect == "postgresql":
        values = {"schema": target.schema, "name": target.name}
        answers = connection.execute(sa.text(_POSTGRES), values).one()
        properties += [word for word, is_so in zip(_WORDS, answers, strict=True) if is_so]
    return properties
