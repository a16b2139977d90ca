"""The tables of a catalog: for `tables:` of a flow, and for `hygge discover`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from hygge.connectors.iceberg.commit import rows_in
from hygge.connectors.iceberg.lake import Lake
from hygge.connectors.sql.listing import Table, TableFacts
from hygge.errors import HomeError, HyggeError


@dataclass(frozen=True)
class LakeTables:
    """The tables of a catalog, to choose from; the schema of a table is its namespace.

    A pattern is `namespace.table`; all before its last dot is about the namespace.
    """

    who: str
    tables: tuple[Table, ...]
    schemas: tuple[str, ...]
    noun: str = "namespace"

    def full(self, pattern: str) -> tuple[str, str]:
        """Return a pattern as the patterns of its namespace and of its table."""
        namespace, _, name = pattern.rpartition(".")
        return namespace, name

    def named(self, name: str) -> Table | None:
        """Return the table of exactly this name, or None."""
        return next((table for table in self.tables if table.text == name), None)


def tables_in(lake: Lake, patterns: Sequence[str]) -> LakeTables:
    """Return the tables in the namespaces that the patterns are about.

    `lake` needs no table. Raises SourceMissing for a catalog that is not there, and HomeError where
    it cannot be asked.
    """
    lake.check_there()
    wanted = [pattern.rpartition(".")[0] for pattern in patterns]
    tables = []
    with lake.opened(HomeError) as catalog:
        namespaces = {".".join(each): each for each in _namespaces(catalog, ())}
        for name, namespace in namespaces.items():
            if any(fnmatchcase(name, pattern) for pattern in wanted):
                tables += [Table(name, each[-1]) for each in catalog.list_tables(namespace)]
    return LakeTables(lake.describe(), tuple(sorted(tables)), tuple(namespaces))


def _namespaces(catalog: Any, above: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the namespaces below one, and those below them."""
    from pyiceberg.exceptions import NoSuchNamespaceError

    try:
        found = sorted(each for each in catalog.list_namespaces(above) if len(each) > len(above))
    except NoSuchNamespaceError:  # it was dropped in this moment
        return []
    return [name for each in found for name in (each, *_namespaces(catalog, each))]


def facts_about(lake: Lake, tables: Sequence[Table]) -> list[TableFacts]:
    """Return the facts about tables of a catalog, in their order, by their newest snapshots."""
    with lake.opened(HomeError) as catalog:
        return [_facts(lake, catalog, table) for table in tables]


def _facts(lake: Lake, catalog: Any, table: Table) -> TableFacts:
    try:
        with lake.in_words(HomeError):
            found = catalog.load_table(table.text)
    except HyggeError:  # its metadata is gone, or this user may not read it
        return TableFacts(Table(table.schema, table.name, readable=False))
    snapshot, rows = found.current_snapshot(), rows_in(found)
    size = snapshot.summary.get("total-files-size") if snapshot and snapshot.summary else None
    return TableFacts(
        table,
        rows,
        rows is not None,
        None if size is None else int(size),
        tuple(sorted(found.schema().identifier_field_names())),
        columns=tuple(field.name for field in found.schema().fields),
    )
