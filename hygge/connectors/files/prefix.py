"""A file Store's target on an object store: a prefix, where nothing can be renamed.

Life of a run: `prepare` opens `.<name>.hygge/<run>/` beside the target; `stage` uploads the parts
of a ticket below it, and `receipt.json` as the last of them; `commit` checks the parts and creates
the next manifest of the target (`hygge/connectors/files/manifests.py`): from then on the run is
committed, and the manifest says what is visible. `settle` makes it so for readers that know of no
manifest:

    copy    each file of the newest manifest that is not at its visible name yet, and whole
    remove  what committed runs staged; then the files that were replaced; then old manifests

Each step may be done twice, by any driver, and left to the next one: `prepare`, `commit` and
`discard` begin with it. Names of files carry the run and never come back, and only what a newer
manifest has replaced is removed: a driver that slept, and settles an older one, can take nothing
away.

A run that begins to commit creates `fate`, and so does a driver that sweeps the staging of a dead
run: of the two, one wins. So nothing is swept between the look at the parts and the manifest. What
a killed upload leaves, which no listing shows, a lifecycle rule of the bucket removes
(`Bucket.upload`).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa

from hygge.connectors.files import heads, publish, table_log
from hygge.connectors.files.evolving import Held
from hygge.connectors.files.manifests import (
    RUNS_KEPT,
    File,
    Manifest,
    Shown,
    being_copied,
    manifest_name,
    next_manifest,
    old_manifests,
    read_target,
)
from hygge.connectors.files.parts import (
    RECEIPT,
    Part,
    StagedParts,
    is_ticket,
    parse_receipt,
    ticket_name,
    write_parts,
)
from hygge.connectors.files.target import SCHEMA, check_staged_rows, next_commit
from hygge.errors import ConfigError, NotOurs, Rejected, StoreError, Transient, Unknown, refusing
from hygge.formats.format import Format, Writer, check_rows
from hygge.model import Commit, Head, Mode, Receipt, Run, TargetState, Ticket, Watermark
from hygge.places.access import Access
from hygge.places.bucket import Bucket
from hygge.places.objects import at_once

SEES = """nothing of a run before its commit, then whole files, one by one, until all are copied \
(64 at a time: 10,000 take half a minute at 50 ms a request, plus the bucket's time to copy them); \
meanwhile a plain listing has some of the new files, in a replace beside all of the old ones, to \
be removed when the new ones are there; where the driver dies in that time, it stays so until the \
next run to there; the newest of _hygge/*.json beside them names those that count"""
_FATE = "fate"
_CHECK = ".check"
_COMMITS, _SWEPT = b"it commits", b"it was swept"
_MOST_BYTES = 5 * 1024**3
"""The most that an S3 endpoint copies in one request."""
_MANIFESTS_KEPT = 2
_TRIES = 20
_URL = re.compile(r"(?P<above>\w+://[^/]+(?:/.*)?)/(?P<name>[^/]+)", re.DOTALL)


class Prefix:
    """The verbs of a file Store whose path is `s3://bucket/prefix`, or the like."""

    def __init__(
        self, url: str, access: Access | None, file_format: Format, file_bytes: int
    ) -> None:
        parts = _URL.fullmatch(url.rstrip("/"))
        self.bucket = Bucket(parts["above"] if parts else url, access)
        if parts is None:
            raise ConfigError(
                f"{url} is a whole bucket, and a store needs a prefix of its own in it",
                f"{url.rstrip('/')}/users",
            )
        if url.rstrip("/").lower().endswith(file_format.suffixes):
            raise ConfigError(
                f"{url} is one file, and an object store is written as a directory of files",
                "give a prefix, without the ending",
            )
        self.name = parts["name"]
        self.staging = f".{self.name}.hygge"
        self.format, self.file_bytes = file_format, file_bytes

    def describe(self) -> str:
        return f"{self.bucket.describe()}/{self.name}"

    def place(self) -> str:
        return self.describe()

    def sees(self, declared: str) -> str:
        return SEES

    def head(self, flow: str) -> Head | None:
        return read_target(self.bucket, self.name, heads_only=True).head_of.get(flow)

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        shown, _ = self.settle()
        held = self._check_writable(shown, run, schema)
        self._check_bucket()
        prepared = self.bucket.get(self._key(run.id, SCHEMA))
        content = heads.prepared_content(schema, prepared, held)
        self.bucket.put(self._key(run.id, SCHEMA), content)
        self._sweep(run)

    def check_here(self, mode: Mode) -> None:
        """Do nothing: a bucket is reached through a connection only."""

    def examine(self, run: Run, schema: pa.Schema | None) -> TargetState:
        shown = self.newest()
        held = self._check_writable(shown, run, schema)
        self._check_bucket()  # by an object that it removes: no listing tells who may write
        rows = sum(file.rows for file in shown.manifest.files) if shown.manifest else None
        return TargetState(bool(shown.entries), rows, changes=held.changes)

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        folder = self._key(ticket.run, ticket_name(ticket))
        prepared = partial(self.bucket.get, self._key(ticket.run, SCHEMA))
        schema, batches = heads.staged_as(schema, batches, prepared, self.format)

        def close(writer: Writer, path: str, rows: int) -> Part:
            check_rows(path, writer.close().rows, rows)
            name, size = os.path.basename(path), os.path.getsize(path)
            if size > _MOST_BYTES:
                raise StoreError(
                    f"a file of {size:,} bytes is more than an object store copies at once",
                    "let it write smaller files: `options: {file_bytes: …}`",
                )
            self.format.check_count(path, rows)
            self.bucket.upload(f"{folder}/{name}", path)
            os.unlink(path)
            return name, rows, size

        with (
            publish.disk_errors(tempfile.gettempdir()),
            tempfile.TemporaryDirectory(prefix="hygge-") as local,
        ):
            staged, size = write_parts(local, schema, batches, self.format, self.file_bytes, close)
        self.bucket.put(f"{folder}/{RECEIPT}", staged.to_json())
        return Receipt(ticket, "", staged.rows, size, parts=len(staged.files))

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        sizes = self._sizes(run)
        staged = at_once(lambda receipt: self._staged(run, receipt), receipts)
        whole = [
            receipt
            for receipt, parts in zip(receipts, staged, strict=True)
            if parts is not None and self._is_whole(run, receipt, parts, sizes)
        ]
        kept = {ticket_name(receipt.ticket) for receipt in whole}
        tickets = {key: key.split("/")[2] for key in sizes}
        self.bucket.drop([k for k, name in tickets.items() if is_ticket(name) and name not in kept])
        return whole

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        done = table_log.commit(self, run, base, receipts, watermark)
        _, lost = self.settle()
        if any(file.staged.startswith(f"{run.id}/") for file in lost):
            raise StoreError(
                f"{self.describe()}/{lost[0].name} was committed and is gone: something else "
                "removes objects there",
                "see what does, then run it again in mode `replace`",
            )
        return done

    def discard(self, run: Run) -> None:
        self.settle()  # what is visible by the manifest alone is copied first
        self.bucket.remove(f"{self.staging}/{run.id}")

    def settle(self) -> tuple[Shown, list[File]]:
        """Show what the newest manifest says, and clear up. Returns what it can show no more."""
        before: list[File] = []
        for _ in range(_TRIES):
            shown = self.newest()
            missing = shown.missing()
            # Looked at twice: others may have settled, and gone on, since the first look.
            if not missing or missing == before:
                self._clear(shown)
                return shown, missing
            copied = at_once(self._copy, missing)
            before = [file for file, done in zip(missing, copied, strict=True) if not done]
        raise Transient(
            f"{self.describe()} does not show what was copied there",
            "run it again; if it stays so, something else removes objects there",
        )

    # The log of its manifests: see `table_log.TableLog`.

    def newest(self) -> Shown:
        return read_target(self.bucket, self.name)

    def head_of(self, entry: Shown, flow: str) -> Head | None:
        return entry.head_of.get(flow)

    def create_next(
        self,
        entry: Shown,
        parts: tuple[list[File], pa.Schema | None],
        run: Run,
        base: Head | None,
        watermark: Watermark,
    ) -> Commit | None:
        files, schema = parts
        rows = sum(file.rows for file in files)
        before = partial(entry.schema_of, run.flow)
        commit, schema = next_commit(run, base, rows, watermark, schema, before)
        if schema is None:
            return commit
        with refusing():
            held = self._check_writable(entry, run, schema)
        if not files and not (base and run.mode == "append"):
            files = [self._empty_file(run, schema)]
        manifest = next_manifest(entry, run, commit.head, files, schema, held)
        key = f"{self.name}/{manifest_name(manifest.generation)}"
        is_made = self.bucket.create(key, manifest.to_json())
        return commit if is_made and self._is_in_newest(manifest, run) else None

    def gathered(
        self, run: Run, receipts: Sequence[Receipt]
    ) -> tuple[list[File], pa.Schema | None]:
        """Return the decided tickets' parts as visible files, in split order, and their schema."""
        if not self._claimed(run.id, _COMMITS):
            raise Rejected(
                f"what run {run.id} staged in {self.describe()} was old, and swept by another run",
                "run it again",
            )
        prepared = self.bucket.get(self._key(run.id, SCHEMA))
        schema = heads.read_schema(prepared) if prepared else None
        sizes = self._sizes(run)
        files: dict[str, File] = {}
        ordered = sorted(receipts, key=lambda receipt: receipt.ticket.split)
        staged = at_once(lambda receipt: self._staged(run, receipt), ordered)
        for receipt, parts in zip(ordered, staged, strict=True):
            split = receipt.ticket.split
            if parts is None:
                raise Rejected(f"split {split} was never sealed in {self.describe()}")
            check_staged_rows(split, receipt.rows, parts.rows)
            for name, key, rows, size in self._parts(run, receipt, parts):
                if sizes.get(key) != size:
                    where = f"{self.bucket.describe()}/{key}"
                    raise Rejected(f"{where} is gone, or not as it was sealed", "run it again")
                if name in files:
                    raise Rejected(f"split {split} has two receipts")
                files[name] = File(name, rows, size, key.removeprefix(f"{self.staging}/"))
            schema = schema or heads.text_schema(parts.schema)
        return list(files.values()), schema

    # How they do it.

    def _check_bucket(self) -> None:
        Bucket(f"{self.bucket.describe()}/{self.staging}/{_CHECK}", self.bucket.access).check()

    def _copy(self, file: File) -> bool:
        source, target = f"{self.staging}/{file.staged}", f"{self.name}/{file.name}"
        return self.bucket.copy(source, target, file.size)

    def _clear(self, shown: Shown) -> None:
        """Remove what the newest manifest, all of which is visible, no longer needs."""
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
            entries = self.newest().entries
        replaced = [n for n, size, _ in manifest.gone if n in entries and entries[n].size == size]
        old = old_manifests(shown, _MANIFESTS_KEPT)
        self.bucket.drop([f"{self.name}/{name}" for name in (*replaced, *old)])

    def _key(self, run: str, name: str) -> str:
        return f"{self.staging}/{run}/{name}"

    def _is_in_newest(self, manifest: Manifest, run: Run) -> bool:
        """Whether the manifest was the newest: the number of a removed one may be free again."""
        newest = read_target(self.bucket, self.name, heads_only=True).manifest
        if newest is None or newest.generation - manifest.generation >= RUNS_KEPT:
            raise Unknown(f"{self.describe()} has gone on for long since this run looked at it")
        return run.id in newest.runs

    def _check_writable(self, shown: Shown, run: Run, schema: pa.Schema | None) -> Held:
        """Raise unless the target may be replaced, or appended to: then return what it holds."""
        copied = {} if run.mode == "append" else being_copied(self.bucket, self.staging, shown)
        if run.mode != "append" and (name := shown.first_foreign(copied)):
            raise NotOurs(
                f"{self.describe()} holds something that hygge did not write: {name}",
                "move it away, or choose another path: hygge reads there only what it wrote",
            )
        before = heads.text_schema(shown.manifest.schema) if shown.manifest else None
        head = shown.head_of.get(run.flow)
        return heads.check_added(self.describe(), before, schema, self.format, head, run.mode)

    def _sizes(self, run: Run) -> dict[str, int]:
        """Return the bytes of every object that a run staged, by its key."""
        entries = self.bucket.entries(f"{self.staging}/{run.id}")
        return {key: entry.size for key, entry in entries.items()}

    def _staged(self, run: Run, receipt: Receipt) -> StagedParts | None:
        content = self.bucket.get(self._key(run.id, f"{ticket_name(receipt.ticket)}/{RECEIPT}"))
        return None if content is None else parse_receipt(content)

    def _is_whole(
        self, run: Run, receipt: Receipt, staged: StagedParts, sizes: dict[str, int]
    ) -> bool:
        """Whether all that a receipt promises is still staged."""
        if (staged.rows, len(staged.files)) != (receipt.rows, receipt.parts):
            return False
        parts = self._parts(run, receipt, staged)
        return all(sizes.get(key) == size for _, key, _, size in parts)

    def _parts(
        self, run: Run, receipt: Receipt, staged: StagedParts
    ) -> Iterator[tuple[str, str, int, int]]:
        """Yield visible name, staged key, rows and bytes of a ticket's parts."""
        split = receipt.ticket.split
        for index, (name, rows, size) in enumerate(staged.files):
            key = self._key(run.id, f"{ticket_name(receipt.ticket)}/{name}")
            yield self._name(run, split, index), key, rows, size

    def _name(self, run: Run, split: int, index: int) -> str:
        return f"part-{split:05d}-{index:04d}-{run.id}{self.format.suffix()}"

    def _empty_file(self, run: Run, schema: pa.Schema) -> File:
        name = f"empty{self.format.suffix()}"
        with tempfile.TemporaryDirectory(prefix="hygge-") as folder:
            path = os.path.join(folder, name)
            self.format.open_writer(path, schema).close()
            self.bucket.upload(self._key(run.id, name), path)
            return File(self._name(run, 0, 0), 0, os.path.getsize(path), f"{run.id}/{name}")

    def _claimed(self, run: str, fate: bytes) -> bool:
        """Whether a run is to be committed, or swept, from now on; the first caller decides."""
        key = self._key(run, _FATE)
        return self.bucket.create(key, fate) or self.bucket.get(key) == fate

    def _sweep(self, run: Run) -> None:
        """Remove what dead runs staged, by the clock of the object store itself."""
        staged = self.bucket.entries(self.staging)
        mine = staged.get(self._key(run.id, SCHEMA))
        if mine is None:  # another driver has given this run up in this moment
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
