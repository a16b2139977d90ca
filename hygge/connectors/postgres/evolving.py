"""How a table of PostgreSQL follows the columns of its rows: `schema: evolve`.

The statements run in the transaction of the commit, so that columns and rows become visible
together. Rows of another PostgreSQL bring its own types. A wider type rewrites the table, unless
only a length grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import raw_format
from hygge.connectors.postgres import choosing, fit, session
from hygge.connectors.postgres.target import names_of
from hygge.connectors.postgres.types import column_names, new_columns
from hygge.connectors.sql import ledger as sql_ledger
from hygge.connectors.sql.evolving import (
    NOTHING,
    Evolution,
    Present,
    Statements,
    Wanted,
    evolution,
)
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.target import misfit_of, reflected_columns
from hygge.errors import StoreError
from hygge.model import Run

if TYPE_CHECKING:
    import sqlalchemy as sa

_COLUMNS = """
SELECT a.attname, NOT a.attnotnull, coalesce(to_jsonb(a)->>'attgenerated', '') <> '',
    atthasdef AND pg_get_expr(f.adbin, f.adrelid) !~* '^NULL' OR
        coalesce(to_jsonb(a)->>'attidentity', '') <> '',
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary
            AND a.attnum = ANY(i.indkey::int2[]))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n
    ON n.oid = c.relnamespace LEFT JOIN pg_attrdef f ON f.adrelid = c.oid AND f.adnum = a.attnum
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_USERS = """
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %s::regclass AND a.attname = %s
    AND (d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass)
         OR d.classid = 'pg_attrdef'::regclass AND NOT EXISTS (SELECT FROM pg_attrdef f
            WHERE f.oid = d.objid AND f.adrelid = d.refobjid AND f.adnum = d.refobjsubid))
LIMIT 1
"""
_INTEGERS = ("smallint", "integer", "bigint")


def evolution_of(
    connection: sa.Connection, goal: Goal, run: Run, schema: pa.Schema | None
) -> Evolution:
    """Return what makes the target take rows of `schema`; nothing unless the flow evolves.

    Raises StoreError for a difference that cannot be made good.
    """
    if schema is None or not goal.evolves:
        return NOTHING
    names = names_of(connection, goal, run.id)
    there = choosing.target_columns(connection, names)
    if not there:
        return NOTHING
    target = sql_ledger.target_of(goal)
    fields = {field.name: field for field in plain_columns(schema)}
    reflected = {column["name"]: column for column in reflected_columns(connection, target)}

    def fits(present: Present, wanted: Wanted) -> bool:
        field = fields[wanted.name]
        misfit = choosing.misfit(schema, field, there[present.name])
        if misfit is None:
            misfit = misfit_of(reflected[present.name], field, target)
        return not misfit

    def change(column: str, does: str) -> str:
        return f"ALTER TABLE {names.target} ALTER COLUMN {session.quoted(column)} {does}"

    def widen(present: Present, wanted: Wanted) -> str:
        users = session.fetch_all(connection, _USERS, names.target, present.name)
        if users:
            raise StoreError(
                f"{goal.who}: column '{present.name}' is {present.type}, and {wanted.type} in the "
                f"rows; PostgreSQL does not change its type while something reads it: "
                f"{users[0][0]}",
                "drop that, and make it again after the run; or widen the column yourself",
            )
        return change(present.name, f"TYPE {wanted.type}")

    wanted_columns = new_columns(connection, schema)
    collations = {column.name: column.collation for column in wanted_columns}

    def add(wanted: Wanted) -> str:
        collation = collations[wanted.name]
        order = f" COLLATE {session.quoted(collation)}" if collation else ""
        name = session.quoted(wanted.name)
        return f"ALTER TABLE {names.target} ADD COLUMN {name} {wanted.type}{order}"

    rows = session.fetch_all(connection, _COLUMNS, names.schema, names.name)
    result = evolution(
        [
            Present(name, there[name].type, is_nullable, is_filled, is_generated, in_key)
            for name, is_nullable, is_generated, is_filled, in_key in rows
        ],
        [Wanted(column.name, column.type, column.nullable) for column in wanted_columns],
        Statements(
            add, widen, lambda present: change(present.name, "DROP NOT NULL"), fits,
            lambda old, new: old.type == there[old.name].base and is_wider(old.type, new.type),
        ),
        run,
        [head for head, _ in sql_ledger.heads_at(connection, goal).values()],
        goal.who,
    )  # fmt: skip
    if result.statements:
        _check_rights(connection, goal, names.target)
    return result


def plain_columns(schema: pa.Schema) -> pa.Schema:
    """Return the columns of the rows, as texts where they come as a passthrough."""
    if raw_format(schema) is None:
        return schema
    return pa.schema([(name, pa.string()) for name in column_names(schema)])


def is_wider(old: str, new: str) -> bool:
    """Return whether the type `new` is a wider one of the same kind as `old`."""
    new = new.lower().replace(", ", ",")
    one, two = fit.form_of(old), fit.form_of(new)
    if not fit.widens(old, new) or one.is_array:
        return False
    if one.name == "numeric" == two.name:
        return not two.modifiers or one.modifiers[1:] == two.modifiers[1:]
    if one.name in _INTEGERS:
        return two.name in _INTEGERS
    pairs = (("real", "double precision"), ("character varying", "text"))
    return one.name == two.name or (one.name, two.name) in pairs


def _check_rights(connection: sa.Connection, goal: Goal, table: str) -> None:
    """Raise StoreError where this user may not alter the target, or where it is no table."""
    kind, may_alter = session.fetch_one(
        connection,
        "SELECT relkind, pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = %s::regclass",
        table,
    )
    if kind not in ("r", "p") or not may_alter:
        why = "this user does not own it" if kind in ("r", "p") else "it is no table"
        raise StoreError(
            f"{goal.who} needs other columns, and cannot be altered: {why}",
            "run as its owner; or alter the table yourself, and take `schema: evolve` out",
        )
