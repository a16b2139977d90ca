"""What every commit to a database checks, and how it moves the head.

The checks run before rows move (`check`), when staged rows are gathered (`check_staged`,
`check_merge`), and after a statement told how many rows it took (`check_all_in`). `move_head` is
the swap of compare-and-swap.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import plain_schema
from hygge.connectors.sql import ledger
from hygge.connectors.sql.errors import foreign_key_error, is_unknown
from hygge.connectors.sql.frame import Publisher
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import head_in, lost_target, not_ours
from hygge.connectors.sql.names import check_free_in_postgres
from hygge.connectors.sql.target import Misfit, Target, check_fit, exists, table_for
from hygge.connectors.sql.types import refuse_inexact
from hygge.errors import HyggeError, Rejected, Superseded, Transient, rows_text
from hygge.model import Head, Receipt, Run

if TYPE_CHECKING:
    import sqlalchemy as sa


class SQLPublisher(Publisher["sa.Connection"]):
    """The steps of a commit that databases take alike which are written through SQLAlchemy."""

    _transaction: sa.RootTransaction | None = None
    _only_commit_is_left = False

    @property
    def target(self) -> Target:
        return ledger.target_of(self.goal)

    def head(self, lock: bool) -> Head | None:
        if lock:
            return head_in(ledger.heads_at(self.connection, self.goal, lock=True), self.run.flow)
        with self.connection.begin():
            return ledger.head_at(self.connection, self.goal, self.run.flow)

    def lock(self) -> None:
        self._transaction = self.connection.begin()
        if self.target.dialect == "postgresql":
            ledger.lock_in_postgres(self.connection, self.target)

    def finish(self, row: dict[str, Any]) -> None:
        if self.run.mode == "replace":  # the rows of other flows are gone, so they start anew
            heads = ledger.heads_table(self.goal)
            others = (heads.c.flow != self.run.flow) & (heads.c.target == self.target.name)
            self.connection.execute(heads.delete().where(others))
        move_head(self.connection, self.goal, self.base, row)
        self._only_commit_is_left = True
        assert self._transaction is not None
        self._transaction.commit()

    def is_committed(self, error: Exception) -> bool | None:
        from sqlalchemy.exc import DBAPIError

        unknown = isinstance(error, DBAPIError) and is_unknown(error)
        return None if self._only_commit_is_left and unknown else False

    def end(self) -> None:
        if self._transaction is not None and self._transaction.is_active:
            with suppress(Exception):  # the first error is the one to tell
                self._transaction.rollback()


def move_head(
    connection: sa.Connection, goal: Goal, base: Head | None, row: dict[str, Any]
) -> None:
    """Move the head, which is compared once more, for databases that locked nothing."""
    from sqlalchemy.exc import IntegrityError

    heads = ledger.heads_table(goal)
    if base is None:
        try:
            connection.execute(heads.insert().values(row))
        except IntegrityError as error:
            raise Transient(
                f"{goal.who}: another run of this flow committed at the same moment",
                "the head says which one; run it again",
            ) from error
        return
    mine = (heads.c.flow == row["flow"]) & (heads.c.target == row["target"])
    changed = connection.execute(heads.update().where(mine, heads.c.run == base.run).values(row))
    if changed.rowcount != 1:
        raise Superseded(f"{goal.who}: another run committed first", "run it again")


def check(
    connection: sa.Connection,
    goal: Goal,
    run: Run,
    target: Target,
    schema: pa.Schema | None,
    misfit: Misfit | None = None,
    dealt_with: Collection[str] = (),
) -> None:
    """Refuse what can be refused before a row moves; the last two are those of `check_fit`."""
    if target.dialect == "postgresql":
        check_free_in_postgres(connection, target, goal.who)
    there = exists(connection, target)
    heads = ledger.heads_at(connection, goal)
    if schema is not None:
        refuse_columns(goal, plain_schema(schema))
    check_ours(connection, goal, run)
    if run.mode == "replace":
        if schema is not None:
            table_for(target._replace(dialect=connection.dialect.name), schema)
    elif not there and run.flow in heads and heads[run.flow].head.columns:
        raise lost_target(goal.who, run.flow)
    if not goal.keeps_table(run.mode):
        return
    if schema is not None:
        check_fit(connection, target, plain_schema(schema), there, goal.who, misfit, dealt_with)


def check_ours(connection: sa.Connection, goal: Goal, run: Run) -> None:
    """Raise NotOurs for a `replace` of a table that hygge did not make, and may not adopt."""
    if run.mode != "replace" or goal.options.adopt:
        return
    if exists(connection, ledger.target_of(goal)) and not ledger.is_made(connection, goal):
        raise not_ours(goal.who)


def refuse_columns(goal: Goal, schema: pa.Schema) -> None:
    """Raise UnfitValue for columns that would come back as another type."""
    dialect = ledger.target_of(goal).dialect
    refuse_inexact(schema, dialect, goal.who, zones=goal.options.zones == "error")


def check_staged(receipt: Receipt, sealed: int | None, counted: int | None, who: str) -> None:
    """Raise Rejected if the rows of a receipt are not all there."""
    if sealed is None or sealed != receipt.rows or counted != receipt.rows:
        there = "nothing" if sealed is None or counted is None else f"{counted:,} rows"
        raise Rejected(
            f"{who}: split {receipt.ticket.split} was staged with {receipt.rows:,} rows, "
            f"but {there} can be found",
            "its staging was removed or changed; run again",
        )


def check_filled(nulls: int, column: str, who: str) -> None:
    """Raise Rejected for NULLs in the place of which the database would write a value of its own.

    Such a column numbers rows itself, or takes the present time.
    """
    if nulls:
        raise Rejected(
            f"{who}: column '{column}' is NULL in {rows_text(nulls)}, and the database would write "
            "a value of its own in its place",
            "leave the column out with `columns`, leave these rows out with `where`, or write to a "
            "table in which the column is a plain one",
        )


def check_all_in(applied: int, wanted: int, who: str) -> None:
    """Raise Rejected if the database did not take every row that it was given."""
    if applied != wanted:
        raise Rejected(
            f"{who} took {applied:,} of {wanted:,} rows: a trigger or a rule of the table leaves "
            "out rows, or several of them met in one",
            "write to a table without such triggers and rules, or leave these rows out with "
            "`where`",
        )


def check_all_out(removed: int, wanted: int, who: str) -> None:
    """Raise Rejected if the database kept rows that changes were to delete."""
    if removed != wanted:
        raise Rejected(
            f"{who} let go of {removed:,} of {wanted:,} rows that were deleted at the source: a "
            "trigger or a rule of the table keeps the others",
            "write to a table without such triggers and rules",
        )


def keeps_rows(who: str) -> Rejected:
    """Return the error for a table whose rows a trigger or a rule did not let go."""
    return Rejected(
        f"{who} keeps rows that were to be replaced: a trigger or a rule of it forbids their "
        "deletion",
        "use `mode: append` or `mode: merge`, or write to a table without them",
    )


def broken_rule(said: str, who: str, merges: bool) -> HyggeError:
    """Return Rejected for rows that break a rule of their table, by what the database `said`."""
    known = foreign_key_error(said.strip(), who, Rejected)
    return known or Rejected(
        f"the rows break a rule of {who}: {said.strip()}", _rule_hint(said, merges)
    )


def _rule_hint(said: str, merges: bool) -> str:
    """Return the hint for a broken rule that is no foreign key.

    Only where a key is met twice does `merge` help, and not where the run merges already.
    """
    if not re.search(r"(?i)unique|duplicate|primary key", said):
        return "mend these rows at the source, leave them out with `where`, or change the rule"
    if merges:
        return "merge by the columns of that rule (`key`), or leave these rows out with `where`"
    return "use `mode: merge` with these columns as `key`, or leave these rows out with `where`"


def check_merge(
    rows: int, nulls: int, distinct: int, run: Run, who: str, has_order: bool = False
) -> None:
    """Raise Rejected if a key is NULL, or if rows share a key and nothing tells the last one.

    `has_order`: they are changes, of which the last one counts, as they came.
    """
    key = ", ".join(run.key)
    if nulls:
        raise Rejected(
            f"{who}: the merge key ({key}) is NULL in {rows_text(nulls)}",
            "fill the key in, leave these rows out with `where`, or use another key",
        )
    if rows != distinct and run.cursor is None and not has_order:
        raise Rejected(
            f"{who}: the merge key ({key}) is not unique: {rows_text(rows - distinct)} too many",
            "read a table or a query with a `cursor`, so that the last row of a key counts; or "
            "leave the others out with `where`, or use another key",
        )
