"""Patterns of table names, and the tables of a database that they take.

A pattern is `schema.table`, each part as in a shell (`*`, `?`, `[a-z]`), in upper and lower case as
the database has the names. A pattern without a dot means the default schema. Never taken: system
schemas, hygge's own `_hygge_…`, temporary and foreign tables, views unless `views: true`, and a
partition whose parent is taken. A database in a file has one schema, `main`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from hygge.connectors.sql.connection import shown
from hygge.connectors.sql.database import Database
from hygge.connectors.sql.listing import Table
from hygge.errors import SourceMissing, one_of


class Tables(Protocol):
    """Tables to choose from by patterns."""

    @property
    def who(self) -> str: ...
    @property
    def tables(self) -> Sequence[Table]: ...
    @property
    def schemas(self) -> Sequence[str]: ...
    @property
    def noun(self) -> str:
        """What a schema is called there."""
        ...

    def full(self, pattern: str) -> tuple[str, str]:
        """Return a pattern as the patterns of its schema and of its table."""
        ...


@dataclass(frozen=True)
class Catalog:
    """The tables of a database, to choose from."""

    who: str
    database: Database
    default: str
    """The schema of names without one."""
    tables: tuple[Table, ...]
    schemas: tuple[str, ...]
    noun: str = "schema"

    def full(self, pattern: str) -> tuple[str, str]:
        """A pattern as the patterns of its schema and of its table."""
        schema, dot, name = pattern.partition(".")
        return (schema, name) if dot else (self.default, pattern)

    def named(self, name: str) -> Table | None:
        """The table of exactly this name, or None."""
        parts = self.full(name)
        return next((table for table in self.tables if (table.schema, table.name) == parts), None)

    def setting(self, table: Table) -> str:
        """The table's name as the setting `table` of SQLHome and SQLStore writes it."""
        if not self.database.has_schemas:
            return _part(table.name, r"\w+")
        return f"{_part(table.schema)}.{_part(table.name)}"


def catalog_of(database: Database, url: str, patterns: Sequence[str]) -> Catalog:
    """Ask the database for its tables and views, in one short connection."""
    who = shown(url)
    listing = database.catalog().tables(url, who, patterns)
    tables = [each for each in listing.tables if not each.name.lower().startswith("_hygge_")]
    tables.sort(key=lambda table: (table.schema, table.name))
    schemas = {*listing.schemas, *(table.schema for table in tables)}
    return Catalog(who, database, listing.default, tuple(tables), tuple(sorted(schemas)))


def chosen(
    catalog: Tables, include: Sequence[str], exclude: Sequence[str], views: bool
) -> list[Table]:
    """The tables that the patterns take, in the order of their names.

    Raises SourceMissing where a pattern takes nothing: mostly a part of it is misspelt.
    """
    taken: set[Table] = set()
    for pattern in include:
        matches = [table for table in catalog.tables if takes(catalog, pattern, table)]
        if not matches or (not views and all(table.view for table in matches)):
            raise _nothing(catalog, pattern, matches)
        taken.update(table for table in matches if views or not table.view)
    for pattern in exclude:
        matches = [table for table in catalog.tables if takes(catalog, pattern, table)]
        if not matches and not re.search(r"[*?\[]", pattern):
            raise _nothing(catalog, pattern, [])
        taken.difference_update(matches)
    tables = [
        table
        for table in catalog.tables
        if table in taken and not _has_parent_in(taken, table, catalog)
    ]
    if not tables:
        raise SourceMissing(
            f"{catalog.who}: `exclude` leaves no table of {', '.join(include)}",
            "take a pattern out of `exclude`",
        )
    return tables


def takes(catalog: Tables, pattern: str, table: Table) -> bool:
    """Whether a pattern takes a table."""
    schema, name = catalog.full(pattern)
    return fnmatchcase(table.schema, schema) and fnmatchcase(table.name, name)


def _has_parent_in(taken: set[Table], table: Table, catalog: Tables) -> bool:
    names = {(each.schema, each.name) for each in taken}
    by_name = {(each.schema, each.name): each for each in catalog.tables}
    above = table.parent
    while above is not None:
        if above in names:
            return True
        above = by_name[above].parent if above in by_name else None
    return False


def _nothing(catalog: Tables, pattern: str, views: Sequence[Table]) -> SourceMissing:
    if views:
        return SourceMissing(
            f"{catalog.who}: '{pattern}' names views only, such as {views[0].text}",
            "views: true takes views as well",
        )
    schema, name = catalog.full(pattern)
    if not any(fnmatchcase(each, schema) for each in catalog.schemas):
        said = f"no {catalog.noun} '{schema}' with tables"
        hint = one_of(f"{catalog.noun}s", schema, catalog.schemas)
    else:
        names = [each.text for each in catalog.tables if fnmatchcase(each.schema, schema)]
        plain = re.sub(r"[*?\[\]]", "", f"{schema}.{name}")
        said, hint = f"no table like '{schema}.{name}'", _near(plain, names)
    return SourceMissing(f"{catalog.who} has {said}, or this user does not see it", hint)


def _near(word: str, names: Sequence[str]) -> str:
    hint = one_of("tables", word, names)
    return hint if len(hint) < 400 else hint[:400] + " …"


def _part(name: str, plain: str = r"[^.\"]+") -> str:
    return name if re.fullmatch(plain, name) else '"' + name.replace('"', '""') + '"'
