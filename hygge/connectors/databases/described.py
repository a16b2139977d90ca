"""The columns and the primary key of tables, for what is decided before anything is planned.

SQLAlchemy reads them from the catalog of whatever database it is, in one connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from hygge.connectors.anysql.session import connected
from hygge.connectors.databases.known import database_of, with_driver
from hygge.connectors.sql.listing import Described
from hygge.errors import HomeError


def primary_key(url: str, who: str, schema: str | None, table: str | None) -> tuple[str, ...]:
    """Return the columns of a table's primary key, in its order; none for a view.

    Raises HomeError where the database does not answer. A table that is not there has no key.
    """
    import sqlalchemy as sa

    if (own := database_of(url).own()) is not None:
        return own.described(url, who, [(schema, table or "")])[0].key
    with connected(with_driver(url), who, HomeError) as connection:
        try:
            key = sa.inspect(connection).get_pk_constraint(table or "", schema)
        except sa.exc.NoSuchTableError:
            return ()
    return tuple(key["constrained_columns"])


def describe(url: str, who: str, tables: Sequence[tuple[str | None, str]]) -> list[Described]:
    """Return what each of these tables and views is made of; schema None is the default schema.

    A table that is not there has no columns. Raises HomeError where the database does not answer.
    """
    import sqlalchemy as sa

    if (own := database_of(url).own()) is not None:
        return own.described(url, who, tables)
    with connected(with_driver(url), who, HomeError) as connection:
        inspector = sa.inspect(connection)
        by_name: dict[tuple[str | None, str], Described] = {}
        for schema in {schema for schema, _ in tables}:
            names = [name for of, name in tables if of == schema]
            every = sa.engine.reflection.ObjectKind.ANY
            columns = inspector.get_multi_columns(schema, filter_names=names, kind=every)
            keys = inspector.get_multi_pk_constraint(schema, filter_names=names, kind=every)
            for name in names:
                table = (schema, name)
                by_name[table] = Described(
                    tuple(column["name"] for column in columns.get(table, ())),
                    tuple(keys[table]["constrained_columns"]) if table in keys else (),
                )
    return [by_name[table] for table in tables]
