"""`add`: columns that the source lacks: time and id of the run, the name of a file, a literal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa

from hygge.errors import ConfigError
from hygge.shape.settings import FILE_NAME, Shape
from hygge.shape.step import Reading
from hygge.shape.where_text import Literal, literal

_KINDS = {"now": pa.timestamp("us", "UTC"), "run_id": pa.string(), "file_name": pa.string()}


@dataclass(frozen=True)
class Add:
    """The step that adds columns behind those of the source."""

    schema: pa.Schema
    values: Mapping[str, str | pa.Scalar]
    """Columns → a word, or a literal."""

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        index = table.schema.get_field_index(FILE_NAME)
        files = None if index < 0 else table.column(index)
        columns = [column for at, column in enumerate(table.columns) if at != index]
        for name, value in self.values.items():
            if value == "file_name":
                columns.append(files)
                continue
            scalar = value
            if value == "now":
                scalar = pa.scalar(reading.began, _KINDS["now"])
            elif value == "run_id":
                scalar = pa.scalar(reading.run, pa.string())
            kind = self.schema.field(name).type
            columns.append(pa.chunked_array([pa.repeat(scalar, table.num_rows)], kind))
        return pa.Table.from_arrays(columns, schema=self.schema)


def add(shape: Shape, source: pa.Schema, who: str) -> Add:
    """Return the step for rows of `source`."""
    fields = [column for column in source if column.name != FILE_NAME]
    values: dict[str, str | pa.Scalar] = {}
    for name, given in (shape.add or {}).items():
        if given == "file_name" and FILE_NAME not in source.names:
            raise ConfigError(
                f"{who} has no files, and '{name}' of `add` is the name of one",
                "`file_name` is for homes of files; take it out",
            )
        if isinstance(given, str) and given in _KINDS:
            values[name], kind = given, _KINDS[given]
        else:
            values[name] = scalar = _scalar(given)
            kind = scalar.type
        fields.append(pa.field(name, kind, nullable=False))
    return Add(pa.schema(fields, source.metadata), values)


def _scalar(given: str | int | float | bool) -> pa.Scalar:
    if not isinstance(given, str):
        return pa.scalar(given)
    found = literal(given)
    assert found is not None  # the settings have checked it
    return _typed(found)


def _typed(found: Literal) -> pa.Scalar:
    kinds = {
        "date": pa.date32(), "timestamp": pa.timestamp("us"), "time": pa.time64("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
    }  # fmt: skip
    if found.kind == "text":
        return pa.scalar(found.text)
    if found.kind == "bool":
        return pa.scalar(found.text == "true")
    if found.kind == "number":
        value = Decimal(found.text)
        return pa.scalar(int(value) if value == value.to_integral_value() else value)
    return pa.scalar(found.text).cast(kinds[found.kind])
