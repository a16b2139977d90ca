"""`columns` and `exclude`: the columns that are moved, their order, names and types.

A cast that would change a value is an error: each value is cast, and where the new type does not
hold every value of the old one, it is cast back and compared. Objects and lists that are to be text
are left to the step behind it (`Choose.texts`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import pyarrow as pa

from hygge.batches import widens
from hygge.encodings import has_notes
from hygge.errors import ConfigError, UnfitValue
from hygge.shape.settings import FILE_NAME, Shape
from hygge.shape.step import Reading
from hygge.type_words import type_of, word_of


@dataclass(frozen=True)
class Choose:
    """The step that chooses, names and casts."""

    schema: pa.Schema
    sources: dict[str, str]
    """Columns that come out → their names in the source, in order."""
    casts: frozenset[str] = field(default_factory=frozenset)
    """Columns that come out as another type."""
    texts: tuple[str, ...] = ()
    """Columns of objects and lists that come out as they are, and are to become their JSON text."""

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        columns = []
        for name, source in self.sources.items():
            column = table.column(source)
            if name in self.casts:
                column = exact_cast(
                    column, self.schema.field(name).type, f"{reading.who}: '{source}'"
                )
            columns.append(column)
        return pa.Table.from_arrays(columns, schema=self.schema)


def choose(shape: Shape, source: pa.Schema, who: str) -> Choose:
    """Return the step for a Home that gives `source`, which may lack what `exclude` names."""
    fields: list[pa.Field] = []
    sources: dict[str, str] = {}
    casts, texts = set(), []
    shape.check_there(who, shape.named or (), source.names)
    if shape.columns is None:
        for column in source:
            if column.name not in (shape.exclude or ()):
                name = shape.target(column.name)
                fields.append(column.with_name(name))
                sources[name] = column.name
    for choice in shape.columns or ():
        if choice.name not in source.names:
            continue
        column = source.field(choice.name)
        name = choice.target or shape.renamed(choice.name)
        kind = column.type if choice.type is None else type_of(choice.type)
        if is_nested(column.type) and _is_text(kind):
            texts.append(name)
        elif kind != column.type or (choice.type is not None and has_notes(pa.schema([column]))):
            # What is stated is the plain type: no dictionary, and no mark of Parquet.
            _check_cast(column, kind, who)
            casts.add(name)
            column = column.with_type(kind).remove_metadata()
        fields.append(column.with_name(name))
        sources[name] = choice.name
    if shape.columns is not None and FILE_NAME in source.names:
        fields.append(source.field(FILE_NAME))
        sources[FILE_NAME] = FILE_NAME
    schema = pa.schema(fields, source.metadata)
    return Choose(schema, sources, frozenset(casts), tuple(texts))


def is_nested(kind: pa.DataType) -> bool:
    """Return whether values are objects, lists or maps."""
    return bool(pa.types.is_nested(kind) and not pa.types.is_union(kind))


def _check_cast(column: pa.Field, kind: pa.DataType, who: str) -> None:
    """Raise ConfigError where there is no way between the two types."""
    if pa.types.is_null(column.type) or _is_uuid_as_text(column.type, kind):
        return
    try:
        pa.array([], column.type).cast(kind).cast(column.type)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        raise ConfigError(
            f"{who}: column '{column.name}' is {word_of(column.type)}, and cannot become "
            f"{word_of(kind)}",
            "take its `type` out, or give another one",
        ) from None


def exact_cast(column: pa.ChunkedArray, kind: pa.DataType, what: str) -> pa.ChunkedArray:
    """Return the column as `kind`; raise UnfitValue for the first value that would change."""
    if _is_uuid_as_text(column.type, kind):  # Arrow takes its 16 bytes for a text
        values = (each for chunk in column.chunks for each in chunk.storage.to_pylist())
        texts = [None if value is None else str(UUID(bytes=value)) for value in values]
        return pa.chunked_array([pa.array(texts, kind)])
    try:
        cast = column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _unfit(what, kind, str(error).split("\n")[0]) from error
    if widens(column.type, kind) or _is_text(column.type) or pa.types.is_null(column.type):
        return cast
    # A safe cast of Arrow still rounds: float64 to float32, a decimal to a float.
    row = _first_difference(column, cast)
    if row is not None:
        raise _unfit(what, kind, f"{column[row]} would become {cast[row]}")
    return cast


def _first_difference(column: pa.ChunkedArray, cast: pa.ChunkedArray) -> int | None:
    """Return the first row whose value is another one when it is cast back; None: there is none."""
    import pyarrow.compute as pc

    back = cast.cast(column.type, safe=False)
    if back.equals(column):
        return None
    same = pc.fill_null(pc.equal(back, column), False)
    same = pc.or_(same, pc.and_(pc.is_null(back), pc.is_null(column)))
    if pa.types.is_floating(column.type):
        nans = pc.and_(pc.is_nan(back), pc.is_nan(column))
        same = pc.or_(same, pc.fill_null(nans, False))
    row = pc.index(same, False).as_py()
    return None if row < 0 else int(row)


def _is_uuid_as_text(source: pa.DataType, kind: pa.DataType) -> bool:
    return isinstance(source, pa.UuidType) and _is_text(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _unfit(what: str, kind: pa.DataType, why: str) -> UnfitValue:
    return UnfitValue(
        f"{what} cannot become {word_of(kind)} in every row: {why}",
        "give it a `type` that holds all of its values, or take the `type` out",
    )
