"""The columns of many files as one table: `schema: first` and `schema: union` of a Home.

`first`: the columns of the first file, which all must have. `union`: those of all files, by name. A
column then has the type that holds the values of all files: that of one of them. It may be NULL
where it may be so in one file, or where one file lacks it. The order of the files decides nothing
but the order of the columns.

Parquet and Arrow say their types. Those of CSV and JSONL come from a sample of each file, and each
value is looked at when it is read. So there a whole number goes with float64 as well: one that
float64 does not give back is an error with its line. Objects of JSONL have the fields of all files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from hygge.batches import widens
from hygge.connectors.files.metadata import differ
from hygge.errors import HomeError
from hygge.type_words import words_of

APART = "move the files in flows of their own"
STATE_IT = "say what it is in all files: `options: {{types: {{{name}: string}}}}`; "
"""A remedy of files whose types are found in samples."""
Holds = Callable[[pa.DataType, pa.DataType], bool]
"""Whether the second type holds every value of the first, unchanged."""


def widens_sampled(source: pa.DataType, target: pa.DataType) -> bool:
    """Return whether a type holds the values of another one, both found in samples of texts."""
    is_checked = pa.types.is_integer(source) and pa.types.is_float64(target)
    return widens(source, target) or is_checked


class United:
    """The columns of the files that were added."""

    def __init__(
        self, is_read: Callable[[str], bool], holds: Holds = widens, remedy: str = ""
    ) -> None:
        self.is_read = is_read
        """Whether a column is read: all others may differ."""
        self.holds = holds
        self.remedy = remedy
        """What else to do about types that do not go together, with `{name}` for the column."""
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
        kind = self._one_type([field.type for field, _ in known])
        if kind is not None:
            own = next((field for field, _ in known if field.type == kind), known[0][0])
            return own.with_type(kind)
        if not self.is_read(name):
            return known[0][0]
        for at, (field, path) in enumerate(known):
            for other, other_path in known[at + 1 :]:
                if self._one_type([field.type, other.type]) is None:
                    remedy = self.remedy.format(name=name)
                    one, another = words_of(field.type, other.type)
                    raise HomeError(
                        f"{other_path} does not go with {path}: column '{name}' is {one} in "
                        f"{path}, and {another} in {other_path}, and neither holds the other",
                        f"{remedy}leave it out with `columns`, or {APART}",
                    )
        raise AssertionError("unreachable: of types without a widest one, two do not go together")

    def _one_type(self, types: Sequence[pa.DataType]) -> pa.DataType | None:
        """Return the type that holds the values of all of `types`; None where there is none."""
        for kind in sorted(types, key=str):
            if all(self.holds(other, kind) for other in types):
                return kind
        types = [kind for kind in types if not pa.types.is_null(kind)]
        if self.holds is not widens_sampled:
            return None  # what reads files of this kind does not fill objects up
        if all(map(pa.types.is_list, types)):
            inner = self._one_type([kind.value_type for kind in types])
            return None if inner is None else pa.list_(inner)
        if all(map(pa.types.is_struct, types)):
            fields: dict[str, list[pa.DataType]] = {}
            for kind in types:
                for field in kind:
                    fields.setdefault(field.name, []).append(field.type)
            kinds = {name: self._one_type(each) for name, each in fields.items()}
            if None not in kinds.values():
                return pa.struct(list(kinds.items()))
        return None


def merged(
    path: str,
    schema: pa.Schema,
    first_path: str,
    first: pa.Schema,
    is_read: Callable[[str], bool],
) -> pa.Schema:
    """Return the schema that holds the columns of the files before, and of the file at `path`.

    `first` is what holds those of the files before, which begin with `first_path`. A column that is
    only NULL so far takes the type of the new file; one that may be NULL in one of them may be
    NULL. Raises HomeError where they do not go together otherwise.
    """

    def chosen(fields: pa.Schema) -> pa.Schema:
        return pa.schema([field for field in fields if is_read(field.name)])

    for mine in chosen(schema):
        index = first.get_field_index(mine.name)
        if index >= 0 and differ(mine, first.field(index)):
            raise HomeError(
                f"{path} does not go with {first_path}: column '{mine.name}' is of another "
                "extension type, so that the same values mean others",
                "move them in flows of their own, or choose the common ones with `columns`",
            )
    new, old = chosen(schema), chosen(first)
    for names, other, others in ((old.names, new, path), (new.names, old, first_path)):
        if missing := [name for name in names if name not in other.names]:
            common = ", ".join(name for name in old.names if name in new.names)
            both = f"those that both have: `columns: [{common}]`; or " if common else ""
            raise HomeError(
                f"{path} does not go with {first_path}: {others} has no column '{missing[0]}'",
                f"read those of all files: `schema: union`; or {both}{APART}",
            )
    fields = []
    for column in first:
        index = new.get_field_index(column.name)
        if index < 0:
            fields.append(column)
            continue
        came = new.field(index)
        kind = came.type if pa.types.is_null(column.type) else column.type
        if not widens(came.type, kind):
            rest = [name for name in old.names if name != column.name]
            here, there = words_of(came.type, kind)
            raise HomeError(
                f"{path} does not go with {first_path}: column '{column.name}' is "
                f"{here} in the first of them, and {there} in the other",
                f"leave it out: `columns: [{', '.join(rest)}]`; or {APART}" if rest else APART,
            )
        fields.append(column.with_type(kind).with_nullable(column.nullable or came.nullable))
    return pa.schema(fields, first.metadata)


def with_text(kind: pa.DataType) -> pa.DataType:
    """Return a type with text where it is of nothing but NULL, at every depth."""
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(with_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, with_text(field.type)) for field in kind])
    return kind


def filled(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with NULL in the columns of `schema` that it lacks."""
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table
