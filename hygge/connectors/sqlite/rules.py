"""The rules of a table of SQLite: see `hygge.connectors.sql.rules`.

Foreign keys are not looked at by SQLite where hygge writes, so they are no rules. Nor is a clause
ON CONFLICT, which hygge's INSERT OR ABORT overrules.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hygge.connectors.sql.rules import (
    ROW,
    Rule,
    about,
    check_rule,
    unasked,
    unique_rules,
)
from hygge.connectors.sql.target import Target
from hygge.connectors.sqlite import catalog
from hygge.connectors.sqlite.session import quoted

if TYPE_CHECKING:
    import sqlalchemy as sa

_WORD = re.compile(
    r"(?P<skipped>--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\])"
    r"|(?P<open>\()|(?P<close>\))|(?P<word>\w+)",
    re.DOTALL,
)


_ROWID = re.compile(r"(?i)\b(rowid|_rowid_|oid)\b")
_LATE = re.compile(r"(?i)\bAFTER\s+(INSERT|UPDATE|DELETE)\b")
_EARLY = re.compile(r"(?i)\b(BEFORE|INSTEAD)\b")


def may_mend(connection: sa.Connection, target: Target) -> bool:
    """Return False: no trigger of SQLite changes the values of a row that is inserted."""
    return False


def rules_of(
    connection: sa.Connection, target: Target, names: Sequence[str], adds: bool
) -> list[Rule]:
    """Return the rules of a table that are about columns of `names`; see `sql.rules`."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    columns = catalog.columns(driver, target.name)
    by_name = {column.name.lower(): column.name for column in columns if not column.generated}
    there = [by_name[name.lower()] for name in names if name.lower() in by_name]
    created = catalog.created_by(driver, target.name) or ""
    rules = []
    for text in checks_in(created):
        read = _columns_read(driver, target.name, text, there)
        rules.append(check_rule(None, text, read) if read else unasked(f"check ({text})"))
    if adds and _frees_keys(driver, target.name):
        rules.append(unasked("each key of the table, since a trigger may change its rows"))
    elif adds:
        keys, others = _keys(driver, target.name, columns)
        for key in keys:
            rules += unique_rules(key, f"main.{quoted(target.name)}", quoted)
        rules += [unasked(f"unique index {name}") for name in others]
    return about(rules, there)


def _columns_read(
    connection: sqlite3.Connection, table: str, text: str, there: Sequence[str]
) -> list[str]:
    """Return the columns that a condition reads; none where rows with `there` do not answer it.

    SQLite tells which columns of the table it reads. It takes a name in double quotes for a text
    where there is no such column, so that the condition must be about the same ones there.
    """
    found: set[str] = set()

    def note(action: int, read: str | None, column: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and column and (read or "").lower() == table.lower():
            found.add(column)
        return sqlite3.SQLITE_OK

    asked = f"EXPLAIN SELECT NOT ({text}\n) FROM"
    listed = ", ".join(map(quoted, there))
    connection.set_authorizer(note)
    try:
        connection.execute(f"{asked} main.{quoted(table)} {ROW}").fetchall()
        read = sorted(found)
        if not read or not found <= set(there) or _ROWID.search(text):
            return []
        # The table's own name, before that of a column, means nothing there.
        connection.execute(f"{asked} (SELECT {listed} FROM main.{quoted(table)}) {ROW}")
    except sqlite3.Error:
        return []
    finally:
        connection.set_authorizer(None)
    return read


def _frees_keys(connection: sqlite3.Connection, table: str) -> bool:
    """True if a trigger may change the table before its keys are looked at for a later row.

    A trigger that names neither BEFORE nor AFTER runs before.
    """
    found = connection.execute(
        "SELECT sql FROM main.sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?)",
        (table,),
    ).fetchall()
    return any(
        not _LATE.search(sql) or _EARLY.search(sql) or sql.lower().count(table.lower()) > 1
        for (sql,) in found
    )


def checks_in(created: str) -> list[str]:
    """Return the conditions of the CHECKs in a CREATE TABLE statement."""
    checks, depth, begun, is_check = [], 0, [], False
    for match in _WORD.finditer(created):
        if match["open"]:
            depth += 1
            if is_check:
                begun.append((depth, match.end()))
        elif match["close"]:
            if begun and begun[-1][0] == depth:
                checks.append(created[begun.pop()[1] : match.start()].strip())
            depth -= 1
        is_check = (match["word"] or "").upper() == "CHECK"
    return checks


def _keys(
    connection: sqlite3.Connection, table: str, columns: Sequence[catalog.Column]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the columns of each unique index of whole columns, and of the rowid's column.

    The second are the names of the other unique indexes.
    """
    keys, others = {(column.name,) for column in columns if column.is_rowid}, []
    collations = catalog.collations(connection, table)
    for _, index, is_unique, _, is_partial in connection.execute(
        f"PRAGMA index_list({quoted(table)})"
    ).fetchall():
        if not is_unique:
            continue
        rows = connection.execute(f"PRAGMA index_xinfo({quoted(index)})").fetchall()
        parts = [(name, collation) for _, _, name, _, collation, is_key in rows if is_key]
        if not is_partial and all(
            name and quoted(collation) == collations[name] for name, collation in parts
        ):
            keys.add(tuple(name for name, _ in parts))
        else:
            others.append(index)
    return sorted(keys), others
