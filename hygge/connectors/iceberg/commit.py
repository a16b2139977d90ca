"""The commit: rows and head in one commit of the catalog, which is a compare-and-swap.

The head of a flow is a property of the table, `hygge.head.<flow>`. One request to the catalog adds
the snapshot and moves the head, and it holds only if the table's main branch is where it was when
the head was looked at. The library's own `commit_transaction`, `append` and `add_files` are not
used: they try again by themselves after they lost, and then two drivers both add their rows.

    lost         the table is loaded again: the head says whether to redo it, or that it is over
    no answer    the commit may have happened: Unknown, and the head is asked. No file is removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from hygge.changes import note_of
from hygge.connectors.files.changes import of_target
from hygge.connectors.files.heads import check_none_added, schema_text
from hygge.connectors.files.target import check_staged_rows, next_commit
from hygge.connectors.iceberg import merge
from hygge.connectors.iceberg.columns import Columns, columns_after
from hygge.connectors.iceberg.files import Found, data_files, entries, planned
from hygge.connectors.iceberg.goal import Goal
from hygge.connectors.iceberg.lake import explained
from hygge.connectors.iceberg.partitions import parts_of, spec_of
from hygge.connectors.iceberg.replaced import RUN, rows_of_others
from hygge.connectors.iceberg.staging import PREPARED, Staged, ticket_file
from hygge.connectors.iceberg.types import arrow_schema, ids_of
from hygge.errors import HomeError, NotOurs, Rejected, StoreError, Unknown, refusing
from hygge.model import Commit, Head, Receipt, Run, Watermark, facts_of_head
from hygge.places.objects import at_once

HEAD = "hygge.head."
FORMAT = 1
_NAME_MAPPING = "schema.name-mapping.default"


def head_of(table: Any | None, flow: str) -> Head | None:
    """Return the head of a flow in a table. Raises StoreError for one of a newer hygge."""
    text = None if table is None else table.properties.get(f"{HEAD}{flow}")
    if text is None:
        return None
    where = f"property {HEAD}{flow} of an Iceberg table"
    try:
        facts = json.loads(text)
        if facts.pop("hygge") > FORMAT:
            raise StoreError(
                f"{where} was written by a newer hygge", "upgrade hygge-data, then run again"
            )
        facts["columns"] = tuple((name, kind) for name, kind in facts["columns"])
        return Head(**facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{where} is not a head that hygge wrote: {error}",
            "restore it, or write to another table",
        ) from error


def check_writable(goal: Goal, table: Any | None, run: Run, rows: pa.Schema | None) -> Columns:
    """Return the columns after a run; raise StoreError unless it may write to the table."""
    where = goal.lake.describe()
    if table is not None:
        _check_table(where, table, run)
        parts_of(table, goal.parts, where)
    if rows is None:
        return Columns(None if table is None else table.schema())
    columns = columns_after(where, table, rows, run.mode, goal.contract)
    if table is not None and run.mode == "replace":
        present = [field.name for field in table.schema().fields]
        check_none_added(where, present, columns.arrow.names, head_of(table, run.flow))
    if table is None:
        spec_of(goal.parts or (), columns.schema, where)
    return columns


def _check_table(where: str, table: Any, run: Run) -> None:
    if table.metadata.format_version > 2:
        raise StoreError(
            f"{where} has format {table.metadata.format_version} of Iceberg, of which pyiceberg "
            "writes no manifests",
            "write to a table of format 2",
        )
    if run.mode == "merge" and rows_in(table) is None:  # it has files of deletes
        planned(table.scan(), where, StoreError)
    if run.mode != "replace" or any(name.startswith(HEAD) for name in table.properties):
        return
    if rows_in(table) != 0:
        raise NotOurs(
            f"{where} holds rows that hygge did not write",
            "append to it, choose another table, or drop it: `replace` removes only what hygge "
            "wrote",
        )


def rows_in(table: Any) -> int | None:
    """Return the rows of the newest snapshot, by its summary; None where that does not say it."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return 0
    summary = snapshot.summary
    rows, deletes = (
        summary and summary.get(key) for key in ("total-records", "total-delete-files")
    )
    return None if rows is None or deletes not in (None, "0") else int(rows)


def created(goal: Goal, catalog: Any, columns: Columns) -> Any:
    """Return the transaction that makes the table; nothing is visible before it is committed."""
    spec = spec_of(goal.parts or (), columns.schema, goal.lake.describe())
    properties = {"format-version": "2"}
    return catalog.create_table_transaction(
        goal.lake.identifier,
        columns.schema,
        location=_new_location(goal, catalog),
        partition_spec=spec,
        properties=properties,
    )


def _new_location(goal: Goal, catalog: Any) -> str | None:
    """Return the folder of a new table; None leaves it to the catalog.

    A catalog may choose another one as soon as there are files, which lanes stage there.
    """
    *namespace, name = goal.lake.identifier
    location = catalog.load_namespace_properties(tuple(namespace)).get("location")
    return f"{location.rstrip('/')}/{name}" if location else None


class Trial:
    """One try to commit on top of a table as it was loaded."""

    def __init__(
        self, goal: Goal, catalog: Any, table: Any | None, run: Run, base: Head | None
    ) -> None:
        self.goal, self.catalog, self.table, self.run, self.base = goal, catalog, table, run, base
        self.where = goal.lake.describe()

    def commit(self, receipts: Sequence[Receipt], watermark: Watermark) -> Commit | None:
        """Return the commit; None where the table has gone on, or a file of it went away."""
        found, rows = self._found(receipts)
        count = sum(receipt.rows for receipt in receipts)
        result, schema = next_commit(
            self.run, self.base, count, watermark, rows, self._schema_before
        )
        if schema is None:
            return result
        with refusing():
            if self.run.mode == "merge":
                merge.check_key(self.run.key, schema, self.table, self.where)
            columns = check_writable(self.goal, self.table, self.run, schema)
        self._check_ids(found, columns)
        note = "; ".join(filter(None, [result.note, *columns.changes]))
        result = replace(result, note=note, changes=columns.changes)
        return self._send(result, columns, found)

    def _schema_before(self) -> str | None:
        if self.table is None or self.base is None:
            return None
        return schema_text(pa.schema([f.remove_metadata() for f in self._held()]))

    def _held(self) -> pa.Schema:
        return arrow_schema(self.table.schema()) if self.table is not None else pa.schema([])

    def _found(self, receipts: Sequence[Receipt]) -> tuple[list[Found], pa.Schema | None]:
        """Return the decided tickets' files, in split order, and the columns of the rows.

        Raises Rejected where one of them is not as it was staged.
        """
        staged = self.staged()
        prepared = staged.read_note(PREPARED)
        sizes = staged.sizes()
        named: list[tuple[int, str]] = []
        held: dict[int, int] = {}
        for receipt in sorted(receipts, key=lambda receipt: receipt.ticket.split):
            split = receipt.ticket.split
            if split in held:
                raise Rejected(f"split {split} has two receipts")
            held[split] = 0
            named += [(split, ticket_file(receipt.ticket, at)) for at in range(receipt.parts)]
        footers = at_once(staged.footer, [name for _, name in named])
        found = []
        for (split, name), footer in zip(named, footers, strict=True):
            if footer is None or name not in sizes:
                raise Rejected(
                    f"{staged.url(name)} is gone, or not as it was written", "run it again"
                )
            found.append(Found(name, staged.url(name), footer, sizes[name]))
            held[split] += footer.num_rows
        for receipt in receipts:
            check_staged_rows(receipt.ticket.split, receipt.rows, held[receipt.ticket.split])
        if prepared is not None and prepared[0].names:
            schema, note = prepared
            self._check_partitions(note["parts"])
            return found, of_target(pa.schema([schema.field(name) for name in note["came"]]))
        if any(receipt.rows for receipt in receipts) and not found:
            raise Rejected(f"what run {self.run.id} staged is gone", "run it again")
        return found, of_target(found[0].schema) if found else None

    def _check_partitions(self, staged: Sequence[str]) -> None:
        """Raise Rejected where the table is partitioned otherwise than the staged files are."""
        if self.table is None or self.run.mode == "merge":
            return
        with refusing():
            now = [str(part) for part in parts_of(self.table, None, self.where)]
        if now != list(staged):
            raise Rejected(
                f"{self.where} is partitioned by {', '.join(now) or 'nothing'} now: it was changed "
                "by others while this run staged its rows",
                "run it again",
            )

    def staged(self) -> Staged:
        """Return the folder of the run."""
        location, io = place_of(self.goal, self.catalog, self.table)
        return Staged(location, io, self.run.id)

    def _check_ids(self, found: Sequence[Found], columns: Columns) -> None:
        now, checked = ids_of(columns.arrow), pa.schema([])
        for each in found:
            schema = each.schema.remove_metadata()  # the fields keep theirs, with the ids
            if schema.equals(checked, check_metadata=True):
                continue
            checked = schema
            for path, number in ids_of(schema).items():
                if now.get(path) != number:
                    raise Rejected(
                        f"{self.where}: column '{path}' was changed by others while this run "
                        "staged its rows",
                        "run it again",
                    )

    def _send(self, result: Commit, columns: Columns, found: Sequence[Found]) -> Commit | None:
        """Build the snapshot and send it with the head; None where others were quicker."""
        from pyiceberg.table import Transaction
        from pyiceberg.table.update import (
            AssertCreate,
            AssertCurrentSchemaId,
            AssertDefaultSpecId,
            AssertTableUUID,
        )

        staged = self.staged()
        if self.table is None:
            transaction = created(self.goal, self.catalog, columns)
            self._check_ids_of_new(transaction.table_metadata.schema(), columns)
        else:
            transaction = Transaction(self.table)
            _change_columns(transaction, self.table, columns)
        metadata = transaction.table_metadata
        gone: list[Any] = []
        added = list(found)
        if self.run.mode == "merge":
            try:
                changed = merge.merged(
                    self.goal, metadata, self.table, staged, self.run, found, columns
                )
            except HomeError as error:  # a file of the table is not as it should be
                raise Rejected(error.message, error.hint) from error
            gone, added = changed.gone, changed.added
            rows = result.head.rows
            head = replace(result.head, rows=changed.applied)
            note = result.note
            if changed.deleted is not None:
                said = note_of(changed.applied - changed.deleted, changed.deleted)
                note = "; ".join(filter(None, [note, said]))
            result = replace(
                result, head=head, applied=changed.applied, superseded=rows - changed.applied,
                note=note,
            )  # fmt: skip
        elif self.run.mode == "replace" and self.table is not None:
            gone = [entry.data_file for entry in entries(self.table)]
            said = rows_of_others(self.table, self.base)
            result = replace(result, note="; ".join(filter(None, [result.note, said])))
        data = data_files(metadata, added)
        update = transaction.update_snapshot(snapshot_properties={RUN: self.run.id})
        with update.overwrite() if gone else update.fast_append() as snapshot:
            for one in data:
                snapshot.append_data_file(one)
            for one in gone:
                snapshot.delete_data_file(one)
        self._move_head(transaction, result.head)
        staged.write_maybe(
            self.base.generation if self.base else 0, [one.name for one in added], columns.arrow
        )
        requirements = (AssertCreate(),)
        if self.table is not None:
            current = self.table.metadata.current_schema_id
            requirements = (
                *(r for r in transaction._requirements if r.type != "assert-current-schema-id"),
                AssertCurrentSchemaId(current_schema_id=current),
                AssertDefaultSpecId(default_spec_id=self.table.metadata.default_spec_id),
                AssertTableUUID(uuid=self.table.metadata.table_uuid),
            )
        is_made = _sent(
            self.where,
            lambda: self.catalog.commit_table(
                transaction._table, requirements, transaction._updates
            ),
        )
        return result if is_made else None

    def _check_ids_of_new(self, schema: Any, columns: Columns) -> None:
        if ids_of(arrow_schema(schema)) != ids_of(columns.arrow):
            raise Rejected(
                f"{self.where}: the catalog numbers the columns of a new table in its own way",
                "create the table first, without rows, then run it again",
            )

    def _move_head(self, transaction: Any, head: Head) -> None:
        transaction.set_properties(
            {f"{HEAD}{self.run.flow}": json.dumps({"hygge": FORMAT, **facts_of_head(head)})}
        )
        others = [
            name
            for name in transaction.table_metadata.properties
            if name.startswith(HEAD) and name != f"{HEAD}{self.run.flow}"
        ]
        if self.run.mode == "replace" and others:  # whose rows are gone
            transaction.remove_properties(*others)


def place_of(goal: Goal, catalog: Any, table: Any | None) -> tuple[str, Any]:
    """Return the folder of a table, also of one that is not made yet, and how it is reached."""
    if table is None:
        from pyiceberg.schema import Schema
        from pyiceberg.types import LongType, NestedField

        any_schema = Schema(NestedField(1, "n", LongType()))
        table = catalog.create_table_transaction(
            goal.lake.identifier, any_schema, location=_new_location(goal, catalog)
        )._table
    return table.location(), table.io


def _change_columns(transaction: Any, table: Any, columns: Columns) -> None:
    """Add the change of the columns to a transaction, where there is one."""
    from pyiceberg.table.name_mapping import create_mapping_from_schema
    from pyiceberg.table.update import (
        AddSchemaUpdate,
        AssertLastAssignedFieldId,
        SetCurrentSchemaUpdate,
    )

    if columns.schema.schema_id == table.schema().schema_id:
        return
    known = [s.schema_id for s in table.metadata.schemas if s == columns.schema]
    if known:
        transaction._apply((SetCurrentSchemaUpdate(schema_id=known[0]),))
    else:
        last = AssertLastAssignedFieldId(last_assigned_field_id=table.metadata.last_column_id)
        updates = (AddSchemaUpdate(schema=columns.schema), SetCurrentSchemaUpdate(schema_id=-1))
        transaction._apply(updates, (last,))
    if _NAME_MAPPING in table.properties:
        mapping = create_mapping_from_schema(columns.schema).model_dump_json()
        transaction.set_properties({_NAME_MAPPING: mapping})


def _sent(where: str, send: Callable[[], Any]) -> bool:
    """Send a commit; False where the catalog refused it because the table has gone on.

    Raises StoreError where it refused it for good, Unknown where nobody knows what it did.
    """
    from pyiceberg import exceptions as lib

    gone_on = (lib.CommitFailedException, lib.TableAlreadyExistsError, lib.NoSuchTableError)
    refused = (lib.UnauthorizedError, lib.ForbiddenError, lib.BadRequestError)
    try:
        send()
    except gone_on:
        return False
    except refused as error:
        raise explained(error, where, StoreError) or error from error
    except Exception as error:
        said = explained(error, where, StoreError)
        raise Unknown(
            f"{where}: the catalog gave no clear answer to the commit: "
            f"{said.message if said else type(error).__name__}",
            "run it again: the head of the table tells whether it happened",
        ) from error
    return True
