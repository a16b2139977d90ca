"""DuckDB's catalog: schemas, tables, views, and their columns. Names ignore case, as in DuckDB."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.connectors.duckdb.database import MAIN, table_names
from hygge.connectors.duckdb.session import fetch_value, path_of, quoted, reading
from hygge.connectors.duckdb.types import read_as
from hygge.connectors.sql.ask import Ask
from hygge.connectors.sql.errors import missing_column, missing_table
from hygge.connectors.sql.listing import Described, Listing, Table, TableFacts, cursors_of
from hygge.errors import HomeError, HyggeError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from duckdb.sqltypes import DuckDBPyType

_HERE = "database_name = current_database() AND NOT internal"
_NAMED = f"{_HERE} AND lower(schema_name) = lower(?) AND lower({{}}) = lower(?)"


@dataclass(frozen=True)
class Column:
    """A column in DuckDB's catalog, or of a query."""

    name: str
    type: str
    """As DuckDB writes it."""
    notnull: bool = False
    default: str | None = None
    generated: bool = False

    @property
    def is_supplied(self) -> bool:
        """Whether the table has a value for the column that is not NULL, where rows lack it."""
        return self.generated or (self.default or "NULL").upper() != "NULL"


@dataclass(frozen=True)
class ReadColumn:
    """A column to be read: its type in Arrow, and the type that it is cast to for that."""

    name: str
    native: str
    type: pa.DataType
    cast: str
    nullable: bool = True

    @property
    def is_cast(self) -> bool:
        return self.cast != self.native


def tables(url: str, who: str, patterns: Sequence[str]) -> Listing:
    """Return every table and view of the file. Raises SourceMissing if there is no file."""
    with reading(path_of(url), who) as connection:
        rows = connection.execute(
            f"SELECT schema_name, table_name, false FROM duckdb_tables() "
            f"WHERE {_HERE} AND NOT temporary UNION ALL SELECT schema_name, view_name, true "
            f"FROM duckdb_views() WHERE {_HERE} AND NOT temporary"
        ).fetchall()
        schemas = connection.execute(
            "SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database() "
            "AND NOT internal"
        ).fetchall()
    return Listing(MAIN, [Table(*row) for row in rows], [MAIN, *(name for (name,) in schemas)])


def described(url: str, who: str, tables: Sequence[tuple[str | None, str]]) -> list[Described]:
    """Return what each of these tables is made of; one that is not there has no columns."""
    with reading(path_of(url), who) as connection:
        return [_described(connection, schema or MAIN, name) for schema, name in tables]


def facts(url: str, who: str, tables: Sequence[Table], count: bool) -> list[TableFacts]:
    """Return the facts about tables, in their order; rows are counted, or estimated."""
    found = []
    with reading(path_of(url), who) as connection:
        for table in tables:
            names = (table.schema, table.name)
            size = f"SELECT estimated_size FROM duckdb_tables() WHERE {_NAMED}"
            rows = fetch_value(connection, size.format("table_name"), *names)
            if count and not table.view:
                rows = fetch_value(connection, f"SELECT count(*) FROM {sql_name(*names)}")
            of = _described(connection, *names)
            kinds = [(each.name, _kind(each.type)) for each in columns(connection, *names)]
            cursors = cursors_of(kinds, of.key)
            is_counted = count and not table.view
            found.append(TableFacts(table, rows, is_counted, None, of.key, cursors, of.columns))
    return found


def _kind(native: str) -> str:
    if native.startswith("TIMESTAMP"):
        return "moment"
    return "integer" if native in ("SMALLINT", "INTEGER", "BIGINT", "UINTEGER", "UBIGINT") else ""


def _described(connection: DuckDBPyConnection, schema: str, name: str) -> Described:
    found = columns(connection, schema, name)
    return Described(tuple(column.name for column in found), primary_key(connection, schema, name))


def sql_name(schema: str, name: str) -> str:
    """Return the name of a table as SQL."""
    return f"{quoted(schema)}.{quoted(name)}"


def kind_of(connection: DuckDBPyConnection, schema: str, name: str) -> str | None:
    """Return 'table', 'view', or None where there is neither."""
    for kind in ("table", "view"):
        found = f"SELECT 1 FROM duckdb_{kind}s() WHERE {_NAMED.format(f'{kind}_name')}"
        if fetch_value(connection, found, schema, name):
            return kind
    return None


def columns(connection: DuckDBPyConnection, schema: str, name: str) -> list[Column]:
    """Return the columns of a table or view, in order; an empty list where there is none."""
    rows = connection.execute(
        "SELECT column_name, data_type, NOT is_nullable, column_default "
        f"FROM duckdb_columns() WHERE {_NAMED.format('table_name')} ORDER BY column_index",
        [schema, name],
    ).fetchall()
    # DuckDB 1.5 tells only here which columns are generated.
    sql = f"SELECT sql FROM duckdb_tables() WHERE {_NAMED.format('table_name')}"
    made_by = fetch_value(connection, sql, schema, name) or ""
    found = []
    for column, kind, notnull, default in rows:
        starts = (f"{each} {kind} GENERATED ALWAYS AS(" for each in (column, quoted(column)))
        is_generated = any(start in made_by for start in starts)
        found.append(Column(column, kind, notnull, default, is_generated))
    return found


def constraints(connection: DuckDBPyConnection, schema: str, name: str) -> list[tuple[str, str]]:
    """Return type and text of each constraint of a table, but for NOT NULL."""
    rows = connection.execute(
        "SELECT constraint_type, constraint_text FROM duckdb_constraints() WHERE "
        "constraint_type <> 'NOT NULL' AND database_name = current_database() "
        "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?) ORDER BY 1, 2",
        [schema, name],
    ).fetchall()
    return [(kind, text) for kind, text in rows]


def primary_key(connection: DuckDBPyConnection, schema: str, name: str) -> tuple[str, ...]:
    """Return the columns of a table's primary key, in its order."""
    names = fetch_value(
        connection,
        "SELECT constraint_column_names FROM duckdb_constraints() WHERE "
        "constraint_type = 'PRIMARY KEY' AND database_name = current_database() "
        "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)",
        schema,
        name,
    )
    return tuple(names or ())


def unique_keys(connection: DuckDBPyConnection, schema: str, name: str) -> list[tuple[str, ...]]:
    """Return the columns of each key of which a table has no two rows; () for one of another kind.

    Of another kind are unique indexes of expressions.
    """
    found = connection.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() WHERE constraint_type IN "
        "('PRIMARY KEY', 'UNIQUE') AND database_name = current_database() "
        "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)",
        [schema, name],
    ).fetchall()
    keys = {tuple(names) for (names,) in found}
    known = {column.name for column in columns(connection, schema, name)}
    indexes = connection.execute(
        "SELECT expressions FROM duckdb_indexes() WHERE is_unique AND "
        "database_name = current_database() AND lower(schema_name) = lower(?) "
        "AND lower(table_name) = lower(?)",
        [schema, name],
    ).fetchall()
    for (text,) in indexes:
        names = tuple(text.removeprefix("[").removesuffix("]").split(", "))
        keys.add(names if known.issuperset(names) else ())
    return sorted(keys)


def referring(connection: DuckDBPyConnection, schema: str, name: str) -> list[tuple[str, bool]]:
    """Return the tables whose foreign keys refer to a table, and whether one of their rows does."""
    found = connection.execute(
        "SELECT table_name, constraint_column_names FROM duckdb_constraints() WHERE "
        "constraint_type = 'FOREIGN KEY' AND database_name = current_database() "
        "AND lower(schema_name) = lower(?) AND lower(referenced_table) = lower(?) ORDER BY 1, 2",
        [schema, name],
    ).fetchall()
    refers: dict[str, bool] = {}
    for table, names in found:
        there = " AND ".join(f"{quoted(each)} IS NOT NULL" for each in names)
        sql = f"SELECT 1 FROM {sql_name(schema, table)} WHERE {there} LIMIT 1"
        refers[table] = refers.get(table, False) or fetch_value(connection, sql) is not None
    return list(refers.items())


def has_schema(connection: DuckDBPyConnection, schema: str) -> bool:
    """Whether there is such a schema."""
    found = (
        "SELECT 1 FROM duckdb_schemas() WHERE database_name = current_database() "
        "AND lower(schema_name) = lower(?)"
    )
    return bool(fetch_value(connection, found, schema))


def is_collated(connection: DuckDBPyConnection, schema: str, name: str) -> bool:
    """Whether a column of a table is compared in another way than by its bytes."""
    found = f"SELECT sql FROM duckdb_tables() WHERE {_NAMED.format('table_name')}"
    return re.search(r"\bCOLLATE\b", fetch_value(connection, found, schema, name) or "") is not None


def source_of(ask: Ask) -> str:
    """Return what stands behind FROM: the name of the table, or the query in brackets."""
    if ask.query is None:
        return sql_name(*table_names(ask.table or ""))
    return f"({ask.query.strip().rstrip(';')}\n)"


def columns_of(connection: DuckDBPyConnection, ask: Ask) -> dict[str, tuple[DuckDBPyType, bool]]:
    """Return the columns of the table or of the query: the type, and whether it is NOT NULL.

    Raises SourceMissing if the table is missing, HomeError if two columns have one name.
    """
    notnull: set[str] = set()
    if ask.query is None:
        schema, name = table_names(ask.table or "")
        if kind_of(connection, schema, name) is None:
            known = connection.execute(
                f"SELECT table_name FROM duckdb_tables() WHERE {_HERE} AND lower(schema_name) = "
                "lower(?) AND table_name NOT LIKE '\\_hygge\\_%' ESCAPE '\\'",
                [schema],
            ).fetchall()
            raise missing_table(ask.who, name, [name for (name,) in known])
        notnull = {column.name for column in columns(connection, schema, name) if column.notnull}
        relation = connection.sql(f"SELECT * FROM {source_of(ask)}")
    else:
        relation = connection.sql(ask.query.strip().rstrip(";"))
    lowered = [name.lower() for name in relation.columns]
    for name in relation.columns:
        if lowered.count(name.lower()) > 1:
            raise HomeError(
                f"{ask.who}: the query gives more than one column named '{name}'",
                "name each one: SELECT a.id AS a_id, b.id AS b_id",
            )
    pairs = zip(relation.columns, relation.types, strict=True)
    return {name: (kind, name in notnull) for name, kind in pairs}


def chosen(ask: Ask, available: dict[str, Any]) -> list[ReadColumn]:
    """Return the columns to read.

    Raises SourceMissing if one that the settings name is missing, HomeError if the type of one is
    not known.
    """
    for name in ask.named:
        if name not in available:
            raise missing_column(ask.who, name, list(available))
    read = {name: _read(ask, name, *facts) for name, facts in available.items()}
    found = ask.chosen(read)
    for column in found:
        if isinstance(column, HyggeError):
            raise column
    return [column for column in found if isinstance(column, ReadColumn)]


def _read(ask: Ask, name: str, kind: DuckDBPyType, notnull: bool) -> ReadColumn | HyggeError:
    native, stated = str(kind), ask.stated.get(name)
    as_text = stated == pa.string() or (ask.on_value(name) == "as_text" and may_misfit(native))
    known = (pa.string(), "VARCHAR") if as_text else read_as(kind)
    if known is None:
        return HomeError(
            f"{ask.who}: column '{name}' is {native}, which hygge does not know",
            f"read it as text: options: {{types: {{{name}: string}}}}, or leave it out with "
            "`columns`",
        )
    nullable = not notnull or (ask.on_value(name) == "set_null" and may_misfit(native))
    return ReadColumn(name, native, stated or known[0], known[1], nullable)


def may_misfit(native: str) -> bool:
    """Whether a type has values that Arrow has not: infinite dates and timestamps, 24:00:00."""
    return native in ("DATE", "TIME", "TIME_NS") or native.startswith("TIMESTAMP")
