"""What a database has: tables with rows, bytes, key, and columns that may be a cursor.

The catalog is asked through SQLAlchemy, in the same way for every database. Rows are an estimate of
the catalog's, or they are counted: where there is no estimate and the table is small, or where the
caller asks for that.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hygge.connectors.anysql.session import connected
from hygge.connectors.databases.connection import connection_url
from hygge.connectors.databases.known import database_of
from hygge.connectors.sql.catalog import Catalog, catalog_of, chosen
from hygge.connectors.sql.connection import shown
from hygge.connectors.sql.database import Database
from hygge.connectors.sql.errors import state_of
from hygge.connectors.sql.listing import Table, TableFacts, cursors_of
from hygge.errors import HomeError
from hygge.model import MIB

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine.interfaces import ReflectedColumn

_COUNTED = 64 * MIB
"""Bytes of a table at most whose rows are counted without being asked for."""
_COUNTED_FILE = 1024 * MIB
"""The same for a database in a file: all of it."""
_LOCK_WAITS = {
    "postgresql": "SET lock_timeout = '2s'",
    "mysql": "SET lock_wait_timeout = 2",
    "mariadb": "SET lock_wait_timeout = 2",
    "sqlite": "PRAGMA busy_timeout = 2000",
}
"""What bounds the wait for a table that another program has locked, by dialect."""
_LOCKED_STATE, _LOCKED_NUMBER, _LOCKED_SQLITE = "55P03", 1205, (5, 6)
"""How PostgreSQL, MariaDB and MySQL, and SQLite (BUSY, LOCKED) say that such a wait has ended."""

Names = tuple[str, str]


def list_tables(
    connection: str, include: Sequence[str], exclude: Sequence[str], views: bool
) -> tuple[Catalog, list[Table], str]:
    """Return the catalog of a database, the tables that the patterns take, and the URL.

    No pattern means the default schema, or all schemas where that has no table. Raises
    SourceMissing where a pattern takes nothing, and HomeError for a database that cannot be asked.
    """
    url = connection_url(connection, "SQLHome")
    catalog = catalog_of(database_of(url), url, include or ["*.*"])
    if not include:
        in_default = any(table.schema == catalog.default for table in catalog.tables)
        include = ["*" if in_default else "*.*"]
        if not catalog.tables:
            return catalog, [], url
    return catalog, chosen(catalog, include, exclude, views), url


def describe_tables(url: str, tables: Sequence[Table], count: bool) -> list[TableFacts]:
    """Return the facts about tables of one database, in their order. `count`: count all rows.

    What cannot be known of a table that another program has locked for two seconds is left out.
    """
    import sqlalchemy as sa

    database, who = database_of(url), shown(url)
    if (own := database.own()) is not None:
        return own.facts(url, who, tables, count or not _is_large_file(url, database))
    facts = []
    with connected(url, who, HomeError) as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # of types that SQLAlchemy does not know
        if connection.dialect.name in _LOCK_WAITS:
            connection.exec_driver_sql(_LOCK_WAITS[connection.dialect.name])
            connection.commit()  # a rollback would undo it
        locked: set[Names] = set()
        sizes = {} if _is_large_file(url, database) else _sizes(connection, database, locked)
        columns, keys = _reflected(connection, database, tables, locked)
        for table in tables:
            names = (table.schema, table.name)
            rows, size = sizes.get(names, (None, None))
            is_small = size is not None and size <= _COUNTED
            is_small = is_small or (database.is_file and not _is_large_file(url, database))
            exact = None
            if count or (rows is None and is_small and not table.view):
                exact = _count(connection, database, table, locked)
            found = columns.get(names, ())
            facts.append(
                TableFacts(
                    table,
                    rows if exact is None else exact,
                    exact is not None,
                    size,
                    keys.get(names, ()),
                    _cursors(found, keys.get(names, ())),
                    tuple(column["name"] for column in found),
                    names in locked,
                )
            )
    return facts


def _is_large_file(url: str, database: Database) -> bool:
    from sqlalchemy.engine import make_url

    path = make_url(url).database or ""
    return database.is_file and os.path.exists(path) and os.path.getsize(path) > _COUNTED_FILE


def _sizes(
    connection: sa.Connection, database: Database, locked: set[Names]
) -> dict[Names, tuple[int | None, int | None]]:
    """Return rows and bytes of each table as the catalog estimates them; {} where it cannot.

    The names of tables that it knows to be locked are added to `locked`.
    """
    import sqlalchemy as sa

    if not database.estimates:
        return {}
    try:
        rows = connection.execute(sa.text(database.estimates)).all()
    except sa.exc.SQLAlchemyError:  # SQLite without dbstat, an older server, another one
        connection.rollback()
        return {}
    locked.update((row[0], row[1]) for row in rows if len(row) > 4 and row[4])
    return {(row[0], row[1]): (_whole(row[2]), _whole(row[3])) for row in rows}


def _whole(number: Any) -> int | None:
    return None if number is None else int(number)


def _schema(database: Database, table: Table) -> str | None:
    return table.schema if database.has_schemas else None


def _reflected(
    connection: sa.Connection, database: Database, tables: Sequence[Table], locked: set[Names]
) -> tuple[dict[Names, Sequence[ReflectedColumn]], dict[Names, tuple[str, ...]]]:
    """Return columns and primary keys by table; one that cannot be reflected is left out."""
    import sqlalchemy as sa
    from sqlalchemy.engine.reflection import ObjectKind

    inspector = sa.inspect(connection)
    columns: dict[Names, Sequence[ReflectedColumn]] = {}
    keys: dict[Names, tuple[str, ...]] = {}
    for schema in dict.fromkeys(table.schema for table in tables):
        here = [table for table in tables if table.schema == schema]
        named: dict[str, Any] = {
            "schema": _schema(database, here[0]), "filter_names": [table.name for table in here],
            "kind": ObjectKind.ANY,
        }  # fmt: skip
        try:
            of_tables = inspector.get_multi_columns(**named)
            primary = inspector.get_multi_pk_constraint(**named)
        except sa.exc.SQLAlchemyError:
            connection.rollback()
            of_tables, primary = _one_by_one(connection, database, here, locked)
        for (_, name), found in of_tables.items():
            columns[schema, name] = found
        for (_, name), key in primary.items():
            keys[schema, name] = tuple(key["constrained_columns"]) if key else ()
    return columns, keys


def _one_by_one(
    connection: sa.Connection, database: Database, tables: Sequence[Table], locked: set[Names]
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Reflect tables each for itself: one that this user may not see does not hide the others."""
    import sqlalchemy as sa

    columns: dict[Any, Any] = {}
    keys: dict[Any, Any] = {}
    for table in tables:
        try:
            inspector = sa.inspect(connection)
            schema = _schema(database, table)
            columns["", table.name] = inspector.get_columns(table.name, schema)
            keys["", table.name] = inspector.get_pk_constraint(table.name, schema)
        except sa.exc.SQLAlchemyError as error:
            _note_lock(error, table, locked)
            connection.rollback()
    return columns, keys


def _note_lock(error: sa.exc.SQLAlchemyError, table: Table, locked: set[Names]) -> None:
    """Add the name of a table to `locked` where the error says that another program holds it."""
    orig = getattr(error, "orig", None)
    number = next(iter(getattr(orig, "args", ())), None)
    sqlite = (getattr(orig, "sqlite_errorcode", 0) or 0) & 0xFF
    if state_of(orig) == _LOCKED_STATE or number == _LOCKED_NUMBER or sqlite in _LOCKED_SQLITE:
        locked.add((table.schema, table.name))


def _count(
    connection: sa.Connection, database: Database, table: Table, locked: set[Names]
) -> int | None:
    """Return the exact number of rows; None where this user may not read the table, or not now."""
    import sqlalchemy as sa

    source = sa.table(table.name, schema=_schema(database, table))
    try:
        return int(connection.execute(sa.select(sa.func.count()).select_from(source)).scalar_one())
    except sa.exc.SQLAlchemyError as error:
        _note_lock(error, table, locked)
        connection.rollback()
        return None


def _cursors(columns: Sequence[Mapping[str, Any]], key: Sequence[str]) -> tuple[str, ...]:
    """Return the columns by which new rows may be told: the likeliest first."""
    import sqlalchemy as sa

    kinds = {sa.types.DateTime: "moment", sa.types.Integer: "integer"}

    def kind_of(column: Mapping[str, Any]) -> str:
        found = (word for kind, word in kinds.items() if isinstance(column["type"], kind))
        return next(found, "")

    return cursors_of([(column["name"], kind_of(column)) for column in columns], key)
