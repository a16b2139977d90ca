"""DuckDB as a Home: exact types, one state of the file for all lanes, splits by rowid.

Life of a plan: the driver opens the file to read it, and keeps it open until the run ends. So
nobody can write it meanwhile: all lanes, which open it each for itself, read one state, which their
splits name by the sizes and times of the file and of its log (`session.version`). Row groups have
the lowest and highest rowid of their rows, so that a split reads its own rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.connectors.duckdb import catalog, session
from hygge.connectors.duckdb.cursor import (
    Cursor,
    expression,
    filters_of,
    is_long,
    literal,
    where_clause,
)
from hygge.connectors.duckdb.database import table_names
from hygge.connectors.duckdb.session import fetch_value, path_of, quoted
from hygge.connectors.duckdb.values import is_infinite, is_moment
from hygge.connectors.sql import splits as sql_splits
from hygge.connectors.sql.ask import Ask, pack, unpack
from hygge.connectors.sql.ties import Ties
from hygge.errors import SourceChanged, UnfitValue, rows_text
from hygge.formats.exact_text import leaves
from hygge.model import Column, Plan, Split, Watermark
from hygge.type_words import word_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NEEDS: tuple[str, ...] = ("duckdb", "pyarrow.compute")
"""Modules that its processes import, beside this one."""

LOCKED = (
    "the file as it is; until the run ends it is locked: others can read it, nobody can write it"
)
_STEP = 2_048
"""Rows that DuckDB reads at once."""
_MEASURED_ROWS = 500


@contextmanager
def planned(ask: Ask, since: Watermark) -> Iterator[Plan]:
    """Plan a run; keep the file from being written until the plan is closed."""
    path = path_of(ask.url)
    with session.reading(path, ask.who) as connection:
        yield _plan(connection, ask, since, session.version(path))


def read(ask: Ask, split: Split) -> Iterator[pa.Table]:
    """Yield the rows of one split, in batches of the plan's schema.

    Raises SourceChanged if the file was written to after it was planned.
    """
    path, where = path_of(ask.url), split.where
    schema = unpack(where["schema"])
    with session.reading(path, ask.who) as connection:
        # Compared only now: from here on nobody can write.
        if session.version(path) != split.version:
            raise SourceChanged(
                f"{ask.who} was written to after the run was planned", "run it again"
            )
        source = _Source(connection, ask)
        rows = _Rows(connection, source, schema, int(where["row_bytes"]))
        conditions = filters_of(ask)
        cursor = None if ask.cursor is None else source.cursor()
        since, upper = where.get("since"), where.get("upper")
        if cursor is not None:
            conditions += cursor.window(since, upper, ask.reads_ties, where["leaves_upper"])
        if "key" in where:
            kind = where["key_type"]
            in_range = sql_splits.condition(where, where["key"], lambda end: literal(end, kind))
            conditions += [in_range] if in_range else []
        yield from rows.tables(conditions)
        if cursor is not None and ask.remembers_ties and "boundary" in where:
            ties = Ties(ask, since, schema)
            if ties.reads_since:
                yield from ties.at_since(rows.tables([*filters_of(ask), cursor.at(since)]))
            if where["leaves_upper"]:
                yield from ties.at_upper(rows.tables([*filters_of(ask), cursor.at(upper, since)]))
            elif upper != since:
                ties.forget_upper()
            yield ties.end(upper)


_DAY = {"us": 86_400_000_000, "ns": 86_400_000_000_000}


class _Source:
    """The table or query, and its columns."""

    def __init__(self, connection: DuckDBPyConnection, ask: Ask) -> None:
        self.ask, self.sql = ask, catalog.source_of(ask)
        self.available = catalog.columns_of(connection, ask)
        self.columns = catalog.chosen(ask, self.available)

    def type_of(self, name: str) -> str:
        return str(self.available[name][0])

    def cursor(self) -> Cursor:
        return Cursor(self.ask, self.sql, self.type_of(self.ask.cursor or ""))


@dataclass(frozen=True)
class _Rows:
    """The SELECTs of one split."""

    connection: DuckDBPyConnection
    source: _Source
    schema: pa.Schema
    row_bytes: int

    def tables(self, conditions: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows that meet all conditions."""
        ask = self.source.ask
        chosen = ", ".join(
            expression(column, catalog.may_misfit(column.native) and self._sets_null(column.name))
            for column in self.source.columns
        )
        clause = where_clause(conditions)
        relation = self.connection.sql(f"SELECT {chosen} FROM {self.source.sql} AS h{clause}")
        size, most = ask.options.batch_size, ask.options.batch_bytes
        step = max(1, min(_STEP, size, most // max(1, self.row_bytes)))
        held: list[pa.RecordBatch] = []
        rows = held_bytes = 0
        with relation.to_arrow_reader(step) as reader:
            for batch in reader:
                if held and (rows + batch.num_rows > size or held_bytes + batch.nbytes > most):
                    yield self._table(held)
                    rows = held_bytes = 0
                held.append(batch)
                rows += batch.num_rows
                held_bytes += batch.nbytes
                del batch
            if rows:
                yield self._table(held)

    def _sets_null(self, name: str) -> bool:
        return self.source.ask.on_value(name) == "set_null"

    def _table(self, batches: list[pa.RecordBatch]) -> pa.Table:
        """Return batches as one table, and forget them."""
        table = pa.Table.from_batches(batches)
        batches.clear()
        arrays = [self._array(table.column(at), field) for at, field in enumerate(self.schema)]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _array(self, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
        who = self.source.ask.who
        for chunk in column.chunks:
            for leaf in leaves(chunk, is_moment):
                _refuse_infinity(leaf, field.name, who)
            for leaf in leaves(chunk, pa.types.is_time):
                _refuse_midnight(leaf, field.name, who)
        if column.type == field.type:
            return column
        try:
            return column.cast(field.type)
        except pa.ArrowException as error:
            raise UnfitValue(
                f"{who}: column '{field.name}' holds what {word_of(field.type)} cannot: {error}",
                f"state another type: options: {{types: {{{field.name}: string}}}}, or mend the "
                "value",
            ).at(field.name) from error


def _refuse_infinity(array: pa.Array, name: str, who: str) -> None:
    """Raise UnfitValue for `infinity` and `-infinity`, which Arrow has as far moments."""
    if is_infinite(array):
        raise _misfit(who, name, "infinity", array.type)


def _refuse_midnight(array: pa.Array, name: str, who: str) -> None:
    """Raise UnfitValue for 24:00:00, the end of a day."""
    import pyarrow.compute as pc

    last = pc.max(array).cast(pa.int64()).as_py()
    if last is not None and last >= _DAY[array.type.unit]:
        raise _misfit(who, name, "24:00:00", array.type)


def _misfit(who: str, name: str, value: str, kind: pa.DataType) -> UnfitValue:
    return UnfitValue(
        f"{who}: column '{name}' holds {value}, which is no {word_of(kind)}",
        f"read it as text, or as NULL: options: {{on_value: {{{name}: as_text}}}} or set_null "
        "(within lists and structs: types: {…: string})",
    ).at(name)


def _plan(connection: DuckDBPyConnection, ask: Ask, since: Watermark, version: str) -> Plan:
    source = _Source(connection, ask)
    schema = pa.schema([pa.field(c.name, c.type, c.nullable) for c in source.columns])
    where: dict[str, Any] = {"schema": pack(schema)}
    upper: Watermark = None
    notes: list[str] = []
    conditions = filters_of(ask)
    leaves_upper = False
    if ask.cursor is not None:
        cursor = source.cursor()
        upper, notes = cursor.upper_bound(connection, since)
        leaves_upper = cursor.remembers(connection, since, upper)
        where |= {"since": since, "upper": upper, "leaves_upper": leaves_upper}
        conditions += cursor.window(since, upper, ask.reads_ties, leaves_upper)
    row_bytes = _row_bytes(connection, source, conditions)
    where["row_bytes"] = row_bytes
    bounds: list[Any] = []
    key, name = _split_key(connection, source)
    if not key:
        notes.insert(0, "one split: there is no key to split by")
    else:
        clause = where_clause(conditions)
        rows = fetch_value(connection, f"SELECT count(*) FROM {source.sql} AS h{clause}")
        count = sql_splits.how_many(ask.options.splits, rows, row_bytes)
        if count > 1:
            bounds = _bounds(connection, source, key, conditions, count)
        besides = ", and those of the highest value" if leaves_upper else ""
        if bounds:
            notes.insert(0, f"{len(bounds) + 1} splits by {name}, all of one state of the file")
        else:
            notes.insert(0, f"one split: {rows_text(rows)}{besides}")
    kind = source.type_of(ask.split_by) if ask.split_by else "BIGINT"
    ranges = {"key": key, "key_type": kind} if bounds else {}
    parts = tuple(
        Split(
            index,
            version,
            {**where, **ranges, **(part if bounds else {})},
            sql_splits.label(part, name),
        )
        for index, part in enumerate(sql_splits.ranges(bounds))
    )
    if ask.remembers_ties:
        notes += Ties(ask, since, schema).notes
        parts = (replace(parts[0], where={**parts[0].where, "boundary": True}), *parts[1:])
    primary: tuple[str, ...] = ()
    if ask.query is None:
        primary = catalog.primary_key(connection, *table_names(ask.table or ""))
    columns = tuple(Column(c.name, c.type, c.native, nullable=c.nullable) for c in source.columns)
    return Plan(
        columns,
        parts,
        key=primary,
        snapshot=LOCKED,
        watermark=upper,
        reason="; ".join(notes),
    )


def _split_key(connection: DuckDBPyConnection, source: _Source) -> tuple[str, str]:
    """Return the column to split by, as SQL and for people; ("", "") where there is none."""
    ask = source.ask
    if ask.options.splits == 1:
        return "", ""
    if ask.split_by is not None:
        return f"h.{quoted(ask.split_by)}", ask.split_by
    is_shadowed = any(name.lower() == "rowid" for name in source.available)
    if ask.query is not None or is_shadowed:
        return "", ""
    kind = catalog.kind_of(connection, *table_names(ask.table or ""))
    return ("h.rowid", "rowid") if kind == "table" else ("", "")


def _row_bytes(connection: DuckDBPyConnection, source: _Source, conditions: Sequence[str]) -> int:
    """Return about the bytes of a row, by the first rows."""
    lengths = [
        f"coalesce({'octet_length' if c.native == 'BLOB' else 'strlen'}("
        f"h.{quoted(c.name)}{'' if c.native == 'BLOB' else '::VARCHAR'}), 0)"
        for c in source.columns
        if is_long(c.type)
    ]
    long_bytes = 0
    if lengths:
        clause = where_clause(conditions)
        first = f"SELECT {' + '.join(lengths)} AS size FROM {source.sql} AS h{clause}"
        first += f" LIMIT {_MEASURED_ROWS}"
        long_bytes = int(fetch_value(connection, f"SELECT avg(size) FROM ({first})") or 0)
    return long_bytes + 8 * len(source.columns)


def _bounds(
    connection: DuckDBPyConnection,
    source: _Source,
    key: str,
    conditions: Sequence[str],
    count: int,
) -> list[Any]:
    """Return the inner bounds of `count` ranges: integers, or texts of other values."""
    clause = where_clause([*conditions, f"{key} IS NOT NULL"])
    found = connection.execute(
        f"SELECT min({key}), max({key}), count(*) FROM {source.sql} AS h{clause}"
    )
    ((low, high, present),) = found.fetchall()
    is_number = isinstance(low, int) and not isinstance(low, bool)
    if is_number and (key == "h.rowid" or sql_splits.dense(low, high, present)):
        return list(sql_splits.even(low, high, count))
    positions = sql_splits.places(present, count)
    if not positions:
        return []
    # The keys at equal steps of their order: each begins a range.
    numbered = f"SELECT {key} AS k, row_number() OVER (ORDER BY {key}) AS n FROM {source.sql} AS h"
    value = "k" if is_number else "CAST(k AS VARCHAR)"
    picked = connection.execute(
        f"SELECT {value} FROM ({numbered}{clause}) WHERE n IN ({', '.join(map(str, positions))}) "
        "ORDER BY n"
    )
    return sql_splits.bounds_of([bound for (bound,) in picked.fetchall()])
