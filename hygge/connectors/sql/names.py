"""The names that a database takes as they are, and the errors for all others.

A database may cut a long name, fold `Id` and `ID` into one, or have a column of that name itself.
Such a name is an error before rows move, so that no two tables or columns become one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hygge.errors import ConfigError, HyggeError, StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from hygge.connectors.sql.target import Target

_SHORTEST_LIMIT = 63
_REMEDY = "rename it in a query of the home, or leave it out with `columns`"


@dataclass(frozen=True)
class NameRules:
    """What a database does with names of tables and columns."""

    longest: int | None = None
    """The longest name, in bytes of UTF-8 or in characters; None: the database says it itself."""
    in_bytes: bool = False
    """Whether `longest` counts bytes."""
    cased_columns: bool = True
    """Whether `Id` and `ID` are two columns of a table."""
    only_ascii_case: bool = False
    """Whether `É` and `é` are two columns, even where `E` and `e` are one."""
    empty: bool = False
    """Whether a column may have an empty name."""
    blank_at_end: bool = True
    """Whether a name may end with a blank."""
    beyond_bmp: bool = True
    """Whether a name may hold characters of more than 16 bits, such as emoji."""
    system_columns: frozenset[str] = frozenset()
    """Columns that every table has."""
    most_columns: int | None = None
    """How many columns of rows a table may have, beside those that hygge adds while it stages."""


_ASCII_SMALL = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def ascii_folded(name: str) -> str:
    """Return the name with small letters for A to Z, and all other letters as they are."""
    return name.translate(_ASCII_SMALL)


def key_index(table: str) -> str:
    """Return the name of the unique index that the first merge into a table makes.

    It has at most 63 bytes, the fewest that a database of ours takes; a longer one ends in a hash,
    so that the indexes of two tables that begin alike stay two.
    """
    name = f"_hygge_key_{table}"
    if len(name.encode()) <= _SHORTEST_LIMIT:
        return name
    digits = hashlib.sha256(table.encode()).hexdigest()[:8]
    return f"{name.encode()[: _SHORTEST_LIMIT - 9].decode(errors='ignore')}_{digits}"


def fault_of(rules: NameRules, name: str, is_empty_allowed: bool = False) -> str | None:
    """Return what is wrong with a name, to stand behind it in a sentence; None: nothing."""
    if "\0" in name:
        return "holds the character NUL, which is not possible"
    if not name and not is_empty_allowed:
        return "is empty"
    length = len(name.encode(errors="surrogatepass")) if rules.in_bytes else len(name)
    if rules.longest is not None and length > rules.longest:
        unit = "bytes" if rules.in_bytes else "characters"
        return f"has {length} {unit}, and {rules.longest} are possible"
    if name.endswith(" ") and not rules.blank_at_end:
        return "ends with a blank, which is not possible"
    if not rules.beyond_bmp and any(ord(character) > 0xFFFF for character in name):
        return "holds a character beyond U+FFFF, which is not possible"
    return None


def check_table(rules: NameRules, parts: Iterable[str | None], who: str) -> None:
    """Raise ConfigError for a name of a table or schema that the database would not keep."""
    for part in parts:
        fault = None if part is None else fault_of(rules, part)
        if fault is not None:
            raise ConfigError(
                f"{who}: the name '{_shown(part or '')}' of the table {fault}",
                "choose another name for `table`",
            )


def check_columns(rules: NameRules, names: Iterable[str], database: str, who: str) -> None:
    """Raise StoreError for names of columns that the database would not keep apart, or not take."""
    names = list(names)
    if rules.most_columns is not None and len(names) > rules.most_columns:
        raise StoreError(
            f"{who}: the rows have {len(names):,} columns, and a table of {database} takes "
            f"{rules.most_columns:,}",
            "choose fewer `columns`, or move them in several flows to tables of their own",
        )
    seen: dict[str, str] = {}
    for name in names:
        fault = fault_of(rules, name, rules.empty)
        if fault is not None:
            raise _error(f"{who}: the name '{_shown(name)}' of a column {fault}")
        if name in rules.system_columns:
            raise _error(
                f"{who}: every table of {database} has a system column '{name}', so no other "
                "column can have that name"
            )
        if rules.cased_columns:
            continue
        folded = ascii_folded(name) if rules.only_ascii_case else name.lower()
        other = seen.setdefault(folded, name)
        if other != name:
            raise _error(
                f"{who}: columns '{other}' and '{name}' differ in case only, and are one column "
                f"in {database}"
            )


def _error(text: str) -> HyggeError:
    return StoreError(text, _REMEDY)


def _shown(name: str) -> str:
    """Return a name as a message shows it: NUL and the like are written out."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


# What has a name of its own in a schema of PostgreSQL, and is nothing that rows can be added to.
_NO_TABLE_IN_POSTGRES = """
SELECT CASE WHEN relkind IN ('i', 'I') THEN 'an index' WHEN relkind = 'S' THEN 'a sequence'
        WHEN relkind = 'c' THEN 'a type' WHEN relkind = 'm' THEN 'a materialized view'
        ELSE 'a view or foreign table that takes no rows' END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = coalesce(:schema, current_schema()) AND relname = :name AND (
    relkind NOT IN ('r', 'p', 'v', 'f')
    OR relkind IN ('v', 'f') AND pg_relation_is_updatable(c.oid, true) & 8 = 0)
UNION ALL
SELECT 'a type' FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = coalesce(:schema, current_schema()) AND typname = :name AND typrelid = 0
    AND typcategory <> 'A'
"""


def check_free_in_postgres(connection: sa.Connection, target: Target, who: str) -> None:
    """Raise StoreError where PostgreSQL has something else than a table of the target's name."""
    import sqlalchemy as sa

    values = {"schema": target.schema, "name": target.name}
    kind = connection.execute(sa.text(_NO_TABLE_IN_POSTGRES), values).scalar()
    if kind is not None:
        raise StoreError(
            f"{who} is {kind}: no table of this name can be written",
            "choose another name for `table`",
        )
