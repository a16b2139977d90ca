"""A zip of Arrow streams as a Home and a Store: `type: arrow_zip`.

A reader of the zip sees the old file or the new one: a run becomes visible by one rename of the
whole zip. The head lies in it, as `hygge.json`, so that rows and head move together. Staged parts
wait in a hidden folder beside the zip. Append copies the old parts into the new zip.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import pyarrow as pa

from hygge import Home, Settings, Store
from hygge.errors import NotOurs, Rejected, SourceChanged, SourceMissing, Superseded
from hygge.model import (
    Column,
    Commit,
    Head,
    Plan,
    Receipt,
    Run,
    Split,
    StoreTraits,
    Ticket,
    Watermark,
)

HEADS = "hygge.json"


class PathSettings(Settings):
    path: str
    """The zip."""


class ArrowZipHome(Home):
    """Every `.arrow` member of the zip is a split."""

    Settings = PathSettings

    def describe(self) -> str:
        return self.settings.path

    @contextmanager
    def open(self, since: Watermark = None) -> Iterator[Plan]:
        path = os.path.abspath(self.settings.path)
        if not os.path.exists(path):
            raise SourceMissing(f"there is no file {path}", "check the path of the home")
        with zipfile.ZipFile(path) as file:
            names = sorted(name for name in file.namelist() if name.endswith(".arrow"))
            if not names:
                raise SourceMissing(f"{path} has no .arrow member", "choose another zip")
            with file.open(names[0]) as part:
                schema = pa.ipc.open_stream(part).schema
        columns = tuple(Column(field.name, field.type) for field in schema)
        version = _version(path)
        splits = [
            Split(at, version, {"path": path, "name": name}, label=name)
            for at, name in enumerate(names)
        ]
        yield Plan(columns, tuple(splits), reason="a split for each member")

    def read(self, split: Split) -> Iterator[pa.Table]:
        path, name = split.where["path"], split.where["name"]
        _unchanged(path, split.version)
        with zipfile.ZipFile(path) as file, file.open(name) as part:
            for batch in pa.ipc.open_stream(part):
                yield pa.Table.from_batches([batch])
                del batch
        _unchanged(path, split.version)


class ArrowZipStore(Store):
    """All parts of all runs in one zip."""

    Settings = PathSettings
    traits = StoreTraits(modes=("replace", "append"), sees="the old zip or the new one")

    def describe(self) -> str:
        return self.settings.path

    def head(self, flow: str) -> Head | None:
        found = self._heads().get(flow)
        return Head(**{**found, "columns": tuple(map(tuple, found["columns"]))}) if found else None

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        if os.path.exists(self.settings.path) and not self._heads():
            raise NotOurs(
                f"{self.settings.path} was not written by hygge", "move it away, or choose another"
            )
        os.makedirs(self._staging(run.id), exist_ok=True)
        if schema is not None:
            _write(os.path.join(self._staging(run.id), "schema"), schema, iter(()))

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        if schema is None:
            return Receipt(ticket, "", 0, 0, parts=0)  # nothing came, not even a schema
        path = self._part(ticket)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        rows = _write(f"{path}.tmp", schema, batches)
        os.rename(f"{path}.tmp", path)
        return Receipt(ticket, "", rows, os.path.getsize(path))

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        rows = sum(receipt.rows for receipt in receipts)
        with self._alone():
            now = self.head(run.flow)
            if now is not None and now.run == run.id:
                return Commit(now, applied=rows, note="it was committed already")
            if now != base:
                raise Superseded(f"{self.settings.path} was changed meanwhile", "run it again")
            parts = self._decided(run, receipts)
            schema = self._schema(run, parts)
            columns = tuple((field.name, str(field.type)) for field in schema or ())
            generation = base.generation + 1 if base else 1
            head = Head(
                run.flow, generation, run.id, rows, watermark, columns, run.cursor, run.ties
            )
            if schema is not None:
                self._publish(run, head, parts, schema)
        return Commit(head, applied=rows)

    def discard(self, run: Run) -> None:
        shutil.rmtree(self._staging(run.id), ignore_errors=True)

    # Places

    def _beside(self) -> str:
        folder, name = os.path.split(os.path.abspath(self.settings.path))
        return os.path.join(folder, f".{name}.staging")

    def _staging(self, run: str) -> str:
        return os.path.join(self._beside(), run)

    def _part(self, ticket: Ticket) -> str:
        name = f"{ticket.split:05d}-{ticket.epoch}-{ticket.n}.arrow"
        return os.path.join(self._staging(ticket.run), name)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        os.makedirs(self._beside(), exist_ok=True)
        with open(os.path.join(self._beside(), "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel frees it when we die
            yield

    # Contents

    def _heads(self) -> dict:
        try:
            with zipfile.ZipFile(self.settings.path) as file:
                return json.loads(file.read(HEADS))
        except (FileNotFoundError, KeyError, zipfile.BadZipFile):
            return {}

    def _decided(self, run: Run, receipts: Sequence[Receipt]) -> dict[str, str]:
        """Member name → path of each part of the decided tickets, each one counted."""
        parts = {}
        for receipt in sorted(receipts, key=lambda each: each.ticket.split):
            path = self._part(receipt.ticket)
            if receipt.parts and (not os.path.exists(path) or _rows(path) != receipt.rows):
                raise Rejected(f"{path} does not hold the {receipt.rows} rows of its receipt")
            if receipt.parts:
                parts[f"{run.id}-{os.path.basename(path)}"] = path
        return parts

    def _schema(self, run: Run, parts: dict[str, str]) -> pa.Schema | None:
        """Of the plan, else of the rows, else of what is there already."""
        for path in (os.path.join(self._staging(run.id), "schema"), *parts.values()):
            if os.path.exists(path):
                with pa.OSFile(path) as file:
                    return pa.ipc.open_stream(file).schema
        if not os.path.exists(self.settings.path):
            return None
        with ArrowZipHome(path=self.settings.path).open() as plan:
            return pa.schema([(column.name, column.type) for column in plan.columns or ()])

    def _publish(self, run: Run, head: Head, parts: dict[str, str], schema: pa.Schema) -> None:
        heads = {} if run.mode == "replace" else self._heads()
        new = os.path.join(self._beside(), f"{run.id}.zip")
        with zipfile.ZipFile(new, "w") as file:
            if run.mode == "append" and os.path.exists(self.settings.path):
                _copy_parts(self.settings.path, file)
            for name, path in parts.items():
                file.write(path, name)
            if not any(name.endswith(".arrow") for name in file.namelist()):
                with file.open(f"{run.id}-empty.arrow", "w") as part:
                    pa.ipc.new_stream(part, schema).close()
            file.writestr(HEADS, json.dumps({**heads, run.flow: asdict(head)}))
        with open(new, "rb") as written:
            os.fsync(written.fileno())
        os.replace(new, self.settings.path)


def _write(path: str, schema: pa.Schema, batches: Iterator[pa.Table]) -> int:
    rows = 0
    with open(path, "wb") as file:
        with pa.ipc.new_stream(file, schema) as writer:
            for table in batches:
                writer.write_table(table)
                rows += table.num_rows
                del table
        file.flush()
        os.fsync(file.fileno())
    return rows


def _rows(path: str) -> int:
    with pa.memory_map(path) as file:
        return sum(batch.num_rows for batch in pa.ipc.open_stream(file))


def _copy_parts(source: str, target: zipfile.ZipFile) -> None:
    with zipfile.ZipFile(source) as old:
        for name in old.namelist():
            if name.endswith(".arrow"):
                with old.open(name) as part, target.open(name, "w", force_zip64=True) as copy:
                    shutil.copyfileobj(part, copy)


def _version(path: str) -> str:
    stat = os.stat(path)
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _unchanged(path: str, version: str) -> None:
    if not os.path.exists(path) or _version(path) != version:
        raise SourceChanged(f"{path} was rewritten while it was read", "run it again")
