"""SQLite as a Home: exact types, one state for all lanes, splits by rowid.

Life of a plan: one read transaction learns schema, watermark and ranges; then the connection stays
open without a transaction, so that no writer is kept waiting and the write-ahead log is not
removed. Several splits carry the version of the state that was planned (see `sqlite.version`);
each lane begins a read transaction, and only then looks whether that state still stands.
A single split reads in one transaction of its own, so it needs no version.

A cursor is compared as SQLite compares the stored values, and the watermark is a stored value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from hygge.connectors.sql import splits as sql_splits
from hygge.connectors.sql.ask import Ask, column_groups, null_note, pack, tie_note, unpack
from hygge.connectors.sql.errors import missing_column, missing_table
from hygge.connectors.sqlite import session
from hygge.connectors.sqlite.database import table_name
from hygge.connectors.sqlite.errors import in_words
from hygge.connectors.sqlite.session import path_of
from hygge.connectors.sqlite.types import arrow_for, by_classes
from hygge.connectors.sqlite.values import decode
from hygge.errors import ConfigError, HomeError, SourceChanged
from hygge.model import Column, Plan, Split, Watermark

NEEDS: tuple[str, ...] = ()
"""Modules that its processes import, beside this one."""

_QUERY = "_hygge_query"
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
        source = _source(connection, ask)
        values: list[Any] = []
        conditions = _conditions(ask, where.get("since"), where.get("upper"), values)
        if "key" in where:
            ranged = sql_splits.condition(where, f"h.{where['key']}", _binder(values))
            conditions += [ranged] if ranged else []
        chosen = ", ".join(f"h.{session.quote(name)}" for name in schema.names)
        connection.execute("BEGIN")
        cursor = connection.execute(f"SELECT {chosen} FROM {source} AS h{_and(conditions)}", values)
        session.one(connection, "SELECT 1 FROM main.sqlite_master")
        # Only now: the transaction holds its state, so what the file says is what will be read.
        if split.version and session.version(path) != split.version:
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


def _source(connection: Any, ask: Ask) -> str:
    """What stands behind FROM; a query is a temporary view, so that it has columns like a table."""
    if ask.query is None:
        return session.quote(table_name(ask.table or ""))
    query = ask.query.strip().rstrip(";")
    connection.execute(f"CREATE TEMP VIEW IF NOT EXISTS {_QUERY} AS {query}")
    return f"temp.{_QUERY}"


def _plan(connection: Any, path: str, ask: Ask, since: Watermark) -> Plan:
    session.one(connection, "SELECT 1 FROM sqlite_master")  # opens the write-ahead log
    source = _source(connection, ask)
    for _ in range(_TRIES):
        before = session.version(path)
        connection.execute("BEGIN")
        try:
            plan = _learn(connection, source, ask, since, before)
        finally:
            connection.execute("ROLLBACK")
        if len(plan.splits) == 1 or session.version(path) == before:
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
    kept = _catalog(connection, ask)
    chosen = _chosen(kept, ask)
    columns = tuple(_column(connection, source, each, ask) for each in chosen)
    schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in columns])
    upper, notes = _upper(connection, source, kept, ask, since)
    values: list[Any] = []
    conditions = _conditions(ask, since, upper, values)
    base: dict[str, Any] = {"schema": pack(schema)}
    if ask.cursor:
        base |= {"since": since, "upper": upper}
    key, called = _split_key(connection, kept, ask)
    bounds: list[Any] = []
    if key is None:
        notes.insert(0, "one split: there is no key to split by")
    elif version is None:
        notes.insert(0, "one split: the database is being written to")
    else:
        lengths = [f"length(h.{session.quote(c.name)})" for c in columns if _is_long(c.type)]
        rows, width = _measure(connection, source, lengths, conditions, values, ask)
        count = sql_splits.how_many(ask.options.splits, rows, width + 8 * len(columns))
        if count > 1:
            bounds = _bounds(connection, source, key, conditions, values, rows, count)
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


def _catalog(connection: Any, ask: Ask) -> list[session.Kept]:
    if ask.query is None:
        table = table_name(ask.table or "")
        if session.kind_of(connection, table) is None:
            raise missing_table(ask.who, table, session.tables(connection))
        kept = session.columns(connection, table)
    else:
        kept = session.columns(connection, _QUERY)
        for each in kept:  # SQLite names the second `id` of a join `id:1`
            again = re.fullmatch(r"(.+):\d+", each.name)
            if again and any(other.name == again[1] for other in kept):
                raise HomeError(
                    f"{ask.who}: the query gives more than one column named '{again[1]}'",
                    "name each one: SELECT a.id AS a_id, b.id AS b_id",
                )
    return kept


def _chosen(kept: list[session.Kept], ask: Ask) -> list[session.Kept]:
    by_name = {each.name: each for each in kept}
    named = [ask.cursor, ask.split_by, *(ask.columns or ()), *ask.stated]
    for name in named:
        if name is not None and name not in by_name:
            raise missing_column(ask.who, name, list(by_name))
    return [by_name[name] for name in ask.columns] if ask.columns is not None else kept


def _column(connection: Any, source: str, each: session.Kept, ask: Ask) -> Column:
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


def _upper(
    connection: Any, source: str, kept: list[session.Kept], ask: Ask, since: Watermark
) -> tuple[Watermark, list[str]]:
    """The highest cursor now, and what is to be said about rows that have none."""
    if ask.cursor is None:
        return None, []
    cursor = f"h.{session.quote(ask.cursor)}"
    declared = next(each.declared for each in kept if each.name == ask.cursor)
    if declared.upper().startswith(("U64_TEXT", "DECIMAL")) and "TEXT" in declared.upper():
        raise ConfigError(
            f"{ask.who}: cursor '{ask.cursor}' is kept as text ({declared}), which does not sort "
            "as a number",
            "use an integer or timestamp column as the cursor",
        )
    filtered = f" AND ({ask.where})" if ask.where else ""
    kinds = connection.execute(
        f"SELECT DISTINCT typeof({cursor}) FROM {source} AS h WHERE {cursor} IS NOT NULL{filtered}"
    ).fetchall()
    if len(kinds) > 1 and {kind for (kind,) in kinds} != {"integer", "real"}:
        raise HomeError(
            f"{ask.who}: cursor '{ask.cursor}' holds {' and '.join(k for (k,) in kinds)} values, "
            "which have no common order",
            "mend the values, or move the table with `mode: replace` and no cursor",
        )
    if kinds == [("text",)]:
        _check_one_form(connection, source, cursor, ask, arrow_for(declared))
    beyond = f"{cursor} > ?" if since is not None else f"{cursor} IS NOT NULL"
    upper = session.one(
        connection,
        f"SELECT max({cursor}) FROM {source} AS h WHERE {beyond}{filtered}",
        *([since] if since is not None else []),
    )
    if isinstance(upper, bytes):
        raise ConfigError(f"{ask.who}: cursor '{ask.cursor}' holds blobs", "use another column")
    without = session.one(
        connection, f"SELECT count(*) FROM {source} AS h WHERE {cursor} IS NULL{filtered}"
    )
    upper = since if upper is None else upper
    return upper, [*null_note(ask, since, without or 0), *tie_note(ask, upper)]


def _check_one_form(connection: Any, source: str, cursor: str, ask: Ask, kind: Any) -> None:
    """Moments compared as text sort rightly only where all have one form."""
    if kind is None or not pa.types.is_temporal(kind):
        return
    forms = connection.execute(
        f"SELECT DISTINCT substr({cursor}, 5, 1) || substr({cursor}, 8, 1) || "
        f"substr({cursor}, 11, 1) || CASE WHEN {cursor} LIKE '%Z' THEN 'Z' "
        f"WHEN substr({cursor}, -6, 1) IN ('+', '-') AND length({cursor}) > 11 "
        f"THEN substr({cursor}, -6) ELSE '' END FROM {source} AS h WHERE {cursor} IS NOT NULL"
        + (f" AND ({ask.where})" if ask.where else "")
    ).fetchall()
    if len(forms) > 1 and not pa.types.is_time(kind):
        raise HomeError(
            f"{ask.who}: cursor '{ask.cursor}' holds moments written in {len(forms)} forms, which "
            "do not sort as text",
            "write all of them as 'YYYY-MM-DD HH:MM:SS', or use another cursor",
        )


def _binder(values: list[Any]) -> Any:
    def bind(value: Any) -> str:
        values.append(value)
        return "?"

    return bind


def _conditions(ask: Ask, since: Any, upper: Any, values: list[Any]) -> list[str]:
    conditions = [f"({ask.where})"] if ask.where else []
    if ask.cursor is None:
        return conditions
    bind, cursor = _binder(values), f"h.{session.quote(ask.cursor)}"
    if upper is None:
        return conditions  # no row has a cursor value
    # Values are bound in the order of their marks.
    more = ">=" if ask.options.cursor_ties == "read" else ">"
    beyond = f"{cursor} {more} {bind(since)} AND " if since is not None else ""
    inside = f"{beyond}{cursor} <= {bind(upper)}"
    if since is None or ask.options.null_cursor == "read":
        inside = f"({inside} OR {cursor} IS NULL)"
    return [*conditions, inside]


def _and(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _split_key(connection: Any, kept: list[session.Kept], ask: Ask) -> tuple[str | None, str]:
    """The SQL name to split by, and what to call it."""
    if ask.options.splits == 1:
        return None, ""
    if ask.split_by is not None:
        return session.quote(ask.split_by), ask.split_by
    table = table_name(ask.table or "")
    if ask.query is not None or session.kind_of(connection, table) != "table":
        return None, ""
    rowid = session.rowid_of(connection, table)
    if rowid:
        return rowid, rowid
    primary = [each for each in kept if each.key]
    return (session.quote(primary[0].name), primary[0].name) if len(primary) == 1 else (None, "")


def _is_long(kind: Any) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _measure(
    connection: Any,
    source: str,
    lengths: list[str],
    conditions: list[str],
    values: list[Any],
    ask: Ask,
) -> tuple[int, float]:
    """Rows, and bytes of a row's long values as the first ones have them."""
    rows = session.one(connection, f"SELECT count(*) FROM {source} AS h{_and(conditions)}", *values)
    if not lengths or not rows:
        return rows, 0.0
    total = " + ".join(f"coalesce({each}, 0)" for each in lengths)
    first = f"SELECT {total} AS size FROM {source} AS h{_and(conditions)} LIMIT 500"
    return rows, session.one(connection, f"SELECT avg(size) FROM ({first})", *values) or 0.0


def _bounds(
    connection: Any,
    source: str,
    key: str,
    conditions: list[str],
    values: list[Any],
    rows: int,
    count: int,
) -> list[Any]:
    """Inner bounds of `count` ranges; none where the key has no values that can be compared."""
    present = [*conditions, f"h.{key} IS NOT NULL"]
    low, high, classes, held = connection.execute(
        f"SELECT min(h.{key}), max(h.{key}), group_concat(DISTINCT typeof(h.{key})), count(*) "
        f"FROM {source} AS h{_and(present)}",
        values,
    ).fetchone()
    if classes == "integer" and sql_splits.dense(low, high, held):
        return sql_splits.even(low, high, count)
    if classes not in ("integer", "text"):
        return []
    at = sql_splits.places(held, count)
    if not at:
        return []
    numbered = f"SELECT h.{key} AS k, row_number() OVER (ORDER BY h.{key}) AS n FROM {source} AS h"
    picked = connection.execute(
        f"SELECT k FROM ({numbered}{_and(present)}) WHERE n IN ({', '.join(map(str, at))}) "
        "ORDER BY n",
        values,
    )
    return sql_splits.bounds_of([bound for (bound,) in picked])
