"""The tables of a database, and which of them patterns take.

A pattern is `schema.table`, each part as in a shell (`*`, `?`, `[a-z]`), in the case that the
database has it; without a dot it is of the default schema. Never taken: system schemas, hygge's own
`_hygge_…`, temporary and foreign tables, views unless asked for, and a partition whose parent is
taken. SQLite has one schema, `main`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hygge.connectors.sql.connection import shown
from hygge.connectors.sql.database import Database
from hygge.connectors.sql.listing import Table
from hygge.errors import SourceMissing, one_of


@dataclass(frozen=True)
class Catalog:
    """What there is to choose from."""

    who: str
    database: Database
    default: str
    """The schema of names without one."""
    tables: tuple[Table, ...]
    schemas: tuple[str, ...]

    def full(self, pattern: str) -> tuple[str, str]:
        """A pattern as those of its schema and of its table."""
        schema, dot, name = pattern.partition(".")
        return (schema, name) if dot else (self.default, pattern)

    def found(self, written: str) -> Table | None:
        """The table of exactly this name."""
        names = self.full(written)
        return next((each for each in self.tables if (each.schema, each.name) == names), None)

    def setting(self, table: Table) -> str:
        """The table's name as the `table` of a SQLHome or SQLStore says it."""
        if self.database.is_file:
            return _part(table.name, r"\w+")
        return f"{_part(table.schema)}.{_part(table.name)}"


def catalog(database: Database, url: str, patterns: Sequence[str]) -> Catalog:
    """Every table and view of the schemas that these patterns name; one short connection."""
    who = shown(url)
    listing = database.catalog().tables(url, who, patterns)
    tables = [each for each in listing.tables if not each.name.lower().startswith("_hygge_")]
    tables.sort(key=lambda table: (table.schema, table.name))
    schemas = {*listing.schemas, *(table.schema for table in tables)}
    return Catalog(who, database, listing.default, tuple(tables), tuple(sorted(schemas)))


def chosen(
    there: Catalog, include: Sequence[str], exclude: Sequence[str], views: bool
) -> list[Table]:
    """The tables that the patterns take, in the order of their names.

    Raises SourceMissing where a pattern takes nothing: a word of it is misspelt, mostly.
    """
    taken: set[Table] = set()
    for pattern in include:
        matched = [each for each in there.tables if _matches(there, pattern, each)]
        if not matched or (not views and all(each.view for each in matched)):
            raise _nothing(there, pattern, matched)
        taken.update(each for each in matched if views or not each.view)
    for pattern in exclude:
        matched = [each for each in there.tables if _matches(there, pattern, each)]
        if not matched and not re.search(r"[*?\[]", pattern):
            raise _nothing(there, pattern, [])
        taken.difference_update(matched)
    kept = [
        each for each in there.tables if each in taken and not _has_parent_in(taken, each, there)
    ]
    if not kept:
        raise SourceMissing(
            f"{there.who}: `exclude` leaves no table of {', '.join(include)}",
            "take a pattern out of `exclude`",
        )
    return kept


def _matches(there: Catalog, pattern: str, table: Table) -> bool:
    schema, name = there.full(pattern)
    return fnmatchcase(table.schema, schema) and fnmatchcase(table.name, name)


def _has_parent_in(taken: set[Table], table: Table, there: Catalog) -> bool:
    names = {(each.schema, each.name) for each in taken}
    by_name = {(each.schema, each.name): each for each in there.tables}
    above = table.parent
    while above is not None:
        if above in names:
            return True
        above = by_name[above].parent if above in by_name else None
    return False


def _nothing(there: Catalog, pattern: str, views: Sequence[Table]) -> SourceMissing:
    if views:
        return SourceMissing(
            f"{there.who}: '{pattern}' names views only, such as {views[0].text}",
            "views: true takes views as well",
        )
    schema, name = there.full(pattern)
    if not any(fnmatchcase(each, schema) for each in there.schemas):
        said, hint = f"no schema '{schema}' with tables", one_of("schemas", schema, there.schemas)
    else:
        names = [each.text for each in there.tables if fnmatchcase(each.schema, schema)]
        plain = re.sub(r"[*?\[\]]", "", f"{schema}.{name}")
        said, hint = f"no table like '{schema}.{name}'", _near(plain, names)
    return SourceMissing(f"{there.who} has {said}, or this user does not see it", hint)


def _near(word: str, names: Sequence[str]) -> str:
    hint = one_of("tables", word, names)
    return hint if len(hint) < 400 else hint[:400] + " …"


def _part(name: str, plain: str = r"[^.\"]+") -> str:
    return name if re.fullmatch(plain, name) else '"' + name.replace('"', '""') + '"'
