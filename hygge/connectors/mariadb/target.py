"""The MariaDB table that a run writes to: its columns, and what would be lost with it.

`types` says which columns hygge makes. The names of tables are quoted here, as SQL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from hygge.batches import key_of, widens
from hygge.connectors.mariadb.catalog import Column, in_schema, table_columns
from hygge.connectors.mariadb.fit import FRACTION_DIGITS, digits_of, takes
from hygge.connectors.mariadb.load import ROW, SPLIT
from hygge.connectors.mariadb.session import (
    execute,
    fetch_all,
    fetch_one,
    literal,
    quoted,
    table_names_fold,
)
from hygge.connectors.mariadb.types import TEXT, arrow_of, column_ddl
from hygge.connectors.sql.ask import Ask, SQLHomeOptions
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import OR_REPLACE
from hygge.errors import ConfigError, StoreError, one_of
from hygge.model import Run
from hygge.type_words import word_of

if TYPE_CHECKING:
    from pymysql.connections import Connection

OPTIONS = f"ENGINE = InnoDB DEFAULT {TEXT}"
"""Of the tables that hygge makes."""
_VERSIONED = "SYSTEM VERSIONED"
_KEYABLE = ("int", "decimal", "date", "time", "bool", "uint")
"""How the Arrow types begin that a primary key may have: texts could be too long for it."""


class OwnValues(NamedTuple):
    """What the database writes into a column by itself."""

    is_supplied: bool
    """Where a row does not give the column: a default, a number, a generated value; not NULL."""
    fills_nulls: bool
    """Also in the place of NULL."""
    is_generated: bool
    """It is computed, and nothing can be written."""
    sequence: str
    """The sequence, as SQL, that the default takes numbers of; empty: none."""


class TargetTable(NamedTuple):
    """The target as it is now."""

    columns: list[Column]
    key: tuple[str, ...]
    engine: str
    dependent: str
    """What would be lost with the table, in words; empty if nothing depends on it."""
    own: dict[str, OwnValues]
    """What the database writes into each column by itself."""

    @property
    def generated(self) -> frozenset[str]:
        """Columns that cannot be written: the table computes them."""
        return frozenset(name for name, own in self.own.items() if own.is_generated)

    def written(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that can be written."""
        return [name for name in names if name not in self.generated]


def quoted_target(goal: Goal) -> str:
    """Return the target's name as SQL."""
    return quoted(*split_name(goal.table))


def quoted_table(goal: Goal, name: str) -> str:
    """Return, as SQL, the name of a table in the target's schema."""
    return quoted(split_name(goal.table)[0], name)


def head_name(connection: Connection, goal: Goal) -> str:
    """Return the name of the target in its heads: in small letters where case does not count."""
    _, name = split_name(goal.table)
    return name.lower() if table_names_fold(connection) else name


def exists(connection: Connection, goal: Goal, name: str) -> bool:
    """Whether the target's schema has a table of this name."""
    schema, _ = split_name(goal.table)
    rows = fetch_all(
        connection,
        "SELECT table_name FROM information_schema.tables "
        f"WHERE table_schema = {in_schema(schema)} AND table_name = {literal(name)}",
    )
    return bool(rows)


def find_target(connection: Connection, goal: Goal, dependents: bool = False) -> TargetTable | None:
    """Return the target, or None if there is no such table; raise StoreError for a view.

    `dependents`: also look for what depends on it, which takes longer the more tables there are.
    """
    schema, name = split_name(goal.table)
    is_target = f"table_schema = {in_schema(schema)} AND table_name = {literal(name)}"
    rows = fetch_all(
        connection,
        f"SELECT table_name, table_type, engine FROM information_schema.tables WHERE {is_target}",
    )
    # The catalog's comparison ignores case.
    rows = [row for row in rows if row[0] == name] or rows
    if not rows:
        return None
    _, kind, engine = rows[0]
    if kind not in ("BASE TABLE", _VERSIONED):
        raise StoreError(f"{goal.who} is a {kind.lower()}", "write to a table")
    dependent = "its history" if kind == _VERSIONED else ""
    if dependents and not dependent:
        dependent = _dependent(connection, in_schema(schema), name)
    columns, key = table_columns(connection, _ask_of(goal))
    own = fetch_all(
        connection,
        "SELECT table_name, column_name, column_default, is_nullable, extra, data_type "
        f"FROM information_schema.columns WHERE {is_target}",
    )
    return TargetTable(
        columns, key, str(engine), dependent,
        {row[1]: _own_values(*row[2:]) for row in own if row[0] == rows[0][0]},
    )  # fmt: skip


def _own_values(default: str | None, nullable: str, extra: str, kind: str) -> OwnValues:
    """Return what the database writes into a column, by its row of the catalog."""
    is_numbered = "auto_increment" in extra.lower()
    is_generated = "GENERATED" in extra.upper()
    is_supplied = default not in (None, "NULL") or is_numbered or is_generated
    sequence = re.fullmatch(r"nextval\((`.*`)\)", default or "", re.DOTALL)
    return OwnValues(
        is_supplied=is_supplied,
        fills_nulls=is_numbered or (kind == "timestamp" and nullable == "NO"),
        is_generated=is_generated,
        sequence=sequence[1] if sequence else "",
    )


def _dependent(connection: Connection, schema: str, name: str) -> str:
    """Return what depends on a table: triggers, and foreign keys from it and to it."""
    table = literal(name)
    triggers = (
        "SELECT COUNT(*) FROM information_schema.triggers "
        f"WHERE event_object_schema = {schema} AND event_object_table = {table}"
    )
    foreign_keys = (
        "SELECT COUNT(*) FROM information_schema.referential_constraints "
        f"WHERE (constraint_schema = {schema} AND table_name = {table}) "
        f"OR (unique_constraint_schema = {schema} AND referenced_table_name = {table})"
    )
    for what, count in (("a trigger", triggers), ("a foreign key", foreign_keys)):
        if fetch_one(connection, count)[0]:
            return what
    return ""


def identity(table: TargetTable | None) -> str | None:
    """Return what identifies a table as it is: its columns. None if there is no table.

    It stays a prefix of the identity when somebody adds columns behind the others.
    """
    if table is None:
        return None
    return "".join(f"{column.name} {column.native}\n" for column in table.columns)


def new_key(schema: pa.Schema, mode: str, merge_key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the primary key of a new table: the merge's, or the source's if it can be one."""
    if mode == "merge":
        return merge_key
    key = key_of(schema)
    kinds = [str(schema.field(name).type) for name in key if name in schema.names]
    if len(kinds) != len(key) or not all(kind.startswith(_KEYABLE) for kind in kinds):
        return ()
    return key


def own_type(goal: Goal, column: Column) -> pa.DataType:
    """Return the Arrow type of a column of the target."""
    return arrow_of(_ask_of(goal), column)


def check_fit(
    goal: Goal, table: TargetTable, schema: pa.Schema, dealt_with: Collection[str] = ()
) -> None:
    """Raise StoreError if the table lacks a column, would change values, or wants more columns.

    Columns that are `dealt_with` may differ: the commit makes that good.
    """
    by_name = {column.name: column for column in table.columns}
    names = list(by_name)
    for field in schema:
        column = by_name.pop(field.name, None)
        if field.name in dealt_with:
            continue
        if column is None:
            raise StoreError(
                f"{goal.who} has no column '{field.name}', which the rows have",
                f"add it (ALTER TABLE … ADD COLUMN, or `schema: evolve`), leave it out with "
                f"`columns`, {OR_REPLACE}; "
                f"{one_of('its columns', field.name, names)}",
            )
        if column.name in table.generated:
            continue
        try:
            held = arrow_of(_ask_of(goal), column)
        except ConfigError as error:
            raise StoreError(
                f"{goal.who}: column '{field.name}' is {column.native}, and hygge writes no values "
                "of that type",
                "leave it out with `columns`: it has to have a DEFAULT, or to take NULL; or write "
                "to a table in which it is longtext",
            ) from error
        if not takes(goal, column, held, field.type):
            raise StoreError(
                f"{goal.who}: column '{field.name}' is {column.native}, which cannot keep "
                f"{word_of(field.type)} exactly",
                f"change the column's type (`schema: evolve` widens it), {OR_REPLACE}",
            )
    for name in by_name:
        if not table.own[name].is_supplied and name not in dealt_with:
            raise StoreError(
                f"{goal.who} has column '{name}', which the rows lack",
                f"give it a DEFAULT, drop it, leave it NULL with `schema: evolve`, {OR_REPLACE}",
            )


def holds(goal: Goal, column: Column, kind: pa.DataType) -> bool:
    """Whether a column keeps every value of an Arrow type unchanged."""
    t, own = pa.types, arrow_of(_ask_of(goal), column)
    if kind == pa.float16():
        kind = pa.float32()
    if t.is_date(kind):
        kind = pa.date32()
    if t.is_timestamp(kind) and t.is_timestamp(own):
        # A column `timestamp` ends in the year 2038.
        return (
            (kind.tz in (None, "UTC") or goal.options.zones == "utc")
            and bool(kind.tz) == bool(own.tz)
            and column.kind != "timestamp"
            and _keeps_fraction(column, kind.unit)
        )
    if t.is_time(kind) and t.is_time(own):
        return _keeps_fraction(column, kind.unit)
    if t.is_string(own) and column.charset not in ("utf8mb4", None):
        return False
    return widens(kind, own)


def _keeps_fraction(column: Column, unit: str) -> bool:
    """Whether `datetime(n)` or `time(n)` has the digits of an Arrow unit."""
    return FRACTION_DIGITS.get(unit, 9) <= digits_of(column)


def _ask_of(goal: Goal) -> Ask:
    """Return what a Home would ask to read the target."""
    return Ask(
        goal.url, goal.who, goal.table, None, None, None, None, None, SQLHomeOptions(), goal.flow
    )


def has_columns_of(goal: Goal, table: TargetTable, schema: pa.Schema, key: tuple[str, ...]) -> bool:
    """Whether a new table for `schema` would have the columns that this table has."""
    if [column.name for column in table.columns] != schema.names:
        return False
    return all(
        holds(goal, column, field.type)
        and (
            column.nullable == field.nullable
            or field.name in key
            or _keeps_rule(goal, table, field)
        )
        for column, field in zip(table.columns, schema, strict=True)
    )


def _keeps_rule(goal: Goal, table: TargetTable, field: pa.Field) -> bool:
    """Whether a table that cannot be made anew keeps a NOT NULL that `set_null` may break."""
    return bool(table.dependent) and goal.on_value(field.name) == "set_null"


def own_part(table: TargetTable, schema: pa.Schema) -> str:
    """Return what only the table itself has, so that it must stay; empty if it has nothing.

    That are triggers and foreign keys, and columns that the table fills and no rows write.
    """
    if table.dependent:
        return table.dependent
    for name, own in table.own.items():
        if own.is_generated or (own.is_supplied and name not in schema.names):
            return f"column '{name}', which it fills itself,"
    return ""


def in_target_schema(goal: Goal, name: str) -> str:
    """Return a table's name as a Goal has it, in the schema of the target."""
    schema, _ = split_name(goal.table)
    if schema is None:
        return name
    escaped = schema.replace('"', '""')
    return f'"{escaped}".{name}'


def is_like(goal: Goal, table: TargetTable, schema: pa.Schema) -> bool:
    """Whether the run table is made LIKE the old table, whose place it will take."""
    if own_part(table, schema) or table.engine != "InnoDB":
        return False
    return has_columns_of(goal, table, schema, key_of(schema))


def create_run_table(
    connection: Connection, goal: Goal, name: str, mode: str, schema: pa.Schema
) -> None:
    """Create a run table: like the target whose place it will take, or for the rows' columns."""
    table = quoted_table(goal, name)
    old = find_target(connection, goal, dependents=mode == "replace")
    own = [f"{quoted(SPLIT)} bigint NOT NULL"]
    if mode == "merge" or goal.sets_aside:
        own.append(f"{quoted(ROW)} bigint NOT NULL")
    is_kept = goal.keeps_table(mode)
    if not is_kept and old is not None and is_like(goal, old, schema):
        execute(connection, f"CREATE TABLE {table} LIKE {quoted_target(goal)}")
        changes = [f"ADD COLUMN {column}" for column in own]
        if (
            "auto_increment"
            not in str(fetch_one(connection, f"SHOW CREATE TABLE {table}")[1]).lower()
        ):
            # Indexes are faster built when all rows are there. AUTO_INCREMENT needs its index.
            changes += [f"DROP INDEX {quoted(index)}" for index in indexes(connection, table)]
        execute(connection, f"ALTER TABLE {table} {', '.join(changes)}")
        return
    key = new_key(schema, mode, ()) if not is_kept or old is None else ()
    parts = [column_ddl(goal, field, field.name in key) for field in schema]
    parts += own
    if key:
        parts.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
    execute(connection, f"CREATE TABLE {table} ({', '.join(parts)}) {OPTIONS}")


def indexes(connection: Connection, table: str) -> dict[str, str]:
    """Return the secondary indexes of a table, by name, as CREATE TABLE writes them."""
    created = str(fetch_one(connection, f"SHOW CREATE TABLE {table}")[1])
    lines = [line.strip().rstrip(",") for line in created.splitlines()]
    keys = [line for line in lines if re.match(r"(UNIQUE |FULLTEXT |SPATIAL )?KEY `", line)]
    names = [re.match(r".*?KEY `((?:[^`]|``)*)`", line) for line in keys]
    return {
        name[1].replace("``", "`"): line
        for name, line in zip(names, keys, strict=True)
        if name is not None
    }


def check_engine(goal: Goal, table: TargetTable, run: Run) -> None:
    """Raise StoreError if rows and head cannot move in one transaction: only InnoDB has them."""
    if table.engine != "InnoDB" and goal.keeps_table(run.mode):
        other = "" if run.mode == "replace" else ", or use `mode: replace`"
        mode = "a `replace` that keeps the table" if run.mode == "replace" else f"`{run.mode}`"
        raise StoreError(
            f"{goal.who} is kept by {table.engine}, which has no transactions",
            f"ALTER TABLE … ENGINE = InnoDB{other}; {mode} needs rows and head to move together",
        )
