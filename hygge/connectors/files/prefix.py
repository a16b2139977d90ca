"""A directory of files on an object store, where nothing can be renamed.

Life of a run: `prepare` opens `.<name>.hygge/<run>/` beside the target; `stage` uploads the parts
of a ticket below it, and `receipt.json` as the last of them; `commit` checks the parts and creates
the next manifest of the target (`connectors/files/manifests.py`): from then on the run is
committed, and the manifest says what is visible. `settle` makes it so for readers that know of no
manifest:

    copy    each file of the newest manifest that is not at its visible name yet, and whole
    remove  what committed runs staged; then the files that were replaced; then old manifests

Each step may be done twice, by anybody, and left to whoever comes next: `prepare`, `commit` and
`discard` begin with it. Names of files carry the run and never come back, and only what a newer
manifest has replaced is removed: who slept, and settles an older one, can take nothing away.

A run that begins to commit creates `fate`, and so does who sweeps the staging of a dead one: of
the two, one wins. So nothing is swept between the look at the parts and the manifest. What a killed
upload leaves, which no listing shows, a lifecycle rule of the bucket removes (`Bucket.upload`).
"""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa

from hygge.batches import serialized
from hygge.connectors.files import publish
from hygge.connectors.files.heads import refuse_difference, schema_text, text_schema
from hygge.connectors.files.manifests import (
    RUNS_KEPT,
    File,
    Manifest,
    Shown,
    being_copied,
    following,
    look,
    manifest_name,
    older,
)
from hygge.connectors.files.parts import (
    RECEIPT,
    Format,
    Sealed,
    Writer,
    is_ticket,
    sealed_from,
    ticket_name,
    write_parts,
)
from hygge.errors import ConfigError, NotOurs, Rejected, StoreError, Superseded, Transient, Unknown
from hygge.model import Commit, Head, Receipt, Run, Ticket, Watermark
from hygge.places.bucket import Bucket

SEES = """whole files, one by one: while a run is shown, a plain listing has some of its files, \
and in a replace for a moment old and new ones together; the newest of _hygge/*.json beside them \
names those that count"""
_SCHEMA = "schema.arrow"
_FATE = "fate"
_CHECK = ".check"
_COMMITS, _SWEPT = b"it commits", b"it was swept"
_MOST_BYTES = 5 * 1024**3
"""What an S3 endpoint copies in one request."""
_MANIFESTS_KEPT = 2
_TRIES = 20
_AT_ONCE = 8
_URL = re.compile(r"(?P<above>\w+://[^/]+(?:/.*)?)/(?P<name>[^/]+)", re.DOTALL)

Each = TypeVar("Each")
Given = TypeVar("Given")


class ObjectStore:
    """The verbs of a file Store whose path is `s3://bucket/prefix`, or the like."""

    def __init__(self, url: str, form: Format, settings: Any) -> None:
        found = _URL.fullmatch(url.rstrip("/"))
        self.bucket = Bucket(found["above"] if found else url, settings.connection)
        if found is None:
            raise ConfigError(
                f"{url} is a whole bucket, and a store needs a prefix of its own in it",
                f"{url.rstrip('/')}/users",
            )
        if url.rstrip("/").lower().endswith(form.suffixes):
            raise ConfigError(
                f"{url} is one file, and an object store is written as a directory of files",
                "give a prefix, without the ending",
            )
        self.name = found["name"]
        self.staging = f".{self.name}.hygge"
        self.form, self.file_bytes = form, settings.options.file_bytes

    def describe(self) -> str:
        return f"{self.bucket.describe()}/{self.name}"

    # The verbs.

    def head(self, flow: str) -> Head | None:
        return look(self.bucket, self.name, heads_only=True).head_of.get(flow)

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        if schema is not None:
            self.form.check_schema(schema)
        shown, _ = self.settle()
        self._may_be_written(shown, run, schema)
        Bucket(f"{self.bucket.describe()}/{self.staging}/{_CHECK}", self.bucket.access).check()
        content = b"" if schema is None else serialized(schema)
        self.bucket.put(self._key(run.id, _SCHEMA), content)
        self._sweep(run)

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        place = self._key(ticket.run, ticket_name(ticket))

        def close(writer: Writer, path: str, rows: int) -> list[Any]:
            writer.close()
            name, size = os.path.basename(path), os.path.getsize(path)
            if size > _MOST_BYTES:
                raise StoreError(
                    f"a file of {size:,} bytes is more than an object store copies at once",
                    "let it write smaller files: `options: {file_bytes: …}`",
                )
            self.form.check_count(path, rows)
            self.bucket.upload(f"{place}/{name}", path)
            os.unlink(path)
            return [name, rows, size]

        with (
            publish.in_words(tempfile.gettempdir()),
            tempfile.TemporaryDirectory(prefix="hygge-") as folder,
        ):
            sealed, size = write_parts(folder, schema, batches, self.form, self.file_bytes, close)
        self.bucket.put(f"{place}/{RECEIPT}", sealed.to_json())
        return Receipt(ticket, "", sealed.rows, size, parts=len(sealed.files))

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        sizes = self._sizes(run)
        sealed = dict(zip(receipts, _each(lambda r: self._sealed(run, r), receipts), strict=True))
        held = [
            receipt
            for receipt, found in sealed.items()
            if found is not None
            and (found.rows, len(found.files)) == (receipt.rows, receipt.parts)
            and all(sizes.get(key) == size for _, key, _, size in self._parts(run, receipt, found))
        ]
        kept = {ticket_name(receipt.ticket) for receipt in held}
        tickets = {key: key.split("/")[2] for key in sizes}
        self.bucket.drop([k for k, name in tickets.items() if is_ticket(name) and name not in kept])
        return held

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        gathered: tuple[list[File], pa.Schema | None] | None = None
        for n in range(_TRIES):
            time.sleep(random.uniform(0, 0.05) * n)  # where many flows append at once
            shown = self._look()
            done = self._done(shown, run, base, receipts)
            if done is None:
                try:
                    gathered = gathered or self._gathered(run, receipts)
                except Rejected:
                    if self._done(self._look(), run, base, receipts) is None:
                        raise
                    continue  # another driver of this run has committed it, and cleared up
                done, manifest = self._next(shown, run, base, *gathered, watermark)
                if manifest is None:
                    return done
                key = f"{self.name}/{manifest_name(manifest.generation)}"
                if not self.bucket.create(key, manifest.to_json()):
                    continue  # another flow, or another driver of this run, was quicker
                if not self._stands(manifest, run):
                    continue
            _, lost = self.settle()
            if any(each.staged.startswith(f"{run.id}/") for each in lost):
                raise StoreError(
                    f"{self.describe()}/{lost[0].name} was committed and is gone: something else "
                    "removes objects there",
                    "see what does, then run it again in mode `replace`",
                )
            return done
        raise Transient(
            f"{self.describe()} was committed to by others, {_TRIES} times in a row", "run it again"
        )

    def discard(self, run: Run) -> None:
        self.settle()  # what is visible by the manifest alone is copied first
        self.bucket.remove(f"{self.staging}/{run.id}")

    def settle(self) -> tuple[Shown, list[File]]:
        """Show what the newest manifest says, and clear up; gives what it cannot show any more."""
        before: list[File] = []
        for _ in range(_TRIES):
            shown = self._look()
            missing = shown.missing()
            # Twice, for it may be that others have settled, and gone on, since the look.
            if not missing or missing == before:
                self._clear(shown)
                return shown, missing
            copied = _each(self._copy, missing)
            before = [each for each, done in zip(missing, copied, strict=True) if not done]
        raise Transient(
            f"{self.describe()} does not show what was copied there",
            "run it again; if it stays so, something else removes objects there",
        )

    # How they do it.

    def _copy(self, file: File) -> bool:
        source, target = f"{self.staging}/{file.staged}", f"{self.name}/{file.name}"
        return self.bucket.copy(source, target, file.size)

    def _clear(self, shown: Shown) -> None:
        """Remove what the newest manifest, all of it visible, needs no more."""
        manifest = shown.manifest
        if manifest is None:
            return
        staged = [
            key for key in self.bucket.entries(self.staging) if key.split("/")[1] in manifest.runs
        ]
        entries = shown.entries
        if staged:
            # In this order: who still copies parts of an older run finds them gone, or is seen.
            self.bucket.drop(staged)
            entries = self._look().entries
        replaced = [n for n, size, _ in manifest.gone if n in entries and entries[n].size == size]
        old = older(shown, _MANIFESTS_KEPT)
        self.bucket.drop([f"{self.name}/{name}" for name in (*replaced, *old)])

    def _look(self) -> Shown:
        return look(self.bucket, self.name)

    def _key(self, run: str, name: str) -> str:
        return f"{self.staging}/{run}/{name}"

    def _done(
        self, shown: Shown, run: Run, base: Head | None, receipts: Sequence[Receipt]
    ) -> Commit | None:
        """The commit that was made already; None where the head is `base`, and may be moved."""
        now = shown.head_of.get(run.flow)
        if now is not None and now.run == run.id:
            rows = sum(receipt.rows for receipt in receipts)
            return Commit(now, applied=rows, note="it was committed already")
        if now != base:
            raise Superseded(
                f"{self.describe()} was changed by run {now.run if now else '(none)'} while this "
                "one ran",
                "run it again",
            )
        return None

    def _next(
        self,
        shown: Shown,
        run: Run,
        base: Head | None,
        files: Sequence[File],
        schema: pa.Schema | None,
        watermark: Watermark,
    ) -> tuple[Commit, Manifest | None]:
        """The commit, and the manifest that makes it; None where there is nothing to write."""
        rows = sum(each.rows for each in files)
        before = base if run.mode == "append" else None
        if before and not rows and (before.watermark, before.cursor) == (watermark, run.cursor):
            return Commit(before, applied=0, note="nothing new"), None
        note = ""
        if schema is None and run.mode != "append" and run.flow in shown.head_of:
            assert shown.manifest is not None
            schema = text_schema(shown.manifest.schema)
            note = "nothing came: emptied, with the schema it had"
        generation = base.generation + 1 if base else 1
        columns = tuple((f.name, str(f.type)) for f in schema or ())
        head = Head(run.flow, generation, run.id, rows, watermark, columns, run.cursor)
        if schema is None:
            return Commit(head, applied=0, note="nothing came, so nothing was written"), None
        try:
            self._may_be_written(shown, run, schema)
        except NotOurs:
            raise
        except StoreError as error:  # it became so after `prepare`
            raise Rejected(error.message, error.hint) from error
        if not files and not before:
            files = [self._empty_file(run, schema)]
        manifest = following(shown, run, head, files, schema_text(schema))
        return Commit(head, applied=rows, note=note), manifest

    def _stands(self, manifest: Manifest, run: Run) -> bool:
        """Whether what was created was on the newest: an old number may have been free again."""
        newest = look(self.bucket, self.name, heads_only=True).manifest
        if newest is None or newest.generation - manifest.generation >= RUNS_KEPT:
            raise Unknown(f"{self.describe()} has gone on for long since this run looked at it")
        return run.id in newest.runs

    def _may_be_written(self, shown: Shown, run: Run, schema: pa.Schema | None) -> None:
        """Raise unless what is at the target now may be replaced, or appended to."""
        if run.mode == "append":
            there = text_schema(shown.manifest.schema) if shown.manifest else None
            refuse_difference(self.describe(), there, schema)
        elif found := shown.foreign(being_copied(self.bucket, self.staging, shown)):
            raise NotOurs(
                f"{self.describe()} holds something that hygge did not write: {found}",
                "move it away, or choose another path: hygge reads there only what it wrote",
            )

    def _gathered(
        self, run: Run, receipts: Sequence[Receipt]
    ) -> tuple[list[File], pa.Schema | None]:
        """The decided tickets' parts as visible files, in split order, each one checked."""
        if not self._claimed(run.id, _COMMITS):
            raise Rejected(
                f"what run {run.id} staged in {self.describe()} was old, and swept by another run",
                "run it again",
            )
        prepared = self.bucket.get(self._key(run.id, _SCHEMA))
        schema = pa.ipc.read_schema(pa.py_buffer(prepared)) if prepared else None
        sizes = self._sizes(run)
        files: dict[str, File] = {}
        ordered = sorted(receipts, key=lambda each: each.ticket.split)
        sealed = _each(lambda receipt: self._sealed(run, receipt), ordered)
        for receipt, found in zip(ordered, sealed, strict=True):
            split = receipt.ticket.split
            if found is None:
                raise Rejected(f"split {split} was never sealed in {self.describe()}")
            if found.rows != receipt.rows:
                raise Rejected(
                    f"split {split}: {receipt.rows:,} rows were received, {found.rows:,} are in "
                    "its files"
                )
            for name, key, rows, size in self._parts(run, receipt, found):
                if sizes.get(key) != size:
                    where = f"{self.bucket.describe()}/{key}"
                    raise Rejected(f"{where} is gone, or not as it was sealed", "run it again")
                if name in files:
                    raise Rejected(f"split {split} has two receipts")
                files[name] = File(name, rows, size, key.removeprefix(f"{self.staging}/"))
            schema = schema or text_schema(found.schema)
        return list(files.values()), schema

    def _sizes(self, run: Run) -> dict[str, int]:
        found = self.bucket.entries(f"{self.staging}/{run.id}")
        return {key: entry.size for key, entry in found.items()}

    def _sealed(self, run: Run, receipt: Receipt) -> Sealed | None:
        content = self.bucket.get(self._key(run.id, f"{ticket_name(receipt.ticket)}/{RECEIPT}"))
        return None if content is None else sealed_from(content)

    def _parts(
        self, run: Run, receipt: Receipt, sealed: Sealed
    ) -> Iterator[tuple[str, str, int, int]]:
        """Visible name, staged key, rows and bytes of a ticket's parts."""
        split = receipt.ticket.split
        for at, (name, rows, size) in enumerate(sealed.files):
            key = self._key(run.id, f"{ticket_name(receipt.ticket)}/{name}")
            yield self._name(run, split, at), key, rows, size

    def _name(self, run: Run, split: int, at: int) -> str:
        return f"part-{split:05d}-{at:04d}-{run.id}{self.form.suffix()}"

    def _empty_file(self, run: Run, schema: pa.Schema) -> File:
        name = f"empty{self.form.suffix()}"
        with tempfile.TemporaryDirectory(prefix="hygge-") as folder:
            path = os.path.join(folder, name)
            self.form.open_writer(path, schema).close()
            self.bucket.upload(self._key(run.id, name), path)
            return File(self._name(run, 0, 0), 0, os.path.getsize(path), f"{run.id}/{name}")

    def _claimed(self, run: str, fate: bytes) -> bool:
        """Whether a run is to be committed, or swept, from now on; the first who asks decides."""
        key = self._key(run, _FATE)
        return self.bucket.create(key, fate) or self.bucket.get(key) == fate

    def _sweep(self, run: Run) -> None:
        """Remove what dead runs staged, by the clock of the object store itself."""
        staged = self.bucket.entries(self.staging)
        mine = staged.get(self._key(run.id, _SCHEMA))
        if mine is None:  # somebody has given this run up in this moment
            return
        runs: dict[str, list[str]] = {}
        for key in staged:
            runs.setdefault(key.split("/")[1], []).append(key)
        for other, keys in runs.items():
            old = all(mine.modified - staged[key].modified > publish.LEFTOVERS for key in keys)
            # Nothing of a run that began to commit: its driver may be paused, and wake.
            if old and self._claimed(other, _SWEPT):
                self.bucket.drop(keys)
                self.bucket.drop([self._key(other, _FATE)])


def _each(work: Callable[[Each], Given], over: Iterable[Each]) -> list[Given]:
    """`work` on each, several at once: they wait for the object store, not for each other."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="hygge-objects") as pool:
        return list(pool.map(work, over))
