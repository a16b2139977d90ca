"""How a table of any database follows the columns of its rows: `schema: evolve`.

Columns are added everywhere. Types are widened, and NOT NULL is dropped, where the statement for it
is known: PostgreSQL, SQL Server, and MySQL for columns without a default and a comment. Where a
database ends its transaction at such a statement, the columns change just before the rows come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import plain_schema
from hygge.connectors.sql import ledger
from hygge.connectors.sql.evolving import (
    NOTHING,
    Evolution,
    Present,
    Statements,
    Wanted,
    evolution,
    is_wider,
)
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import OR
from hygge.connectors.sql.plain_sql import quoted_table, quoter, run_plain
from hygge.connectors.sql.target import exists, misfit_of, reflected_columns
from hygge.connectors.sql.types import arrow_for, column_for
from hygge.model import Run

if TYPE_CHECKING:
    import sqlalchemy as sa

_MYSQL = ("mysql", "mariadb")
_ADDS_WITHOUT_COLUMN = ("mssql", "oracle")


def evolution_of(
    connection: sa.Connection, goal: Goal, run: Run, schema: pa.Schema | None
) -> Evolution:
    """Return what makes the target take rows of `schema`; nothing unless the flow evolves.

    Raises StoreError for a difference that cannot be made good.
    """
    import sqlalchemy as sa

    target = ledger.target_of(goal)
    if schema is None or not goal.evolves:
        return NOTHING
    if not exists(connection, target):
        return NOTHING
    dialect, quoted = target.dialect, quoter(connection)
    table = quoted_table(connection, target.schema, target.name)
    columns = {column["name"]: column for column in reflected_columns(connection, target)}
    fields = {field.name: field for field in plain_schema(schema)}
    key = sa.inspect(connection).get_pk_constraint(target.name, target.schema)
    in_key = set(key.get("constrained_columns") or ())

    def text(kind: Any) -> str:
        return str(kind.compile(dialect=connection.dialect))

    def wanted_type(field: pa.Field) -> str:
        return text(column_for(field.type, dialect, field.name))

    def add(wanted: Wanted) -> str:
        word = "ADD" if dialect in _ADDS_WITHOUT_COLUMN else "ADD COLUMN"
        return f"ALTER TABLE {table} {word} {quoted(wanted.name)} {wanted.type} NULL"

    def changed(column: Any, kind: str, is_nullable: bool) -> str | None:
        name, null = quoted(column["name"]), "NULL" if is_nullable else "NOT NULL"
        if dialect == "mssql":
            return f"ALTER TABLE {table} ALTER COLUMN {name} {kind} {null}"
        has_more = column.get("default") or column.get("comment")
        if dialect in _MYSQL and not has_more and column.get("autoincrement") is not True:
            return f"ALTER TABLE {table} MODIFY COLUMN {name} {kind} {null}"
        return None

    def widen(present: Present, wanted: Wanted) -> str | None:
        if dialect == "postgresql":
            name = quoted(present.name)
            return f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {wanted.type}"
        return changed(columns[present.name], wanted.type, present.is_nullable)

    def free(present: Present) -> str | None:
        if dialect == "postgresql":
            return f"ALTER TABLE {table} ALTER COLUMN {quoted(present.name)} DROP NOT NULL"
        column, field = columns[present.name], fields[present.name]
        kind = present.type if not misfit_of(column, field, target) else wanted_type(field)
        return changed(column, kind, True)

    def wider(present: Present, wanted: Wanted) -> bool:
        has = arrow_for(columns[present.name]["type"], dialect)[0]
        wants = arrow_for(column_for(fields[wanted.name].type, dialect, wanted.name), dialect)[0]
        return is_wider(has, wants)

    return evolution(
        [
            Present(
                name, text(column["type"]), bool(column.get("nullable", True)),
                column.get("default") is not None or bool(column.get("identity"))
                or column.get("autoincrement") is True,
                bool(column.get("computed")), name in in_key,
            )
            for name, column in columns.items()
        ],
        [Wanted(field.name, wanted_type(field), field.nullable) for field in fields.values()],
        Statements(
            add, widen, free,
            lambda present, wanted: not misfit_of(
                columns[present.name], fields[wanted.name], target
            ),
            wider,
        ),
        run,
        [head for head, _ in ledger.heads_at(connection, goal).values()],
        goal.who,
    )  # fmt: skip


def follow(
    connection: sa.Connection, goal: Goal, run: Run, schema: pa.Schema | None, staged: str
) -> Evolution:
    """Change the target, in the transaction of the commit where the database can; return how.

    `staged` is a table of this run, whose columns have the types that the target's will have.
    """
    evolved = evolution_of(connection, goal, run, schema)
    target = ledger.target_of(goal)
    if evolved.statements and target.dialect != "postgresql":  # which knows tables by number
        _remember(connection, goal, evolved, staged)
    for statement in evolved.statements:
        run_plain(connection, statement)
    return evolved


def _remember(connection: sa.Connection, goal: Goal, evolved: Evolution, staged: str) -> None:
    """Let the heads of a table that hygge made know it also as it will be, statement by statement.

    Where a statement ends the transaction, the first of them commits this.
    """
    if not ledger.is_made(connection, goal):
        return
    target, heads = ledger.target_of(goal), ledger.heads_table(goal)
    lines = {
        column["name"]: f"{column['name']} {column['type']}\n"
        for column in reflected_columns(connection, target)
    }
    steps = ["".join(lines.values())]
    for column in reflected_columns(connection, target._replace(name=staged)):
        name = column["name"]
        if name in lines and name in evolved.dealt_with:
            lines[name] = f"{name} {column['type']}\n"
            steps.append("".join(lines.values()))
    if len(steps) > 1:
        mine = (heads.c.target == target.name) & heads.c.made.is_not(None)
        connection.execute(heads.update().where(mine).values(made=OR.join(steps)))
