"""What this user may do with a target, asked of any database before a run begins.

The statements of a commit are asked for with a condition that no row meets. PostgreSQL, MySQL and
MariaDB explain them, which asks for the rights and carries nothing out. Others carry them out in a
transaction that is rolled back. Only a refusal counts: what else a statement meets, the run says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import plain_schema
from hygge.connectors.anysql.publish import written_names
from hygge.connectors.sql import ledger
from hygge.connectors.sql.changes import are_changes, of_target
from hygge.connectors.sql.counting import MOST
from hygge.connectors.sql.errors import ROW_SECURITY, ROW_SECURITY_SAID, said_by, state_of
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import HEADS, OR_REPLACE
from hygge.connectors.sql.mysql_rights import asking
from hygge.connectors.sql.target import Target, exists, reflected_columns, table_for
from hygge.connectors.sql.types import column_for
from hygge.errors import StoreError
from hygge.model import Run

if TYPE_CHECKING:
    import sqlalchemy as sa

_EXPLAINS = ("postgresql", "mysql", "mariadb")
_REFUSED = re.compile(
    r"(?i)permission (?:was )?denied|(?:access|command) denied|insufficient privilege|"
    r"read-?_?only|not authori[sz]ed|must be owner"
)
_OTHER_TYPE = "42804"
"""PostgreSQL's number for a value of a type that a column does not take."""
_OWN = ("SELECT", "INSERT", "UPDATE", "DELETE")
_NEEDED = {"append": ("INSERT",), "replace": ("DELETE", "INSERT"), "merge": _OWN[:3]}


def check_rights(connection: sa.Connection, goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Raise StoreError where this user may not do what the run will do.

    The connection has no transaction yet, and has none afterwards.
    """
    target = ledger.target_of(goal)
    new = f"{ledger.run_name(run.id)}_check"
    _check_new_tables(connection, goal, target._replace(name=new))
    for name in (HEADS, ledger.LEDGER):
        _check(connection, goal, target._replace(name=name), _OWN, None)
    needed = _OWN if are_changes(schema) else _NEEDED[run.mode]
    _check(connection, goal, target, needed, of_target(schema))


def check_types(
    connection: sa.Connection,
    goal: Goal,
    run: Run,
    schema: pa.Schema | None,
    dealt_with: Collection[str],
) -> None:
    """Raise StoreError for a column whose type PostgreSQL does not take from this driver.

    It is asked after hygge's own checks, which say more. Columns that are `dealt_with` may differ.
    The connection has no transaction yet, and has none afterwards.
    """
    target, schema = ledger.target_of(goal), of_target(schema)
    if run.mode == "replace" or schema is None or target.dialect != "postgresql":
        return
    written = _written(connection, target, schema)
    if not written:
        return
    kinds = pa.schema([field for field in plain_schema(schema) if field.name not in dealt_with])
    for _, statement in _statements(connection, target, ["INSERT"], written, kinds):
        error = _error_of(connection, statement)
        if state_of(error) == _OTHER_TYPE:
            raise StoreError(
                f"{goal.who}: {said_by(error).splitlines()[0]}",
                "through this driver a text goes into no column of another type: write "
                "postgresql:// for the driver that can, leave the column out with `columns`, "
                f"{OR_REPLACE}",
            )


def count_rows(connection: sa.Connection, target: Target) -> int | None:
    """Return the rows of the target, as far as `plan` counts; None where they may not be read."""
    import sqlalchemy as sa

    for _, statement in _statements(connection, target, ["SELECT"], (), pa.schema([])):
        if _is_refusal(_error_of(connection, statement)):
            return None
    some = sa.select(sa.literal(1)).select_from(table_for(target, None)).limit(MOST + 1)
    with connection.begin():
        counted = sa.select(sa.func.count()).select_from(some.subquery())
        return int(connection.execute(counted).scalar_one())


def _check(
    connection: sa.Connection,
    goal: Goal,
    target: Target,
    needed: Sequence[str],
    schema: pa.Schema | None,
) -> None:
    """Raise StoreError for a right that is missing on a table, if it exists.

    Its columns are those of `schema` that are written; None: all of the table.
    """
    written = _written(connection, target, schema)
    if written is None:
        return
    for right, statement in _statements(connection, target, needed, written, pa.schema([])):
        error = _error_of(connection, statement)
        if _is_refusal(error):
            said = said_by(error)
            hint = f"GRANT {', '.join(needed)} ON the table to this user"
            if ROW_SECURITY_SAID in said:
                hint = ROW_SECURITY
            raise StoreError(
                f"{goal.who}: this user may not {right} rows of {target.name}: {said}", hint
            )


def _written(
    connection: sa.Connection, target: Target, schema: pa.Schema | None
) -> list[str] | None:
    """Return the columns of a table that rows of `schema` write, or all; None if there is none."""
    with connection.begin():
        if not exists(connection, target):
            return None
        there = [str(column["name"]) for column in reflected_columns(connection, target)]
        if schema is None:
            return there
        names = written_names(connection, target, plain_schema(schema))
        return [name for name in names if name in there]


def _statements(
    connection: sa.Connection,
    target: Target,
    needed: Sequence[str],
    written: Sequence[str],
    kinds: pa.Schema,
) -> Iterator[tuple[str, str]]:
    """Yield each right with a statement that needs it and changes nothing.

    `kinds` are the types of those columns whose types count.
    """
    import sqlalchemy as sa

    def nothing_for(name: str) -> Any:
        if name not in kinds.names:
            return sa.null()
        return sa.cast(sa.null(), column_for(kinds.field(name).type, target.dialect, name))

    table = sa.table(target.name, *map(sa.column, written), schema=target.schema)
    nothing = sa.select(*map(nothing_for, written)).where(sa.false())
    known: dict[str, Any] = {
        "SELECT": sa.select(sa.literal_column("1")).select_from(table).where(sa.false()),
        "INSERT": sa.insert(table).from_select(list(written), nothing),
        "UPDATE": sa.update(table).values({c: c for c in table.columns}).where(sa.false()),
        "DELETE": sa.delete(table).where(sa.false()),
    }
    explain = "EXPLAIN " if target.dialect in _EXPLAINS else ""
    for right in needed:
        if written or right in ("SELECT", "DELETE"):
            yield right, f"{explain}{known[right].compile(connection)}"


def _check_new_tables(connection: sa.Connection, goal: Goal, new: Target) -> None:
    """Raise StoreError where this user may make no tables beside the target, where that is known.

    Elsewhere the run finds it out when it makes the first of them, before a row moves.
    """
    import sqlalchemy as sa

    refusal = None
    if new.dialect == "postgresql":
        with connection.begin():
            read_only, may_create = connection.execute(
                sa.text(
                    "SELECT current_setting('transaction_read_only'), has_schema_privilege("
                    "coalesce(:schema, current_schema()), 'CREATE')"
                ),
                {"schema": new.schema},
            ).one()
        if read_only == "on":
            refusal = "transactions are read-only: a standby, or a setting of this user"
        elif may_create is False:
            refusal = "permission denied for schema"
    elif new.dialect in _EXPLAINS:
        preparer = connection.dialect.identifier_preparer
        table = preparer.format_table(sa.table(new.name, schema=new.schema))
        answers = (_error_of(connection, statement) for statement in asking(table))
        refusal = next((said_by(error) for error in answers if _is_refusal(error)), None)
    if refusal:
        raise StoreError(
            f"{goal.who}: this user may make no tables there, and hygge stages rows in some: "
            f"{refusal}",
            "let this user make, fill and drop tables there, on a server that takes writes",
        )


def _error_of(connection: sa.Connection, statement: str) -> object:
    """Return the driver's error about a statement; None: it would be done. Nothing is changed."""
    from sqlalchemy.exc import DBAPIError

    transaction = connection.begin()
    try:
        connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return error.orig
    finally:
        transaction.rollback()
    return None


def _is_refusal(error: object) -> bool:
    """Return whether a database refuses for want of a right."""
    denied = error is not None and _REFUSED.search(said_by(error)) is not None
    return denied or state_of(error) == "42501"
