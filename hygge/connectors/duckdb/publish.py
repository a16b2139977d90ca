"""Rows into a DuckDB table: `INSERT … SELECT` and `MERGE` from the staged Parquet files.

The caller has begun the transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from hygge.connectors.duckdb import catalog, staging
from hygge.connectors.duckdb.catalog import sql_name
from hygge.connectors.duckdb.errors import said_by
from hygge.connectors.duckdb.session import fetch_value, quoted, text
from hygge.connectors.duckdb.target import TargetColumn
from hygge.connectors.sql.changes import DELETES, STAGED, check_order
from hygge.connectors.sql.commit import broken_rule, check_all_in, check_merge
from hygge.connectors.sql.target import ORDINAL
from hygge.errors import Rejected
from hygge.model import Run

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ALL, _KEPT = "_hygge_all", "_hygge_kept"


class Move(NamedTuple):
    """Staged rows, and the table that they go to."""

    connection: DuckDBPyConnection
    schema: str
    name: str
    columns: Sequence[TargetColumn]
    files: Sequence[str]
    rows: int
    who: str

    @property
    def table(self) -> str:
        """The name of the table as SQL."""
        return sql_name(self.schema, self.name)

    @property
    def written(self) -> list[TargetColumn]:
        """The columns that can be written."""
        return [column for column in self.columns if column.is_written]


def create_table(move: Move) -> None:
    """Create the table, empty."""
    listed = ", ".join(column.ddl() for column in move.columns)
    move.connection.execute(f"CREATE TABLE {move.table} ({listed})")


def replace(move: Move) -> list[str]:
    """Make the table anew; return notes about what was not made again.

    People's indexes and comments on the old table are made again.
    """
    connection = move.connection
    names = [move.schema, move.name]
    of_table = (
        "database_name = current_database() AND lower(schema_name) = lower(?) "
        "AND lower(table_name) = lower(?)"
    )
    found = f"SELECT index_name, sql FROM duckdb_indexes() WHERE {of_table} ORDER BY 1"
    indexes = connection.execute(found, names).fetchall()
    found = f"SELECT comment FROM duckdb_tables() WHERE {of_table}"
    comment = fetch_value(connection, found, *names)
    found = f"SELECT column_name, comment FROM duckdb_columns() WHERE {of_table}"
    comments = dict(connection.execute(found, names).fetchall())
    connection.execute(f"DROP TABLE IF EXISTS {move.table}")
    create_table(move)
    append(move)
    notes = []
    for name, sql in indexes:
        problem = _refused(move, sql)
        if problem is None:
            with _rules(move, merges=False):
                connection.execute(sql)
        else:
            notes.append(f"the index '{name}' was not made again: {problem}")
    if comment is not None:
        connection.execute(f"COMMENT ON TABLE {move.table} IS {text(comment)}")
    for column in move.columns:
        if comments.get(column.name) is not None:
            said = text(comments[column.name])
            connection.execute(f"COMMENT ON COLUMN {move.table}.{quoted(column.name)} IS {said}")
    return notes


def _refused(move: Move, sql: str) -> str | None:
    """Return why an index cannot be made of the table's columns; None if it can.

    It is tried elsewhere: DuckDB gives a transaction up at the first error.
    """
    import duckdb

    with duckdb.connect(":memory:") as elsewhere:
        elsewhere.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(move.schema)}")
        create_table(move._replace(connection=elsewhere))
        try:
            elsewhere.execute(sql)
        except duckdb.Error as error:
            return said_by(error)
    return None


def delete_rows(move: Move) -> None:
    """Delete the rows of the table."""
    with _rules(move, merges=False):
        move.connection.execute(f"DELETE FROM {move.table}")


def append(move: Move) -> None:
    """Add the staged rows; raise Rejected if they break a rule of the table."""
    names = ", ".join(quoted(column.name) for column in move.written)
    values = ", ".join(column.value() for column in move.written)
    with _rules(move, merges=False):
        count = fetch_value(
            move.connection,
            f"INSERT INTO {move.table} ({names}) SELECT {values} FROM {staging.source(move.files)}",
        )
    check_all_in(count, move.rows, move.who)


def merge(move: Move, run: Run, are_changes: bool) -> tuple[int, int]:
    """Update the rows whose keys are there, add the others; return how many were superseded.

    Of staged rows that share a key, the one with the highest cursor counts; of equal ones the last.
    Where the rows `are_changes`, the rows of keys whose last change is `delete` are deleted; the
    second number that is returned is that of these keys. Raises Rejected if rows have no key, share
    one without an order, or break a rule of the table.
    """
    by_source = {column.source: column for column in move.columns}
    key = [by_source[name] for name in run.key]
    rows, distinct = _gather(move, run, key, are_changes)
    is_key = {column.name for column in key}
    is_collated = catalog.is_collated(move.connection, move.schema, move.name)
    same = _same("t", "s", key, is_collated)
    deletes = f"s.{STAGED} {DELETES}" if are_changes else "false"
    deleted = 0
    if are_changes:
        deleted = fetch_value(move.connection, f"SELECT count(*) FROM {_ALL} AS s WHERE {deletes}")
    if _frees_keys_late(move, is_key):
        _put_anew(move, same, _same("k", "s", key, is_collated), deletes)
        return rows - distinct, deleted
    changes = [
        f"{quoted(c.name)} = s.{quoted(c.name)}" for c in move.written if c.name not in is_key
    ]
    names = ", ".join(quoted(column.name) for column in move.written)
    values = ", ".join(f"s.{quoted(column.name)}" for column in move.written)
    clauses = [f"WHEN MATCHED AND {deletes} THEN DELETE"] if are_changes else []
    clauses += [f"WHEN MATCHED THEN UPDATE SET {', '.join(changes)}"] if changes else []
    kept = f" AND NOT {deletes}" if are_changes else ""
    clauses.append(f"WHEN NOT MATCHED{kept} THEN INSERT ({names}) VALUES ({values})")
    with _rules(move, merges=True):
        move.connection.execute(
            f"MERGE INTO {move.table} AS t USING {_ALL} AS s ON ({same}) {' '.join(clauses)}"
        )
    move.connection.execute(f"DROP TABLE {_ALL}")
    return rows - distinct, deleted


def _same(one: str, other: str, key: Sequence[TargetColumn], is_collated: bool) -> str:
    """Return the condition that two rows have one key.

    Texts are compared byte by byte, also in a table with COLLATE, as by its PRIMARY KEY.
    """

    def compared(of: str, column: TargetColumn) -> str:
        name = f"{of}.{quoted(column.name)}"
        return f"encode({name})" if is_collated and column.type == "VARCHAR" else name

    return " AND ".join(f"{compared(one, c)} = {compared(other, c)}" for c in key)


def _frees_keys_late(move: Move, is_key: set[str]) -> bool:
    """Return whether MERGE may refuse rows that the table takes when all of them are in.

    Of a key beside that of the merge it looks at each row before it has changed the others: a value
    that goes from one row to another is there twice for it.
    """
    of_table = move.connection, move.schema, move.name
    keys = catalog.unique_keys(*of_table)
    if all(key and set(key) == is_key for key in keys):
        return False
    return not any(refers for _, refers in catalog.referring(*of_table))


def _put_anew(move: Move, same: str, same_as_kept: str, deletes: str) -> None:
    """Delete the rows whose keys are there, then insert all of them; a merge in two steps.

    Columns that the rows lack keep the values of the rows that are deleted.
    """
    connection = move.connection
    written = [column.name for column in move.written]
    known = {column.name for column in move.columns}
    others = [
        column.name
        for column in catalog.columns(connection, move.schema, move.name)
        if column.name not in known and not column.generated
    ]
    of_run = ", ".join(f"s.{quoted(name)}" for name in written)
    kept = ", ".join([of_run, *(f"t.{quoted(name)}" for name in others)])
    connection.execute(
        f"CREATE TEMP TABLE {_KEPT} AS SELECT {kept} FROM {_ALL} AS s JOIN {move.table} AS t "
        f"ON ({same}) WHERE NOT {deletes}"
    )
    names, all_names = (", ".join(map(quoted, each)) for each in (written, [*written, *others]))
    with _rules(move, merges=True):
        connection.execute(f"DELETE FROM {move.table} AS t USING {_ALL} AS s WHERE {same}")
        connection.execute(
            f"INSERT INTO {move.table} ({all_names}) SELECT {all_names} FROM {_KEPT}"
        )
        connection.execute(
            f"INSERT INTO {move.table} ({names}) SELECT {of_run} FROM {_ALL} AS s "
            f"WHERE NOT {deletes} AND NOT EXISTS (FROM {_KEPT} AS k WHERE {same_as_kept})"
        )
    connection.execute(f"DROP TABLE {_KEPT}")
    connection.execute(f"DROP TABLE {_ALL}")


def _gather(
    move: Move, run: Run, key: Sequence[TargetColumn], are_changes: bool
) -> tuple[int, int]:
    """Fill a temporary table with one row a key; return the number of staged rows and of keys."""
    source = staging.source(move.files)
    listed = ", ".join(quoted(column.source) for column in key)
    is_null = " OR ".join(f"{quoted(column.source)} IS NULL" for column in key)
    select = (
        f"SELECT count(*), count(*) FILTER ({is_null}), count(DISTINCT ({listed})) FROM {source}"
    )
    ((rows, nulls, distinct),) = move.connection.execute(select).fetchall()
    check_merge(rows, nulls, distinct, run, move.who, has_order=are_changes)
    values = [f"{column.value()} AS {quoted(column.name)}" for column in move.written]
    last = ""
    if are_changes:
        values.append(STAGED)
    if rows != distinct:
        order = f"{quoted(ORDINAL)} DESC"
        if run.cursor is not None:
            if are_changes:
                both = f"SELECT count(DISTINCT ({listed}, {quoted(run.cursor)})) FROM {source}"
                check_order(rows, fetch_value(move.connection, both), run, move.who)
            order = f"{quoted(run.cursor)} DESC NULLS LAST, {order}"
        last = f" QUALIFY row_number() OVER (PARTITION BY {listed} ORDER BY {order}) = 1"
    move.connection.execute(
        f"CREATE TEMP TABLE {_ALL} AS SELECT {', '.join(values)} FROM {source}{last}"
    )
    return rows, distinct


@contextmanager
def _rules(move: Move, merges: bool) -> Iterator[None]:
    """Raise Rejected for rows that break a rule of the table."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "ConstraintException":
            raise
        if "is still referenced by a foreign key" in str(error):
            raise Rejected(
                f"{move.who}: rows of another table refer to rows that would be deleted, or "
                f"changed in a column that has a key or an index: {said_by(error)}",
                "DuckDB updates such a column by deleting the row: leave these rows out with "
                "`where`, or make the other table anew without its foreign key",
            ) from error
        raise broken_rule(said_by(error), move.who, merges) from error
