"""Columns for which a table of PostgreSQL has values of its own, and the sequences behind them.

    generated   GENERATED ALWAYS AS (…): no value can be written; the table computes it
    identity    GENERATED … AS IDENTITY: a value can be written, where the statement says so
    numbered    identity and `serial`: a sequence gives the next number

A sequence does not see what is written beside it. Left as it is, it would give numbers that the
written rows have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hygge.connectors.sql.target import Target
from hygge.errors import Rejected, StoreError
from hygge.model import Head, Run

if TYPE_CHECKING:
    import sqlalchemy as sa

    _Table = sa.TableClause

# attgenerated and attidentity are younger than some servers; to_jsonb leaves out what is not there.
_COLUMNS = """
SELECT attname, relkind = 'v' AS is_view,
    coalesce(to_jsonb(a)->>'attgenerated', '') <> '' AS is_generated,
    coalesce(to_jsonb(a)->>'attidentity', '') AS identity, atthasdef
FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = coalesce(:schema, current_schema()) AND relname = :name
    AND attnum > 0 AND NOT attisdropped
"""
_SEQUENCES = """
WITH t AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = coalesce(:schema, current_schema()) AND relname = :name),
numbered AS (
    SELECT a.attname, d.objid AS sequence FROM t JOIN pg_depend d ON d.refobjid = t.oid
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.deptype = 'i' AND a.atttypid IN (20, 21, 23)
    UNION
    SELECT a.attname, d.refobjid FROM t JOIN pg_attrdef f ON f.adrelid = t.oid
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = f.adnum
            AND a.atttypid IN (20, 21, 23)
        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
            AND d.refclassid = 'pg_class'::regclass
)
SELECT attname, sequence::regclass::text AS shown, nspname, relname, seqincrement, seqmin, seqmax,
    has_sequence_privilege(sequence, 'SELECT') AND has_sequence_privilege(sequence, 'UPDATE')
        AS may_move
FROM numbered JOIN pg_sequence s ON s.seqrelid = sequence JOIN pg_class c ON c.oid = sequence
    JOIN pg_namespace n ON n.oid = relnamespace
ORDER BY attname, shown
"""


@dataclass(frozen=True)
class OwnColumns:
    """Columns of a table, by the values that the table has for them itself."""

    generated: frozenset[str] = frozenset()
    """Columns that cannot be written."""
    always_identity: frozenset[str] = frozenset()
    """GENERATED ALWAYS AS IDENTITY: written only with OVERRIDING SYSTEM VALUE, never updated."""
    filled: frozenset[str] = frozenset()
    """Columns that the table fills where a row lacks them: these all, and those with a default."""

    is_view: bool = False
    """Of a view nobody knows which of its columns are of such a kind."""

    def written(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that can be written."""
        return [name for name in names if name not in self.generated]

    def overriding(self, names: Sequence[str]) -> str:
        """Return what an INSERT of these columns has between its columns and its rows."""
        is_needed = self.is_view or self.always_identity & set(names)
        return "OVERRIDING SYSTEM VALUE " if is_needed else ""


def generated_note(names: Iterable[str]) -> str:
    """Return what to say of columns that the rows have and the table generates; empty: none."""
    listed = ", ".join(f"'{name}'" for name in names)
    return f"the table generates {listed} itself: the values that came were left out" * bool(listed)


def check_added(
    present: Iterable[str], names: Iterable[str], heads: Iterable[Head], who: str
) -> None:
    """Raise Rejected where a table that is made anew would lack a column that somebody added to it.

    `present` are the table's columns and `names` those of the rows. A column that an earlier run
    wrote, by the heads of the table, may go: its source has no such column any more.
    """
    written = {name for head in heads for name, _ in head.columns}
    added = [name for name in present if name not in written.union(names)]
    if added and written:
        raise Rejected(
            f"{who} has column '{added[0]}', which the rows lack and no run has written: the table "
            "would be made anew without it",
            "give it a DEFAULT, with which it stays; drop it; or use `mode: merge`",
        )


def gone_notes(present: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return what to say of columns that a table lacks once it is made anew.

    `present` are those of the old table, and `names` those of the rows.
    """
    rows = set(names)
    listed = ", ".join(f"'{name}'" for name in present if name not in rows)
    return [f"the rows have no column {listed} any more, nor has the table"] if listed else []


def own_columns(connection: sa.Connection, target: Target) -> OwnColumns:
    """Return the columns of a table of PostgreSQL that have values of their own."""
    import sqlalchemy as sa

    values = {"schema": target.schema, "name": target.name}
    rows = connection.execute(sa.text(_COLUMNS), values).all()
    return OwnColumns(
        frozenset(row.attname for row in rows if row.is_generated),
        frozenset(row.attname for row in rows if row.identity == "a"),
        frozenset(row.attname for row in rows if row.identity or row.atthasdef),
        any(row.is_view for row in rows),
    )


def check_identity(own: OwnColumns, names: Sequence[str], run: Run, who: str) -> None:
    """Raise StoreError where `merge` would have to update an identity, which cannot be done."""
    fixed = [name for name in names if name in own.always_identity and name not in run.key]
    if run.mode == "merge" and fixed:
        raise StoreError(
            f"{who}: column '{fixed[0]}' is GENERATED ALWAYS AS IDENTITY, and a merge could not "
            "update it",
            f"make it a part of `key`, leave it out with `columns`, or ALTER TABLE … ALTER COLUMN "
            f"{fixed[0]} SET GENERATED BY DEFAULT",
        )


def check_written(written: Sequence[str], who: str) -> None:
    """Raise StoreError where the table generates every column of the rows."""
    if not written:
        raise StoreError(
            f"{who}: the table generates all columns that the rows have, so nothing can be written",
            "read other columns with `columns`, or write to another table",
        )


def own_notes(
    connection: sa.Connection, target: Target, names: Sequence[str], sources: Sequence[_Table]
) -> list[str]:
    """Move the sequences of the columns `names`, and return what there is to say of columns.

    `sources` are the tables that hold the written rows.
    """
    own = own_columns(connection, target)
    note = generated_note(name for name in names if name in own.generated)
    return [note] * bool(note) + move_sequences(connection, target, own.written(names), sources)


def move_sequences(
    connection: sa.Connection, target: Target, names: Sequence[str], sources: Sequence[_Table]
) -> list[str]:
    """Move the sequences behind the columns `names` past the values in the tables `sources`.

    Returns what there is to say. A sequence is moved for good, also where the transaction is rolled
    back: then it leaves out some numbers.
    """
    import sqlalchemy as sa
    from sqlalchemy.dialects.postgresql import REGCLASS

    values = {"schema": target.schema, "name": target.name}
    notes = []
    for row in connection.execute(sa.text(_SEQUENCES), values).all():
        if row.attname not in names:
            continue
        furthest = sa.func.max if row.seqincrement > 0 else sa.func.min
        parts = [sa.select(furthest(_column(source, row.attname))) for source in sources]
        found = [connection.execute(part).scalar() for part in parts]
        numbers = [int(number) for number in found if number is not None]
        if not numbers:
            continue
        number = max(numbers) if row.seqincrement > 0 else min(numbers)
        if not row.may_move:
            notes.append(
                f"the sequence {row.shown} stays where it is, since this user has no right SELECT "
                f"and UPDATE on it: it may give numbers up to {number} once more"
            )
            continue
        if number > row.seqmax if row.seqincrement > 0 else number < row.seqmin:
            notes.append(f"the sequence {row.shown} stays where it is: it ends before {number}")
            continue
        last: sa.ColumnClause[int] = sa.column("last_value")
        is_called: sa.ColumnClause[bool] = sa.column("is_called")
        sequence = sa.table(row.relname, last, is_called, schema=row.nspname)
        is_behind = last < number if row.seqincrement > 0 else last > number
        moved = sa.select(sa.func.setval(sa.cast(row.shown, REGCLASS), number)).select_from(
            sequence
        )
        moved = moved.where(sa.or_(is_behind, sa.and_(last == number, sa.not_(is_called))))
        if connection.execute(moved).scalar() is not None:
            notes.append(f"the sequence {row.shown} goes on after {number}")
    return notes


def _column(table: _Table, name: str) -> Any:
    return next(column for column in table.columns if column.name == name)
