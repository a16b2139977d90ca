"""CSV and TSV files as a Home: one file, a directory, a glob; `.gz` and `.zst` by their suffix.

CSV has no types. They are stated (`types: {zip: string, price: "decimal(10,2)"}`), or inferred from
the first `sample_bytes` of the first file that has rows (`hygge/formats/text_values.py` says how: what
has no plain form of a type is text). A later value that does not fit is an error with file, line
and column. Columns with stated types are read fastest: inferred numbers are checked for their form
too.

NULL is what stands unquoted and empty, and what `null_values` says more, unquoted; a quoted "" is
the empty string. Blank lines are skipped, but in a file of one column each is a NULL. Files may
differ in the order of their columns. binary is base64.
How a read goes is told in `hygge/formats/csv_reader.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from hygge.connectors.files.home import FileHome, FileOptions, Piece
from hygge.connectors.files.listing import SourceFile
from hygge.errors import ConfigError, HomeError, one_of
from hygge.formats import text_values
from hygge.formats.csv_reader import CsvForm, Reading
from hygge.formats.text import compression_of, cut, known_encoding, with_compressed
from hygge.model import MIB, Column, HomeTraits


class CsvOptions(FileOptions):
    """How CSV is read."""

    delimiter: str | None = None
    """One character between values. Default: a comma, in `.tsv` files a tab."""
    quote: str = '"'
    """One character around values that hold delimiters or newlines; '' where nothing is quoted."""
    header: bool = True
    """Whether the first line names the columns."""
    column_names: list[str] | None = None
    """Names of the columns, where there is no header."""
    encoding: str = "utf-8"
    """What the files are written in; a byte order mark is understood."""
    types: dict[str, str] = Field(default_factory=dict)
    """Column → type word; the other columns are inferred from the sample."""
    sample_bytes: int = Field(MIB, gt=0)
    """How much of the first file is looked at to infer types."""
    null_values: list[str] = Field(default_factory=list)
    """What else means NULL beside the empty value, where it stands unquoted."""
    quoted_nulls: bool = False
    """Whether a quoted empty value (and quoted `null_values`) is NULL too."""
    newlines_in_values: bool = True
    """Whether quoted values may hold newlines; only where they never do is a file split."""

    @field_validator("types")
    @classmethod
    def _known_types(cls, types: dict[str, str]) -> dict[str, str]:
        text_values.types_of(types)
        return types

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        return known_encoding(encoding)

    @field_validator("delimiter", "quote")
    @classmethod
    def _one_sign(cls, sign: str | None) -> str | None:
        if sign and (len(sign) != 1 or not sign.isascii() or sign.isalnum() or sign in "\r\n"):
            raise ValueError(f"{sign!r} is not one ASCII character that separates")
        return sign

    @model_validator(mode="after")
    def _names_from_somewhere(self) -> Self:
        if self.delimiter == "":
            raise ValueError("'delimiter' is empty")
        if self.header == (self.column_names is not None):
            raise ValueError(
                "'column_names' and 'header: false' need each other: names come from the header, "
                "or from column_names"
            )
        return self


class CsvHome(FileHome):
    """`CsvHome("users", path="data/users.csv", options={"types": {"zip": "string"}})`."""

    traits: ClassVar[HomeTraits] = HomeTraits(lossy=text_values.NO_TEXT)
    suffixes: ClassVar[tuple[str, ...]] = with_compressed(".csv", ".tsv")

    class Settings(FileHome.Settings):
        options: CsvOptions = CsvOptions()

    def schema_of(self, files: Sequence[SourceFile]) -> tuple[Column, ...]:
        first = self._form(files[0]).names()
        for file in files[1:]:
            names = self._form(file).names()
            if set(names) != set(first):
                raise HomeError(
                    f"{file.path} has the columns {', '.join(names)}; "
                    f"{files[0].path} has {', '.join(first)}",
                    "move them in flows of their own",
                )
        stated = text_values.types_of(self.settings.options.types)
        for name in stated:
            if name not in first:
                raise ConfigError(
                    f"'types' names column '{name}', which {files[0].path} does not have",
                    one_of("its columns", name, first),
                )
        kinds = dict(stated)
        if len(stated) < len(first):
            sample = self._sample(files, first)
            kinds |= {n: text_values.infer(sample.column(n)) for n in first if n not in stated}
        how = {name: "text, stated" if name in stated else "text, inferred" for name in first}
        return tuple(Column(name, kinds[name], how[name]) for name in first)

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        options = self.settings.options
        whole = options.newlines_in_values or not options.encoding.startswith("utf-8")
        if whole or compression_of(file.path) != "none":
            yield Piece(bytes=file.size)
            return
        first = self._form(file).first_byte()
        for start, end in cut(first, max(first, file.size), options.split_bytes):
            yield Piece({"start": start, "end": end}, bytes=end - start)

    def open_reader(
        self, file: SourceFile, where: dict[str, Any], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        return Reading(self._form(file), where, schema).tables()

    def _sample(self, files: Sequence[SourceFile], names: list[str]) -> pa.Table:
        schema = pa.schema([(name, pa.string()) for name in names])
        block = max(1024, self.settings.options.sample_bytes)
        for file in files:
            for table in Reading(self._form(file), {}, schema, block).tables():
                return table
        return schema.empty_table()

    def _form(self, file: SourceFile) -> CsvForm:
        options = self.settings.options
        tabbed = file.path.lower().endswith(with_compressed(".tsv"))
        return CsvForm(
            path=file.path,
            delimiter=options.delimiter or ("\t" if tabbed else ","),
            quote=options.quote,
            column_names=None if options.header else tuple(options.column_names),
            encoding=options.encoding,
            stated=frozenset(options.types),
            sample_bytes=options.sample_bytes,
            null_values=tuple(options.null_values),
            quoted_nulls=options.quoted_nulls,
            newlines_in_values=options.newlines_in_values,
        )
