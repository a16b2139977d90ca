"""Merging in PostgreSQL: the run table's rows update those of the same key, and the others come in.

The run table takes the types of the target first, so that keys are compared as the target compares
them. Of staged rows that share a key the last by cursor stays; of those that tie, the last row of
the last split.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge.connectors.postgres import session
from hygge.connectors.postgres.publish import breaks_a_rule, turned
from hygge.connectors.postgres.session import ask, changed
from hygge.connectors.postgres.target import ROW, SPLIT, Names, rows_ddl
from hygge.connectors.postgres.types import column_names
from hygge.connectors.sql.commit import check_all_in, check_merge
from hygge.connectors.sql.goal import Goal
from hygge.model import Run


def merged(
    connection: Any, goal: Goal, run: Run, names: Names, schema: pa.Schema, there: bool
) -> int:
    """How many staged rows are left of those that shared keys; they are all in the target now."""
    import psycopg

    if there:
        # No other writer from here on: a key that comes in between would be missed, or be twice.
        ask(connection, f"LOCK TABLE {names.target} IN SHARE ROW EXCLUSIVE MODE")
        turned(connection, names)
    kept = _one_a_key(connection, goal, run, names)
    columns = column_names(schema)
    try:
        if not there:
            _make(connection, run, names, schema)
        done = _updated(connection, goal, run, names, columns) if there else 0
        listed = ", ".join(map(session.quoted, columns))
        new = changed(
            connection,
            f"INSERT INTO {names.target} ({listed}) SELECT {listed} FROM {names.rows} s "
            f"WHERE NOT EXISTS (SELECT FROM {names.target} t WHERE {_same(run)})",
        )
    except psycopg.IntegrityError as error:
        raise breaks_a_rule(goal, error) from error
    check_all_in(done + new, kept, goal.who)
    return kept


def _one_a_key(connection: Any, goal: Goal, run: Run, names: Names) -> int:
    """Remove staged rows that a later one of their key supersedes; how many are left."""
    key = [session.quoted(each) for each in run.key]
    no_key = " OR ".join(f"{each} IS NULL" for each in key)
    rows, nulls = ask(
        connection, f"SELECT count(*), count(*) FILTER (WHERE {no_key}) FROM {names.rows}"
    )[0]
    ((distinct,),) = ask(
        connection, f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(key)} FROM {names.rows}) k"
    )
    check_merge(rows, nulls, distinct, run, goal.who)
    if rows != distinct:
        cursor = session.quoted(run.cursor)  # without one, check_merge has refused them
        order = f"{cursor} IS NULL, {cursor} DESC, {SPLIT} DESC, {ROW} DESC"
        gone = changed(
            connection,
            f"DELETE FROM {names.rows} WHERE {ROW} IN (SELECT {ROW} FROM (SELECT {ROW}, "
            f"row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY {order}) AS n "
            f"FROM {names.rows}) o WHERE o.n > 1)",
        )
        check_all_in(rows - gone, distinct, goal.who)
    return int(distinct)


def _make(connection: Any, run: Run, names: Names, schema: pa.Schema) -> None:
    """The target, with an index that keeps its keys apart."""
    ask(connection, rows_ddl(connection, names, schema, "append", names.target))
    index = f"_hygge_key_{names.name}".encode()[:63].decode(errors="ignore")
    key = ", ".join(session.quoted(each) for each in run.key)
    taken = ask(
        connection,
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        names.schema, index,
    )  # fmt: skip
    called = "" if taken else session.quoted(index)  # the names of two tables begin alike
    ask(connection, f"CREATE UNIQUE INDEX {called} ON {names.target} ({key})")


def _updated(connection: Any, goal: Goal, run: Run, names: Names, columns: list[str]) -> int:
    """Update the rows whose keys are there; how many staged rows have met one."""
    same = _same(run)
    met, pairs = ask(
        connection,
        f"SELECT count(DISTINCT s.{ROW}), count(*) FROM {names.target} t "
        f"JOIN {names.rows} s ON {same}",
    )[0]
    values = ", ".join(
        f"{session.quoted(each)} = s.{session.quoted(each)}"
        for each in columns
        if each not in run.key
    )
    if values and pairs:
        done = changed(
            connection, f"UPDATE {names.target} t SET {values} FROM {names.rows} s WHERE {same}"
        )
        check_all_in(done, pairs, goal.who)
    return int(met)


def _same(run: Run) -> str:
    return " AND ".join(f"t.{session.quoted(each)} = s.{session.quoted(each)}" for each in run.key)
