"""Move staged rows into the target in any database: replace, append and merge.

The caller holds the transaction. `replace` empties the old table and fills it in the same
transaction, so that grants, views and keys stay. Only if the columns differ, the table is dropped
and made again, and only where DDL is part of a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import plain_schema
from hygge.connectors.sql.commit import check_all_in, check_merge
from hygge.connectors.sql.errors import state_of
from hygge.connectors.sql.target import ORDINAL, Target, reflected_columns, table_for
from hygge.connectors.sql.types import arrow_for, column_for
from hygge.errors import Rejected, StoreError
from hygge.model import Run

if TYPE_CHECKING:
    import sqlalchemy as sa

TRANSACTIONAL_DDL = ("postgresql", "mssql")
"""Dialects in which CREATE TABLE is part of a transaction; in others it ends the transaction."""
_SPLIT = "_hygge_split"


def apply(
    connection: sa.Connection,
    target: Target,
    schema: pa.Schema,
    staged: Sequence[Any],
    run: Run,
    there: bool,
    rows: int,
    who: str,
) -> None:
    """Move the staged rows into the target by the mode of the run; `rows` is their number."""
    import sqlalchemy as sa
    from sqlalchemy.exc import IntegrityError

    table = table_for(target, schema)
    if run.mode == "replace" and there:
        there = _emptied(connection, target, table, schema, who)
    if not there:
        table.create(connection)
        if run.mode == "merge" and target.dialect in TRANSACTIONAL_DDL:
            key = [_column(table, name) for name in run.key]
            index = sa.Index(f"_hygge_key_{target.name}"[:63], *key, unique=True)
            index.create(connection)
    elif run.mode == "merge" and target.dialect == "postgresql":
        _lock_out_writers(connection, target)
    count = 0
    try:
        for source in staged:
            done = _merge(connection, table, source, schema, run, who) if run.mode == "merge" else 0
            picked = sa.select(*[_column(source, name) for name in schema.names])
            if run.mode == "merge":
                same = sa.exists().where(_same(table, source, run))
                picked = picked.where(~same.correlate(source))
            else:
                picked = picked.order_by(source.c.ordinal)
            into = [_column(table, name) for name in schema.names]
            insert = sa.insert(table).from_select(into, picked)
            new = connection.execute(insert.execution_options(preserve_rowcount=True)).rowcount
            count = -1 if min(count, new) < 0 else count + done + new
    except IntegrityError as error:
        raise Rejected(
            f"the rows break a rule of {who}: {error.orig}",
            "use `mode: merge` with a key, or leave these rows out with `where`",
        ) from error
    _check_count(count, rows, who)


def _merge(
    connection: sa.Connection, table: Any, source: Any, schema: pa.Schema, run: Run, who: str
) -> int:
    """Update the rows whose keys exist; gives how many rows of `source` met one."""
    import sqlalchemy as sa

    same = _same(table, source, run)
    there = sa.select(sa.func.count()).select_from(source)
    there = there.where(sa.exists().where(same).correlate(source))
    met: int = connection.execute(there).scalar_one()
    changed = {
        _column(table, name): _column(source, name) for name in schema.names if name not in run.key
    }
    if changed:
        pairs = sa.select(sa.func.count()).select_from(table).join(source, same)
        wanted = connection.execute(pairs).scalar_one()
        done = connection.execute(sa.update(table).values(changed).where(same))
        _check_count(done.rowcount, wanted, who)
    return met


def _lock_out_writers(connection: sa.Connection, target: Target) -> None:
    """Lock the table against other writers: a key that they insert now would be missed or twice."""
    import sqlalchemy as sa

    preparer = connection.dialect.identifier_preparer
    name = preparer.format_table(sa.table(target.name, schema=target.schema))
    # Not as `sa.text`, which would see a parameter in a name with a colon.
    connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")


def _check_count(count: int, wanted: int, who: str) -> None:
    """Check the number of changed rows, unless the driver does not tell it (-1)."""
    if count >= 0:
        check_all_in(count, wanted, who)


def winners(
    connection: sa.Connection,
    target: Target,
    name: str,
    schema: pa.Schema,
    staged: Sequence[Any],
    run: Run,
    who: str,
) -> tuple[list[Any], int]:
    """Tables with one row for each key: of rows that share a key, the last by cursor counts.

    This is a new table, `name`, or the staged tables where no two rows share a key.
    """
    import sqlalchemy as sa

    parts = [
        sa.select(*source.columns, sa.literal(at, sa.Integer).label(_SPLIT))
        for at, source in enumerate(staged)
    ]
    every = sa.union_all(*parts).subquery("a") if len(parts) > 1 else parts[0].subquery("a")
    key = [_column(every, each) for each in run.key]
    rows, nulls = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.count(sa.case((sa.or_(*[each.is_(None) for each in key]), 1))),
        ).select_from(every)
    ).one()
    keys = sa.select(*key).distinct().subquery()
    distinct = connection.execute(sa.select(sa.func.count()).select_from(keys)).scalar_one()
    check_merge(rows, nulls, distinct, run, who)
    if rows == distinct:
        return list(staged), distinct  # every row is the only one of its key
    table = table_for(target._replace(name=name), schema)
    table.drop(connection, checkfirst=True)
    table.create(connection)
    order = [every.c[_SPLIT].desc(), _column(every, ORDINAL).desc()]
    if run.cursor is not None:
        cursor = _column(every, run.cursor)
        order = [sa.case((cursor.is_(None), 1), else_=0), cursor.desc(), *order]
    number = sa.func.row_number().over(partition_by=key, order_by=order).label("_hygge_n")
    numbered = sa.select(*[_column(every, each) for each in schema.names], number).subquery("n")
    picked = sa.select(*[_column(numbered, each) for each in schema.names])
    connection.execute(
        sa.insert(table).from_select(
            [_column(table, each) for each in schema.names],
            picked.where(numbered.c["_hygge_n"] == 1),
        )
    )
    return [table], distinct


def _emptied(
    connection: sa.Connection, target: Target, table: Any, schema: pa.Schema, who: str
) -> bool:
    """Empty the old table, or drop it if its columns differ; gives whether it still exists."""
    from sqlalchemy.exc import DBAPIError

    kept = [
        (each["name"], arrow_for(each["type"], target.dialect)[0], each.get("nullable", True))
        for each in reflected_columns(connection, target)
    ]
    wanted = [
        (each.name, arrow_for(column_for(each.type, target.dialect, each.name), target.dialect)[0],
         each.nullable)
        for each in plain_schema(schema)
    ]  # fmt: skip
    if kept == wanted:
        connection.execute(table.delete())
        return True
    if target.dialect not in TRANSACTIONAL_DDL:
        raise StoreError(
            f"{who} has other columns than the rows, and {target.dialect} cannot make a table "
            "anew inside a transaction",
            "drop the table yourself, then run again",
        )
    try:
        table.drop(connection)
    except DBAPIError as error:
        if state_of(error.orig) == "2BP01":
            raise Rejected(
                f"{who} has other columns than the rows, and something depends on it: {error.orig}",
                "drop what depends on it, or keep the columns with `columns`",
            ) from error
        raise
    return False


def _column(table: Any, name: str) -> Any:
    return next(each for each in table.columns if each.name == name)


def _same(table: Any, source: Any, run: Run) -> Any:
    import sqlalchemy as sa

    return sa.and_(*[_column(table, name) == _column(source, name) for name in run.key])
