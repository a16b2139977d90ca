"""PostgreSQL as a Home: COPY … TO STDOUT, under one snapshot, in the splits of `splits`.

`consistency: snapshot` (the default): the driver holds a snapshot for the run, and every lane reads
it. `consistency: split`: each range of a key is as of when it is read, and what was staged when a
driver died is kept for the next one. Either way the types are those of the catalog, and a source
whose columns are no longer those of the plan is SourceChanged.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.batches import raw_format, raw_table, slices
from hygge.connectors.postgres import boundary, catalog, idle, passing, session, types
from hygge.connectors.postgres import splits as pg_splits
from hygge.connectors.postgres.catalog import Relation
from hygge.connectors.postgres.copy_out import CopyOut
from hygge.connectors.postgres.cursor import Cursor, watermark
from hygge.connectors.postgres.passing import reshaped
from hygge.connectors.postgres.session import quoted
from hygge.connectors.postgres.snapshot import begin, held, holding, home_errors, reading
from hygge.connectors.postgres.values import CsvReader
from hygge.connectors.postgres.wire import copy_out, has_plain_socket
from hygge.connectors.sql.ask import Ask, pack, unpack
from hygge.connectors.sql.prefetch import prefetched
from hygge.connectors.sql.ties import MOST_ROWS, Ties
from hygge.errors import SourceChanged
from hygge.model import Column, Plan, Split, Watermark

if TYPE_CHECKING:
    import psycopg

__all__ = ["NEEDS", "held", "planned", "read", "reshaped"]

_BINARY_ENDS = (b"\xff\xff", b"PGCOPY\n\xff\r\n\0" + b"\0" * 8 + b"\xff\xff")
"""The last message of a binary COPY, which is no row: its trailer, or header and trailer."""

NEEDS = ("numpy", "psycopg", "pyarrow.compute", "pyarrow.csv", "sqlalchemy.engine")
"""Modules that its processes import."""


@contextmanager
def planned(ask: Ask, since: Watermark) -> Iterator[Plan]:
    """Plan a run; under `consistency: snapshot` its snapshot is held until the run ends."""
    with idle.keeping(ask.url), _planned(ask, since) as plan:
        yield plan


@contextmanager
def _planned(ask: Ask, since: Watermark) -> Iterator[Plan]:
    name = session.application_name(ask.flow)
    if ask.snapshot is not None or ask.options.consistency == "split":
        with reading(ask.url, ask.who, name) as connection:
            begin(connection, ask.who, ask.snapshot)
            plan = _Planner(connection, ask, since, ask.snapshot).plan()
        yield plan
        return
    with reading(ask.url, ask.who, name) as connection:
        relation = catalog.find(connection, ask)
    planners: list[_Planner] = []

    def lock_rest(connection: psycopg.Connection) -> None:
        planners.append(_Planner(connection, ask, since, None))

    locked = [] if relation is None or relation.kind in ("m", "f") else [relation.sql]
    with holding(ask.url, ask.who, ask.flow, locked, lock_rest) as (connection, snapshot):
        planner = planners[-1]
        planner.snapshot = snapshot
        with home_errors(connection, ask.who):
            plan = planner.plan()
        yield plan


def read(ask: Ask, split: Split) -> Iterator[pa.Table]:
    """Read one split: batches of the plan's schema, or of the passthrough that was chosen.

    A retried split first ends the session of the try before it, which may still be reading.
    """
    where = split.where
    snapshot = where["snapshot"]
    suffixes: tuple[object, ...] = (split.index,)
    if snapshot:
        # No other session has this name: names of snapshots do not repeat.
        source = zlib.crc32(f"{ask.flow} {ask.who}".encode())
        suffixes = (snapshot, f"{source:x}", split.index)
    name = session.application_name(ask.flow, *suffixes)
    with reading(ask.url, ask.who, name) as connection:
        plain = has_plain_socket(connection)
        if snapshot:
            session.end_predecessors(connection, name)
        begin(connection, ask.who, snapshot)
        if catalog.shape(connection, where["sql"]) != where["shape"]:
            raise SourceChanged(
                f"{ask.who}: its columns are no longer those of the plan",
                "it was altered while the run went on: run again",
            )
        raw = raw_format(ask.raw)
        if raw is None and connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            # The server checks no text then: CsvReader names what is not UTF-8.
            session.execute(connection, "SET client_encoding = 'SQL_ASCII'")
        form = passing.FORMATS.get(raw or "", "csv")
        sql, at_watermarks = where["sql"], None

        def texts(select: str) -> Iterator[pa.Table]:
            names = unpack(where["schema"]).names
            strings = pa.schema([pa.field(name, pa.large_string()) for name in names])
            statement = f"COPY (\n{select}\n) TO STDOUT (FORMAT csv)"
            with closing(copy_out(connection, statement, "csv", plain)) as copy:
                yield from _tables(ask, {"schema": pack(strings), "hexed": []}, copy)

        if "boundary" in where:
            at_watermarks = boundary.Boundary(ask, where)
            sql = "\nUNION ALL\n".join([sql, *at_watermarks.selects(texts)])
        if ask.raw is not None:
            sql = passing.wanted(sql, ask.raw, unpack(where["schema"]).names)
        statement = f"COPY (\n{sql}\n) TO STDOUT (FORMAT {form})"
        with closing(copy_out(connection, statement, form, plain)) as copy:
            if raw is None:
                yield from _tables(ask, where, copy)
            else:
                yield from _raw_tables(ask, form, copy)
        if at_watermarks is not None:
            yield at_watermarks.end()


def read_now(connection: psycopg.Connection, ask: Ask) -> pa.Table:
    """Return all rows that are asked for, as this connection sees them in its transaction."""
    planner = _Planner(connection, ask, None, None)
    where = planner.where_of(planner.select(planner.source))
    statement = f"COPY (\n{where['sql']}\n) TO STDOUT (FORMAT csv)"
    with closing(copy_out(connection, statement, "csv", plain=False)) as copy:
        tables = [*_tables(ask, where, copy)]
    return pa.concat_tables([unpack(where["schema"]).empty_table(), *tables])


def _tables(ask: Ask, where: dict[str, Any], copy: CopyOut) -> Iterator[pa.Table]:
    """Read a COPY in CSV as batches of the plan's schema."""
    options = ask.options
    reader = CsvReader(unpack(where["schema"]), where["hexed"], ask.who, ask.stated, copy.has_lead)
    total = 0
    for data, _, _ in prefetched(
        copy.chunks(options.batch_size, options.batch_bytes), copy.give_up
    ):
        table = reader.table(data)
        del data
        total += table.num_rows
        yield from slices(table, options.batch_size, 2 * options.batch_bytes)
        del table
    copy.check(total, ask.who)


def _raw_tables(ask: Ask, form: str, copy: CopyOut) -> Iterator[pa.Table]:
    """Wrap the messages of a COPY as batches of the passthrough, as they came."""
    assert ask.raw is not None  # called only then
    total = 0
    chunks = copy.chunks(1 << 62, ask.options.batch_bytes // 4)
    for data, count, last in prefetched(chunks, copy.give_up):
        if form == "binary" and last in _BINARY_ENDS:
            count -= 1
        total += count
        table = raw_table(ask.raw, data, count)
        del data
        yield table
        del table
    copy.check(total, ask.who)


class _Planner:
    """The plan of one run, made in the transaction that holds its state.

    `__init__` plans the SELECT (EXPLAIN), which locks what is read and checks every right.
    """

    def __init__(
        self, connection: psycopg.Connection, ask: Ask, since: Watermark, snapshot: str | None
    ) -> None:
        self.connection, self.ask, self.since, self.snapshot = connection, ask, since, snapshot
        self.relation = catalog.find(connection, ask)
        all_columns = catalog.columns(connection, ask, self.relation)
        self.by_name = catalog.check_names(ask, all_columns)
        self.columns = ask.chosen(self.by_name)
        self.selections = [types.selection(ask, column) for column in self.columns]
        self.selected = ", ".join(selection.sql for selection in self.selections)
        self.source = _source(ask, self.relation)
        self.conditions = [f"(\n{ask.where}\n)"] if ask.where else []
        self.cursor = Cursor(ask, self.by_name[ask.cursor]) if ask.cursor else None
        self.expected = self._explain()

    def plan(self) -> Plan:
        ask, relation = self.ask, self.relation
        upper: Watermark = None
        notes: list[str] = []
        filters, leaves_upper = list(self.conditions), False
        if self.cursor is not None:
            upper, notes = watermark(
                self.connection, self.cursor, self.source, self.conditions, self.since
            )
            leaves_upper = self._remembers(upper)
            self.conditions.append(self.cursor.between(self.since, upper, leaves_upper))
            self.expected = self._explain()
        primary_key = catalog.primary_key(self.connection, relation)
        by_split = ask.options.consistency == "split" and self.snapshot is None
        keys = tuple(self.by_name[name] for name in ask.split_keys)
        if by_split and not keys:
            keys = pg_splits.sortable_prefix([self.by_name[name] for name in primary_key])
        rows, size = self._size()
        source = pg_splits.Source(
            ask, relation, self.source, tuple(self.conditions), keys, rows, size
        )
        parts, why = pg_splits.parts(self.connection, source, by_split)
        splits = tuple(
            Split(at, "split" if by_split else "", self._where(part), part.label,
                  part.rows, part.bytes)
            for at, part in enumerate(parts)
        )  # fmt: skip
        if ask.remembers_ties:
            splits = (self._with_boundary(splits[0], filters, upper, leaves_upper), *splits[1:])
            notes += Ties(ask, self.since, unpack(splits[0].where["schema"])).notes
        if by_split:
            why += "; each row is as of its split's read"
        key = primary_key if set(primary_key) <= {column.name for column in self.columns} else ()
        return Plan(
            tuple(
                Column(c.name, selection.type, c.native, selection.nullable, c.collation)
                for c, selection in zip(self.columns, self.selections, strict=True)
            ),
            splits,
            key,
            snapshot=None if by_split else f"snapshot {self.snapshot}, held until the run ends",
            watermark=upper,
            reason="; ".join([why, *self._remarks(), *notes]),
            dead_driver=self._dead_driver(by_split, rows, size),
            raw=passing.offer(self.connection, ask, self.columns, self.selections, key),
        )

    def _where(self, part: pg_splits.Part) -> dict[str, Any]:
        sql = "\nUNION ALL\n".join(self.select(*source) for source in part.sources)
        return self.where_of(sql)

    def where_of(self, sql: str) -> dict[str, Any]:
        """Return what `read` needs of the rows of a SELECT; the run's journal keeps it."""
        selected = list(zip(self.columns, self.selections, strict=True))
        schema = pa.schema(
            [
                pa.field(column.name, selection.type, selection.nullable)
                for column, selection in selected
            ]
        )
        hex_columns = [
            column.name for column, selection in selected if types.is_hex(column, selection.type)
        ]
        return {
            "snapshot": self.snapshot, "sql": sql, "shape": self.shape, "schema": pack(schema),
            "hexed": hex_columns,
        }  # fmt: skip

    def _remembers(self, upper: Watermark) -> bool:
        """Return whether the rows at the next watermark are remembered: the boundary has them."""
        if not self.ask.remembers_ties or upper in (None, self.since) or self.cursor is None:
            return False
        where = " AND ".join([*self.conditions, self.cursor.at(upper, self.since)])
        rows = f"SELECT 1 FROM {self.source} WHERE {where} LIMIT {MOST_ROWS + 1}"
        (count,) = session.fetch_one(self.connection, f"SELECT count(*) FROM ({rows}) AS h")
        return int(count) <= MOST_ROWS

    def _with_boundary(
        self, split: Split, filters: Sequence[str], upper: Watermark, reads_upper: bool
    ) -> Split:
        """Return the split with the rows at the watermarks that all others leave out."""
        assert self.cursor is not None  # ties are those of a cursor
        at_since = None if self.since is None else self.cursor.at(self.since)
        at_upper = self.cursor.at(upper, self.since) if reads_upper else None
        names = [column.name for column in self.columns]
        found = boundary.statements(names, self.selected, self.source, filters, at_since, at_upper)
        more = {"since": self.since, "upper": upper, "boundary": found}
        return replace(split, where={**split.where, **more})

    def select(self, source: str, condition: str | None = None) -> str:
        """Return the SELECT for the rows of a source, of which a condition may leave some out."""
        conditions = [*self.conditions, *([condition] if condition else [])]
        select = f"SELECT {self.selected} FROM {source}"
        return f"{select} WHERE {' AND '.join(conditions)}" if conditions else select

    def _explain(self) -> tuple[int, int]:
        """Return the rows and bytes that the database expects of all of it.

        EXPLAIN locks what is read, and checks the rights. A missing right on a column is named.
        """
        import psycopg

        select = self.select(self.source)
        try:
            self.shape = catalog.shape(self.connection, select)
        except psycopg.errors.InsufficientPrivilege:
            if self.relation is not None:
                session.execute(self.connection, "ROLLBACK")
                catalog.check_rights(self.connection, self.ask, self.relation, self.columns)
            raise
        (explained,) = session.fetch_one(self.connection, f"EXPLAIN (FORMAT JSON) {select}")
        top = explained[0]["Plan"]
        return int(top["Plan Rows"]), int(top["Plan Rows"] * top["Plan Width"])

    def _size(self) -> tuple[int, int]:
        """Return rows, as the database expects them of the table's size now, and bytes."""
        relation = self.relation
        if relation is None or relation.kind in ("v", "f") or self.conditions:
            return self.expected
        tables = [relation, *relation.parts]
        leaves = [table for table in tables if table.kind in ("r", "m", "f")]
        blocks = sum(leaf.blocks for leaf in leaves)
        return self.expected[0] if blocks else 0, sum(leaf.bytes for leaf in leaves)

    def _remarks(self) -> list[str]:
        """Return what the plan says about values that Arrow does not hold."""
        may_misfit = [column.name for column in self.columns if types.may_misfit(column)]
        undecided = [name for name in may_misfit if self.ask.on_value(name) == "error"]
        misfits = catalog.columns_with_misfits(self.connection, self.relation, undecided)
        remarks = self._about_inheritance()
        remarks += [
            f"'{name}' holds values that Arrow does not (says ANALYZE): decide with `on_value`"
            for name in misfits
        ]
        for column, selection in zip(self.columns, self.selections, strict=True):
            if column.name in may_misfit and self.ask.on_value(column.name) != "error":
                is_text = selection.type == pa.string()
                became = "is read as text" if is_text else "has NULL where Arrow cannot"
                remarks.append(f"'{column.name}' {became}")
        return remarks

    def _about_inheritance(self) -> list[str]:
        """Return what the plan says about tables that inherit from this one."""
        relation = self.relation
        if relation is None or relation.kind not in ("r", "f"):
            return []
        if relation.inheritors:
            named = _some(relation.inheritors)
            return [f"its own rows ONLY: what inherits from it is not read with it ({named})"]
        if relation.parts:
            named = _some([table.sql for table in relation.parts])
            return [f"with the rows of the tables that inherit from it ({named})"]
        return []

    def _dead_driver(self, by_split: bool, rows: int, size: int) -> str:
        """Return what the plan says about a driver that dies."""
        if not by_split:
            return (
                f"the run starts anew (about {rows:,} rows, {size:,} bytes): its snapshot ends "
                "with the driver"
            )
        if self.cursor is None:
            return "staged splits are kept"
        return "staged splits are kept, unless rows came: the cursor's upper bound moves"


def _some(names: Sequence[str]) -> str:
    """Return names for people, the first three of them."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _source(ask: Ask, relation: Relation | None) -> str:
    """The table or the query, as it stands behind FROM."""
    if relation is None:
        return f"(\n{catalog.bare_query(ask.query or '')}\n) AS h"
    only = "ONLY " if relation.inheritors else ""
    return f"{only}{relation.sql} AS {quoted(relation.name)}"
