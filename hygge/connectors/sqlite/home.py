"""SQLite as a Home: exact types, one state of the file for all lanes, splits by rowid.

Life of a plan: one read transaction reads schema, watermark and ranges. Afterwards the connection
stays open without a transaction: so no writer has to wait, and SQLite does not remove the
write-ahead log. Several splits carry the version of the file that was planned (`snapshot.version`);
each lane begins a read transaction first, and then checks that the file still has this version.
A single split is read in one transaction of its own, so it needs no version. With a cursor its
SELECT also asks for the upper bound: a run holds the rows of one moment, and its watermark is of
that moment (`Reached`), which may be later than the plan's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa

from hygge.batches import reached_table
from hygge.connectors.sql import splits as sql_splits
from hygge.connectors.sql.ask import Ask, column_groups, pack, unpack
from hygge.connectors.sql.ties import Ties
from hygge.connectors.sqlite import catalog, cursor, session, snapshot, splits
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.errors import in_words
from hygge.connectors.sqlite.session import Value, fetch_value, path_of, quoted
from hygge.connectors.sqlite.types import arrow_for, by_classes
from hygge.connectors.sqlite.values import decode
from hygge.errors import HomeError, SourceChanged, rows_text
from hygge.model import Column, Plan, Split, Watermark

NEEDS: tuple[str, ...] = ("numpy",)
"""Modules that its processes import, beside this one."""

_TRIES = 5
"""How often a plan is made anew while others write to the file."""
_SAMPLE_ROWS = 10_000


@contextmanager
def planned(ask: Ask, since: Watermark) -> Iterator[Plan]:
    """Plan a run; keep the write-ahead log until the plan is closed."""
    path = path_of(ask.url)
    with session.opened(path, ask.who, HomeError) as connection:
        with in_words(ask.who, HomeError):
            plan = _plan(connection, path, ask, since)
        yield plan


def read(ask: Ask, split: Split) -> Iterator[pa.Table]:
    """Yield the rows of one split, in batches of the plan's schema.

    Raises SourceChanged if the file was written to after it was planned in several splits.
    """
    path, where = path_of(ask.url), split.where
    schema = unpack(where["schema"])
    with session.opened(path, ask.who, HomeError) as connection:
        source = catalog.source_of(connection, ask)
        select = _Select(connection, ask, source, schema)
        ties = None
        if ask.remembers_ties and "boundary" in where:
            ties = Ties(ask, where["since"], schema)
        connection.execute("BEGIN")
        # Begins the read transaction of the file, also where the query itself reads no table.
        fetch_value(connection, "SELECT 1 FROM main.sqlite_master")
        # Compared only now: from here on the transaction reads the state that the file shows.
        if split.version and snapshot.version(path) != split.version:
            raise SourceChanged(
                f"{ask.who} was written to after the run was planned",
                "run again while nobody writes, or read it in one transaction: "
                "options: {splits: 1}",
            )
        if ask.cursor is not None and "key" not in where:
            yield from select.with_upper_bound(
                where["since"], where["upper"], where["is_text"], ties
            )
            return
        yield from select.of_range(where)
        if ties is not None:
            yield from select.boundary(ties, where["upper"], where["leaves_upper"])


class _Select:
    """The SELECTs of one split, in one read transaction."""

    def __init__(
        self, connection: sqlite3.Connection, ask: Ask, source: str, schema: pa.Schema
    ) -> None:
        self.connection, self.ask, self.source, self.schema = connection, ask, source, schema
        self.names = ", ".join(f"h.{quoted(name)}" for name in schema.names)

    def with_upper_bound(
        self, since: Watermark, upper: Watermark, is_text: bool, ties: Ties | None
    ) -> Iterator[pa.Table]:
        """Yield the rows beyond `since`, and at the end what they reach, in one SELECT."""
        ask = self.ask
        values: list[Value] = []
        reached = cursor.Reached(ask, since, is_text)
        names = self.names
        if ties is not None:
            names += f", {reached.marks(values, upper)}"
        names += f", {reached.column(self.source, values)}"
        reads_ties = ask.reads_ties if ties is None else ties.reads_since
        conditions = cursor.conditions(ask, since, None, values, reads_ties)
        rows = self._execute(names, conditions, values)
        for columns in column_groups(rows.fetchmany, ask.options):
            reached.add(columns.pop())
            marks = [] if ties is None else [columns.pop(-2), columns.pop()]
            table = _table(columns, self.schema, ask)
            columns.clear()
            if ties is not None:
                table = ties.keep(
                    table, *([mark is not None for mark in marked] for marked in marks)
                )
            yield table
            del table
        if ties is not None:
            yield ties.end(reached.upper)
        else:
            yield reached_table(self.schema, {"watermark": reached.upper})

    def of_range(self, where: dict[str, Any]) -> Iterator[pa.Table]:
        """Yield the rows of a range of the key; of all rows, if there is no key."""
        values: list[Value] = []
        conditions = cursor.conditions(
            self.ask,
            where.get("since"),
            where.get("upper"),
            values,
            self.ask.reads_ties,
            where.get("leaves_upper", False),
        )
        if "key" in where:
            in_range = sql_splits.condition(where, f"h.{where['key']}", cursor.binder(values))
            conditions += [in_range] if in_range else []
        return self._tables(conditions, values)

    def boundary(self, ties: Ties, upper: Watermark, reads_upper: bool) -> Iterator[pa.Table]:
        """Yield the rows at the watermarks, which the ranges leave out."""
        if ties.reads_since:
            yield from ties.at_since(self._at(ties.since, None))
        if reads_upper:
            yield from ties.at_upper(self._at(upper, ties.since))
        elif upper != ties.since:
            ties.forget_upper()
        yield ties.end(upper)

    def _at(self, value: Watermark, since: Watermark) -> Iterator[pa.Table]:
        values: list[Value] = []
        filters = [f"({self.ask.where})"] if self.ask.where else []
        return self._tables([*filters, cursor.at(self.ask, value, values, since)], values)

    def _tables(self, conditions: Sequence[str], values: Sequence[Value]) -> Iterator[pa.Table]:
        rows = self._execute(self.names, conditions, values)
        for columns in column_groups(rows.fetchmany, self.ask.options):
            table = _table(columns, self.schema, self.ask)
            columns.clear()  # the values, and below the table, are freed before the next batch
            yield table
            del table

    def _execute(
        self, names: str, conditions: Sequence[str], values: Sequence[Value]
    ) -> sqlite3.Cursor:
        return self.connection.execute(
            f"SELECT {names} FROM {self.source} AS h{cursor.where_clause(conditions)}", values
        )


def _are_set(marks: Sequence[Sequence[Value]]) -> list[list[bool]]:
    return [[mark is not None for mark in marked] for marked in marks]


def _table(columns: Sequence[Sequence[Value]], schema: pa.Schema, ask: Ask) -> pa.Table:
    arrays = [
        decode(values, field.type, ask.who, field.name, asked=field.name in ask.stated)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _plan(connection: sqlite3.Connection, path: str, ask: Ask, since: Watermark) -> Plan:
    """Plan from one state of the file; one split if the file never stands still."""
    fetch_value(connection, "SELECT 1 FROM sqlite_master")  # opens the write-ahead log
    source = catalog.source_of(connection, ask)
    for _ in range(_TRIES):
        before = snapshot.version(path)
        plan = _plan_of_state(connection, source, ask, since, before)
        if len(plan.splits) == 1 or snapshot.version(path) == before:
            return plan
    if ask.options.splits != "auto":
        raise SourceChanged(
            f"{ask.who} is written to all the time, so its splits would not be of one state",
            "leave `splits` away: it is then read in one transaction",
        )
    return _plan_of_state(connection, source, ask, since, None)


def _plan_of_state(
    connection: sqlite3.Connection, source: str, ask: Ask, since: Watermark, version: str | None
) -> Plan:
    """Plan in one read transaction; one split where `version` is None."""
    connection.execute("BEGIN")
    try:
        return _planned_splits(connection, source, ask, since, version)
    finally:
        connection.execute("ROLLBACK")


def _planned_splits(
    connection: sqlite3.Connection, source: str, ask: Ask, since: Watermark, version: str | None
) -> Plan:
    available = catalog.columns_of(connection, ask)
    columns = tuple(
        _column(connection, source, column, ask) for column in catalog.chosen(ask, available)
    )
    schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in columns])
    upper, notes = cursor.upper_bound(connection, source, available, ask, since)
    values: list[Value] = []
    leaves_upper = cursor.remembers(connection, source, ask, since, upper)
    conditions = cursor.conditions(ask, since, upper, values, ask.reads_ties, leaves_upper)
    where: dict[str, Any] = {"schema": pack(schema)}
    if ask.cursor:
        is_text = cursor.holds_texts(available, ask.cursor)
        where |= {"since": since, "upper": upper, "is_text": is_text}
        where["leaves_upper"] = leaves_upper
    key, key_name = splits.split_key(connection, available, ask)
    bounds: list[Value] = []
    if key is None:
        notes.insert(0, "one split: there is no key to split by")
    elif version is None:
        notes.insert(0, "one split: the database is being written to")
    else:
        lengths = [f"length(h.{quoted(c.name)})" for c in columns if splits.is_long(c.type)]
        rows, long_bytes = splits.measure(connection, source, lengths, conditions, values)
        count = sql_splits.how_many(ask.options.splits, rows, long_bytes + 8 * len(columns))
        if count > 1:
            bounds = splits.bounds(connection, source, key, conditions, values, count)
        besides = ", and those of the highest value" if leaves_upper else ""
        if bounds:
            notes.insert(0, f"{len(bounds) + 1} splits by {key_name}, all of one state of the file")
        else:
            notes.insert(0, f"one split: {rows_text(rows)}{besides}")
    if ask.only and (shadows := catalog.shadow_tables(connection, table_name(ask.table or ""))):
        notes.append(f"its shadow tables are left out of the patterns: {', '.join(shadows)}")
    is_single = not bounds
    parts = tuple(
        Split(
            index,
            "" if is_single else version or "",
            where if is_single else {**where, **part, "key": key},
            sql_splits.label(part, key_name),
        )
        for index, part in enumerate(sql_splits.ranges(bounds))
    )
    if ask.remembers_ties:
        notes += Ties(ask, since, schema).notes
        boundary = replace(parts[0], where={**parts[0].where, "boundary": True})
        parts = (boundary, *parts[1:])
    primary = sorted((column.key, column.name) for column in available if column.key)
    null = _null_in_key(connection, source, available)
    if null is not None:
        notes.append(f"its primary key is not kept: '{null}' is NULL in some rows")
    return Plan(
        columns,
        parts,
        key=() if null is not None else tuple(name for _, name in primary),
        snapshot=None if is_single else version,
        watermark=upper,
        reason="; ".join(notes),
    )


def _null_in_key(
    connection: sqlite3.Connection, source: str, available: Sequence[catalog.Column]
) -> str | None:
    """Return a column of the primary key that is NULL somewhere, as SQLite alone allows it."""
    for column in available:
        if column.key and not column.notnull and not column.is_rowid:
            is_null = f"SELECT EXISTS (SELECT 1 FROM {source} AS h WHERE h.{quoted(column.name)}"
            if fetch_value(connection, f"{is_null} IS NULL)"):
                return column.name
    return None


def _column(
    connection: sqlite3.Connection, source: str, column: catalog.Column, ask: Ask
) -> Column:
    """Return the plan's column: its type is stated, or declared, or that of its values."""
    kind = ask.stated.get(column.name) or arrow_for(column.declared)
    if kind is None:
        value = f"h.{quoted(column.name)}"
        select = f"SELECT DISTINCT typeof({value}) FROM"
        rows = connection.execute(f"{select} (SELECT * FROM {source} LIMIT {_SAMPLE_ROWS}) AS h")
        classes = {name for (name,) in rows} - {"null"}
        if not classes:
            rows = connection.execute(f"{select} {source} AS h WHERE {value} IS NOT NULL")
            classes = {name for (name,) in rows}
        kind = by_classes(classes)
    # A primary key may hold NULL in SQLite, so only NOT NULL counts.
    return Column(column.name, kind, column.declared or None, nullable=not column.notnull)
