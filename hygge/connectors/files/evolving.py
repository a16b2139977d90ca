"""How a directory of files follows the columns of its rows: `schema: evolve`.

Files that are there never change. The new ones have every column that the directory has, in its
order: with its type, and NULL where the rows lack it; new columns come behind them. So readers that
unite files by name see one table. What files cannot have is an error before a row moves: a type
that is wider than in the files that are there (CSV and JSONL have none), a column that seems to be
renamed, and in CSV any other header.

A `replace` writes all files anew. So it has the columns of both likewise, but any wider type, any
header, and a renamed column as one that stays and one that is added.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import NamedTuple

import pyarrow as pa

from hygge.batches import conform, widens
from hygge.connectors.files.metadata import differ
from hygge.connectors.sql.evolving import is_wider
from hygge.errors import StoreError
from hygge.formats.format import Format
from hygge.type_words import word_of, words_of

_CHANGES = b"hygge.changes"
"""The key, in the metadata of the schema of a run, of what the run changes."""


class Followed(NamedTuple):
    """The columns of new files."""

    schema: pa.Schema
    changes: tuple[str, ...]
    """A sentence for each change of the directory's columns."""
    came: tuple[str, ...]
    """The names of the columns of the rows."""


class Held(NamedTuple):
    """What a run finds at its target."""

    schema: pa.Schema | None = None
    """The columns that it appends to; None: it appends to none."""
    followed: Followed | None = None
    """How they follow the rows; None: they do not."""

    @property
    def changes(self) -> tuple[str, ...]:
        """Return a sentence for each change of the columns."""
        return () if self.followed is None else self.followed.changes


def followed(
    path: str,
    held: pa.Schema,
    rows: pa.Schema,
    file_format: Format,
    written: Collection[str] | None,
    replaces: bool,
) -> Followed:
    """Return the columns of files that are added to those of `held` for rows of `rows`.

    `written` are the columns of the flow's last run. `replaces`: the files take the place of those
    of `held`. Raises StoreError for what files cannot have.
    """
    changes: list[str] = []
    fields = []
    gone = [field for field in held if field.name not in rows.names]
    new = [field for field in rows if field.name not in held.names]
    for field in held:
        index = rows.get_field_index(field.name)
        if index >= 0:
            widens_it = file_format.takes_wider or replaces
            fields.append(_held(path, field, rows.field(index), widens_it, changes))
            continue
        if not field.nullable:
            raise StoreError(
                f"{path} has column '{field.name}' ({word_of(field.type)}) without NULLs, which "
                "the rows lack",
                "give the rows that column, let `mode: replace` write it anew without `schema`, "
                "or write elsewhere",
            )
        fields.append(field)
    left = [field for field in gone if written is None or field.name in written]
    changes += [
        f"column '{field.name}' ({word_of(field.type)}) is not in the rows any more: it stays, "
        "NULL from now on"
        for field in left
    ]
    changes += [f"column '{field.name}' ({word_of(field.type)}) is added" for field in new]
    if (gone or new) and not (file_format.unites_columns or replaces):
        columns = [f"'{field.name}' is not in the rows any more" for field in gone]
        columns += [f"'{field.name}' ({word_of(field.type)}) is added" for field in new]
        raise StoreError(
            f"{path}: column {', '.join(columns)}, but all of its files have one header",
            "leave new columns out with `columns`, use `mode: replace`, or write elsewhere"
            if new
            else "give the rows that column, use `mode: replace`, or write elsewhere",
        )
    for field in () if replaces else left:
        for other in new:
            if field.type == other.type:
                raise StoreError(
                    f"{path}: column '{field.name}' is gone and '{other.name}' of the same type "
                    f"({word_of(field.type)}) is new, so it may have been renamed, which files "
                    "cannot be",
                    "read it under its old name; if it is another column, run once without it "
                    "(`columns`), then with it; or use `mode: replace`",
                )
    schema = pa.schema([*fields, *(field.with_nullable(True) for field in new)], rows.metadata)
    return Followed(schema, tuple(changes), tuple(rows.names))


def _held(
    path: str, held: pa.Field, came: pa.Field, widens_it: bool, changes: list[str]
) -> pa.Field:
    """Return the column of new files for one that the directory and the rows have."""
    is_wide = is_wider(held.type, came.type) and widens_it
    if differ(held, came) or not (is_wide or _is_narrower(came.type, held.type)):
        there, here = words_of(held.type, came.type)
        raise StoreError(
            f"{path}: column '{held.name}' is {there} in the files that are there, and {here} in "
            "the rows",
            "give the rows the old type, let `mode: replace` write it anew without `schema`, or "
            "write elsewhere",
        )
    if is_wide:
        was, now = words_of(held.type, came.type)
        changes.append(f"column '{held.name}' was {was} and is {now}")
    if came.nullable and not held.nullable:
        changes.append(f"column '{held.name}' may be NULL from now on")
    kind = came.type if is_wide or came.type == held.type else held.type
    return came.with_type(kind).with_nullable(held.nullable or came.nullable)


def _is_narrower(came: pa.DataType, held: pa.DataType) -> bool:
    """Return whether a type is the one that is there, or one of the same kind that fits into it."""
    if is_wider(came, held) or came == held or pa.types.is_null(came):
        return True
    return widens(came, held) and widens(held, came)  # string and large_string


def with_changes(result: Followed) -> pa.Schema:
    """Return the schema of new files with what it changes, and what came, in its metadata."""
    facts = json.dumps([result.changes, result.came]).encode()
    return result.schema.with_metadata({**(result.schema.metadata or {}), _CHANGES: facts})


def apart(schema: pa.Schema | None) -> tuple[pa.Schema | None, tuple[str, ...], list[str] | None]:
    """Return the schema of a run without what it changes, that, and the columns that came."""
    if schema is None or _CHANGES not in (schema.metadata or {}):
        return schema, (), None
    metadata = dict(schema.metadata)
    changes, came = json.loads(metadata.pop(_CHANGES))
    return schema.with_metadata(metadata or None), tuple(changes), came


def conformed(batches: Iterator[pa.Table], schema: pa.Schema, path: str) -> Iterator[pa.Table]:
    """Yield the batches with the columns of `schema`: NULL where they lack one."""
    for batch in batches:
        for field in schema:
            if field.name not in batch.column_names:
                batch = batch.append_column(field, pa.nulls(batch.num_rows, field.type))
        full = conform(batch, schema, path)
        del batch
        yield full
        del full
