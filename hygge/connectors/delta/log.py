"""The log of a Delta table, as a commit asks it: see `hygge/connectors/files/table_log.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.changes import note_of
from hygge.connectors.delta import heads, library, merge
from hygge.connectors.delta.commit import Goal, alter, commit, create
from hygge.connectors.delta.fit import Fitted, held_schema
from hygge.connectors.delta.staging import Gathered, Staging
from hygge.connectors.delta.table_files import Disk, Objects
from hygge.connectors.files.changes import of_target
from hygge.connectors.files.evolving import apart
from hygge.connectors.files.heads import schema_text
from hygge.connectors.files.target import next_commit
from hygge.errors import Rejected, StoreError, Unknown, refusing
from hygge.model import Commit, Head, Receipt, Run, Watermark
from hygge.places.access import Access, ObjectUrl
from hygge.places.objects import at_once, is_object_url

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True)
class Log:
    """The log of the table at `url`. An entry of it is the table at its newest version, or None."""

    url: str
    access: Access | None
    files: Disk | Objects
    staging: Staging
    fitted: Callable[[DeltaTable | None, Run, pa.Schema | None, Head | None], Fitted]
    """How rows go into a table; it raises StoreError where they do not."""

    def describe(self) -> str:
        return self.url

    def newest(self) -> DeltaTable | None:
        return library.load(self.url, self.access)

    def head_of(self, entry: DeltaTable | None, flow: str) -> Head | None:
        return heads.committed_of(self.files, entry, flow, self.url).head

    def gathered(self, run: Run, receipts: Sequence[Receipt]) -> Gathered:
        return self.staging.gathered(run, receipts)

    def create_next(
        self,
        entry: DeltaTable | None,
        parts: Gathered,
        run: Run,
        base: Head | None,
        watermark: Watermark,
    ) -> Commit | None:
        adds = replace(run, mode="append") if run.mode == "merge" else run
        columns = of_target(parts.schema)
        held = None if entry is None or base is None else schema_text(held_schema(entry))
        result, schema = next_commit(adds, base, parts.rows, watermark, columns, lambda: held)
        if schema is None:
            return result
        with refusing():
            fit = self.fitted(entry, run, schema, base)
        source = None
        if run.mode == "merge":
            assert parts.schema is not None
            paths = [self._path_of(key) for key in parts.parts]
            source = merge.source_of(paths, parts.schema, run, self.url)
            result = _of_merge(result, source)
        else:
            parts.check_partitions(self.url, fit.partition_by)
        if run.mode == "replace" and entry is not None:
            said = self._replaced_too(parts.version, entry.version())
            result = replace(result, note="; ".join(filter(None, [result.note, said])))
        came = apart(columns)[2] or schema.names
        number = heads.number_of(entry, run.flow) + 1
        goal = Goal(
            self.url, self.access, self.files, run, result.head, number, parts.parts, source, came
        )
        version = None if entry is None else entry.version()
        try:
            if entry is None:
                assert fit.schema is not None
                create(goal, fit.schema, fit.partition_by, is_empty=source is not None)
                return result if source is None else None
            if alter(entry, fit, run.mode == "replace"):
                return None
            commit(goal, entry, fit)
        except Exception as error:
            if not library.is_of_library(error):
                raise
            return self._after(error, version, run, result)
        return result

    def _after(
        self, error: Exception, version: int | None, run: Run, result: Commit
    ) -> Commit | None:
        """Return what an entry after `version` came to that failed.

        None where another one was quicker: the library calls it so, and there is a newer version.
        A folder or a right that stands in its way it calls by the same name, and that stays.
        """
        try:
            newest = self.newest()
            head = self.head_of(newest, run.flow)
        except Exception:
            raise Unknown(
                f"{self.url} does not say whether run {run.id} is committed",
                "run it again: the table's head tells",
            ) from None
        if head is not None and head.run == run.id:
            return result
        has_gone_on = newest is not None and newest.version() != version
        if library.has_lost(error):
            if has_gone_on:
                return None
            name = f"_delta_log/{0 if version is None else version + 1:020d}.json"
            raise StoreError(
                f"{self.url}/{name} cannot be written, and nobody has committed it: "
                f"{library.line(error)}",
                "look at what lies there, and whether this user may write there; then run it again",
            ) from None
        is_remote = is_object_url(self.url)
        if library.is_refused(error, run.mode == "merge" and not is_remote):
            raise library.said(self.url, self.access, Rejected, error) from None
        problem = library.said(self.url, self.access, StoreError, error)
        if is_remote and isinstance(error, OSError):  # it may still be on its way
            raise Unknown(problem.message, "run it again: the table's head tells") from None
        raise problem from None

    def _replaced_too(self, since: int | None, version: int) -> str:
        """Return what a replace says of rows that others wrote after version `since`."""
        if since is None:
            return ""
        rows = sum(at_once(self._rows_written, range(since + 1, version + 1)))
        if not rows:
            return ""
        return (
            f"{rows:,} row{'s'[: rows != 1]} that others wrote there since this run was planned "
            f"went, too: version {version} still has them"
        )

    def _rows_written(self, version: int) -> int:
        """Return the rows of the files that an entry brought; 0 where the log is cleaned up."""
        rows = 0
        for line in (self.files.get(f"_delta_log/{version:020d}.json") or b"").splitlines():
            add = json.loads(line).get("add") or {}
            if add.get("dataChange"):
                rows += json.loads(add.get("stats") or "{}").get("numRecords", 0)
        return rows

    def _path_of(self, key: str) -> str:
        path = f"{self.url}/{key}"
        return ObjectUrl(path, self.access) if is_object_url(path) else path


def _of_merge(result: Commit, source: merge.Source) -> Commit:
    """Return a commit with what becomes of the rows of a merge."""
    applied = result.applied - source.superseded
    note = result.note
    if source.is_changes:
        said = note_of(applied - source.deleted, source.deleted)
        note = "; ".join(filter(None, [note, said]))
    head = replace(result.head, rows=applied)
    return replace(result, head=head, applied=applied, superseded=source.superseded, note=note)
