"""JSON lines as a Home: one object a line, one file, a directory, a glob; `.gz` and `.zst` too.

Types are stated (`types: {price: "decimal(10,2)", tags: list<string>}`), or inferred from the first
`sample_bytes` of the first file that has rows (`hygge/formats/json_values.py` says how). A later
value that does not fit, a line that is no object, and a field that the sample did not have are
errors with file and line; with `columns` chosen, other fields are left out. null and a missing
field are both NULL; "" is not.

Numbers never go through a float unless their type is one. decimal is read from numbers and from
texts; NaN, Infinity and -Infinity of a float column from texts too; binary is base64; timestamps
are ISO 8601, with a zone where the type has one. A type stated as string keeps whatever comes:
numbers as they are written, objects and lists as JSON text. Files are split by ranges of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, field_validator

from hygge.connectors.files.home import FileHome, FileOptions, Piece
from hygge.connectors.files.listing import SourceFile
from hygge.errors import HomeError
from hygge.formats import json_values, text_values
from hygge.formats.json_reader import JsonForm
from hygge.formats.text import compression_of, cut, known_encoding, owned, with_compressed
from hygge.model import MIB, Column, HomeTraits


class JsonlOptions(FileOptions):
    """How JSON lines are read."""

    encoding: str = "utf-8"
    """What the files are written in; a byte order mark is understood."""
    types: dict[str, str] = Field(default_factory=dict)
    """Column → type word; the other columns are inferred from the sample."""
    sample_bytes: int = Field(MIB, gt=0)
    """How much of the first file is looked at to infer types."""

    @field_validator("types")
    @classmethod
    def _known_types(cls, types: dict[str, str]) -> dict[str, str]:
        text_values.types_of(types, nested=True)
        return types

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        return known_encoding(encoding)


class JsonlHome(FileHome):
    """`JsonlHome("events", path="data/events.jsonl", options={"types": {"id": "uint64"}})`."""

    traits: ClassVar[HomeTraits] = HomeTraits(lossy=json_values.NO_JSON)
    suffixes: ClassVar[tuple[str, ...]] = with_compressed(".jsonl", ".ndjson")

    class Settings(FileHome.Settings):
        options: JsonlOptions = JsonlOptions()

    def schema_of(self, files: Sequence[SourceFile]) -> tuple[Column, ...]:
        stated = text_values.types_of(self.settings.options.types, nested=True)
        path, rows = files[0].path, []
        for file in files:
            path, rows = file.path, self._form(file).sample()
            if rows:
                break
        names = dict.fromkeys([*(name for _, row in rows for name in row), *stated])
        if not names:
            raise HomeError(
                f"{path} has no column: no object with a field stands in it",
                "leave it out, or state its columns with `types`",
            )
        return tuple(self._column(name, rows, path, stated) for name in names)

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        options = self.settings.options
        if compression_of(file.path) != "none" or not options.encoding.startswith("utf-8"):
            yield Piece(bytes=file.size)
            return
        for start, end in cut(0, file.size, options.split_bytes):
            yield Piece({"start": start, "end": end}, bytes=end - start)

    def open_reader(
        self, file: SourceFile, where: dict[str, Any], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        if where:
            start, end = owned(file.path, where["start"], where["end"], 0)
            where = {"start": start, "end": end}
        yield from self._form(file).tables(where, schema)

    def _column(
        self,
        name: str,
        rows: list[tuple[int, dict[str, Any]]],
        path: str,
        stated: dict[str, pa.DataType],
    ) -> Column:
        if name in stated:
            return Column(name, stated[name], "json, stated")
        wanted = self.settings.columns
        if wanted is not None and name not in wanted:
            return Column(name, pa.string(), "json, not read")
        kind = json_values.infer(name, [(line, row.get(name)) for line, row in rows], path)
        return Column(name, kind, "json, inferred")

    def _form(self, file: SourceFile) -> JsonForm:
        options = self.settings.options
        return JsonForm(
            path=file.path,
            encoding=options.encoding,
            stated=frozenset(options.types),
            sample_bytes=options.sample_bytes,
            strict=self.settings.columns is None,
        )
