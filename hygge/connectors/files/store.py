"""What every file Store shares; a format adds its writer, its joiner, and what it cannot hold.

Life of a run: `prepare` makes `.<name>.hygge/<run>/` beside the target; `stage` writes the parts of
a ticket into a folder of its own there, and seals it with `receipt.json` as its last file; `commit`
gathers the parts of the decided tickets, in split order, checks and joins them, and then, under the
lock of the target, compares the head and shows them by one rename (see
`connectors/files/publish.py`). From `prepare` to `discard` the driver holds a lock that keeps the
staging from being swept.

The head lies in the target: `_hygge.json` in the directory that the rename moves, so rows and head
move together. A single file has its head in the hidden sibling, named by the size and mtime of the
file that it speaks of, written before that file's rename.

All of this is for disks; for `s3://bucket/prefix` every verb is that of
`connectors/files/prefix.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from hygge.batches import serialized
from hygge.connectors.files import publish
from hygge.connectors.files.heads import (
    HEAD,
    Published,
    described,
    foreign,
    generation_name,
    head_of_directory,
    head_of_file,
    newest_in_directory,
    refuse_difference,
    schema_text,
    text_schema,
)
from hygge.connectors.files.parts import (
    Format,
    Sealed,
    closed,
    is_ticket,
    seal,
    sealed_in,
    ticket_name,
)
from hygge.connectors.files.prefix import SEES, ObjectStore
from hygge.errors import NotOurs, Rejected, StoreError, Superseded
from hygge.model import MIB, Commit, Head, Receipt, Run, StoreTraits, Ticket, Watermark
from hygge.places.access import Access
from hygge.settings import Settings
from hygge.store import Store

_SCHEMA = "schema.arrow"
_NEW = "new"
_WHOLE = "whole"
_FILE_SEEN = """the old file or the new one: one rename shows a run; who opens it twice for one \
read, as DuckDB does, may mix them, which no reader of a directory can"""


class FileStoreOptions(Settings):
    """How a file Store writes."""

    file_bytes: int = Field(512 * MIB, gt=0)
    """A new file is begun when one has grown to about this."""


class FileStore(Format, Store):
    """A directory of files, or (with the format's suffix) one file, of one format."""

    traits: ClassVar[StoreTraits] = StoreTraits(
        modes=("replace", "append"),
        visibility="atomic",
        sees="the old files or the new ones, never both: one rename shows a run; who lists a "
        "directory in the moment of a replace may find its files gone, and has to list it again",
    )

    class Settings(Settings):
        path: str | None = None
        """A directory, or a file by its suffix; or s3://bucket/prefix. Default: data/<name>."""
        connection: Access | None = Field(None, repr=False)
        """How an object store is reached: what of it the environment does not say."""
        options: FileStoreOptions = FileStoreOptions()

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        if isinstance(settings.get("path"), os.PathLike):
            settings["path"] = os.fspath(settings["path"])
        super().__init__(name, **settings)
        path = self.settings.path or os.path.join("data", name or type(self).__name__)
        self.objects: ObjectStore | None = None
        if "://" in path:
            self.objects = ObjectStore(path, self, self.settings)
            self.traits = replace(self.traits, visibility="manifest", sees=SEES)  # type: ignore[misc]  # the place decides
        # A link is followed here, so that what is renamed later is the directory itself.
        local = os.path.realpath(os.path.expanduser(path))
        self.path = self.objects.describe() if self.objects else local
        self._alive: dict[str, publish.Alive] = {}
        self.single = self.path.lower().endswith(self.suffixes)

    def __getstate__(self) -> dict[str, Any]:
        # Locks stay in the process that took them.
        return {**self.__dict__, "_alive": {}}

    def describe(self) -> str:
        return self.path

    def sees(self) -> str:
        if self.objects:
            return self.traits.sees
        if self.single:
            return _FILE_SEEN
        gap = "; this disk cannot exchange two directories, so there is none then"
        return super().sees() + ("" if publish.exchanges(self.path) else gap)

    def place(self) -> str | None:
        return self.path if self.objects else f"file:{self.path}"

    def head(self, flow: str) -> Head | None:
        if self.objects:
            return self.objects.head(flow)
        with publish.in_words(self.path):
            publish.put_back(self.path)
            return self._head(flow)

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        if self.objects:
            return self.objects.prepare(run, schema)
        if schema is not None:
            self.check_schema(schema)
        with publish.in_words(self.path):
            publish.put_back(self.path)
            self._may_be_written(run, schema)
            place = self._kept(run)
            publish.sweep(self.path, keep=run.id)
            if schema is not None:
                publish.write_synced(os.path.join(place, _SCHEMA), serialized(schema))

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        if self.objects:
            return self.objects.stage(ticket, schema, batches)
        place = os.path.join(publish.prepared(self.path, ticket.run), ticket_name(ticket))
        file_bytes = self.settings.options.file_bytes
        with publish.in_words(self.path):
            sealed, size = seal(place, schema, batches, self, file_bytes)
        return Receipt(ticket, "", sealed.rows, size, parts=len(sealed.files))

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        if self.objects:
            return self.objects.resume(run, receipts)
        with publish.in_words(self.path):
            publish.put_back(self.path)
            place = self._kept(run)
            # A commit of this run, by a driver that was taken for dead, may be moving parts.
            with publish.one_at_a_time(place):
                held = {r: names for r in receipts if (names := self._staged(run, r)) is not None}
                tickets = {ticket_name(receipt.ticket) for receipt in held}
                for name in os.listdir(place):
                    if is_ticket(name) and name not in tickets:
                        publish.remove(os.path.join(place, name))
                kept = {final for finals in held.values() for final in finals}
                _remove_others(os.path.join(place, _NEW), kept)
                publish.sync(place)
            return list(held)

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        if self.objects:
            return self.objects.commit(run, base, receipts, watermark)
        with publish.in_words(self.path):
            publish.put_back(self.path)
            # One run may be committed twice at once: by a driver that was taken for dead, too.
            with publish.one_at_a_time(self._kept(run)):
                done = self._done(run, base, receipts)
                return done or self._commit(run, base, receipts, watermark)

    def discard(self, run: Run) -> None:
        if self.objects:
            return self.objects.discard(run)
        with publish.in_words(self.path):
            publish.put_back(self.path)
            publish.take_away(self._place(run))
        if run.id in self._alive:
            self._alive.pop(run.id).close()
        try:
            os.rmdir(publish.staging(self.path))
        except OSError:
            return  # other runs, or the head of a single file, are in there

    # How they do it.

    def _place(self, run: Run) -> str:
        return os.path.join(publish.staging(self.path), run.id)

    def _kept(self, run: Run) -> str:
        """The run's staging, which from now on is not swept."""
        if run.id not in self._alive or not os.path.isdir(self._place(run)):
            self._alive[run.id] = publish.Alive(self._place(run))
        return self._place(run)

    def _head(self, flow: str) -> Head | None:
        found = self._published(flow)
        if found is None or found.head.flow != flow:
            return None
        publish.sync_shown(self.path)  # its driver may have died before it did so
        return found.head

    def _published(self, flow: str) -> Published | None:
        return head_of_file(self.path) if self.single else head_of_directory(self.path, flow)

    def _may_be_written(self, run: Run, schema: pa.Schema | None) -> None:
        """Raise unless what is at the target now may be replaced, or appended to."""
        if self.single and run.mode == "append" and os.path.exists(self.path):
            raise StoreError(
                f"{self.path} is one file, which is replaced as a whole and cannot be appended to",
                "append to a directory: give the store a path without the suffix",
            )
        if run.mode == "replace" or self.single:
            self._refuse_foreign()
        elif os.path.exists(self.path) and not os.path.isdir(self.path):
            raise NotOurs(f"{self.path} is a file that hygge did not write", "choose another path")
        elif found := newest_in_directory(self.path):
            refuse_difference(self.path, text_schema(found.schema), schema)

    def _refuse_foreign(self) -> None:
        found = foreign(self.path, self.single)
        if found:
            if not os.path.isdir(self.path):
                raise NotOurs(
                    f"{self.path} is a file that hygge did not write",
                    "move it away, or choose another path; it stays as it is",
                )
            raise NotOurs(
                f"{self.path} holds something that hygge did not write: {found}",
                "move it away, choose another path, or add to it with `mode: append`",
            )

    def _done(self, run: Run, base: Head | None, receipts: Sequence[Receipt]) -> Commit | None:
        """The commit that was made already; None where the head is `base`, and may be moved."""
        now = self._head(run.flow)
        if now is not None and now.run == run.id:
            rows = sum(receipt.rows for receipt in receipts)
            return Commit(now, applied=rows, note="it was committed already")
        if now != base:
            raise Superseded(
                f"{self.path} was changed by run {now.run if now else '(none)'} while this one ran",
                "run it again",
            )
        return None

    def _commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        parts, schema = self._gathered(run, receipts)
        rows = sum(receipt.rows for receipt in receipts)
        before = base if run.mode == "append" else None
        if before and not rows and (before.watermark, before.cursor) == (watermark, run.cursor):
            return Commit(before, applied=0, note="nothing new")
        note = ""
        if schema is None and run.mode != "append" and (found := self._published(run.flow)):
            schema = text_schema(found.schema)
            note = "nothing came: emptied, with the schema it had"
        generation = base.generation + 1 if base else 1
        columns = tuple((f.name, str(f.type)) for f in schema or ())
        head = Head(run.flow, generation, run.id, rows, watermark, columns, run.cursor)
        if schema is None:
            return Commit(head, applied=0, note="nothing came, so nothing was written")
        new = os.path.join(self._place(run), _NEW)
        os.makedirs(new, exist_ok=True)
        # What an earlier try left there is shown with the rest, so it must be of this one.
        _remove_others(new, set(parts))
        for name, path in parts.items():
            if path != os.path.join(new, name):
                os.rename(path, os.path.join(new, name))
        names = list(parts) or ([] if before else [self._empty_part(run, new, schema)])
        staged, told = self._ready(run, head, names, schema)
        with publish.one_at_a_time(publish.staging(self.path)):
            publish.put_back_locked(self.path)
            done = self._done(run, base, receipts)
            if done is None:
                self._show(run, staged, told, schema)
        return done or Commit(head, applied=rows, note=note)

    def _ready(
        self, run: Run, head: Head, names: list[str], schema: pa.Schema
    ) -> tuple[str, Published]:
        """What one rename will show, complete and durable, and what is to be told of it."""
        new = os.path.join(self._place(run), _NEW)
        if not self.single:
            files = [entry for name in names if (entry := described(new, name))]
            told = Published(head, files, schema_text(schema))
            publish.write_synced(os.path.join(new, HEAD), told.to_json())
            publish.sync_tree(new)
            return new, told
        paths = [os.path.join(new, name) for name in names]
        whole = paths[0]
        if len(paths) > 1:
            whole = os.path.join(self._place(run), _WHOLE)
            self.join(paths, whole, schema)
        self.check_count(whole, head.rows)
        publish.sync(whole)
        return whole, Published(head, [], schema_text(schema))

    def _show(self, run: Run, staged: str, told: Published, schema: pa.Schema) -> None:
        """Under the lock of the target: the last look, the rename, and a look at what it shows."""
        try:
            self._may_be_written(run, schema)
        except NotOurs:
            raise
        except StoreError as error:  # it became so after `prepare`
            raise Rejected(error.message, error.hint) from error
        shown = self.path
        if self.single:
            told.beside(self.path, staged)
            publish.show_file(staged, self.path)
        elif run.mode == "replace":
            publish.show_directory(staged, self.path)
        else:
            shown = os.path.join(self.path, generation_name(told.head))
            if not publish.show_inside(staged, self.path, os.path.basename(shown)):
                raise Superseded(
                    f"{self.path} has a generation {told.head.generation} already", "run it again"
                )
        whole = all(described(shown, name) == [name, *is_] for name, *is_ in told.files)
        if not whole or self._head(run.flow) != told.head:
            raise StoreError(
                f"{shown} is not what was put there a moment ago: something else writes there, too",
                "see what does, then run it again in mode `replace`",
            )

    def _gathered(
        self, run: Run, receipts: Sequence[Receipt]
    ) -> tuple[dict[str, str], pa.Schema | None]:
        """Final name → path of the decided tickets' parts, in split order, each one checked."""
        schema: pa.Schema | None = None
        prepared = os.path.join(self._place(run), _SCHEMA)
        if os.path.exists(prepared):
            with open(prepared, "rb") as file:
                schema = pa.ipc.read_schema(pa.py_buffer(file.read()))
        parts: dict[str, str] = {}
        for receipt in sorted(receipts, key=lambda r: r.ticket.split):
            place = os.path.join(self._place(run), ticket_name(receipt.ticket))
            sealed = sealed_in(place)
            if sealed is None:
                raise Rejected(f"split {receipt.ticket.split} was never sealed in {place}")
            if sealed.rows != receipt.rows:
                raise Rejected(
                    f"split {receipt.ticket.split}: {receipt.rows:,} rows were received, "
                    f"{sealed.rows:,} are in its files"
                )
            for final, path, rows, size in self._parts(run, receipt.ticket, sealed):
                if not os.path.exists(path) or os.path.getsize(path) != size:
                    raise Rejected(f"{path} is gone, or not as it was sealed", "run it again")
                if final in parts:
                    raise Rejected(f"split {receipt.ticket.split} has two receipts")
                self.check_count(path, rows)
                parts[final] = path
            schema = schema or text_schema(sealed.schema)
        return parts, schema

    def _parts(
        self, run: Run, ticket: Ticket, sealed: Sealed
    ) -> Iterator[tuple[str, str, int, int]]:
        """Final name, path, rows and bytes of a ticket's parts, wherever a commit left them."""
        for at, (name, rows, size) in enumerate(sealed.files):
            final = self._part_name(run, ticket.split, at)
            path = os.path.join(self._place(run), ticket_name(ticket), name)
            if not os.path.exists(path):  # an earlier try at the commit moved it
                path = os.path.join(self._place(run), _NEW, final)
            yield final, path, rows, size

    def _staged(self, run: Run, receipt: Receipt) -> list[str] | None:
        """The final names of a receipt's parts, or None unless all of it is still there."""
        sealed = sealed_in(os.path.join(self._place(run), ticket_name(receipt.ticket)))
        if sealed is None or (sealed.rows, len(sealed.files)) != (receipt.rows, receipt.parts):
            return None
        finals = []
        for final, path, _, size in self._parts(run, receipt.ticket, sealed):
            if not os.path.exists(path) or os.path.getsize(path) != size:
                return None
            finals.append(final)
        return finals

    def _part_name(self, run: Run, split: int, at: int) -> str:
        # A name never comes back in a later run: a reader that listed the old files and opens them
        # after the exchange finds none of them, instead of some rows of each run.
        return f"part-{split:05d}-{at:04d}-{run.id.rpartition('-')[2]}{self.suffix()}"

    def _empty_part(self, run: Run, folder: str, schema: pa.Schema) -> str:
        name = self._part_name(run, 0, 0)
        path = os.path.join(folder, name)
        closed(self.open_writer(path, schema), path, 0)
        return name


def _remove_others(folder: str, kept: set[str]) -> None:
    """Remove from a run's `new` what is not `kept`."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if name not in kept and os.path.isdir(path):  # what a replace took out of sight
            publish.remove(path)
        elif name not in kept:
            os.unlink(path)
