"""The columns of many files as one table, by name: `schema: union` of a Home.

A column has the type that holds the values of all files: that of one of them. It may be NULL where
it may be so in one file, or where one file lacks it. The order of the files decides nothing but the
order of the columns.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from hygge.batches import widens
from hygge.connectors.files.metadata import differ
from hygge.errors import HomeError
from hygge.type_words import words_of


class United:
    """The columns of the files that were added."""

    def __init__(self, is_read: Callable[[str], bool]) -> None:
        self.is_read = is_read
        """Whether a column is read: all others may differ."""
        self.files = 0
        self.columns: dict[str, list[tuple[pa.Field, str]]] = {}
        """Each column by its name: one field for each of its types, and the first file with it."""
        self.counts: dict[str, int] = {}
        self.nullable: set[str] = set()

    def add(self, path: str, schema: pa.Schema) -> None:
        """Take in the schema of one more file."""
        self.files += 1
        for field in schema:
            known = self.columns.setdefault(field.name, [])
            for other, first_path in known:
                if differ(field, other) and self.is_read(field.name):
                    raise HomeError(
                        f"{path} does not go with {first_path}: column '{field.name}' is of "
                        "another extension type, so that the same values mean others",
                        "leave it out with `columns`, or move the files in flows of their own",
                    )
            if all(field.type != other.type for other, _ in known):
                known.append((field, path))
            self.counts[field.name] = self.counts.get(field.name, 0) + 1
            if field.nullable:
                self.nullable.add(field.name)

    def schema(self) -> pa.Schema:
        """Return the columns of all files; raise HomeError where two types do not go together."""
        fields = []
        for name, known in self.columns.items():
            is_nullable = name in self.nullable or self.counts[name] < self.files
            fields.append(self._field(name, known).with_nullable(is_nullable))
        return pa.schema(fields)

    def _field(self, name: str, known: list[tuple[pa.Field, str]]) -> pa.Field:
        for field, _ in sorted(known, key=lambda entry: str(entry[0].type)):
            if all(widens(other.type, field.type) for other, _ in known):
                return field
        if not self.is_read(name):
            return known[0][0]
        for at, (field, path) in enumerate(known):
            for other, other_path in known[at + 1 :]:
                if not widens(field.type, other.type) and not widens(other.type, field.type):
                    one, another = words_of(field.type, other.type)
                    raise HomeError(
                        f"{other_path} does not go with {path}: column '{name}' is {one} in "
                        f"{path}, and {another} in {other_path}, and neither holds the other",
                        "leave it out with `columns`, or move the files in flows of their own",
                    )
        raise AssertionError("unreachable: of types without a widest one, two do not go together")


def filled(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with NULL in the columns of `schema` that it lacks."""
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table
