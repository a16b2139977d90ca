"""A `Shape` that knows the Home's columns: the schema that comes out, and the way of each batch.

The driver binds a shape to the plan, so that a run that cannot work fails before a row moves. The
Home carries the result to its process, where `hygge.engine.reading.read_split` calls `apply`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from hygge.errors import ConfigError
from hygge.shape.add import add
from hygge.shape.choose import choose
from hygge.shape.flatten import flatten
from hygge.shape.mask import mask
from hygge.shape.settings import FILE_NAME, Shape, missing
from hygge.shape.step import Reading, Step
from hygge.shape.transform import Call, transform

ToText = Callable[[pa.Schema, Sequence[str]], Step]
"""Makes a step for rows of a schema: these of its columns become the JSON text of their values."""


@dataclass(frozen=True)
class Bound:
    """What the Home's process does with its batches."""

    source: pa.Schema
    """The columns that the Home gives."""
    schema: pa.Schema
    """The columns that the Store gets."""
    steps: tuple[Step, ...]
    origins: dict[str, str] = field(default_factory=dict)
    """Columns of the Store whose values are those of the source → their names there."""
    kept: dict[str, str] = field(default_factory=dict)
    """Those that a function of the user's gave back by their names and types, and whose type nobody
    stated: they are of the source's own type, whatever the function made of the values."""

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        """Return a batch of the Home as the Store gets it."""
        for step in self.steps:
            table = step.apply(table, reading)
        return table

    def check(self, table: pa.Table, reading: Reading) -> None:
        """Raise UnfitValue for a value that a step cannot take; the user's function is not called.

        It may count its calls, or the rows that it has seen.
        """
        for step in self.steps:
            if not isinstance(step, Call):
                table = step.apply(table, reading)

    @property
    def calls(self) -> bool:
        """Whether a function of the user's makes the rows."""
        return any(isinstance(step, Call) for step in self.steps)


def bind(shape: Shape, source: pa.Schema, who: str, to_text: ToText) -> Bound:
    """Return what `shape` does with rows of `source`, which the Home `who` gives.

    `to_text` makes the step that makes texts of nested columns: `hygge.formats` knows the form.

    Raises SourceMissing for a column that is named and not there, ConfigError for what cannot be
    done with its type.
    """
    steps: list[Step] = []
    if shape.where is not None:
        from hygge.shape.where import Filter, expression

        condition = expression(shape.where, source, who)
        steps.append(Filter(source, condition, tuple(shape.conditions)))
    chosen = choose(shape, source, who)
    _refuse_doubles(chosen.schema.names, who)
    steps.append(chosen)
    schema = chosen.schema
    changed = {*chosen.casts, *chosen.texts}
    origins = {new: old for new, old in chosen.sources.items() if new not in changed}
    if chosen.texts:
        written = to_text(schema, chosen.texts)
        steps.append(written)
        schema = written.schema
    if shape.flatten:
        spread = flatten(shape.flatten, schema, shape.renamed, who)
        steps.append(spread)
        schema = spread.schema
        origins = {new: old for new, old in origins.items() if new in schema.names}
    if shape.mask:
        masked = mask(shape, schema, who)
        steps.append(masked)
        schema = masked.schema
        origins = {new: old for new, old in origins.items() if new not in masked.ways}
    if shape.add:
        _refuse_doubles([*schema.names, *shape.add], who)
        added = add(shape, schema, who)
        steps.append(added)
        schema = added.schema
        origins.pop(FILE_NAME, None)
    kept: dict[str, str] = {}
    if shape.transform is not None:
        called = transform(shape.transform, schema, who)
        _refuse_doubles(called.schema.names, who)
        steps.append(called)
        if shape.transform.columns is None:
            before = {each.name: each.type for each in schema}
            same = [each.name for each in called.schema if before.get(each.name) == each.type]
            kept = {name: origins[name] for name in same if name in origins}
        schema, origins = called.schema, {}
    if len(schema) == 0:
        raise ConfigError(f"{who}: no column is left to move", "name some, or exclude fewer")
    return Bound(
        source,
        schema,
        tuple(steps),
        origins,
        kept,
    )


def check_names(
    shape: Shape, who: str, key: Sequence[str], cursor: str | None, known: Sequence[str]
) -> None:
    """Raise SourceMissing or ConfigError where the flow's key or cursor does not come out.

    `key` and `cursor` are as the source has them, `known` are the columns that come out.
    """
    ways = shape.mask or {}
    for name in (*key, *([] if cursor is None else [cursor])):
        way = ways.get(shape.target(name))
        if way is not None and (name == cursor or way != "hash"):
            raise ConfigError(
                f"{who}: '{name}' is masked, and is the {'cursor' if name == cursor else 'key'} "
                "of the flow",
                "a key may be masked by `hash`, which keeps rows apart; a cursor by nothing",
            )
        if name in shape.left_out:
            raise ConfigError(
                f"{who}: '{name}' is excluded, and is the key or the cursor of the flow",
                "take it out of `exclude`: the store needs it to tell rows apart",
            )
        if shape.target(name) not in known:
            if shape.transform is not None:
                raise ConfigError(
                    f"{who}: 'transform' {shape.transform.name} gives no column "
                    f"'{shape.target(name)}', which is the key or the cursor of the flow",
                    "have it return the column: the store needs it to tell rows apart",
                )
            raise missing(who, name, known)


def _refuse_doubles(names: Sequence[str], who: str) -> None:
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ConfigError(
            f"{who}: two columns would be named '{double}' in the store",
            "give one of them another name, with `as` of `columns` or in `add`",
        )
