"""MariaDB as a Home: the server writes each row as a line of CSV, so that rows pass as bytes.

A table is read by ranges of its primary key, or of `split_by`. By default all are of one moment,
which the driver holds (see `my_snapshot`), where more than one lane will read; for one lane, and
where the rights do not allow it, there is one split in one READ ONLY transaction. With `split_by`
without those rights, and with `consistency: split`, each row is as of its split's read. A table of
an engine without snapshots (MyISAM, Aria) is read like one that may not be locked.
MySQL itself is read through SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from hygge.connectors.mariadb import snapshot as my_snapshot
from hygge.connectors.mariadb import splits as my_ranges
from hygge.connectors.mariadb.catalog import (
    bare,
    check_names,
    engine_without_snapshots,
    query_of,
    table_of,
)
from hygge.connectors.mariadb.cursor import upper_bound, window
from hygge.connectors.mariadb.session import (
    execute,
    is_mariadb,
    one,
    quoted,
    session,
)
from hygge.connectors.mariadb.types import column_of
from hygge.connectors.mariadb.values import Reading, is_hex, line_of
from hygge.connectors.mariadb.values import table_of as rows_of
from hygge.connectors.mariadb.wire import TooLong, blocks, hang_up
from hygge.connectors.sql.ask import Ask, SQLHomeOptions, pack, unpack
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.prefetch import ahead
from hygge.errors import HomeError
from hygge.model import Plan, Split, Watermark

NEEDS = ("numpy", "pyarrow.compute", "pyarrow.csv", "sqlalchemy.dialects.mysql.pymysql")
"""What its processes import."""


@contextmanager
def planned(ask: Ask, since: Watermark) -> Iterator[Plan]:
    """Plan a run: schema, watermark, ranges. Nothing is held afterwards."""
    at = None if ask.snapshot is None else _known_at(ask.snapshot)
    with _reading(ask) as connection:
        engine = engine_without_snapshots(connection, ask)
        at = None if engine else at
        plan = _learn(connection, ask, since, at)
    by_itself = f"{engine} keeps no snapshots"
    apart = f"{plan.reason}; each row is as of its split's read"
    if at is not None:
        yield _as_of(plan, at)
        return
    if len(plan.splits) == 1:
        alone = f"{plan.reason}; not of the moment of the other tables: {by_itself}"
        yield plan if ask.snapshot is None else replace(plan, reason=alone)
        return
    if ask.options.consistency == "split":
        yield replace(plan, reason=apart)
        return
    try:
        if engine:
            raise my_snapshot.NoMoment(by_itself)
        tables = [] if ask.query is not None else [ask.table or ""]
        desk = my_snapshot.opened(ask, min(ask.lanes, len(plan.splits)), tables)
    except my_snapshot.NoMoment as why:
        if ask.split_by is None:
            with _reading(ask) as connection:
                plan = _learn(connection, replace(ask, lanes=1), since)
            plan = replace(plan, reason=f"{plan.reason} ({why})")
        else:
            plan = replace(plan, reason=f"{apart}, since {why}")
        yield plan
        return
    with closing(desk):
        yield _as_of(
            replace(plan, reason=f"{plan.reason}; all of one moment"),
            (*desk.at, desk.secret.hex()),
        )


@contextmanager
def held(
    url: str, who: str, flow: str, tables: Sequence[str], readers: Callable[[], int]
) -> Iterator[tuple[str | None, str]]:
    """One moment for all of these tables, for so many readers at once: what `Ask.snapshot` takes.

    None, and why, where the server has none to give. `tables` are named as SQLHome's `table`.
    Raises SourceMissing if one was dropped meanwhile.
    """
    if not is_mariadb(url, who, HomeError):
        yield None, ""
        return
    ask = Ask(url, who, None, None, None, None, None, None, SQLHomeOptions(), flow)
    try:
        desk = my_snapshot.opened(ask, readers(), tables)
    except my_snapshot.NoMoment as why:
        yield None, str(why)
        return
    with closing(desk):
        yield " ".join([desk.at[0], str(desk.at[1]), desk.secret.hex()]), ""


def _known_at(snapshot: str) -> tuple[str, int, str]:
    host, port, secret = snapshot.split(" ")
    return host, int(port), secret


def _as_of(plan: Plan, at: tuple[str, int, str]) -> Plan:
    """The plan with its splits read through the door of whoever holds their moment."""
    splits = tuple(replace(each, where={**each.where, "at": [*at]}) for each in plan.splits)
    return replace(plan, splits=splits)


def read(ask: Ask, split: Split) -> Iterator[pa.Table]:
    """The rows of one split, in batches of the plan's schema."""
    where = split.where
    schema = unpack(where["schema"])
    reading = Reading(
        ask.who, schema, frozenset(where["hex"]), tuple(where["wide"]),
        {name: ask.on_value(name) for name in schema.names},
    )  # fmt: skip
    most = (ask.options.batch_size, ask.options.batch_bytes)
    with _lent_or_own(ask, where) as connection:
        try:
            found = blocks(connection, where["my"], len(reading.wide), *most)
            for block in ahead(found, partial(hang_up, connection)):
                yield rows_of(block, reading)
        except TooLong:
            raise HomeError(
                f"{ask.who}: a row is longer than max_allowed_packet, so that the server cannot "
                "write it into one line",
                "raise max_allowed_packet on the server, or leave columns out with `columns`",
            ) from None


@contextmanager
def _reading(ask: Ask) -> Iterator[Any]:
    """A session in a READ ONLY transaction of one moment."""
    with session(ask.url, ask.who, HomeError, ask.flow) as connection:
        execute(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        execute(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        yield connection


def _lent_or_own(ask: Ask, where: dict[str, Any]) -> AbstractContextManager[Any]:
    if "at" not in where:
        return _reading(ask)
    host, port, secret = where["at"]
    return my_snapshot.lent(ask, (host, port), secret)


def _learn(
    connection: Any, ask: Ask, since: Watermark, at: tuple[str, int, str] | None = None
) -> Plan:
    primary: tuple[str, ...] = ()
    if ask.query is None:
        known, primary = table_of(connection, ask)
    else:
        known = query_of(connection, ask)
    check_names(ask, known)
    by_name = {each.name: each for each in known}
    chosen = known if ask.columns is None else [by_name[name] for name in ask.columns]
    columns = tuple(column_of(ask, each) for each in chosen)
    schema = pa.schema([pa.field(each.name, each.type, each.nullable) for each in columns])
    source = _source(ask)
    # What is read has to be as of the moment; where it is cut may be as of now.
    with nullcontext(connection) if at is None else my_snapshot.lent(ask, at[:2], at[2]) as mine:
        upper, notes = upper_bound(mine, ask, by_name, source, since)
    conditions = [f"({ask.where}\n)"] if ask.where else []
    if ask.cursor is not None and upper is not None:
        conditions.append(window(ask, by_name[ask.cursor], since, upper))
    ranges, reason = my_ranges.ranges(connection, ask, by_name, primary, source, conditions)
    (mode,) = one(connection, "SELECT @@sql_mode")
    lines, wide = line_of(chosen, schema, oracle="ORACLE" in mode)
    base = {
        "schema": pack(schema),
        "wide": wide,
        "hex": [each.name for each in chosen if is_hex(each, schema.field(each.name).type)],
    }
    split = len(ranges) > 1 and ask.options.consistency == "split"
    splits = []
    for index, (condition, label) in enumerate(ranges):
        each_of = [*conditions, *([condition] if condition else [])]
        sql = f"SELECT {lines} FROM {source}" + (f" WHERE {' AND '.join(each_of)}" * bool(each_of))
        splits.append(Split(index, "split" if split else "", {**base, "my": sql}, label))
    return Plan(
        columns,
        tuple(splits),
        primary,
        watermark=upper,
        reason="; ".join([reason, *notes]),
        dead_driver=_dead_driver(ask) if split else "the run starts anew: its moment is gone",
    )


def _dead_driver(ask: Ask) -> str:
    moves = "" if ask.cursor is None else ", unless rows came: the cursor's upper bound moves"
    return f"staged splits are kept{moves}"


def _source(ask: Ask) -> str:
    if ask.query is None:
        return quoted(*split_name(ask.table or ""))
    return f"({bare(ask.query)}\n) h"
