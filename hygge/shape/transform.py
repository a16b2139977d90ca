"""`transform`: a function of the user's makes of each batch the rows that are moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hygge.batches import conform, widens
from hygge.dataframes import as_table
from hygge.errors import ConfigError, HyggeError, UnfitValue, raised_at, without_password
from hygge.shape.own_code import Transform
from hygge.shape.step import Reading
from hygge.type_words import type_of, words_of


@dataclass(frozen=True)
class Call:
    """The step that calls the function."""

    schema: pa.Schema
    source: pa.Schema
    transform: Transform

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        made = _called(self.transform, table, reading.who)
        named = f"'transform' {self.transform.name}"
        made = _with_types_of(self.source, made)
        missing = [name for name in self.schema.names if name not in made.column_names]
        extra = [name for name in made.column_names if name not in self.schema.names]
        if missing or extra or len({*made.column_names}) != made.num_columns:
            raise ConfigError(
                f"{reading.who}: {named} gave the columns {', '.join(made.column_names)}, and not "
                f"{', '.join(self.schema.names)}",
                "return the same columns for each batch, also for one without rows; `schema` "
                "states them",
            )
        for field in self.schema:
            came = made.schema.field(field.name).type
            if came != field.type and not widens(came, field.type):
                here, there = words_of(came, field.type)
                raise UnfitValue(
                    f"{reading.who}: {named} gave column '{field.name}' as {here}, and it is "
                    f"{there}",
                    "return the same types for each batch, also for one without rows; `schema` of "
                    "`transform` states them",
                )
        return conform(made, self.schema, f"{reading.who}: {named}")


def transform(given: Transform, source: pa.Schema, who: str) -> Call:
    """Return the step for rows of `source`; raise where it is not known what comes out."""
    if given.columns is not None:
        stated = [pa.field(name, type_of(word)) for name, word in given.columns.items()]
        return Call(pa.schema(stated), source, given)
    made = _called(given, source.empty_table(), who)
    schema = _with_types_of(source, made).schema.remove_metadata()
    unknown = [field.name for field in schema if pa.types.is_null(field.type)]
    if unknown:
        raise ConfigError(
            f"{who}: 'transform' {given.name} gives no type for {', '.join(unknown)} of a batch "
            "without rows",
            "state them: transform: {call: …, schema: {column: type}}",
        )
    return Call(schema, source, given)


def _called(given: Transform, table: pa.Table, who: str) -> pa.Table:
    """Return what the function makes of a batch; raise what it raises with its file and line."""
    named = f"{who}: 'transform' {given.name}"
    try:
        batch: Any = table
        if given.form == "pandas":
            import pandas

            # Types of Arrow keep each value: those of numpy make 1.0 of a 1 beside a NULL.
            batch = table.to_pandas(types_mapper=pandas.ArrowDtype)
        elif given.form == "polars":
            import polars

            batch = polars.from_arrow(table)
        made = given.made()(batch)
    except HyggeError:
        raise
    except Exception as error:
        where = raised_at(error, given.file)
        raise HyggeError(
            f"{named} raised {type(error).__name__}: {without_password(error)} ({where})",
            "mend it there; it is called with a batch without rows first, unless `schema` says "
            "what comes out",
        ) from error
    if made is None:
        raise ConfigError(f"{named} returned nothing", "return the batch, also where it is empty")
    return as_table(made, named)


def _with_types_of(source: pa.Schema, made: pa.Table) -> pa.Table:
    """Return the table with the types that its columns had, where a DataFrame has but wider ones.

    polars makes `large_string` of `string`, which holds the same.
    """
    fields = []
    for field in made.schema:
        index = source.get_field_index(field.name)
        before = field if index < 0 else source.field(index)
        is_same = widens(before.type, field.type) and widens(field.type, before.type)
        fields.append(field.with_type(before.type) if is_same else field)
    schema = pa.schema(fields)
    return made if schema.equals(made.schema) else made.cast(schema)
