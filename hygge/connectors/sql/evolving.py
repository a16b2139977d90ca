"""How a table follows the columns of its rows: `schema: evolve`, decided before a row moves.

A database gives the columns of its table, those of the rows, and its statements; this module says
what is to be done, by the one table that docs/schema.md prints:

    the rows have a new column      it is added, and may be NULL
    they lack a column              it stays; new rows have NULL there, or its default
    a type is wider                 the column's type is widened
    a type is narrower              the column stays as it is
    a type is another one           an error
    NULL is possible from now on    NOT NULL is dropped
    the key has changed             an error

The statements run in the commit. Where a database ends its transaction at each of them, a run that
dies behind one leaves the column: the next run finds it, and has that much less to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from hygge.batches import widens
from hygge.connectors.sql.heads import OR_REPLACE
from hygge.errors import StoreError
from hygge.model import Head, Run


class Present(NamedTuple):
    """A column of the table."""

    name: str
    type: str
    """As the database writes it."""
    is_nullable: bool
    is_filled: bool
    """True if the table has a value of its own for it, which is not NULL, where rows lack it."""
    is_fixed: bool = False
    """True if nothing of it can be changed: it is generated."""
    in_key: bool = False
    """True if it is part of the primary key, which takes no NULL."""


class Wanted(NamedTuple):
    """A column of the rows."""

    name: str
    type: str
    """As the database would write it."""
    is_nullable: bool


class Change(NamedTuple):
    """A change of the table."""

    text: str
    """For people: `column 'x' (bigint) is added`."""
    ddl: str = ""
    """The statement; empty: none is needed."""


class Statements(NamedTuple):
    """The statements of a database."""

    add: Callable[[Wanted], str]
    widen: Callable[[Present, Wanted], str | None]
    """None where the database cannot change the type of a column, or not of this one."""
    free: Callable[[Present], str | None]
    """Drops NOT NULL; None where that cannot be done."""
    fits: Callable[[Present, Wanted], bool]
    """True if the column keeps every value of the rows as it is."""
    widens: Callable[[Present, Wanted], bool]
    """True if the type of the rows is a wider one of the same kind."""
    folded: Callable[[str], str] = str
    """The name as the database compares it."""


@dataclass(frozen=True)
class Evolution:
    """What is to be done to a table before rows go into it."""

    changes: tuple[Change, ...] = ()
    dealt_with: frozenset[str] = frozenset()
    """Columns, of the rows or of the table, whose difference is no error."""

    @property
    def statements(self) -> list[str]:
        """The statements, in their order."""
        return [change.ddl for change in self.changes if change.ddl]

    @property
    def texts(self) -> list[str]:
        """A sentence for each change."""
        return [change.text for change in self.changes]

    @property
    def shown(self) -> tuple[str, ...]:
        """A sentence for each change, with its statement."""
        return tuple(f"{text}: {ddl}" if ddl else text for text, ddl in self.changes)


NOTHING = Evolution()


def evolution(
    present: Sequence[Present],
    wanted: Sequence[Wanted],
    statements: Statements,
    run: Run,
    heads: Iterable[Head],
    who: str,
) -> Evolution:
    """Return what makes a table of the columns `present` take rows of the columns `wanted`.

    `heads` are those of the table. Raises StoreError for a difference that cannot be made good.
    """
    by_name = {statements.folded(column.name): column for column in present}
    written = {statements.folded(name) for head in heads for name, _ in head.columns}
    changes: list[Change] = []
    dealt_with = set()
    for column in wanted:
        there = by_name.pop(statements.folded(column.name), None)
        if there is None:
            if column.name in run.key:
                raise _no_key(who, column.name)
            changes.append(Change(_added(column), statements.add(column)))
            dealt_with.add(column.name)
            continue
        if there.is_fixed:
            continue
        if not statements.fits(there, column):
            ddl = statements.widen(there, column) if statements.widens(there, column) else None
            if ddl is None:
                raise retyped(who, column.name, there.type, column.type)
            changes.append(Change(_widened(column.name, there.type, column.type), ddl))
            dealt_with.add(column.name)
        is_key = there.in_key or column.name in run.key
        if column.is_nullable and not there.is_nullable and not is_key:
            free = statements.free(there)
            if free is not None:
                changes.append(Change(_freed(column.name), free))
    for folded, there in by_name.items():
        if there.is_fixed or there.is_filled:
            continue
        if there.name in run.key:
            raise _no_key(who, there.name)
        if not there.is_nullable:
            raise lacking(who, there.name, there.type)
        dealt_with.add(there.name)
        if folded in written:
            changes.append(Change(_left(there.name, there.type)))
    return Evolution(tuple(changes), frozenset(dealt_with))


def is_wider(old: pa.DataType, new: pa.DataType) -> bool:
    """Return whether a type is a wider one of the same kind: int32 and int64, not int32 and double.

    A decimal has more digits before the point, and as many behind it.
    """
    t = pa.types
    if t.is_decimal(old) and t.is_decimal(new) and old.scale != new.scale:
        return False
    kinds = (t.is_integer, t.is_floating, t.is_decimal, t.is_timestamp)
    same = any(is_kind(old) and is_kind(new) for is_kind in kinds)
    return same and old != new and widens(old, new)


def retyped(who: str, column: str, there: str, came: str) -> StoreError:
    """Return the error for a column whose type is another one now."""
    return StoreError(
        f"{who}: column '{column}' is {there}, and {came} in the rows: it cannot be "
        "widened to that",
        f"give the rows the old type, change the column yourself, {OR_REPLACE}",
    )


def lacking(who: str, column: str, kind: str) -> StoreError:
    """Return the error for a column of the table that must have a value, and that rows lack."""
    return StoreError(
        f"{who} has column '{column}' ({kind}), which is NOT NULL and which the rows lack",
        f"give it a DEFAULT, drop its NOT NULL, drop it, {OR_REPLACE}",
    )


def _no_key(who: str, column: str) -> StoreError:
    return StoreError(
        f"{who}: the key column '{column}' is not both in the table and in the rows: a key that "
        "changes would find other rows",
        "keep the key of the rows that are there, or write to another table",
    )


def _added(column: Wanted) -> str:
    return f"column '{column.name}' ({column.type}) is added"


def _widened(column: str, old: str, new: str) -> str:
    return f"column '{column}' was {old} and is {new}"


def _freed(column: str) -> str:
    return f"column '{column}' may be NULL from now on"


def _left(column: str, kind: str) -> str:
    return f"column '{column}' ({kind}) is not in the rows any more: it stays, NULL from now on"
