"""The heads of a file store on a disk: a small JSON each, with the list of the files it covers.

A directory keeps its head at its top (written by `replace`) and one in each sub-directory that
`append` added, in a file of `hygge/connectors/files/head_files.py`. Any other sub-directory is
foreign, also one that holds another store. A single file has its heads in the hidden sibling, each
named by the size and mtime of the file that it is the head of: one that was written for a rename
that never happened is the head of nothing.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from hygge.batches import serialized, widens
from hygge.connectors.files import publish
from hygge.connectors.files.evolving import Held, apart, conformed, followed, with_changes
from hygge.connectors.files.head_files import files_in, head_in
from hygge.connectors.files.metadata import differ
from hygge.encodings import following, has_notes
from hygge.errors import StoreError
from hygge.extension_types import extension_of, marked_schema
from hygge.formats.format import Format
from hygge.model import Head, Mode, facts_of_head
from hygge.places import durable
from hygge.places.names import file_name
from hygge.type_words import words_of

FORMAT = 1


FileState = tuple[str, int, int]
"""Name, size and mtime_ns of a file. Heads of old versions have no mtime_ns."""


@dataclass(frozen=True)
class Published:
    """A head, the files it covers, and their schema as base64 of Arrow IPC."""

    head: Head
    files: list[FileState]
    schema: str | None

    def to_json(self) -> bytes:
        """Return the head as JSON that people can read, with the format number first."""
        content = {
            "hygge": FORMAT,
            **facts_of_head(self.head),
            "files": self.files,
            "schema": self.schema,
        }
        return json.dumps(content, indent=1).encode()

    def write_beside(self, target: str, staged: str) -> None:
        """Write this as the head of the single file that `staged` becomes at `target`.

        Heads are removed that belong neither to the file as it is now nor to the new one.
        """
        folder = publish.staging(target)
        kept = [_name_of_head(staged)]
        durable.write_synced(os.path.join(folder, kept[0]), self.to_json())
        if os.path.exists(target):
            kept.append(_name_of_head(target))
        for name in os.listdir(folder):
            if name.startswith("head-") and name not in kept:
                os.unlink(os.path.join(folder, name))


def generation_name(head: Head) -> str:
    """Return the sub-directory that an appended generation becomes; two flows never share one."""
    return f"run-{file_name(head.flow)}-{head.generation:06d}"


def newest_in_directory(target: str) -> Published | None:
    """Return the newest head of any flow in a directory."""
    heads = (published for _, published in _heads(target))
    return max(heads, key=lambda published: published.head.run, default=None)


def head_of_directory(target: str, flow: str) -> Published | None:
    """Return the newest head of `flow` in a directory."""
    heads = (published for _, published in _heads(target) if published.head.flow == flow)
    return max(heads, key=lambda published: published.head.generation, default=None)


def rows_at(target: str, single: bool) -> int | None:
    """Return the rows that hygge wrote at a path; None where it did not write there."""
    if single:
        published = head_of_file(target)
        return published.head.rows if published else None
    rows = [published.head.rows for _, published in _heads(target)]
    return sum(rows) if rows else None


def head_of_file(target: str) -> Published | None:
    """Return the head of a single file as it is now."""
    if not os.path.exists(target):
        return None
    path = os.path.join(publish.staging(target), _name_of_head(target))
    return _read(path) if os.path.exists(path) else None


def first_foreign(target: str, single: bool) -> str | None:
    """Return the first entry at `target` that hygge did not write, or None."""
    if not os.path.lexists(target):
        return None
    if single:
        return None if head_of_file(target) else "the file itself"
    if not os.path.isdir(target):
        return "the file itself"
    files: dict[str, tuple[int, ...]] = {}
    folders = {target}
    for folder, published in _heads(target):
        folders.add(folder)
        files |= dict.fromkeys(files_in(folder), ())
        files |= {os.path.join(folder, file[0]): file[1:] for file in published.files}
    for folder, inner, names in os.walk(target, onerror=_raise):
        for path in (os.path.join(folder, name) for name in (*inner, *names)):
            is_known = path in folders or path in files
            if not is_known or os.path.islink(path):
                return os.path.relpath(path, target)
            written = files.get(path, ())  # size and mtime; size alone in heads of old versions
            stat = os.stat(path)
            if written != (stat.st_size, stat.st_mtime_ns)[: len(written)]:
                return f"{os.path.relpath(path, target)} was changed after hygge wrote it"
    return None


def described(folder: str, name: str) -> FileState | None:
    """Return a file as a head lists it; None where it is not there."""
    try:
        stat = os.stat(os.path.join(folder, name))
    except FileNotFoundError:
        return None
    return name, stat.st_size, stat.st_mtime_ns


def check_none_added(who: str, held: Iterable[str], rows: Iterable[str], head: Head | None) -> None:
    """Raise StoreError where a replace would lose a column that somebody added to a table.

    `held` are the names of the table's columns, `rows` those of the rows. A column that the last
    run of the flow wrote, by its `head`, may go: its source has no such column any more.
    """
    if head is None or not head.columns:
        return
    known = {*rows, *(name for name, _ in head.columns)}
    added = [name for name in held if name not in known]
    if added:
        raise StoreError(
            f"{who} has column '{added[0]}', which the rows lack and the last run did not write: a "
            "replace would lose it",
            "drop it from the table, keep it with `schema: evolve`, or use `mode: merge`",
        )


def check_same(path: str, held: pa.Schema | None, new: pa.Schema | None, mode: Mode) -> None:
    """Raise StoreError where rows of `new` have other columns than those that `path` holds."""
    if held is None or new is None:
        return
    hint = other_type = "keep the columns, use `schema: evolve`, or take `schema: freeze` out"
    if mode != "replace":
        hint = (
            "append the same columns, in the same order and types, use `schema: evolve`, or write "
            "elsewhere"
        )
        other_type = (
            "give the rows the old type, let `mode: replace` write it anew without `schema`, or "
            "write elsewhere"
        )
    for field in held:
        index = new.get_field_index(field.name)
        if index >= 0 and differ(field, new.field(index)):
            marks = [b" ".join(extension_of(each) or ()) for each in (field, new.field(index))]
            one, other = (mark.decode(errors="replace") for mark in marks)
            raise StoreError(
                f"column '{field.name}' is of extension type {one} in {path}, and {other} in this "
                "run: the same values mean others",
                hint,
            )
        kind = new.field(index).type if index >= 0 else field.type
        # string and large_string hold the same values, and readers take either.
        if not (widens(kind, field.type) and widens(field.type, kind)):
            there, here = words_of(field.type, kind)
            raise StoreError(
                f"column '{field.name}' is {there} in {path}, and {here} in this run", other_type
            )
    if held.names != new.names:
        raise StoreError(
            f"{path} has the columns {', '.join(held.names)}; this run has {', '.join(new.names)}",
            hint,
        )


def check_added(
    path: str,
    held: pa.Schema | None,
    rows: pa.Schema | None,
    file_format: Format,
    head: Head | None,
    mode: Mode,
) -> Held:
    """Raise StoreError where `rows` cannot be added to what `path` holds, or take its place.

    `head` is that of the flow. Returns what a run of this mode finds there.
    """
    to_stay = held if mode == "append" else None
    if not file_format.evolves or held is None or rows is None:
        if to_stay is not None or file_format.freezes:
            check_same(path, held, rows, mode)
        return Held(to_stay)
    written = None if head is None else [name for name, _ in head.columns]
    return Held(to_stay, followed(path, held, rows, file_format, written, to_stay is None))


def prepared_content(schema: pa.Schema | None, prepared: bytes | None, held: Held) -> bytes:
    """Return the schema that a run writes in, as bytes of Arrow IPC; none for None.

    Its encodings are those of what the run `prepared` before, or else of what is `held` where it
    appends.
    """
    if schema is None:
        return b""
    if held.followed is not None:
        schema = with_changes(held.followed)
    before = read_schema(prepared) if prepared else held.schema
    return serialized(schema if before is None else following(schema, before))


def staged_as(
    schema: pa.Schema | None,
    batches: Iterator[pa.Table],
    read_prepared: Callable[[], bytes | None],
    file_format: Format,
) -> tuple[pa.Schema | None, Iterator[pa.Table]]:
    """Return schema and batches as they are written, by the schema that the run was prepared with.

    They have its encodings; and, where the columns follow the rows, its columns.
    """
    if schema is None:
        return None, batches
    if file_format.evolves and (prepared := read_prepared()):
        columns, _, _ = apart(read_schema(prepared))
        assert columns is not None
        return columns, conformed(batches, columns, "the rows")
    if not has_notes(schema):
        return schema, batches
    prepared = read_prepared()
    return following(schema, read_schema(prepared) if prepared else None), batches


def content_of(folder: str, name: str) -> bytes | None:
    """Return what a file holds; None where it is not there."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def schema_text(schema: pa.Schema | None) -> str | None:
    """Return a schema as base64 of Arrow IPC, for JSON; None for None."""
    if schema is None:
        return None
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def text_schema(text: str | None) -> pa.Schema | None:
    """Return the schema of a `schema_text`, marked as `marked_schema` does; None for None."""
    return None if text is None else read_schema(base64.b64decode(text))


def read_schema(content: bytes) -> pa.Schema:
    """Return a schema that Arrow IPC wrote, whatever extension types this process knows."""
    return marked_schema(pa.ipc.read_schema(pa.py_buffer(content)))


def _raise(error: OSError) -> None:
    raise error


def _name_of_head(file: str) -> str:
    """Return the name of the head of a single file, as the file is now."""
    stat = os.stat(file)
    return f"head-{stat.st_size}-{stat.st_mtime_ns}.json"


def _heads(target: str) -> Iterator[tuple[str, Published]]:
    """Yield each head in a directory, with the folder that it is in."""
    if not os.path.isdir(target):
        return
    for path in files_in(target):
        yield target, _read(path)
    for name in sorted(os.listdir(target)):
        for path in files_in(os.path.join(target, name)) if name.startswith("run-") else ():
            published = _read(path)
            if name.endswith(f"-{published.head.generation:06d}"):
                yield os.path.dirname(path), published


def _read(path: str) -> Published:
    try:
        content = json.loads(head_in(path))
        if content.pop("hygge") > FORMAT:
            raise StoreError(
                f"{path} was written by a newer hygge", "upgrade hygge-data, then run again"
            )
        files, schema = content.pop("files"), content.pop("schema")
        content["columns"] = tuple((name, kind) for name, kind in content["columns"])
        return Published(Head(**content), [tuple(file) for file in files], schema)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} is not a head that hygge wrote: {error}",
            "restore it, or move the whole directory away and run again",
        ) from error
