"""PostgreSQL as a Home: COPY … TO STDOUT, under one snapshot, in splits that the router chose.

`consistency: snapshot` (the default): the driver holds a snapshot for the run, every lane reads it.
`consistency: split`: each range of a key is as of when it is read, and what is staged when a driver
dies is kept for the next one. Either way the catalog says the types, and a source whose columns are
no longer those of the plan is SourceChanged.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa

from hygge.batches import raw_format, raw_schema, raw_table, slices
from hygge.connectors.postgres import catalog, types, values
from hygge.connectors.postgres import splits as pg_splits
from hygge.connectors.postgres.catalog import Field, Relation
from hygge.connectors.postgres.copy_out import CopyOut
from hygge.connectors.postgres.cursor import Cursor, watermark
from hygge.connectors.postgres.session import application, end_predecessors, quoted
from hygge.connectors.postgres.snapshot import begin, held, holding, reading, worded
from hygge.connectors.postgres.wire import copy_out, open_socket
from hygge.connectors.sql.ask import Ask, pack, unpack
from hygge.connectors.sql.prefetch import ahead
from hygge.errors import SourceChanged
from hygge.model import Column, Plan, Split, Watermark

__all__ = ["NEEDS", "held", "planned", "read"]

_ENDS = (b"\xff\xff", b"PGCOPY\n\xff\r\n\0" + b"\0" * 8 + b"\xff\xff")

NEEDS = ("numpy", "psycopg", "pyarrow.csv", "sqlalchemy.engine")
"""What its processes import."""


@contextmanager
def planned(ask: Ask, since: Watermark) -> Iterator[Plan]:
    """Plan a run; under `consistency: snapshot` its snapshot is held until the run ends."""
    if ask.snapshot is not None or ask.options.consistency == "split":
        with reading(ask.url, ask.who, application(ask.flow)) as connection:
            begin(connection, ask.who, ask.snapshot)
            plan = _Planner(connection, ask, since, ask.snapshot).plan()
        yield plan
        return
    with reading(ask.url, ask.who, application(ask.flow)) as connection:
        relation = catalog.find(connection, ask)
    planners: list[_Planner] = []

    def touch(connection: Any) -> None:
        planners.append(_Planner(connection, ask, since, None))

    locked = [] if relation is None or relation.kind in ("m", "f") else [relation.sql]
    with holding(ask.url, ask.who, ask.flow, locked, touch) as (connection, snapshot):
        planner = planners[-1]
        planner.snapshot = snapshot
        with worded(connection, ask.who):
            plan = planner.plan()
        yield plan


def read(ask: Ask, split: Split) -> Iterator[pa.Table]:
    """The rows of one split: batches of the plan's schema, or of the passthrough that was chosen.

    A retried split first ends the session of the attempt before it, which may still be reading.
    """
    where = split.where
    snapshot = where["snapshot"]
    # The name of a session under a snapshot is nobody else's: snapshots do not repeat.
    told = zlib.crc32(f"{ask.flow} {ask.who}".encode())
    mine = (snapshot, f"{told:x}", split.index) if snapshot else (split.index,)
    name = application(ask.flow, *mine)
    with reading(ask.url, ask.who, name) as connection:
        bare = open_socket(connection)
        if snapshot:
            end_predecessors(connection, name)
        begin(connection, ask.who, snapshot)
        if catalog.shape(connection, where["sql"]) != where["shape"]:
            raise SourceChanged(
                f"{ask.who}: its columns are no longer those of the plan",
                "it was altered while the run went on: run again",
            )
        form = raw_format(ask.raw)
        if form is None and connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            connection.execute("SET client_encoding = 'SQL_ASCII'")  # we name what is not UTF-8
        how = {"pgcopy-binary": "binary", "pgcopy-text": "text"}.get(form or "", "csv")
        copy = copy_out(
            connection, f"COPY (\n{where['sql']}\n) TO STDOUT (FORMAT {how})", how, bare
        )
        with closing(copy):
            yield from _columns(ask, where, copy) if form is None else _raw(ask, how, copy)


def _columns(ask: Ask, where: dict[str, Any], copy: CopyOut) -> Iterator[pa.Table]:
    options = ask.options
    cells = values.Cells(unpack(where["schema"]), where["hexed"], ask.who, ask.stated, copy.lead)
    total = 0
    for data, _, _ in ahead(copy.chunks(options.batch_size, options.batch_bytes), copy.give_up):
        table = cells.table(data)
        del data
        total += table.num_rows
        yield from slices(table, options.batch_size, 2 * options.batch_bytes)
        del table
    copy.check(total, ask.who)


def _raw(ask: Ask, how: str, copy: CopyOut) -> Iterator[pa.Table]:
    assert ask.raw is not None  # asked only then
    total = 0
    chunks = copy.chunks(1 << 62, ask.options.batch_bytes // 4)
    for data, count, last in ahead(chunks, copy.give_up):
        if how == "binary" and last in _ENDS:  # what ends the stream is a message, and no row
            count -= 1
        total += count
        table = raw_table(ask.raw, data, count)
        del data
        yield table
        del table
    copy.check(total, ask.who)


class _Planner:
    """One run's plan, made in the transaction that holds its state.

    Making it plans the SELECT (EXPLAIN), which locks what is read and asks for every right.
    """

    def __init__(self, connection: Any, ask: Ask, since: Watermark, snapshot: str | None) -> None:
        self.connection, self.ask, self.since, self.snapshot = connection, ask, since, snapshot
        self.relation = catalog.find(connection, ask)
        everything = catalog.columns(connection, ask, self.relation)
        self.by_name = catalog.check_names(ask, everything)
        self.fields = [self.by_name[name] for name in ask.columns or self.by_name]
        self.chosen = [types.chosen(ask, each) for each in self.fields]
        self.selected = ", ".join(sql for sql, _, _ in self.chosen)
        self.source = _source(ask, self.relation)
        self.conditions = [f"(\n{ask.where}\n)"] if ask.where else []
        self.cursor = Cursor(ask, self.by_name[ask.cursor]) if ask.cursor else None
        self.expected = self._explained()

    def plan(self) -> Plan:
        ask, relation = self.ask, self.relation
        upper: Watermark = None
        notes: list[str] = []
        if self.cursor is not None:
            upper, notes = watermark(
                self.connection, self.cursor, self.source, self.conditions, self.since
            )
            self.conditions.append(self.cursor.between(self.since, upper))
            self.expected = self._explained()
        primary = catalog.primary_key(self.connection, relation)
        by_split = ask.options.consistency == "split" and self.snapshot is None
        keys = tuple(self.by_name[name] for name in ask.split_keys)
        if by_split and not keys:
            keys = pg_splits.orderly([self.by_name[name] for name in primary])
        rows, size = self._size()
        route = pg_splits.Route(
            ask, relation, self.source, tuple(self.conditions),
            keys, rows, size,
        )  # fmt: skip
        parts, why = pg_splits.parts(self.connection, route, by_split)
        splits = tuple(
            Split(at, "split" if by_split else "", self._where(part), part.label,
                  part.rows, part.bytes)
            for at, part in enumerate(parts)
        )  # fmt: skip
        if by_split:
            why += "; each row is as of its split's read"
        names = {each.name for each in self.fields}
        return Plan(
            tuple(self._column(*each) for each in zip(self.fields, self.chosen, strict=True)),
            splits,
            primary if set(primary) <= names else (),
            snapshot=None if by_split else f"snapshot {self.snapshot}, held until the run ends",
            watermark=upper,
            reason="; ".join([why, *self._remarks(), *notes]),
            dead_driver=self._dead_driver(by_split, rows, size),
            raw=self._offered(primary),
        )

    def _column(self, field: Field, chosen: tuple[str, pa.DataType, bool]) -> Column:
        _, kind, nullable = chosen
        return Column(field.name, kind, field.native, nullable, field.collation)

    def _where(self, part: pg_splits.Part) -> dict[str, Any]:
        schema = pa.schema(
            [
                pa.field(field.name, kind, nullable)
                for field, (_, kind, nullable) in zip(self.fields, self.chosen, strict=True)
            ]
        )
        hexed = [
            field.name
            for field, (_, kind, _) in zip(self.fields, self.chosen, strict=True)
            if types.is_hexed(field, kind)
        ]
        sql = "\nUNION ALL\n".join(self._select(*each) for each in part.sources)
        return {
            "snapshot": self.snapshot, "sql": sql, "shape": self.shape, "schema": pack(schema),
            "hexed": hexed,
        }  # fmt: skip

    def _select(self, source: str, condition: str | None = None) -> str:
        where = " AND ".join([*self.conditions, *([condition] if condition else [])])
        return f"SELECT {self.selected} FROM {source}" + (f" WHERE {where}" if where else "")

    def _explained(self) -> tuple[int, int]:
        """Rows and bytes that the database expects of all of it; locks it, asks for rights."""
        import psycopg

        select = self._select(self.source)
        try:
            self.shape = catalog.shape(self.connection, select)
        except psycopg.errors.InsufficientPrivilege:
            if self.relation is not None:
                self.connection.execute("ROLLBACK")
                catalog.check_rights(self.connection, self.ask, self.relation, self.fields)
            raise
        (told,) = self.connection.execute(f"EXPLAIN (FORMAT JSON) {select}").fetchone()
        top = told[0]["Plan"]
        return int(top["Plan Rows"]), int(top["Plan Rows"] * top["Plan Width"])

    def _size(self) -> tuple[int, int]:
        """Rows, as the planner expects them of the size that the table has now, and bytes."""
        relation = self.relation
        if relation is None or relation.kind in ("v", "f") or self.conditions:
            return self.expected
        every = [relation, *relation.parts]
        leaves = [each for each in every if each.kind in ("r", "m", "f")]
        blocks = sum(each.blocks for each in leaves)
        return self.expected[0] if blocks else 0, sum(each.bytes for each in leaves)

    def _remarks(self) -> list[str]:
        misfits = [each.name for each in self.fields if types.may_misfit(each)]
        told = [name for name in misfits if self.ask.on_value(name) == "error"]
        said = [
            f"'{name}' holds values that Arrow does not (says ANALYZE): decide with `on_value`"
            for name in catalog.with_misfits(self.connection, self.relation, told)
        ]
        for field, (_, kind, _) in zip(self.fields, self.chosen, strict=True):
            decided = self.ask.on_value(field.name)
            if decided != "error" and types.may_misfit(field):
                became = "is read as text" if kind == pa.string() else "has NULL where Arrow cannot"
                said.append(f"'{field.name}' {became}")
        return said

    def _dead_driver(self, by_split: bool, rows: int, size: int) -> str:
        if by_split:
            return "staged splits are kept" + (
                "" if self.cursor is None else ", unless rows came: the cursor's upper bound moves"
            )
        return (
            f"the run starts anew (about {rows:,} rows, {size:,} bytes): its snapshot ends with "
            "the driver"
        )

    def _offered(self, primary: tuple[str, ...]) -> pa.Schema | None:
        """The rows as the COPY of one PostgreSQL into another, where nothing turns them."""
        options = self.ask.options
        if options.types or options.on_value != "error":
            return None
        columns = [
            {"name": each.name, "type": each.native, "builtin": each.builtin,
             "nullable": each.nullable, "collation": each.collation}
            for each in self.fields
        ]  # fmt: skip
        names = {each.name for each in self.fields}
        about = {
            "columns": columns,
            "key": list(primary) if set(primary) <= names else [],
            "server": self.connection.info.server_version,
        }
        return raw_schema("pgcopy", json.dumps(about))


def _source(ask: Ask, relation: Relation | None) -> str:
    if relation is None:
        return f"(\n{catalog.body(ask.query or '')}\n) AS h"
    return f"{relation.sql} AS {quoted(relation.name)}"
