"""DuckDB as a Store: rows are staged as Parquet beside the file, published in one transaction.

Life of a run:
1. `prepare` makes the folder `.<database>.hygge/<run>/`.
2. `stage` writes one Parquet file for each ticket there, in as many lanes as there are. No lane
   opens the database.
3. `commit` alone opens it to write, and moves rows and head in one transaction. As long as it is
   open, no other program can open it; until then it is neither locked nor changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.changes import note_of
from hygge.connectors.duckdb import catalog, heads, own_values, publish, session, staging
from hygge.connectors.duckdb.database import MAIN, table_names
from hygge.connectors.duckdb.errors import in_words
from hygge.connectors.duckdb.evolving import evolution_of
from hygge.connectors.duckdb.publish import Move
from hygge.connectors.duckdb.session import fetch_value, path_of, quoted
from hygge.connectors.duckdb.target import (
    TargetColumn,
    check_replace,
    existing_columns,
    must_stay,
    new_columns,
)
from hygge.connectors.duckdb.types import zones_of
from hygge.connectors.duckdb.values import check_values
from hygge.connectors.sql import frame
from hygge.connectors.sql.changes import are_changes, of_target
from hygge.connectors.sql.commit import check_staged
from hygge.connectors.sql.counting import count_sql, state_of
from hygge.connectors.sql.evolving import Evolution
from hygge.connectors.sql.frame import Published, Publisher
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import lost_target, not_ours
from hygge.connectors.sql.own_columns import generated_note, gone_notes
from hygge.errors import Rejected, StoreError, UnfitValue
from hygge.model import Commit, Head, Receipt, Run, TargetState, Ticket, Watermark
from hygge.type_words import word_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NEEDS: tuple[str, ...] = ("pyarrow.parquet",)
"""Modules that its processes import, beside this one."""


def head(goal: Goal, flow: str) -> Head | None:
    """Return what is committed for `flow`."""
    path = path_of(goal.url)
    if not os.path.exists(path):
        return None
    with session.reading(path, goal.who, StoreError) as connection:
        return heads.head_at(connection, goal, flow)


def prepare(goal: Goal, run: Run, schema: pa.Schema | None) -> None:
    """Raise what can be known before rows move, and make the run's folder."""
    examine(goal, run, schema, count=False)
    path = path_of(goal.url)
    staging.begin(path, run, goal.who)
    staging.sweep(path)


def examine(goal: Goal, run: Run, schema: pa.Schema | None, count: bool = True) -> TargetState:
    """Raise what can be known before rows move; return what the target holds.

    Its rows are counted only where `count` says so.
    """
    path = path_of(goal.url)
    staging.check_rights(path, goal.who)
    schema = of_target(schema)
    _refuse_types(goal, schema)
    names = table_names(goal.table)
    if not os.path.exists(path):
        if names[0].lower() != MAIN:
            raise _no_schema(goal, names[0])
        return TargetState(exists=False)
    with session.reading(path, goal.who, StoreError) as connection:
        _check_ours(connection, goal, run)
        evolution = evolution_of(connection, goal, run, schema)
        _check_target(connection, goal, run, schema, evolution)
        if catalog.kind_of(connection, *names) is None:
            return TargetState(exists=False)
        rows = fetch_value(connection, count_sql(catalog.sql_name(*names))) if count else None
        is_adopted = run.mode == "replace" and not heads.is_made(connection, goal)
        return state_of(rows, evolution.shown, is_adopted)


def stage(
    goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
) -> Receipt:
    """Write one ticket's rows into a Parquet file, and seal it."""
    path = path_of(goal.url)
    mode = staging.mode_of(path, ticket.run, goal.who)
    earlier = staging.sealed_before(path, ticket)
    if earlier is not None:
        return earlier
    if schema is not None:
        _refuse_types(goal, schema)
    return staging.write(
        path, ticket, schema, _checked(goal, batches), mode == "merge", goal.who, goal.batches_stay
    )


def _checked(goal: Goal, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
    is_first = True
    for batch in batches:
        if is_first:
            _refuse_types(goal, batch.schema)
        is_first = False
        check_batch(goal, batch)
        yield batch
        del batch


def check_batch(goal: Goal, batch: pa.Table) -> None:
    """Raise UnfitValue for a value that DuckDB does not hold."""
    check_values(batch, goal.who)


def resume(goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Return the receipts whose rows are sealed and complete; remove all other rows."""
    path = path_of(goal.url)
    held = []
    for receipt in receipts:
        found = staging.found(path, receipt.ticket) if receipt.parts else None
        if (found.rows if found else None) == (receipt.rows if receipt.parts else None):
            held.append(receipt)
    staging.keep_only(path, run.id, [receipt.ticket for receipt in held])
    return held


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Compare the head with `base`, and move the rows and the head, in one transaction."""
    with session.writing(path_of(goal.url), goal.who, StoreError) as connection:
        return frame.commit(_Publisher(connection, goal, run, base, receipts), watermark)


def discard(goal: Goal, run: Run) -> None:
    """Remove the run's folder."""
    staging.remove(path_of(goal.url), run.id)


class _Publisher(Publisher["DuckDBPyConnection"]):
    """The steps of a commit."""

    is_open = False
    """True while a transaction is open."""

    def head(self, lock: bool) -> Head | None:
        return heads.head_at(self.connection, self.goal, self.run.flow)

    def rejecting(self) -> AbstractContextManager[None]:
        return in_words(self.goal.who, Rejected)

    def lock(self) -> None:
        self.connection.execute("BEGIN TRANSACTION")
        self.is_open = True
        heads.create_heads(self.connection, self.goal)

    def staged(self) -> pa.Schema | None:
        path, who = path_of(self.goal.url), self.goal.who
        schema: pa.Schema | None = None
        self.files: list[str] = []
        for receipt in self.receipts:
            if not receipt.parts:
                check_staged(receipt, 0, 0, who)
                continue
            found = staging.found(path, receipt.ticket)
            count = None if found is None else found.rows
            check_staged(receipt, receipt.rows, count, who)
            assert found is not None  # `check_staged` refuses it
            if schema is not None and schema != found.schema:
                raise Rejected(f"{who}: the splits were staged with different columns")
            schema = found.schema
            self.files.append(found.path)
        self.are_changes = are_changes(schema)
        return of_target(schema)

    def check(self, schema: pa.Schema | None) -> bool:
        connection, goal, run = self.connection, self.goal, self.run
        # What hygge made is still its own when the run has changed it.
        self.is_made = heads.is_made(connection, goal)
        _check_ours(connection, goal, run)
        self.evolution = evolution_of(connection, goal, run, schema)
        for statement in self.evolution.statements:
            connection.execute(statement)
        _check_target(connection, goal, run, schema, self.evolution)
        return catalog.kind_of(connection, *table_names(goal.table)) is not None

    def publish(self, schema: pa.Schema | None, exists: bool) -> Published:
        connection, goal, run = self.connection, self.goal, self.run
        names = table_names(goal.table)
        made = not exists or self.is_made
        rows, notes = self.staged_rows, []
        if schema is not None:
            columns = _columns(connection, goal, run, schema, self.evolution)
            move = Move(connection, *names, columns, self.files, rows, goal.who)
            if not exists and run.mode != "replace":
                publish.create_table(move)
            notes = [generated_note(column.name for column in columns if not column.is_written)]
            present = catalog.columns(connection, *names)
            own_values.check_texts(move)
            if run.mode == "merge":
                superseded, deleted = publish.merge(move, run, self.are_changes)
                rows -= superseded
                notes += [note_of(rows - deleted, deleted)] if self.are_changes else []
            elif run.mode == "append":
                publish.append(move)
            elif exists and _stays(connection, goal, run, present, schema):
                publish.delete_rows(move)
                publish.append(move)
            else:
                old = [column.name for column in present]
                notes += gone_notes(old, [column.name for column in columns])
                notes += publish.replace(move)
            notes += own_values.move_sequences(move, catalog.columns(connection, *names))
        elif exists and run.mode == "replace":
            publish.delete_rows(Move(connection, *names, (), (), 0, goal.who))
        made_as = heads.identity(connection, goal) if made else None
        return Published(rows, names[1].lower(), made_as, notes)

    def finish(self, row: dict[str, Any]) -> None:
        heads.write_head(self.connection, self.goal, row, self.run.mode)
        self.connection.execute("COMMIT")
        self.is_open = False

    def is_committed(self, error: Exception) -> bool | None:
        try:
            with suppress(Exception):
                self.connection.execute("ROLLBACK")
            self.is_open = False
            now = heads.head_at(self.connection, self.goal, self.run.flow)
        except Exception:  # DuckDB gives a database up after some errors: the next commit asks
            return None
        return now is not None and now.run == self.run.id

    def end(self) -> None:
        if self.is_open:
            with suppress(Exception):  # the first error is the one to tell
                self.connection.execute("ROLLBACK")


def _refuse_types(goal: Goal, schema: pa.Schema | None) -> None:
    """Raise UnfitValue for a column whose type, or whose time zone, DuckDB does not keep."""
    new_columns(schema or pa.schema([]))
    for field in schema or ():
        zones = zones_of(field.type) - {"UTC"}
        if zones and goal.options.zones == "error":
            raise UnfitValue(
                f"{goal.who}: column '{field.name}' is {word_of(field.type)}, which DuckDB would "
                "give back otherwise",
                "turn it into UTC before, or keep its moments only: options: {zones: utc}",
            ).at(field.name)


def _check_ours(connection: DuckDBPyConnection, goal: Goal, run: Run) -> None:
    """Raise NotOurs for a `replace` of a table that hygge did not make, and may not adopt."""
    if run.mode != "replace" or goal.options.adopt or heads.is_made(connection, goal):
        return
    if catalog.kind_of(connection, *table_names(goal.table)) == "table":
        raise not_ours(goal.who)


def _check_target(
    connection: DuckDBPyConnection,
    goal: Goal,
    run: Run,
    schema: pa.Schema | None,
    evolution: Evolution,
) -> None:
    """Raise if the target is a view, was dropped, or does not fit."""
    names = table_names(goal.table)
    kind, found = catalog.kind_of(connection, *names), heads.heads_at(connection, goal)
    if kind == "view":
        raise StoreError(f"{goal.who} is a view", "name a table")
    if not catalog.has_schema(connection, names[0]):
        raise _no_schema(goal, names[0])
    is_lost = kind is None and run.mode != "replace"
    if is_lost and run.flow in found and found[run.flow].head.columns:
        raise lost_target(goal.who, run.flow)
    if kind is not None and run.mode == "replace":
        _check_not_referred_to(connection, goal)
    if schema is None or kind is None:
        return
    if not goal.keeps_table(run.mode):
        present = catalog.columns(connection, *names)
        check_replace(present, schema, [each.head for each in found.values()], goal.who)
    _columns(connection, goal, run, schema, evolution)


def _check_not_referred_to(connection: DuckDBPyConnection, goal: Goal) -> None:
    """Raise StoreError where rows of other tables refer to the table: its rows cannot go."""
    others = catalog.referring(connection, *table_names(goal.table))
    names = ", ".join(f"'{name}'" for name, refers in others if refers)
    if names:
        raise StoreError(
            f"{goal.who}: rows of the table {names} refer to its rows (FOREIGN KEY), and DuckDB "
            "deletes no such row, also where it would come again",
            "use `mode: merge`, which updates rows where they are, or make that table anew "
            "without its foreign key",
        )


def _stays(
    connection: DuckDBPyConnection,
    goal: Goal,
    run: Run,
    present: Sequence[catalog.Column],
    schema: pa.Schema,
) -> bool:
    """Whether the rows go into the table that is there, also in a `replace`."""
    if goal.keeps_table(run.mode) or must_stay(present, schema):
        return True
    return bool(catalog.referring(connection, *table_names(goal.table)))  # nobody may drop it


def _no_schema(goal: Goal, name: str) -> StoreError:
    sql = name if name.isidentifier() else quoted(name)
    return StoreError(f"{goal.who}: there is no schema '{name}'", f"CREATE SCHEMA {sql}")


def _columns(
    connection: DuckDBPyConnection, goal: Goal, run: Run, schema: pa.Schema, evolution: Evolution
) -> list[TargetColumn]:
    """Return where the columns of the rows go; StoreError where they do not fit."""
    present = catalog.columns(connection, *table_names(goal.table))
    if present and _stays(connection, goal, run, present, schema):
        return existing_columns(connection, present, schema, goal.who, evolution.dealt_with)
    return new_columns(schema)
