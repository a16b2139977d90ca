"""SQLite as a Home: exact types, one state for all lanes, splits by rowid.

Life of a plan: one read transaction learns schema, watermark and ranges; then the connection stays
open without a transaction, so that no writer is kept waiting and the write-ahead log is not
removed. Several splits carry the version of the state that was planned (see `sqlite.version`);
each lane begins a read transaction, and only then looks whether that state still stands.
A single split reads in one transaction of its own, so it needs no version.

A cursor is compared as SQLite compares the stored values, and the watermark is a stored value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from hygge.connectors.sql import splits as sql_splits
from hygge.connectors.sql.ask import Ask, column_groups, pack, unpack
from hygge.connectors.sql.errors import missing_column
from hygge.connectors.sqlite import catalog, session, snapshot
from hygge.connectors.sqlite.cursor import binder, cursor_conditions, upper_bound
from hygge.connectors.sqlite.errors import in_words
from hygge.connectors.sqlite.session import path_of
from hygge.connectors.sqlite.splits import bounds_between, is_long, size_of, split_key, where_clause
from hygge.connectors.sqlite.types import arrow_for, by_classes
from hygge.connectors.sqlite.values import decode
from hygge.errors import HomeError, SourceChanged
from hygge.model import Column, Plan, Split, Watermark

NEEDS: tuple[str, ...] = ()
"""Modules that its processes import, beside this one."""

_TRIES = 5
_SAMPLE = 10_000


@contextmanager
def planned(ask: Ask, since: Watermark) -> Iterator[Plan]:
    """Plan a run; holds the write-ahead log until it is closed."""
    path = path_of(ask.url)
    with session.opened(path, ask.who, HomeError) as connection:
        with in_words(ask.who, HomeError):
            plan = _plan(connection, path, ask, since)
        yield plan


def read(ask: Ask, split: Split) -> Iterator[pa.Table]:
    """The rows of one split, in batches of the plan's schema."""
    path, where = path_of(ask.url), split.where
    schema = unpack(where["schema"])
    with session.opened(path, ask.who, HomeError) as connection:
        source = catalog.source_of(connection, ask)
        values: list[Any] = []
        conditions = cursor_conditions(ask, where.get("since"), where.get("upper"), values)
        if "key" in where:
            ranged = sql_splits.condition(where, f"h.{where['key']}", binder(values))
            conditions += [ranged] if ranged else []
        chosen = ", ".join(f"h.{session.quote(name)}" for name in schema.names)
        connection.execute("BEGIN")
        cursor = connection.execute(
            f"SELECT {chosen} FROM {source} AS h{where_clause(conditions)}", values
        )
        session.one(connection, "SELECT 1 FROM main.sqlite_master")
        # Only now: the transaction holds its state, so what the file says is what will be read.
        if split.version and snapshot.version(path) != split.version:
            raise SourceChanged(
                f"{ask.who} was written to after the run was planned",
                "run again while nobody writes, or read it in one transaction: "
                "options: {splits: 1}",
            )
        for columns in column_groups(cursor.fetchmany, ask.options):
            table = _table(columns, schema, ask)
            columns.clear()
            yield table
            del table


def _table(columns: list[Any], schema: pa.Schema, ask: Ask) -> pa.Table:
    arrays = [
        decode(values, field.type, ask.who, field.name, asked=field.name in ask.stated)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _plan(connection: Any, path: str, ask: Ask, since: Watermark) -> Plan:
    session.one(connection, "SELECT 1 FROM sqlite_master")  # opens the write-ahead log
    source = catalog.source_of(connection, ask)
    for _ in range(_TRIES):
        before = snapshot.version(path)
        connection.execute("BEGIN")
        try:
            plan = _learn(connection, source, ask, since, before)
        finally:
            connection.execute("ROLLBACK")
        if len(plan.splits) == 1 or snapshot.version(path) == before:
            return plan
    if ask.options.splits != "auto":
        raise SourceChanged(
            f"{ask.who} is written to all the time, so its splits would not be of one state",
            "leave `splits` away: it is then read in one transaction",
        )
    connection.execute("BEGIN")
    try:
        return _learn(connection, source, ask, since, None)
    finally:
        connection.execute("ROLLBACK")


def _learn(connection: Any, source: str, ask: Ask, since: Watermark, version: str | None) -> Plan:
    """The plan of the state that this transaction sees; one split where `version` is None."""
    kept = catalog.columns_of(connection, ask)
    chosen = _chosen(kept, ask)
    columns = tuple(_column(connection, source, each, ask) for each in chosen)
    schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in columns])
    upper, notes = upper_bound(connection, source, kept, ask, since)
    values: list[Any] = []
    conditions = cursor_conditions(ask, since, upper, values)
    base: dict[str, Any] = {"schema": pack(schema)}
    if ask.cursor:
        base |= {"since": since, "upper": upper}
    key, called = split_key(connection, kept, ask)
    bounds: list[Any] = []
    if key is None:
        notes.insert(0, "one split: there is no key to split by")
    elif version is None:
        notes.insert(0, "one split: the database is being written to")
    else:
        lengths = [f"length(h.{session.quote(c.name)})" for c in columns if is_long(c.type)]
        rows, width = size_of(connection, source, lengths, conditions, values, ask)
        count = sql_splits.how_many(ask.options.splits, rows, width + 8 * len(columns))
        if count > 1:
            bounds = bounds_between(connection, source, key, conditions, values, rows, count)
        if bounds:
            notes.insert(0, f"{len(bounds) + 1} splits by {called}, all of one state of the file")
        else:
            notes.insert(0, f"one split: {rows:,} rows")
    single = not bounds
    splits = tuple(
        Split(
            index,
            "" if single else version or "",
            base if single else {**base, **part, "key": key},
            sql_splits.label(part, called),
        )
        for index, part in enumerate(sql_splits.ranges(bounds))
    )
    primary = sorted((each.key, each.name) for each in kept if each.key)
    return Plan(
        columns,
        splits,
        key=tuple(name for _, name in primary),
        snapshot=None if single else version,
        watermark=upper,
        reason="; ".join(notes),
    )


def _chosen(kept: list[catalog.Kept], ask: Ask) -> list[catalog.Kept]:
    by_name = {each.name: each for each in kept}
    named = [ask.cursor, ask.split_by, *(ask.columns or ()), *ask.stated]
    for name in named:
        if name is not None and name not in by_name:
            raise missing_column(ask.who, name, list(by_name))
    return [by_name[name] for name in ask.columns] if ask.columns is not None else kept


def _column(connection: Any, source: str, each: catalog.Kept, ask: Ask) -> Column:
    kind = ask.stated.get(each.name) or arrow_for(each.declared)
    if kind is None:
        quoted = f"h.{session.quote(each.name)}"
        asked = f"SELECT DISTINCT typeof({quoted}) FROM"
        rows = connection.execute(f"{asked} (SELECT * FROM {source} LIMIT {_SAMPLE}) AS h")
        classes = {row[0] for row in rows} - {"null"}
        if not classes:
            rows = connection.execute(f"{asked} {source} AS h WHERE {quoted} IS NOT NULL")
            classes = {row[0] for row in rows}
        kind = by_classes(classes)
    # A primary key may hold NULL in SQLite, but for the rowid's own name.
    rowid = each.key == 1 and each.declared.upper() == "INTEGER" and each.notnull
    return Column(each.name, kind, each.declared or None, nullable=not (each.notnull or rowid))
