"""MariaDB as a Home: the server writes each row as a line of CSV, so that rows pass as bytes.

A table is read by ranges of its primary key, or of `split_by`:

- By default all ranges are of one snapshot, whose sessions the driver holds (see `snapshot`), if
  more than one lane will read.
- For one lane, and where the tables cannot be locked, there is one split in one READ ONLY
  transaction; with a cursor it is the driver's, which has read the upper bound in it. A table of an
  engine without snapshots (MyISAM, Aria) is read in the same way.
- With `consistency: split`, and with `split_by` where the tables cannot be locked, each row is as
  of its split's read.

MySQL itself is read through SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.connectors.mariadb import catalog, cursor, snapshot, splits
from hygge.connectors.mariadb.session import fetch_one, is_mariadb
from hygge.connectors.mariadb.snapshot import Address
from hygge.connectors.mariadb.types import planned_column
from hygge.connectors.mariadb.values import Reading, is_hexadecimal, select_list, table_of
from hygge.connectors.mariadb.wire import TooLong, blocks, hang_up
from hygge.connectors.sql.ask import Ask, SQLHomeOptions, pack, unpack
from hygge.connectors.sql.prefetch import prefetched
from hygge.connectors.sql.ties import Ties
from hygge.errors import HomeError
from hygge.model import Plan, Split, Watermark

if TYPE_CHECKING:
    from pymysql.connections import Connection

NEEDS = ("numpy", "pyarrow.csv", "sqlalchemy.dialects.mysql.pymysql")
"""Modules that its processes import, beside this one."""


@contextmanager
def planned(ask: Ask, since: Watermark) -> Iterator[Plan]:
    """Plan a run: schema, watermark, ranges; hold the snapshot of all lanes while it is open."""
    address = None if ask.snapshot is None else _address_of(ask.snapshot)
    with snapshot.own(ask) as connection:
        engine = catalog.engine_without_snapshots(connection, ask)
        if engine:
            address = None
        plan = _plan(connection, ask, since, address)
    no_snapshot = f"{engine} keeps no snapshots"
    each_apart = f"{plan.reason}; each row is as of its split's read"
    if address is not None:
        yield _read_at(plan, address)
        return
    if len(plan.splits) == 1:
        if ask.snapshot is not None:
            reason = f"{plan.reason}; not of the moment of the other tables: {no_snapshot}"
            plan = replace(plan, reason=reason)
        elif ask.cursor is not None and not engine and ask.options.consistency == "snapshot":
            with _planned_alone(ask, since) as plan:
                yield plan
            return
        yield plan
        return
    if ask.options.consistency == "split":
        yield replace(plan, reason=each_apart)
        return
    try:
        if engine:
            raise snapshot.NoSnapshot(no_snapshot)
        tables = [] if ask.query is not None else [ask.table or ""]
        lender = snapshot.begin_together(ask, min(ask.lanes, len(plan.splits)), tables)
    except snapshot.NoSnapshot as why:
        if ask.split_by is not None:
            yield replace(plan, reason=f"{each_apart}, since {why}")
            return
        alone = replace(ask, lanes=1)
        if ask.cursor is not None and not engine:
            with _planned_alone(alone, since) as plan:
                yield replace(plan, reason=f"{plan.reason} ({why})")
            return
        with snapshot.own(ask) as connection:
            plan = _plan(connection, alone, since)
        yield replace(plan, reason=f"{plan.reason} ({why})")
        return
    with closing(lender):
        if ask.cursor is not None:  # its upper bound is of the moment of the rows
            with snapshot.own(ask) as connection:
                plan = _plan(connection, ask, since, lender.address)
        plan = replace(plan, reason=f"{plan.reason}; all of one moment")
        yield _read_at(plan, lender.address)


@contextmanager
def _planned_alone(ask: Ask, since: Watermark) -> Iterator[Plan]:
    """Plan in the transaction that is lent to the lane: a cursor's upper bound is of its moment."""
    with closing(snapshot.begin_alone(ask)) as lender:
        with snapshot.own(ask) as connection:
            plan = _plan(connection, ask, since, lender.address)
        yield _read_at(plan, lender.address)


@contextmanager
def held(
    url: str, who: str, flow: str, tables: Sequence[str], readers: Callable[[], int]
) -> Iterator[tuple[str | None, str]]:
    """Hold one snapshot of all these tables, for so many readers at once.

    Gives what `Ask.snapshot` takes; or None, and why, where the server has no such snapshot.
    `tables` are named as SQLHome's `table`. Raises SourceMissing if one was dropped meanwhile.
    """
    if not is_mariadb(url, who, HomeError):
        yield None, ""
        return
    ask = Ask(url, who, None, None, None, None, None, None, SQLHomeOptions(), flow)
    try:
        lender = snapshot.begin_together(ask, readers(), tables)
    except snapshot.NoSnapshot as why:
        yield None, str(why)
        return
    with closing(lender):
        yield " ".join(map(str, lender.address)), ""


def _address_of(text: str) -> Address:
    host, port, secret = text.split(" ")
    return Address(host, int(port), secret)


def _read_at(plan: Plan, address: Address) -> Plan:
    """Return the plan with splits that are read through sessions lent at `address`."""
    parts = tuple(replace(split, where={**split.where, "at": [*address]}) for split in plan.splits)
    return replace(plan, splits=parts)


def read(ask: Ask, split: Split) -> Iterator[pa.Table]:
    """Yield the rows of one split, in batches of the plan's schema.

    Raises HomeError if a row is longer than the server can write into one line.
    """
    where = split.where
    schema = unpack(where["schema"])
    reading = Reading(
        ask.who, schema, frozenset(where["hex"]), tuple(where["wide"]),
        {name: ask.on_value(name) for name in schema.names},
    )  # fmt: skip
    yield from _tables(ask, where, reading, where["my"])
    if "boundary" not in where:
        return
    ties, at = Ties(ask, where["since"], schema), where["boundary"]
    if ties.reads_since:
        yield from ties.at_since(_tables(ask, where, reading, at["since"]))
    if "upper" in at:
        yield from ties.at_upper(_tables(ask, where, reading, at["upper"]))
    elif where["upper"] != ties.since:
        ties.forget_upper()
    yield ties.end(where["upper"])


def read_all(ask: Ask) -> pa.Table:
    """Return all rows that are asked for, as of now."""
    with snapshot.own(ask) as connection:
        plan = _plan(connection, ask, None)
    tables = [table for split in plan.splits for table in read(ask, split)]
    return pa.concat_tables([unpack(plan.splits[0].where["schema"]).empty_table(), *tables])


def _tables(ask: Ask, where: dict[str, Any], reading: Reading, sql: str) -> Iterator[pa.Table]:
    """Yield the rows of one SELECT, which is read in a session of its own or a borrowed one."""
    limits = (ask.options.batch_size, ask.options.batch_bytes)
    with _reading(ask, where) as connection:
        try:
            received = blocks(connection, sql, len(reading.large), *limits)
            for block in prefetched(received, partial(hang_up, connection)):
                yield table_of(block, reading)
        except TooLong:
            raise HomeError(
                f"{ask.who}: a row is longer than max_allowed_packet, so that the server cannot "
                "write it into one line",
                "raise max_allowed_packet on the server, or leave columns out with `columns`",
            ) from None


def _reading(ask: Ask, where: dict[str, Any]) -> AbstractContextManager[Connection]:
    """Open the session that a split is read in: one of the run's snapshot, or one of its own."""
    if "at" in where:
        return snapshot.lent(ask, Address(*where["at"]))
    return snapshot.own(ask)


def _plan(
    connection: Connection, ask: Ask, since: Watermark, address: Address | None = None
) -> Plan:
    primary: tuple[str, ...] = ()
    if ask.query is None:
        available, primary = catalog.table_columns(connection, ask)
    else:
        available = catalog.query_columns(connection, ask)
    catalog.check_names(ask, available)
    by_name = {column.name: column for column in available}
    chosen = ask.chosen(by_name)
    columns = tuple(planned_column(ask, column) for column in chosen)
    schema = pa.schema([pa.field(each.name, each.type, each.nullable) for each in columns])
    source = catalog.source_of(ask)
    # The watermark must be that of the snapshot. The bounds between ranges may be newer.
    with nullcontext(connection) if address is None else snapshot.lent(ask, address) as reading:
        upper, notes = cursor.upper_bound(reading, ask, by_name, source, since)
    cursor.check_values(connection, ask, by_name, source, since)
    conditions = [f"({ask.where}\n)"] if ask.where else []
    rows, leaves_upper = list(conditions), False
    if ask.cursor is not None and upper is not None:
        column = by_name[ask.cursor]
        leaves_upper = cursor.remembers(connection, ask, column, source, since, upper)
        conditions.append(cursor.window(ask, column, since, upper, leaves_upper))
    ranges, reason = splits.ranges(connection, ask, by_name, primary, source, conditions)
    (mode,) = fetch_one(connection, "SELECT @@sql_mode")
    selected, large = select_list(chosen, schema, is_oracle="ORACLE" in mode)
    where = {
        "schema": pack(schema),
        "wide": large,
        "hex": [c.name for c in chosen if is_hexadecimal(c, schema.field(c.name).type)],
    }
    is_apart = len(ranges) > 1 and ask.options.consistency == "split"
    parts = []
    for index, (condition, label) in enumerate(ranges):
        sql = f"SELECT {selected} FROM {source}"
        filters = [*conditions, *([condition] if condition else [])]
        if filters:
            sql += f" WHERE {' AND '.join(filters)}"
        parts.append(Split(index, "split" if is_apart else "", {**where, "my": sql}, label))
    if ask.remembers_ties and ask.cursor is not None:
        column = by_name[ask.cursor]
        select = f"SELECT {selected} FROM {source} WHERE "
        boundary = {}
        if since is not None:
            boundary["since"] = select + " AND ".join([*rows, cursor.at(ask, column, since)])
        if leaves_upper:
            boundary["upper"] = select + " AND ".join([*rows, cursor.at(ask, column, upper, since)])
        more = {"since": since, "upper": upper, "boundary": boundary}
        parts[0] = replace(parts[0], where={**parts[0].where, **more})
        notes += Ties(ask, since, schema).notes
    return Plan(
        columns,
        tuple(parts),
        primary,
        watermark=upper,
        reason="; ".join([reason, *notes]),
        found=catalog.history_of(connection, ask),
        dead_driver=_dead_driver(ask) if is_apart else "the run starts anew: its moment is gone",
    )


def _dead_driver(ask: Ask) -> str:
    if ask.cursor is None:
        return "staged splits are kept"
    return "staged splits are kept, unless rows came: the cursor's upper bound moves"
