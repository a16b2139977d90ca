"""A file Store's target on a disk: a directory of files, or a single file.

Life of a run: `prepare` makes `.<name>.hygge/<run>/` beside the target; `stage` writes the parts of
a ticket into a folder of its own there, with `receipt.json` as its last file; `commit` collects the
parts of the decided tickets, in split order, checks and joins them, and then, under the lock of the
target, compares the head and shows them by one rename (see `hygge/connectors/files/publish.py`).
From `prepare` to `discard` the driver holds a lock that keeps the staging from being swept.

The head lies in the target, in a file of the directory that the rename moves, so rows and head move
together. A single file has its head in the hidden sibling, named by the size and mtime of the
file that it speaks of, written before that file's rename.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from hygge.connectors.files import head_files, publish
from hygge.connectors.files.evolving import Held
from hygge.connectors.files.heads import (
    Published,
    check_added,
    content_of,
    described,
    first_foreign,
    generation_name,
    head_of_directory,
    head_of_file,
    newest_in_directory,
    prepared_content,
    read_schema,
    rows_at,
    schema_text,
    staged_as,
    text_schema,
)
from hygge.connectors.files.parts import (
    StagedParts,
    close_part,
    is_ticket,
    read_receipt,
    stage_parts,
    ticket_name,
)
from hygge.connectors.files.target import SCHEMA, check_staged_rows, committed_already, next_commit
from hygge.errors import NotOurs, Rejected, StoreError, Superseded, refusing
from hygge.formats.format import Format
from hygge.model import Commit, Head, Mode, Receipt, Run, TargetState, Ticket, Watermark
from hygge.places import durable
from hygge.places.names import expanded

SEES = """the old files or the new ones, never both: one rename shows a run; who lists a \
directory in the moment of a replace may find its files gone, and has to list it again"""
_FILE_SEES = """the old file or the new one: one rename shows a run; who opens it twice for one \
read, as DuckDB does, may mix them, which no reader of a directory can"""
_NEW = "new"
"""The folder in a run's staging that its commit fills, and shows as the directory."""
_WHOLE = "whole"
"""The file in a run's staging that its parts are joined to, for a single file."""


class Directory:
    """The verbs of a file Store whose path is a directory, or a single file, of a disk."""

    def __init__(self, path: str, file_format: Format, file_bytes: int) -> None:
        # A link is followed here, so that what is renamed later is the directory itself.
        self.path = os.path.realpath(expanded(path, type(file_format).__name__))
        self.format, self.file_bytes = file_format, file_bytes
        self.single = self.path.lower().endswith(file_format.suffixes)
        self._alive: dict[str, publish.Alive] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Locks stay in the process that took them.
        return {**self.__dict__, "_alive": {}}

    def describe(self) -> str:
        return self.path

    def place(self) -> str:
        return f"file:{self.path}"

    def is_also(self, place: str) -> bool:
        other = place.removeprefix("file:")
        if unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", self.path):
            return True  # macOS takes both for one, and nobody means two
        return durable.ignores_case(self.path)

    def sees(self, declared: str) -> str:
        if self.single:
            return _FILE_SEES
        if publish.can_exchange(self.path):
            return declared
        return f"{declared}; this disk cannot exchange two directories, so there is none then"

    # The verbs.

    def head(self, flow: str) -> Head | None:
        with publish.disk_errors(self.path):
            publish.put_back(self.path)
            return self._head(flow)

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        with publish.disk_errors(self.path):
            publish.put_back(self.path)
            held = self._check_writable(run, schema)
            folder = self._held_staging(run)
            publish.sweep(self.path, keep=run.id)
            if schema is not None:
                content = prepared_content(schema, content_of(folder, SCHEMA), held)
                durable.write_synced(os.path.join(folder, SCHEMA), content)

    def check_here(self, mode: Mode) -> None:
        self.examine(Run("check", "", mode), None)

    def examine(self, run: Run, schema: pa.Schema | None) -> TargetState:
        with publish.disk_errors(self.path):
            held = self._check_writable(run, schema)
            publish.check_rights(self.path)
            if not os.path.exists(self.path):
                return TargetState(exists=False)
            rows = rows_at(self.path, self.single)
            return TargetState(True, rows, changes=held.changes)

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        staging = publish.prepared_staging(self.path, ticket.run)
        folder = os.path.join(staging, ticket_name(ticket))
        with publish.disk_errors(self.path):
            prepared = partial(content_of, staging, SCHEMA)
            schema, batches = staged_as(schema, batches, prepared, self.format)
            staged, size = stage_parts(folder, schema, batches, self.format, self.file_bytes)
        return Receipt(ticket, "", staged.rows, size, parts=len(staged.files))

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        with publish.disk_errors(self.path):
            publish.put_back(self.path)
            folder = self._held_staging(run)
            # A commit of this run, by a driver that was taken for dead, may be moving parts.
            with publish.one_at_a_time(folder):
                names_of = {
                    receipt: names
                    for receipt in receipts
                    if (names := self._whole_parts(run, receipt)) is not None
                }
                tickets = {ticket_name(receipt.ticket) for receipt in names_of}
                for name in os.listdir(folder):
                    if is_ticket(name) and name not in tickets:
                        publish.remove(os.path.join(folder, name))
                kept = {name for names in names_of.values() for name in names}
                _remove_others(os.path.join(folder, _NEW), kept)
                durable.sync(folder)
            return list(names_of)

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        with publish.disk_errors(self.path):
            publish.put_back(self.path)
            try:
                # One run may be committed twice at once: by a driver that was taken for dead, too.
                with publish.one_at_a_time(self._held_staging(run)):
                    done = self._done(run, base, receipts)
                    return done or self._commit(run, base, receipts, watermark)
            except (OSError, StoreError):
                if self._is_shown(run):
                    raise
                with publish.disk_errors(self.path, Rejected), refusing():
                    raise

    def discard(self, run: Run) -> None:
        with publish.disk_errors(self.path):
            publish.put_back(self.path)
            publish.remove_staging(self._staging(run))
        if run.id in self._alive:
            self._alive.pop(run.id).close()
        try:
            os.rmdir(publish.staging(self.path))
        except OSError:
            return  # other runs, or the head of a single file, are in there

    # How they do it.

    def _staging(self, run: Run) -> str:
        return os.path.join(publish.staging(self.path), run.id)

    def _held_staging(self, run: Run) -> str:
        """Return the run's staging, which nobody sweeps from now on."""
        if run.id not in self._alive or not os.path.isdir(self._staging(run)):
            self._alive[run.id] = publish.Alive(self._staging(run))
        return self._staging(run)

    def _is_shown(self, run: Run) -> bool:
        """Whether a run is visible, or may be: where the target cannot be read."""
        try:
            published = self._published(run.flow)
        except (OSError, StoreError):
            return True
        return published is not None and published.head.run == run.id

    def _head(self, flow: str) -> Head | None:
        published = self._published(flow)
        if published is None or published.head.flow != flow:
            return None
        publish.sync_shown(self.path)  # its driver may have died before it did so
        return published.head

    def _published(self, flow: str) -> Published | None:
        return head_of_file(self.path) if self.single else head_of_directory(self.path, flow)

    def _check_writable(self, run: Run, schema: pa.Schema | None) -> Held:
        """Raise unless the target may be replaced, or appended to: then return what it holds."""
        if self.single and run.mode == "append" and os.path.exists(self.path):
            raise StoreError(
                f"{self.path} is one file, which is replaced as a whole and cannot be appended to",
                "append to a directory: give the store a path without the suffix",
            )
        if run.mode == "replace" or self.single:
            self._refuse_foreign()
        elif os.path.exists(self.path) and not os.path.isdir(self.path):
            raise NotOurs(f"{self.path} is a file that hygge did not write", "choose another path")
        before = head_of_file(self.path) if self.single else newest_in_directory(self.path)
        if before is None:
            return Held()
        held, head = text_schema(before.schema), self._head(run.flow)
        return check_added(self.path, held, schema, self.format, head, run.mode)

    def _refuse_foreign(self) -> None:
        name = first_foreign(self.path, self.single)
        if not name:
            return
        if not os.path.isdir(self.path):
            raise NotOurs(
                f"{self.path} is a file that hygge did not write",
                "move it away, or choose another path; it stays as it is",
            )
        raise NotOurs(
            f"{self.path} holds something that hygge did not write: {name}",
            "move it away, choose another path, or add to it with `mode: append`",
        )

    def _done(self, run: Run, base: Head | None, receipts: Sequence[Receipt]) -> Commit | None:
        """Return the commit that was made already; None where the head is still `base`."""
        return committed_already(self.path, self._head(run.flow), run, base, receipts)

    def _commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        parts, schema = self._collected(run, receipts)
        rows = sum(receipt.rows for receipt in receipts)
        commit, schema = next_commit(
            run, base, rows, watermark, schema, lambda: self._schema_before(run)
        )
        if schema is None:
            return commit
        new = os.path.join(self._staging(run), _NEW)
        os.makedirs(new, exist_ok=True)
        # What an earlier try left there is shown with the rest, so it must be of this one.
        _remove_others(new, set(parts))
        for name, path in parts.items():
            if path != os.path.join(new, name):
                os.rename(path, os.path.join(new, name))
        names = list(parts)
        if not names and not (base and run.mode == "append"):
            names = [self._empty_part(run, new, schema)]
        staged, published = self._ready(run, commit.head, names, schema)
        with publish.one_at_a_time(publish.staging(self.path)):
            publish.put_back_locked(self.path)
            done = self._done(run, base, receipts)
            if done is None:
                self._show(run, staged, published, schema)
        return done or commit

    def _schema_before(self, run: Run) -> str | None:
        published = self._published(run.flow)
        return published.schema if published else None

    def _ready(
        self, run: Run, head: Head, names: list[str], schema: pa.Schema
    ) -> tuple[str, Published]:
        """Make what one rename will show, complete and durable. Returns its path and its head."""
        new = os.path.join(self._staging(run), _NEW)
        if not self.single:
            files = [entry for name in names if (entry := described(new, name))]
            published = Published(head, files, schema_text(schema))
            path = os.path.join(new, head_files.name_of(self.format))
            head_files.write(path, published.to_json(), self.format, schema, self._staging(run))
            durable.sync_tree(new)
            return new, published
        paths = [os.path.join(new, name) for name in names]
        whole = paths[0]
        if len(paths) > 1:
            whole = os.path.join(self._staging(run), _WHOLE)
            self.format.join(paths, whole, schema)
        self.format.check_count(whole, head.rows)
        durable.sync(whole)
        return whole, Published(head, [], schema_text(schema))

    def _show(self, run: Run, staged: str, published: Published, schema: pa.Schema) -> None:
        """Under the lock of the target: look once more, rename, and look at what that shows."""
        self._check_writable(run, schema)
        shown = self.path
        if self.single:
            published.write_beside(self.path, staged)
            publish.show_file(staged, self.path)
        elif run.mode == "replace":
            publish.show_directory(staged, self.path)
        else:
            shown = os.path.join(self.path, generation_name(published.head))
            if not publish.show_inside(staged, self.path, os.path.basename(shown)):
                generation = published.head.generation
                raise Superseded(
                    f"{self.path} has a generation {generation} already", "run it again"
                )
        whole = all(described(shown, file[0]) == file for file in published.files)
        if not whole or self._head(run.flow) != published.head:
            raise StoreError(
                f"{shown} is not what was put there a moment ago: something else writes there, too",
                "see what does, then run it again in mode `replace`",
            )

    def _collected(
        self, run: Run, receipts: Sequence[Receipt]
    ) -> tuple[dict[str, str], pa.Schema | None]:
        """Return the decided tickets' parts in split order, path by final name, and their schema.

        Raises Rejected where one of them is not as it was staged.
        """
        prepared = content_of(self._staging(run), SCHEMA)
        schema = read_schema(prepared) if prepared else None
        parts: dict[str, str] = {}
        for receipt in sorted(receipts, key=lambda receipt: receipt.ticket.split):
            split = receipt.ticket.split
            folder = os.path.join(self._staging(run), ticket_name(receipt.ticket))
            staged = read_receipt(folder)
            if staged is None:
                raise Rejected(f"split {split} was never sealed in {folder}")
            check_staged_rows(split, receipt.rows, staged.rows)
            for name, path, rows, size in self._parts(run, receipt.ticket, staged):
                if not os.path.exists(path) or os.path.getsize(path) != size:
                    raise Rejected(f"{path} is gone, or not as it was sealed", "run it again")
                if name in parts:
                    raise Rejected(f"split {split} has two receipts")
                self.format.check_count(path, rows)
                parts[name] = path
            schema = schema or text_schema(staged.schema)
        return parts, schema

    def _parts(
        self, run: Run, ticket: Ticket, staged: StagedParts
    ) -> Iterator[tuple[str, str, int, int]]:
        """Yield final name, path, rows and bytes of a ticket's parts, where a commit left them."""
        for index, (staged_name, rows, size) in enumerate(staged.files):
            name = self._part_name(run, ticket.split, index)
            path = os.path.join(self._staging(run), ticket_name(ticket), staged_name)
            if not os.path.exists(path):  # an earlier try at the commit moved it
                path = os.path.join(self._staging(run), _NEW, name)
            yield name, path, rows, size

    def _whole_parts(self, run: Run, receipt: Receipt) -> list[str] | None:
        """Return the final names of a receipt's parts; None unless all of it is still there."""
        staged = read_receipt(os.path.join(self._staging(run), ticket_name(receipt.ticket)))
        if staged is None or (staged.rows, len(staged.files)) != (receipt.rows, receipt.parts):
            return None
        names = []
        for name, path, _, size in self._parts(run, receipt.ticket, staged):
            if not os.path.exists(path) or os.path.getsize(path) != size:
                return None
            names.append(name)
        return names

    def _part_name(self, run: Run, split: int, index: int) -> str:
        # A name never comes back in a later run: a reader that listed the old files and opens them
        # after the exchange finds none of them, instead of some rows of each run.
        suffix = self.format.suffix()
        return f"part-{split:05d}-{index:04d}-{run.id.rpartition('-')[2]}{suffix}"

    def _empty_part(self, run: Run, folder: str, schema: pa.Schema) -> str:
        name = self._part_name(run, 0, 0)
        path = os.path.join(folder, name)
        close_part(self.format.open_writer(path, schema), path, 0)
        return name


def _remove_others(folder: str, kept: set[str]) -> None:
    """Remove from a run's `new` what is not `kept`."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if name not in kept and os.path.isdir(path):  # what a replace took out of sight
            publish.remove(path)
        elif name not in kept:
            os.unlink(path)
