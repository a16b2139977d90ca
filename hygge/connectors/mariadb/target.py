"""Tables of MariaDB that rows are written to: their columns, and what hangs on them.

    bool                        tinyint(1)
    int8 … int64, uint8 …       tinyint … bigint, unsigned
    float16, float32, float64   float, double; NaN, the infinities and -0.0 are misfits
    decimal(p, s)               decimal, up to 65 digits, 38 of them behind the point
    string                      longtext, utf8mb4_nopad_bin; in a key varchar(255)
    binary                      longblob; in a key varbinary(255)
    date, timestamp             date, datetime(6), of the years 1 … 9999
    timestamp in UTC            datetime(6) with the comment 'UTC', by which hygge reads it so
    time                        time(6)

`utf8mb4_nopad_bin`: texts that differ in case, accents or blanks at the end stay different keys.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pyarrow as pa

from hygge.batches import key_of, widens
from hygge.connectors.mariadb.catalog import Known, table_of
from hygge.connectors.mariadb.session import literal, one, quoted, rows
from hygge.connectors.mariadb.types import TEXT, arrow_of
from hygge.connectors.sql.ask import Ask, SQLHomeOptions
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.goal import Goal
from hygge.errors import StoreError, one_of
from hygge.model import Run

OPTIONS = f"ENGINE = InnoDB {TEXT.replace('CHARACTER SET', 'DEFAULT CHARACTER SET')}"
_KEYABLE = ("int", "decimal", "date", "time", "bool", "uint")


class There(NamedTuple):
    """A table as it is."""

    columns: list[Known]
    key: tuple[str, ...]
    engine: str
    hangs: str
    """What would be lost with the table, in words; empty where nothing hangs on it."""
    fills: frozenset[str]
    """Columns that the database fills in where a row does not say them."""


def found(connection: Any, goal: Goal, hanging: bool = False) -> There | None:
    """The target, or None where there is none. StoreError for what is no table.

    `hanging`: look also for what hangs on it, which takes the longer the more tables there are.
    """
    schema, name = split_name(goal.table)
    place = "DATABASE()" if schema is None else literal(schema)
    same = f"table_schema = {place} AND table_name = {literal(name)}"
    known = rows(
        connection,
        f"SELECT table_name, table_type, engine FROM information_schema.tables WHERE {same}",
    )
    known = [row for row in known if row[0] == name] or known
    if not known:
        return None
    _, kind, engine = known[0]
    if kind != "BASE TABLE":
        raise StoreError(f"{goal.who} is a {kind.lower()}", "write to a table")
    ask = Ask(
        goal.url, goal.who, goal.table, None, None, None, None, None,
        SQLHomeOptions(types={}), goal.flow,
    )  # fmt: skip
    columns, key = table_of(connection, ask)
    filled = rows(
        connection,
        f"SELECT column_name FROM information_schema.columns WHERE {same} AND (column_default IS "
        "NOT NULL OR is_nullable = 'YES' OR extra LIKE '%auto_increment%' "
        "OR extra LIKE '%GENERATED%')",
    )
    return There(
        columns, key, str(engine), _hanging(connection, place, name) if hanging else "",
        frozenset(each for (each,) in filled),
    )  # fmt: skip


def _hanging(connection: Any, place: str, name: str) -> str:
    """Triggers and foreign keys, to and from the table: they would go with it."""
    table = literal(name)
    for what, asked in (
        ("a trigger", "SELECT COUNT(*) FROM information_schema.triggers "
         f"WHERE event_object_schema = {place} AND event_object_table = {table}"),
        ("a foreign key", "SELECT COUNT(*) FROM information_schema.referential_constraints "
         f"WHERE (constraint_schema = {place} AND table_name = {table}) "
         f"OR (unique_constraint_schema = {place} AND referenced_table_name = {table})"),
    ):  # fmt: skip
        if one(connection, asked)[0]:
            return what
    return ""


def written_key(schema: pa.Schema, run_mode: str, merge_key: tuple[str, ...]) -> tuple[str, ...]:
    """The primary key of a table made anew: the merge's, or the source's where it can be one."""
    if run_mode == "merge":
        return merge_key
    key = key_of(schema)
    kinds = [str(schema.field(name).type) for name in key if name in schema.names]
    if len(kinds) != len(key) or not all(kind.startswith(_KEYABLE) for kind in kinds):
        return ()
    return key


def check_fit(goal: Goal, there: There, schema: pa.Schema) -> None:
    """StoreError where the rows' columns do not go into the table as it is."""
    kept = {each.name: each for each in there.columns}
    names = list(kept)
    for each in schema:
        known = kept.pop(each.name, None)
        if known is None:
            raise StoreError(
                f"{goal.who} has no column '{each.name}', which the rows have",
                "add it (ALTER TABLE … ADD COLUMN), leave it out with `columns`, or use `mode: "
                f"replace`; {one_of('its columns', each.name, names)}",
            )
        if not holds(goal, known, each.type):
            raise StoreError(
                f"{goal.who}: column '{each.name}' is {known.native}, which cannot keep "
                f"{each.type} exactly",
                "change the column's type, or use `mode: replace`",
            )
    for name in kept:
        if name not in there.fills:
            raise StoreError(
                f"{goal.who} has column '{name}', which the rows lack",
                "give it a DEFAULT, drop it, or use `mode: replace`",
            )


def holds(goal: Goal, known: Known, kind: Any) -> bool:
    """Whether a column keeps every value of an Arrow type."""
    t: Any = pa.types
    has: Any = arrow_of(_asking(goal), known)
    if kind == pa.float16():
        kind = pa.float32()
    if t.is_date(kind):
        kind = pa.date32()
    if t.is_timestamp(kind) and t.is_timestamp(has):
        zoned = kind.tz is None or kind.tz == "UTC" or goal.options.zones == "utc"
        digits = int((re.search(r"\((\d)\)", known.native) or ["0", "0"])[1])
        fine = {"s": 0, "ms": 3, "us": 6}.get(kind.unit, 9) <= digits
        return bool(zoned and fine and bool(kind.tz) == bool(has.tz) and known.kind != "timestamp")
    if t.is_time(kind) and t.is_time(has):
        digits = int((re.search(r"\((\d)\)", known.native) or ["0", "0"])[1])
        return {"s": 0, "ms": 3, "us": 6}.get(kind.unit, 9) <= digits
    if t.is_string(has) and known.charset not in ("utf8mb4", None):
        return False
    return widens(kind, has)


def _asking(goal: Goal) -> Ask:
    return Ask(
        goal.url, goal.who, goal.table, None, None, None, None, None, SQLHomeOptions(), goal.flow
    )


def same_columns(goal: Goal, there: There, schema: pa.Schema, key: tuple[str, ...]) -> bool:
    """Whether a table made for `schema` would have the columns that this one has."""
    if [each.name for each in there.columns] != schema.names:
        return False
    return all(
        holds(goal, known, each.type) and (known.nullable == each.nullable or each.name in key)
        for known, each in zip(there.columns, schema, strict=True)
    )


def indexes(connection: Any, table: str) -> dict[str, str]:
    """The secondary indexes of a table: how CREATE TABLE writes them, by name."""
    created = str(one(connection, f"SHOW CREATE TABLE {table}")[1])
    lines = [line.strip().rstrip(",") for line in created.splitlines()]
    keys = [line for line in lines if re.match(r"(UNIQUE |FULLTEXT |SPATIAL )?KEY `", line)]
    names = [re.match(r".*?KEY `((?:[^`]|``)*)`", line) for line in keys]
    return {
        name[1].replace("``", "`"): line
        for name, line in zip(names, keys, strict=True)
        if name is not None
    }


def check_engine(goal: Goal, there: There, run: Run) -> None:
    """Rows and head can only move together in InnoDB."""
    if there.engine != "InnoDB" and run.mode != "replace":
        raise StoreError(
            f"{goal.who} is kept by {there.engine}, which has no transactions",
            f"ALTER TABLE … ENGINE = InnoDB, or use `mode: replace`; `{run.mode}` needs rows and "
            "head to move together",
        )


def quoted_table(goal: Goal, name: str) -> str:
    """A table beside the target, in quotes."""
    return quoted(split_name(goal.table)[0], name)


def quoted_target(goal: Goal) -> str:
    """The target, in quotes."""
    return quoted(*split_name(goal.table))


def is_there(connection: Any, goal: Goal, name: str) -> bool:
    """Whether there is such a table beside the target."""
    schema, _ = split_name(goal.table)
    place = "DATABASE()" if schema is None else literal(schema)
    asked = rows(
        connection,
        "SELECT table_name FROM information_schema.tables "
        f"WHERE table_schema = {place} AND table_name = {literal(name)}",
    )
    return bool(asked)


def is_like(goal: Goal, old: There, schema: pa.Schema) -> bool:
    """Whether a table for `schema` is made like the old one, whose place it then takes."""
    if old.hangs or old.engine != "InnoDB":
        return False
    return same_columns(goal, old, schema, key_of(schema))


def identity(there: There | None) -> str | None:
    """What names a table as it is; the same for as long as nobody makes it anew. None: no table."""
    if there is None:
        return None
    return "".join(f"{each.name} {each.native}\n" for each in there.columns)
