"""The columns of a SQLite table that rows are to settle in, and whether they fit exactly."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hygge.batches import plain_schema, widens
from hygge.connectors.sqlite import catalog, session
from hygge.connectors.sqlite.types import affinity_of, arrow_for, declared_for
from hygge.errors import StoreError, UnfitValue, one_of

_ONE_WORD = re.compile(r"\w+(\(\s*[+-]?\d+\s*(,\s*[+-]?\d+\s*)?\))?")
_ANY = (pa.int64(), pa.float64(), pa.binary())


@dataclass(frozen=True)
class Slot:
    """Where one column of the rows goes: name and declared type in SQLite, Arrow type to write."""

    name: str
    declared: str
    type: Any
    notnull: bool = False

    def ddl(self) -> str:
        """The column's part of CREATE TABLE; a type of several words stands in quotes."""
        word = self.declared
        if word and not _ONE_WORD.fullmatch(word):
            word = session.quote(word)
        return f"{session.quote(self.name)} {word}{' NOT NULL' if self.notnull else ''}"


def fresh(schema: pa.Schema, who: str) -> list[Slot]:
    """The columns of a table that hygge makes for `schema`."""
    seen: dict[str, str] = {}
    for name in schema.names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise UnfitValue(
                f"{who}: columns '{other}' and '{name}' differ in case only, which SQLite's do not",
                "rename one of them before",
            )
    return [
        Slot(each.name, declared_for(each.type, each.name), each.type, not each.nullable)
        for each in plain_schema(schema)
    ]


def existing(kept: Sequence[catalog.Kept], schema: pa.Schema, who: str) -> list[Slot]:
    """Where the columns of `schema` go in a table that is there; StoreError where they do not."""
    by_name = {each.name.lower(): each for each in kept}
    slots = []
    for each in plain_schema(schema):
        found = by_name.pop(each.name.lower(), None)
        if found is None or found.generated:
            raise StoreError(
                f"{who} has no column '{each.name}', which the rows have",
                f"add it (ALTER TABLE … ADD COLUMN), leave it out with `columns`, or use `mode: "
                f"replace`; {one_of('its columns', each.name, [k.name for k in kept])}",
            )
        slots.append(Slot(found.name, found.declared, _fitting(found, each.type, who)))
    left = [each.name for each in by_name.values() if not each.fills_itself]
    if left:
        raise StoreError(
            f"{who} has column '{left[0]}', which the rows lack",
            "give it a DEFAULT, drop it, or use `mode: replace`",
        )
    return slots


def _fitting(found: catalog.Kept, kind: Any, who: str) -> Any:
    wanted = arrow_for(found.declared)
    affinity = affinity_of(found.declared)
    fits = False
    if wanted is None:
        # Nothing is declared: what SQLite keeps by itself may go in, unless affinity changes it.
        wanted = kind
        fits = kind in _ANY or (affinity == "BLOB" and kind == pa.string())
    elif widens(kind, wanted):
        fits = affinity in ("TEXT", "BLOB") or wanted != pa.string()
        if pa.types.is_decimal(wanted) and affinity != "TEXT":
            fits = wanted.precision <= 15  # kept as REAL: more digits would be lost
    if not fits:
        declared = f"'{found.declared}'" if found.declared else "declared without a type"
        natural = declared_for(kind, found.name)
        raise StoreError(
            f"{who}: column '{found.name}' is {declared}, which cannot keep {kind} exactly",
            f"make it {natural}, or use `mode: replace`",
        )
    return wanted


def create_table(connection: sqlite3.Connection, target: str, slots: Sequence[Slot]) -> None:
    ddl = ", ".join(slot.ddl() for slot in slots)
    connection.execute(f"CREATE TABLE main.{session.quote(target)} ({ddl})")


def key_index(target: str) -> str:
    return f"_hygge_key_{target}"


def identity(connection: sqlite3.Connection, target: str) -> str | None:
    """What names a table as it is: its CREATE without the last bracket, or None."""
    asked = "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
    sql = session.one(connection, asked, target)
    return None if sql is None else str(sql).removesuffix(")")
