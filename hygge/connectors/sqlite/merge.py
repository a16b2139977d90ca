"""Merges into SQLite: staged rows update those of the same key, or are added.

All staged rows are first gathered in one temporary table, `_hygge_all`, which keeps one row for
each key. The caller has begun the transaction and attached the staging file as `staged`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa

from hygge.connectors.sql.changes import DELETES, STAGED, check_order
from hygge.connectors.sql.commit import broken_rule, check_all_in, check_all_out, check_merge
from hygge.connectors.sql.names import ascii_folded
from hygge.connectors.sql.refusing import Range, put_all
from hygge.connectors.sqlite import catalog
from hygge.connectors.sqlite.publish import check_nulls
from hygge.connectors.sqlite.refusing import RowsOfSQLite, Source, rowid_name
from hygge.connectors.sqlite.session import fetch_value, quoted
from hygge.connectors.sqlite.target import TargetColumn, key_index
from hygge.errors import Rejected
from hygge.model import Run
from hygge.refused_rows import RefusedRows

_ALL = "temp._hygge_all"
OF_OP = TargetColumn(STAGED, "TEXT", pa.string(), notnull=True)
"""The column of staged rows that tells changes; it stands behind those of the target."""


def merge(
    connection: sqlite3.Connection,
    target: str,
    columns: Sequence[TargetColumn],
    tables: Sequence[str],
    made: bool,
    run: Run,
    who: str,
    are_changes: bool,
    refused: RefusedRows | None,
) -> tuple[int, int]:
    """Update the rows whose keys are there, add the others; return how many were superseded.

    Of staged rows that share a key, the one with the highest cursor counts; of equal ones the last.
    `made`: hygge made the target. Where the rows `are_changes`, the rows of keys whose last change
    is `delete` are deleted; the second number that is returned is that of these keys. Raises
    Rejected if rows have no key, share one without an order, or break a rule of the table where no
    `refused` takes them.
    """
    key = [quoted(_name_in(columns, name)) for name in run.key]
    rows, distinct = _gather(connection, target, columns, tables, key, run, who, are_changes)
    connection.execute(f"CREATE INDEX temp._hygge_all_key ON _hygge_all ({', '.join(key)})")
    deleted = _delete(connection, target, key, who) if are_changes else 0
    check_nulls(connection, catalog.columns(connection, target), columns, [_ALL], who)
    if made:
        _index_key(connection, target, key, who)
    staged = _MergedRows(connection, target, columns, [Source(_ALL)], who)
    staged.key, staged.total = key, distinct - deleted
    try:
        put_all(staged, refused)
    except sqlite3.IntegrityError as error:
        raise broken_rule(str(error), who, merges=True) from error
    connection.execute(f"DROP TABLE {_ALL}")
    return rows - distinct, deleted


class _MergedRows(RowsOfSQLite):
    """Staged rows that update those of their key, or are inserted."""

    key: Sequence[str]

    def put(self, rows: Range | None) -> None:
        connection, which = self.connection, self.condition(rows)
        names = [quoted(column.name) for column in self.columns if column.is_written]
        same_key = " AND ".join(f"t.{name} = s.{name}" for name in self.key)
        assignments = ", ".join(f"{name} = s.{name}" for name in names if name not in self.key)
        table, listed = f"main.{quoted(self.target)}", ", ".join(names)
        wanted = self.total
        if rows is not None:
            wanted = fetch_value(connection, f"SELECT count(*) FROM {_ALL} AS s WHERE {which}")
        # Rows of the target that are updated, and staged rows that update at least one.
        updated, matched = connection.execute(
            f"SELECT count(*), count(DISTINCT s.{self.rowid}) FROM {table} AS t "
            f"JOIN {_ALL} AS s ON {same_key} WHERE {which}"
        ).fetchone()
        if assignments:
            update = connection.execute(
                f"UPDATE OR ABORT {table} AS t SET {assignments} FROM {_ALL} AS s "
                f"WHERE {same_key} AND {which}"
            )
            check_all_in(update.rowcount, updated, self.who)
        insert = connection.execute(
            f"INSERT OR ABORT INTO {table} ({listed}) SELECT {listed} FROM {_ALL} AS s "
            f"WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {same_key}) AND {which}"
        )
        check_all_in(insert.rowcount, wanted - matched, self.who)


def _delete(connection: sqlite3.Connection, target: str, key: Sequence[str], who: str) -> int:
    """Delete the target's rows of keys whose change says so; return how many such keys there are.

    The changes themselves go, too, so that those that are left are merged.
    """
    table = f"main.{quoted(target)}"
    same_key = " AND ".join(f"t.{name} = s.{name}" for name in key)
    gone = f"EXISTS (SELECT 1 FROM {_ALL} AS s WHERE {same_key} AND s.{STAGED} {DELETES})"
    there = fetch_value(connection, f"SELECT count(*) FROM {table} AS t WHERE {gone}")
    try:
        removed = connection.execute(f"DELETE FROM {table} AS t WHERE {gone}").rowcount
    except sqlite3.IntegrityError as error:
        raise broken_rule(str(error), who, merges=True) from error
    check_all_out(removed, there, who)
    return connection.execute(f"DELETE FROM {_ALL} WHERE {STAGED} {DELETES}").rowcount


def _gather(
    connection: sqlite3.Connection,
    target: str,
    columns: Sequence[TargetColumn],
    tables: Sequence[str],
    key: Sequence[str],
    run: Run,
    who: str,
    are_changes: bool,
) -> tuple[int, int]:
    """Fill `_hygge_all` with one row a key; return the number of staged rows and of keys."""
    # With the target's collations a key here equals a key there: 'a' and 'A' under NOCASE.
    collations = catalog.collations(connection, target)
    ddl = ", ".join(f"{column.ddl()} COLLATE {collations[column.name]}" for column in columns)
    if are_changes:
        ddl += f", {OF_OP.ddl()}"
    connection.execute(f"CREATE TEMP TABLE _hygge_all ({ddl})")
    for table in tables:
        connection.execute(f"INSERT INTO {_ALL} SELECT * FROM {table}")
    is_null = " OR ".join(f"{name} IS NULL" for name in key)
    rows: int = fetch_value(connection, f"SELECT count(*) FROM {_ALL}")
    nulls: int = fetch_value(connection, f"SELECT count(*) FROM {_ALL} WHERE {is_null}")
    distinct: int = fetch_value(
        connection, f"SELECT count(*) FROM (SELECT DISTINCT {', '.join(key)} FROM {_ALL})"
    )
    check_merge(rows, nulls, distinct, run, who, has_order=are_changes)
    if rows != distinct:
        cursor = None if run.cursor is None else quoted(_name_in(columns, run.cursor))
        if are_changes and cursor is not None:
            both = ", ".join([*key, cursor])
            counted = f"SELECT count(*) FROM (SELECT DISTINCT {both} FROM {_ALL})"
            check_order(rows, fetch_value(connection, counted), run, who)
        _keep_last(connection, columns, key, cursor)
    return rows, distinct


def _keep_last(
    connection: sqlite3.Connection,
    columns: Sequence[TargetColumn],
    key: Sequence[str],
    cursor: str | None,
) -> None:
    """Keep one row a key: that of the highest cursor (NULL is the lowest), then the last staged."""
    rowid = rowid_name(columns)
    order = ""
    if cursor is not None:
        collation = _collation(connection, columns, cursor)
        order = f"{cursor} IS NULL, {cursor} {collation} DESC, "
    connection.execute(
        f"DELETE FROM {_ALL} WHERE {rowid} IN (SELECT r FROM (SELECT {rowid} AS r, row_number() "
        f"OVER (PARTITION BY {', '.join(key)} ORDER BY {order}"
        f"{rowid} DESC) AS n FROM {_ALL}) WHERE n > 1)"
    )


def _collation(connection: sqlite3.Connection, columns: Sequence[TargetColumn], cursor: str) -> str:
    """Return SQL that compares a cursor as numbers, where they are stored as text; else nothing."""
    kinds = [column.type for column in columns if quoted(column.name) == cursor]
    if not any(pa.types.is_decimal(kind) or kind == pa.uint64() for kind in kinds):
        return ""

    def compared(one: str, other: str) -> int:
        left, right = Decimal(one), Decimal(other)
        return (left > right) - (left < right)

    connection.create_collation("hygge_numbers", compared)
    return "COLLATE hygge_numbers"


def _index_key(connection: sqlite3.Connection, target: str, key: Sequence[str], who: str) -> None:
    """Make the target's key unique, which finds rows by key and refuses a second one."""
    try:
        connection.execute(
            f"CREATE UNIQUE INDEX IF NOT EXISTS main.{quoted(key_index(target))} "
            f"ON {quoted(target)} ({', '.join(key)})"
        )
    except sqlite3.IntegrityError as error:
        raise Rejected(
            f"{who} already holds several rows of one key ({', '.join(key)})",
            "move it once with `mode: replace`, or use another key",
        ) from error


def _name_in(columns: Sequence[TargetColumn], name: str) -> str:
    """Return the column's name as the table writes it; SQLite's names ignore case."""
    for column in columns:
        if ascii_folded(column.name) == ascii_folded(name):
            return column.name
    raise Rejected(f"the rows have no column '{name}'", "check `key` and `cursor`")
