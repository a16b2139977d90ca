"""What a `replace` keeps of a table of MariaDB, and what would be lost with it.

it stays          its rows are deleted, the new ones inserted: with triggers, foreign keys, and
                  columns that it fills itself
made like it      where its columns are those of the rows: CREATE TABLE … LIKE keeps the rest
made anew         where the rows have other columns, and the old table has nothing of its own
an error          where something would be lost that people gave it
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.connectors.mariadb.catalog import UTC, in_schema
from hygge.connectors.mariadb.session import (
    REFERRED_TO,
    execute,
    fetch_all,
    fetch_one,
    is_lost,
    literal,
    number_of,
    quoted,
)
from hygge.connectors.mariadb.target import (
    TargetTable,
    holds,
    indexes,
    is_like,
    own_part,
    quoted_target,
)
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.own_columns import check_added
from hygge.errors import Rejected, StoreError
from hygge.model import Head

if TYPE_CHECKING:
    from pymysql.connections import Connection

_DENIED = (1142, 1143)
_DUPLICATE_COLUMN = 1060
_CHANGING = ("CASCADE", "SET NULL", "SET DEFAULT")
_INVALID_VIEW = 1356
_QUOTED = r"'(?:[^'\\]|''|\\.)*'"


def check_replace(
    connection: Connection,
    goal: Goal,
    table: TargetTable,
    schema: pa.Schema | None,
    heads: Iterable[Head],
) -> None:
    """Raise StoreError where a table that is made anew would lose something people gave it.

    `heads` are those of the table. `schema` is None where there are no columns, or none yet.
    """
    if schema is None:
        return
    reason = own_part(table, schema)
    if reason:
        _check_stays(goal, table, schema, reason)
        return
    if is_like(goal, table, schema):
        return
    check_added([column.name for column in table.columns], schema.names, heads, goal.who)
    lost = _properties(connection, goal)
    if lost:
        raise StoreError(
            f"{goal.who} has other columns than the rows, and would be made anew without "
            f"{', '.join(lost[:5])}{' …' if len(lost) > 5 else ''}",
            "add new columns behind the others yourself (ALTER TABLE … ADD COLUMN), drop that, or "
            "keep the columns with `columns`",
        )


def _check_stays(goal: Goal, table: TargetTable, schema: pa.Schema, reason: str) -> None:
    """Raise StoreError where the rows do not go into the table as it is."""
    by_name = {column.name: column for column in table.columns}
    written = [field for field in schema if field.name not in table.generated]
    fits = all(
        field.name in by_name and holds(goal, by_name[field.name], field.type) for field in written
    )
    lacking = [name for name in by_name if name not in schema.names]
    if not fits or not all(table.own[name].is_supplied for name in lacking):
        raise StoreError(
            f"{goal.who} has other columns than the rows, and {reason} hangs on it, which would go "
            "with the table",
            "drop it, add new columns behind the others yourself (ALTER TABLE … ADD COLUMN), or "
            "keep the columns with `columns`",
        )


def check_foreign_keys(connection: Connection, goal: Goal) -> None:
    """Raise StoreError where deleting the old rows would change or break rows of other tables."""
    from pymysql.err import MySQLError

    schema, name = split_name(goal.table)
    rows = fetch_all(
        connection,
        "SELECT constraint_schema, table_name, constraint_name, delete_rule "
        "FROM information_schema.referential_constraints "
        f"WHERE unique_constraint_schema = {in_schema(schema)} "
        f"AND referenced_table_name = {literal(name)} "
        "AND NOT (constraint_schema = unique_constraint_schema "
        "AND table_name = referenced_table_name)",
    )
    for child_schema, child, key, rule in rows:
        does = {"CASCADE": "removed", "SET NULL": "set to NULL", "SET DEFAULT": "set to a default"}
        if rule in does:
            why = f"the rows of {child} that refer to it would be {does[rule]}"
        else:
            try:
                one = f"SELECT 1 FROM {quoted(child_schema, child)} LIMIT 1"
                if not fetch_all(connection, one):
                    continue
            except MySQLError as error:
                if number_of(error) not in _DENIED:
                    raise
            why = f"rows of {child} may refer to it"
        raise StoreError(
            f"{goal.who} cannot be replaced: {why} (foreign key {key})",
            "use `mode: merge`, or drop that key",
        )


def check_hidden_keys(connection: Connection, goal: Goal) -> None:
    """Raise Rejected where a foreign key of a table that this user cannot see refers to the target.

    The catalog does not show it, and it may be ON DELETE CASCADE. The server tells in two ways, and
    does nothing in either: it refuses another engine for a table with any foreign key before it
    finds that the rest of that statement cannot be, and EXPLAIN opens the tables of which a DELETE
    would change rows. Triggers have such tables too, so the second way knows nothing of a table
    that has both a trigger for DELETE and a foreign key that this user sees.
    """
    answer = _asked_for_keys(connection, goal)
    if answer == _DUPLICATE_COLUMN:
        return
    schema, name = split_name(goal.table)
    own, its = f"constraint_schema = {in_schema(schema)}", f"table_name = {literal(name)}"
    refers = (
        f"unique_constraint_schema = {in_schema(schema)} "
        f"AND referenced_table_name = {literal(name)}"
    )
    rules = fetch_all(
        connection,
        f"SELECT delete_rule, {own} AND {its} AND {refers} "
        f"FROM information_schema.referential_constraints WHERE ({own} AND {its}) OR ({refers})",
    )
    triggers = fetch_all(
        connection,
        "SELECT 1 FROM information_schema.triggers WHERE event_manipulation = 'DELETE' "
        f"AND event_object_schema = {in_schema(schema)} AND event_object_table = {literal(name)}",
    )
    itself = any(is_own and rule in _CHANGING for rule, is_own in rules)
    is_alone = not rules and answer in REFERRED_TO
    if is_alone or (not triggers and _opened_by_delete(connection, goal) > 1 + itself):
        raise hidden_key(goal)


def _asked_for_keys(connection: Connection, goal: Goal) -> int:
    """Return the number of the error that a statement gets which can never be carried out.

    It adds one column twice. The error is one of REFERRED_TO where a foreign key refers to the
    target, or from it, and _DUPLICATE_COLUMN where there is none. Any other one, such as that of a
    missing right, tells nothing.
    """
    added = "ADD COLUMN _hygge_twice int"
    try:
        execute(connection, f"ALTER TABLE {quoted_target(goal)} ENGINE = MyISAM, {added}, {added}")
    except Exception as error:
        if is_lost(error):
            raise
        return number_of(error)
    raise AssertionError("a column was added twice")


def _opened_by_delete(connection: Connection, goal: Goal) -> int:
    """Return how many tables a DELETE of the target's rows would open; 0 where that is denied."""
    from pymysql.err import MySQLError

    def opened() -> int:
        counted = fetch_all(connection, "SHOW SESSION STATUS LIKE 'Table_open_cache_%'")
        return sum(int(count) for _, count in counted)

    found = []
    for _ in range(3):  # more are counted where one of them is altered in this moment
        before = opened()
        by_asking = opened() - before
        try:
            fetch_all(connection, f"EXPLAIN DELETE FROM {quoted_target(goal)}")
        except MySQLError as error:
            if number_of(error) not in _DENIED:
                raise
            return 0
        found.append(opened() - before - 2 * by_asking)
    return min(found)


def hidden_key(goal: Goal) -> Rejected:
    """Return the error for a foreign key that this user cannot see."""
    return Rejected(
        f"{goal.who} cannot be replaced: a foreign key of a table that this user cannot see "
        "refers to it",
        "use `mode: merge`, or drop that key",
    )


def broken_views(connection: Connection, goal: Goal) -> list[str]:
    """Return what to say of views of the table that cannot be read; nothing where that is denied.

    Called when the rows are visible: whatever goes wrong here is no error of the run.
    """
    from pymysql.err import MySQLError

    schema, name = split_name(goal.table)
    notes = []
    with suppress(MySQLError):
        views = fetch_all(
            connection,
            "SELECT table_schema, table_name FROM information_schema.views WHERE "
            f"LOCATE(CONCAT('`', {in_schema(schema)}, '`.', {literal(quoted(name))}), "
            "view_definition) > 0",
        )
        for view in views:
            try:
                fetch_all(connection, f"SELECT * FROM {quoted(*view)} LIMIT 0")
            except MySQLError as error:
                if number_of(error) == _INVALID_VIEW:
                    notes.append(f"the view '{view[1]}' cannot be read any more: {error.args[1]}")
    return notes


def _properties(connection: Connection, goal: Goal) -> list[str]:
    """Return what people gave the table that a table made anew would not have, in words."""
    table = quoted_target(goal)
    lines = str(fetch_one(connection, f"SHOW CREATE TABLE {table}")[1]).splitlines()
    properties = [f"its index '{name}'" for name in indexes(connection, table)]
    for line in map(str.strip, lines[1:]):
        column = re.match(r"`((?:[^`]|``)*)`", line)
        if column is None:
            properties += ["a check"] * bool(re.match(r"CONSTRAINT .* CHECK", line))
            continue
        own = column[1].replace("``", "`")
        outside = re.sub(_QUOTED, "''", line[column.end() :])
        comment = re.search(rf" COMMENT ({_QUOTED})", line)
        settings = {
            "comment": comment is not None and comment[1] != f"'{UTC}'",
            "default": " DEFAULT " in outside and " DEFAULT NULL" not in outside,
            "check": " CHECK " in outside.replace(f" CHECK (json_valid({quoted(own)}))", ""),
            "INVISIBLE": " INVISIBLE" in outside,
        }
        properties += [
            f"the {what} of column '{column[1]}'" for what, has in settings.items() if has
        ]
    at = next(at for at, line in enumerate(lines) if line.startswith(")"))
    end = " ".join(lines[at:])
    properties += ["its comment"] * (" COMMENT=" in re.sub(_QUOTED, "''", end))
    properties += ["its partitions"] * ("PARTITION BY" in end)
    return properties
