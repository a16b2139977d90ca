"""The rules of a DuckDB table, and where rows are tried: see `hygge.connectors.sql.trial`.

Rows are tried in a database in memory, with columns typed as in the target. The file is opened,
for reading, only while it is asked for keys; in between others may write it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hygge.batches import plain
from hygge.connectors.duckdb import catalog, session
from hygge.connectors.duckdb.catalog import sql_name
from hygge.connectors.duckdb.database import table_names
from hygge.connectors.duckdb.errors import in_words
from hygge.connectors.duckdb.session import path_of, quoted
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.rules import (
    SCRATCH,
    Rule,
    about,
    check_rule,
    reference_rule,
    unasked,
    unique_rules,
)
from hygge.connectors.sql.target import ORDINAL
from hygge.errors import StoreError, UnfitValue

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_IN_FILE = "/* in the file */"
"""Stands behind the name of a table of the file, in a question that only the file answers."""
_MEMORY = "256MB"
_GIVEN = "_hygge_given"


def not_null(goal: Goal) -> frozenset[str]:
    """Return the columns of the target that are NOT NULL."""
    path = path_of(goal.url)
    if not os.path.exists(path):
        return frozenset()
    with session.reading(path, goal.who, StoreError) as connection:
        columns = catalog.columns(connection, *table_names(goal.table))
    return frozenset(column.name for column in columns if column.notnull)


def own_rules(goal: Goal, names: Sequence[str], adds: bool) -> list[Rule]:
    """Return the rules of the target that are about columns of `names`; see `sql.rules`."""
    path = path_of(goal.url)
    if not os.path.exists(path):
        return []
    with session.reading(path, goal.who, StoreError) as connection:
        return _rules(connection, *table_names(goal.table), names, adds)


def _rules(
    connection: DuckDBPyConnection, schema: str, name: str, names: Sequence[str], adds: bool
) -> list[Rule]:
    columns = catalog.columns(connection, schema, name)
    by_name = {each.name.lower(): each for each in columns if not each.generated}
    there = [by_name[each.lower()] for each in names if each.lower() in by_name]
    # A moment of a coarser unit may be too far for the column.
    rules = [
        Rule(f"type of '{each.name}'", "", (each.name,), "false", True)
        for each in there
        if each.type.startswith("TIMESTAMP")
    ]
    found = connection.execute(
        "SELECT constraint_type, expression, constraint_column_names, referenced_table, "
        "referenced_column_names FROM duckdb_constraints() WHERE "
        "constraint_type IN ('CHECK', 'FOREIGN KEY') AND database_name = current_database() "
        "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)",
        [schema, name],
    ).fetchall()
    keys = catalog.unique_keys(connection, schema, name) if adds else []
    if (found or keys) and catalog.is_collated(connection, schema, name):
        return [*rules, unasked("every rule of the table, which has a column with COLLATE")]
    for kind, text, on, other, others in found:
        if kind == "CHECK":
            rules.append(check_rule(None, text, on))
        elif other.lower() == name.lower():
            rules.append(unasked(f"foreign key ({', '.join(on)})"))
        else:
            table = f"{sql_name(schema, other)} {_IN_FILE}"
            rules.append(reference_rule(on, other, table, others, quoted))
    for key in keys:
        table = f"{sql_name(schema, name)} {_IN_FILE}"
        rules += unique_rules(key, table, quoted) if key else [unasked("a unique index")]
    return about(rules, [each.name for each in there])


@contextmanager
def scratch(goal: Goal, columns: Sequence[str]) -> Iterator[_Scratch]:
    """Make the table for these columns of the target; it ends with its connection."""
    import duckdb

    path = path_of(goal.url)
    with session.reading(path, goal.who, StoreError) as connection:
        present = catalog.columns(connection, *table_names(goal.table))
    kinds = {column.name: column.type for column in present}
    with tempfile.TemporaryDirectory(prefix="hygge-") as folder:
        config: dict[str, Any] = {"memory_limit": _MEMORY, "temp_directory": folder}
        with duckdb.connect(":memory:", config=config) as memory:
            memory.execute("SET TimeZone = 'UTC'")
            yield _Scratch(memory, goal, {name: kinds[name] for name in columns})


class _Scratch:
    quote = staticmethod(quoted)

    def __init__(self, memory: DuckDBPyConnection, goal: Goal, kinds: dict[str, str]) -> None:
        self.memory, self.goal = memory, goal
        listed = [f"{quoted(name)} {kind}" for name, kind in kinds.items()]
        self.ddl = f"CREATE TEMP TABLE {SCRATCH} ({', '.join([*listed, f'{ORDINAL} BIGINT'])})"
        self.kinds = list(kinds.values())
        self.last = pa.table({})
        """The rows of the last batch, with their numbers."""
        memory.execute(self.ddl)

    def load(self, rows: pa.Table, start: int) -> None:
        numbers = pa.array(np.arange(start, start + rows.num_rows))
        self.last = plain(rows).append_column(ORDINAL, numbers)
        self._fill(self.memory)

    def _fill(self, connection: DuckDBPyConnection) -> None:
        names = [f"c{at}" for at in range(len(self.kinds))]
        casts = [f"CAST({name} AS {kind})" for name, kind in zip(names, self.kinds, strict=True)]
        connection.register(_GIVEN, self.last.rename_columns([*names, ORDINAL]))
        try:
            connection.execute(
                f"INSERT INTO {SCRATCH} SELECT {', '.join([*casts, ORDINAL])} FROM {_GIVEN}"
            )
        except Exception as error:
            if type(error).__name__ not in ("ConversionException", "OutOfRangeException"):
                raise
            with in_words(self.goal.who, UnfitValue):
                raise
        finally:
            with suppress(Exception):
                connection.unregister(_GIVEN)

    def ask(self, sql: str) -> list[tuple[int, ...]]:
        if _IN_FILE not in sql:
            with in_words(self.goal.who, StoreError):
                return self.memory.execute(sql).fetchall()
        with session.reading(path_of(self.goal.url), self.goal.who, StoreError) as connection:
            connection.execute(self.ddl)
            self._fill(connection)
            return connection.execute(sql).fetchall()

    def do(self, sql: str) -> None:
        if sql.startswith("CREATE INDEX"):  # DuckDB joins without one, which takes much memory
            return
        with in_words(self.goal.who, StoreError):
            self.memory.execute(sql)
