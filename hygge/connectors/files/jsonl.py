"""JSON lines, one object a line: a Home and a Store; also in gzip and zstd.

Home: one file, a directory, a glob; files are split by ranges of bytes. Types are stated
(`types: {price: "decimal(10,2)", tags: list<string>}`, see `hygge/type_words.py`), or inferred from
the first `sample_bytes` of the first file that has rows (see `hygge/formats/json_values.py`). A
later value that does not fit, a line that is no object, and a field that the sample did not have
are errors with file and line; with `columns` chosen, other fields are left out. null and a missing
field are both NULL; "" is not. Numbers never go through a float unless their type is one. decimal
is read from numbers and from texts; NaN, Infinity and -Infinity of a float column from texts too;
binary is base64; timestamps are ISO 8601, with a zone where the type has one. A type stated as
string keeps every value: numbers as they are written, objects and lists as JSON text.

Store: a directory of files, or one file where the path ends in `.jsonl`. A foreign reader (DuckDB's
glob, `pyarrow.dataset`) sees the old files or the new ones, never a mixture: a run is shown by one
rename. `hygge/formats/json_writer.py` says how values are written; `JsonlHome` reads all of it back
exactly where `types:` state what it is. On an object store (`s3://bucket/prefix`) files come one by
one: see `hygge/connectors/files/prefix.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Unpack

import pyarrow as pa
from pydantic import Field, field_validator

from hygge.connectors.files import bad_lines
from hygge.connectors.files.file_options import FileHomeArguments, FileOptions, FileOptionsDict
from hygge.connectors.files.home import (
    FileHome,
    Piece,
)
from hygge.connectors.files.source_file import SourceFile
from hygge.connectors.files.store import (
    FileStore,
    FileStoreArguments,
    FileStoreOptions,
    FileStoreOptionsDict,
)
from hygge.connectors.files.uniting import STATE_IT, United, widens_sampled, with_text
from hygge.errors import HomeError
from hygge.formats import exact_text, first_bytes, json_bad_rows, json_values
from hygge.formats.format import Writer
from hygge.formats.json_reader import JsonlFile
from hygge.formats.json_writer import JsonlWriter, check_json_schema
from hygge.formats.text import (
    SUFFIX_OF,
    Compression,
    byte_ranges,
    compression_for,
    compression_of,
    concatenate,
    known_encoding,
    owned_lines,
    with_compressed,
)
from hygge.model import MIB, Column, HomeTraits, StoreTraits
from hygge.type_words import is_json, types_of


class JsonlOptions(FileOptions):
    """How JSON lines are read."""

    encoding: str = "utf-8"
    """The encoding of the files; a byte order mark is understood."""
    types: dict[str, str] = Field(default_factory=dict)
    """Column → type word; the other columns are inferred from the sample."""
    sample_bytes: int = Field(default=MIB, gt=0)
    """How many bytes of the first file types are inferred from."""

    @field_validator("types")
    @classmethod
    def _known_types(cls, types: dict[str, str]) -> dict[str, str]:
        types_of(types, nested=True)
        return types

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        return known_encoding(encoding)


class JsonlOptionsDict(FileOptionsDict, total=False):
    """`JsonlOptions` as a dict."""

    encoding: str
    types: Mapping[str, str]
    sample_bytes: int


class JsonlHomeArguments(FileHomeArguments, total=False):
    """The keyword arguments of `JsonlHome`."""

    options: JsonlOptions | JsonlOptionsDict


_MORE_FILES = 20
"""Files whose samples are read for the type of a column that is only null in the first one."""


class JsonlHome(FileHome):
    """`JsonlHome("events", path="data/events.jsonl", options={"types": {"id": "uint64"}})`."""

    traits: HomeTraits = HomeTraits(lossy=json_values.NO_JSON)
    imports = ("pyarrow.compute", "pyarrow.json")
    suffixes: ClassVar[tuple[str, ...]] = with_compressed(".jsonl", ".ndjson")

    class Settings(FileHome.Settings):
        options: JsonlOptions = JsonlOptions()

    settings: JsonlHome.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[JsonlHomeArguments]) -> None:
        super().__init__(name, **settings)

    def schema_of(self, files: Sequence[SourceFile]) -> tuple[Column, ...]:
        stated = types_of(self.settings.options.types, nested=True)
        if self.unites:
            return self._united(files, stated)
        path, rows = files[0].path, []
        for file in files:
            path, rows = file.path, self._sample(file)
            if rows:
                break
        names = dict.fromkeys([*(name for _, row in rows for name in row), *stated])
        if not names:
            raise HomeError(
                f"{path} has no column: there is no object with a field in it",
                "leave it out, or state its columns with `types`",
            )
        columns = [self._column(name, rows, path, stated) for name in names]
        unknown = {name for name in names if all(row.get(name) is None for _, row in rows)}
        unknown -= set(stated)
        for other in files[files.index(file) + 1 :][:_MORE_FILES]:
            if not unknown:
                break
            rows = self._sample(other)
            known = {name for name in unknown if any(row.get(name) is not None for _, row in rows)}
            for at, column in enumerate(columns):
                if column.name in known:
                    columns[at] = self._column(column.name, rows, other.path, stated)
            unknown -= known
        return tuple(columns)

    def _united(
        self, files: Sequence[SourceFile], stated: dict[str, pa.DataType]
    ) -> tuple[Column, ...]:
        """Return the columns of the samples of all files."""
        united = United(self.is_read, widens_sampled, STATE_IT)
        for file in files:
            rows = self._sample(file)
            names = dict.fromkeys([*(name for _, row in rows for name in row), *stated])
            columns = [self._column(name, rows, file.path, stated, pa.null()) for name in names]
            united.add(file.path, pa.schema([(column.name, column.type) for column in columns]))
        schema = united.schema()
        if not schema.names:
            raise HomeError(
                f"{self.path} has no column: there is no object with a field in it",
                "leave it out, or state its columns with `types`",
            )
        how = {name: "json, stated" for name in stated}
        return tuple(
            Column(f.name, with_text(f.type), how.get(f.name, "json, inferred")) for f in schema
        )

    def pieces(self, file: SourceFile) -> Iterator[Piece]:
        options = self.settings.options
        is_cut = file.size > options.split_bytes
        whole = compression_of(file.path) != "none" or not options.encoding.startswith("utf-8")
        if whole or (is_cut and first_bytes.is_compressed(file.path)):
            yield Piece(bytes=file.size)
            return
        for start, end in byte_ranges(0, file.size, options.split_bytes):
            yield Piece({"start": start, "end": end}, bytes=end - start)

    def open_reader(
        self, file: SourceFile, where: dict[str, int], schema: pa.Schema
    ) -> Iterator[pa.Table]:
        if where == {"start": 0, "end": file.size}:
            where = {}  # all of it, which may be compressed
        if where:
            start, end = owned_lines(file.path, where["start"], where["end"], 0)
            where = {"start": start, "end": end}
        jsonl_file = self._jsonl_file(file)
        if self.most_bad_rows is None:
            yield from jsonl_file.tables(where, schema)
        else:
            yield from json_bad_rows.tables(jsonl_file, where, schema)

    def _sample(self, file: SourceFile) -> list[tuple[int, dict[str, json_values.Json]]]:
        return self._jsonl_file(file).sample(skips_bad=self.most_bad_rows is not None)

    def read_bad(self, rows: pa.Table) -> Iterator[pa.Table]:
        return bad_lines.read(self._open_bad, rows)

    def _open_bad(self, path: str, form: dict[str, Any], schema: pa.Schema) -> Iterator[pa.Table]:
        file = self._jsonl_file(SourceFile(path, 0, 0))
        if not form["encoding"].startswith("utf-8"):  # the lines are in UTF-8 by now
            file = replace(file, encoding="utf-8")
        return file.tables({}, schema)

    def _column(
        self,
        name: str,
        rows: list[tuple[int, dict[str, json_values.Json]]],
        path: str,
        stated: dict[str, pa.DataType],
        nothing: pa.DataType | None = None,
    ) -> Column:
        if name in stated:
            return Column(name, stated[name], "json, stated")
        if not self.is_read(name):
            return Column(name, pa.string(), "json, not read")
        values = [(line, row.get(name)) for line, row in rows]
        try:
            kind = json_values.infer(name, values, path, nothing=nothing)
            return Column(name, kind, "json, inferred")
        except RecursionError:
            raise HomeError(
                f"{path}: column '{name}' is nested too deeply", "leave it out with `columns`"
            ) from None

    def hint_for_depth(self, column: str) -> str:
        return f"`options: {{types: {{{column}: string}}}}` keeps it as JSON text"

    def _jsonl_file(self, file: SourceFile) -> JsonlFile:
        options = self.settings.options
        return JsonlFile(
            path=file.path,
            encoding=options.encoding,
            stated=frozenset(options.types),
            sample_bytes=options.sample_bytes,
            strict=self.settings.columns is None,
            left_out=frozenset() if self.shape is None else self.shape.left_out,
            as_json=frozenset(name for name, word in options.types.items() if is_json(word)),
        )


class JsonlStoreOptions(FileStoreOptions):
    """How JSON lines are written."""

    compression: Compression | None = None
    """none, gzip or zstd. Default: what the path's suffix says, else none."""


class JsonlStoreOptionsDict(FileStoreOptionsDict, total=False):
    """`JsonlStoreOptions` as a dict."""

    compression: Compression | None


class JsonlStoreArguments(FileStoreArguments, total=False):
    """The keyword arguments of `JsonlStore`."""

    options: JsonlStoreOptions | JsonlStoreOptionsDict


class JsonlStore(FileStore):
    """`JsonlStore("events", path="data/events.jsonl.gz")`."""

    traits: StoreTraits = replace(FileStore.traits, lossy=json_values.NO_JSON)
    suffixes: ClassVar[tuple[str, ...]] = with_compressed(".jsonl", ".ndjson")
    takes_wider = True

    class Settings(FileStore.Settings):
        options: JsonlStoreOptions = JsonlStoreOptions()

    settings: JsonlStore.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[JsonlStoreArguments]) -> None:
        super().__init__(name, **settings)
        stated = self.settings.options.compression
        self.compression = compression_for(self.path, self.single, stated)

    def suffix(self) -> str:
        return ".jsonl" + SUFFIX_OF[self.compression]

    def open_writer(self, path: str, schema: pa.Schema) -> Writer:
        return JsonlWriter(path, schema, self.compression)

    def join(self, parts: Sequence[str], target: str, schema: pa.Schema) -> None:
        concatenate(parts, target, self.compression)

    def check_schema(self, schema: pa.Schema) -> None:
        check_json_schema(schema)

    def check_values(self, table: pa.Table) -> None:
        exact_text.check_values(table)
