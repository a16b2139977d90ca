"""What the files of a Home say about their rows beside the rows: metadata of schema and fields.

A file's schema may carry texts by name (`geo` of GeoParquet, `pandas`), and a field the mark of an
extension type. A text is kept byte for byte where it still holds true of the rows that are read:
in all files the same, and about no column that is left out. `pandas` and `geo` are cut down to the
columns that are read, and joined over the files. What does not hold true any more is named in the
plan.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from hygge.encodings import MARKS, ORDER, can_be_kept, has_ordered, not_kept, with_encoding
from hygge.extension_types import extension_of

Texts = dict[bytes, bytes]
Change = Callable[[dict[str, Any], Any], dict[str, Any] | None]
_OWN = b"hygge."
"""Begins the keys that mean something to hygge itself; no file may state them."""
_NONE: Mapping[str, bytes] = {}
_OF_ALL_COLUMNS = (b"org.apache.spark.sql.parquet.row.metadata", b"parquet.avro.schema",
                   b"avro.schema", b"iceberg.schema", b"huggingface")  # fmt: skip
"""Keys whose text lists every column: readers would not see another one."""


@dataclass
class FilesMetadata:
    """The metadata on which all files agree that were added."""

    names: list[str] = field(default_factory=list)
    """The columns of the files."""
    texts: Texts = field(default_factory=dict)
    fields: dict[str, Texts] = field(default_factory=dict)
    types: dict[str, pa.DataType] = field(default_factory=dict)
    """The columns that are of one type in all files, as the files hold them."""
    lost: dict[str, None] = field(default_factory=dict)
    """Sentences about what is not kept, in order."""
    files: int = 0

    def add(
        self,
        schema: pa.Schema,
        unites: bool = False,
        marks: Mapping[str, bytes] = _NONE,
        orders: Mapping[str, bytes] = _NONE,
    ) -> None:
        """Take in the schema of one more file; `unites`: each file may lack columns.

        `marks` are those of Parquet: see `hygge/formats/parquet_marks.py`. `orders` are the
        categories of ordered dictionaries, where these are known.
        """
        texts = _without_own(schema.metadata)
        fields = {each.name: _without_own(each.metadata) for each in schema}
        for name, mark in marks.items():
            fields[name][MARKS] = mark
        for name, order in orders.items():
            fields[name][ORDER] = order
        types = {each.name: each.type for each in schema}
        for name, kind in types.items():
            if has_ordered(kind) and name not in orders:
                self.lose(f"'ordered' of column '{name}': categories become plain values")
            for encoding in not_kept(kind):
                self.lose(f"'{encoding}' of column '{name}': its values become plain ones")
        if not self.files:
            self.types = types
            self.names, self.texts, self.fields = list(schema.names), texts, fields
        else:
            self._agree(texts)
            if unites:
                lacking = [name for name in types if name not in self.fields]
                self.names += lacking
                self.types |= {name: types[name] for name in lacking}
                self.fields |= {name: dict(fields[name]) for name in lacking}
                types = {**self.types, **types}
                fields = {**self.fields, **fields}
            self.types = {n: kind for n, kind in self.types.items() if types.get(n) == kind}
            for name, own in self.fields.items():
                other = fields.get(name, {})
                notes = [own.get(MARKS, b""), other.get(MARKS, b"")]
                for word in {note.partition(b":")[0] for note in notes if notes[0] != notes[1]}:
                    if word:
                        self.lose(f"'{word.decode()}' of column '{name}': not all files have it")
                for key in [key for key in own if other.get(key) != own[key]]:
                    del own[key]
                    if key == ORDER:
                        self.lose(f"'ordered' of column '{name}': the files differ in categories")
                    elif key != MARKS and not key.startswith(b"PARQUET:"):
                        self.lose(f"'{_shown(key)}' of column '{name}': not all files have it")
        self.files += 1

    def _agree(self, texts: Texts) -> None:
        for key in {**self.texts, **texts}:
            one, other = self.texts.get(key), texts.get(key)
            joined = one if one == other else _joined(key, one, other)
            if joined is not None:
                self.texts[key] = joined
            elif self.texts.pop(key, None) is not None or other is not None:
                self.lose(f"'{_shown(key)}': the files differ in it")

    def of_field(self, name: str) -> Texts:
        """Return the metadata of a column, with its type in the files where that is encoded."""
        texts, kind = self.fields[name], self.types.get(name)
        is_kept = kind is not None and (can_be_kept(kind) or ORDER in texts)
        return with_encoding(texts, kind) if is_kept else texts

    def of_columns(self, read: Sequence[str]) -> Texts:
        """Return the texts that hold true of the columns `read`; say what does not."""
        left_out = [name for name in self.names if name not in read]
        added = [name for name in read if name not in self.names]
        kept: Texts = {}
        for key, text in self.texts.items():
            reduced: bytes | None = text
            if key in _REDUCED and left_out:
                reduced = _parsed(_REDUCED[key], text, read)
            elif any(_names(text, name) for name in left_out) or (added and key in _OF_ALL_COLUMNS):
                reduced = None
            if reduced is None:
                self.lose(f"'{_shown(key)}': it is about other columns than those that are read")
            else:
                kept[key] = reduced
        return kept

    def lose(self, sentence: str) -> None:
        """Note what is not kept, and why."""
        self.lost[sentence] = None


def differ(one: pa.Field, other: pa.Field) -> bool:
    """Whether two fields are marked as different extension types: the same bytes mean others."""
    marks = extension_of(one), extension_of(other)
    return None not in marks and marks[0] != marks[1]


def _without_own(metadata: Mapping[bytes, bytes] | None) -> Texts:
    items = (metadata or {}).items()
    return {key: value for key, value in items if not key.startswith(_OWN)}


def _shown(key: bytes) -> str:
    return key.decode(errors="backslashreplace")


def _names(text: bytes, name: str) -> bool:
    """Whether a text names a column, in quotes as JSON writes it."""
    return any(json.dumps(name, ensure_ascii=way).encode() in text for way in (True, False))


def _parsed(change: Change, text: bytes, more: Any) -> bytes | None:
    """Return what `change` makes of a JSON text and `more`; None where it makes nothing of them."""
    try:
        changed = change(json.loads(text), more)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if changed is None else json.dumps(changed, ensure_ascii=False).encode()


def _joined(key: bytes, one: bytes | None, other: bytes | None) -> bytes | None:
    """Return a text that holds true of the rows of both; None where there is none."""
    if one is None or other is None or key not in _JOINED:
        return None
    try:
        return _parsed(_JOINED[key], one, json.loads(other))
    except ValueError:
        return None


def _reduce_pandas(found: dict[str, Any], read: Sequence[str]) -> dict[str, Any]:
    columns = [each for each in found["columns"] if each.get("field_name", each["name"]) in read]
    index = [each for each in found["index_columns"] if isinstance(each, dict) or each in read]
    return {**found, "columns": columns, "index_columns": index}


def _join_pandas(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    # A range is an index of one file's rows. Without one, pandas numbers the rows anew.
    first, second = (
        [each for each in found["index_columns"] if not isinstance(each, dict)]
        for found in (one, other)
    )
    return {**one, "index_columns": first} if first == second else None


def _reduce_geo(found: dict[str, Any], read: Sequence[str]) -> dict[str, Any] | None:
    if found["primary_column"] not in read:
        return None
    columns = {name: about for name, about in found["columns"].items() if name in read}
    for name, about in columns.items():
        boxes = about.get("covering", {}).get("bbox", {}).values()
        if any(path[0] not in read for path in boxes):
            columns[name] = {key: value for key, value in about.items() if key != "covering"}
    return {**found, "columns": columns}


def _join_geo(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    columns = {}
    for name, about in one["columns"].items():
        theirs = other["columns"][name]
        types, more = about["geometry_types"], theirs["geometry_types"]
        joined = {**about, "geometry_types": sorted({*types, *more}) if types and more else []}
        if about.get("bbox") != theirs.get("bbox"):
            joined.pop("bbox", None)  # it is that of one file
        of_file = ("geometry_types", "bbox")
        if any(
            about.get(key) != theirs.get(key) for key in {*about, *theirs} if key not in of_file
        ):
            return None
        columns[name] = joined
    rest, others = ({**each, "columns": list(each["columns"])} for each in (one, other))
    return {**one, "columns": columns} if rest == others else None


_REDUCED: dict[bytes, Change] = {
    b"pandas": _reduce_pandas,
    b"geo": _reduce_geo,
}
_JOINED: dict[bytes, Change] = {
    b"pandas": _join_pandas,
    b"geo": _join_geo,
}
