"""The way of each column from one PostgreSQL into another, as a Store chooses it.

A column keeps its own type wherever this database has it, or makes it (`create_types`); else it
becomes text, which is noted. Where the user stated a type that only Arrow makes of the values, the
rows come as Arrow tables; the other columns keep their types then, too. `misfit` compares types
with those of a target that is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from hygge.batches import RAW_ABOUT, raw_format, raw_schema, with_notes
from hygge.connectors.postgres import fit, made_types, session, target
from hygge.connectors.postgres.passing import as_text
from hygge.connectors.postgres.session import quoted
from hygge.connectors.postgres.target import Names
from hygge.connectors.postgres.types import (
    RAW_TEXT_ONLY,
    Passthrough,
    PassthroughColumn,
    described,
    key_in,
    passthrough_of,
)
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.ledger import target_of
from hygge.connectors.sql.own_columns import own_columns
from hygge.errors import StoreError, UnfitValue
from hygge.model import Run

if TYPE_CHECKING:
    import sqlalchemy as sa

_TEXTS = ("text", "character varying")
_IS_JSON_SINCE = 160000
_STRINGS = (*_TEXTS, "character", "bpchar", "name", '"char"')
_TARGET_COLUMNS = """
WITH RECURSIVE d(attnum, attname, written, oid, typtype, below, below_mod, typmod) AS (
  SELECT a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), t.oid, t.typtype, t.typbasetype,
    t.typtypmod, a.atttypmod
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
  WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT d.attnum, d.attname, d.written, t.oid, t.typtype, t.typbasetype, t.typtypmod,
    CASE WHEN d.below_mod <> -1 THEN d.below_mod ELSE d.typmod END
  FROM d JOIN pg_type t ON d.typtype = 'd' AND t.oid = d.below)
SELECT attname, written, format_type(oid, typmod) FROM d WHERE typtype <> 'd' ORDER BY attnum
"""


class TargetColumn(NamedTuple):
    """A column of the target: its type, the type behind it if it is a domain, and its length."""

    type: str
    base: str


def choose(
    connection: sa.Connection,
    goal: Goal,
    run: Run,
    raw: pa.Schema,
    schema: pa.Schema,
    present: Mapping[str, TargetColumn],
    is_kept: bool,
) -> pa.Schema | None:
    """Return the rows as this database takes them: a passthrough, or Arrow with their own types.

    `present` are the columns of a target that stays; `is_kept`: by a `replace`, so that a column
    must have the very type. None where the offer is of other columns than `schema`, and where the
    cursor of a merge would come as the text of another type, which has another order.
    """
    about = passthrough_of(raw)
    if [column["name"] for column in about["columns"]] != schema.names:
        return None
    chooser = _Chooser(connection, goal, about, present, is_kept)
    columns = [chooser.column(column) for column in about["columns"]]
    if any(c["name"] == run.cursor and c.get("as_text") for c in columns) and run.mode == "merge":
        return None
    chosen: Passthrough = {**about, "columns": columns}
    made = [column["name"] for column in columns if column.get("by_value")]
    if made or about.get("by_value"):
        arrow = pa.schema(list(schema), {RAW_ABOUT: json.dumps(chosen)})
        return with_notes(arrow, [*chooser.notes, _why_decoded(made, about)])
    is_binary = all(
        column["builtin"] and column["type"].removesuffix("[]") not in RAW_TEXT_ONLY
        for column in columns
    )
    form = "pgcopy-binary" if is_binary else "pgcopy-text"
    return with_notes(raw_schema(form, json.dumps(chosen)), chooser.notes)


def _why_decoded(made: Sequence[str], about: Passthrough) -> str:
    """Return why rows come as Arrow, and what that means for their types."""
    if about.get("by_value"):
        return (
            "nothing passes through undecoded, since a transform makes the rows; a column that it "
            "gives back by its name and type keeps the type of the source"
        )
    return (
        f"nothing passes through undecoded, since {', '.join(made)} "
        f"{'are' if made[1:] else 'is'} made on the way; all other columns keep their own types"
    )


class _Chooser:
    """Chooses the way of each column, and notes what becomes another type."""

    def __init__(
        self,
        connection: sa.Connection,
        goal: Goal,
        about: Passthrough,
        present: Mapping[str, TargetColumn],
        is_kept: bool,
    ) -> None:
        self.connection, self.goal, self.present = connection, goal, present
        self.is_kept = is_kept
        self.types = {made["name"]: made for made in about.get("types") or ()}
        self.notes: list[str] = []

    def column(self, column: PassthroughColumn) -> PassthroughColumn:
        name, own = column["name"], column["type"]
        if column.get("by_value"):
            return column
        if column.get("as_text"):
            self.notes.append(f"'{name}' becomes text, as its home was asked for")
            return column
        ways = self.goal.options.on_value
        if not isinstance(ways, str) and ways.get(name) == "as_text":
            return self._texted(column, "as `on_value` asks for")
        there = self.present.get(name)
        if there is not None and own != there.type:
            if there.base in _TEXTS and not fit.widens(own, there.base):
                return self._texted(column, f"since the target's column is {there.type}")
            if self.is_kept:
                return column
            is_text = fit.form_of(own).name in _TEXTS
            if is_text and fit.form_of(there.base).name not in _STRINGS:
                return as_text(column)  # the target's own type reads it
            base = column.get("base")
            if base and not self._is_here(own):
                return {**column, "type": base, "builtin": False, "base": "", "made": []}
        if not column.get("made") and self._is_here(own):
            return self._collated(column)
        return self._made(column)

    def _texted(self, column: PassthroughColumn, why: str) -> PassthroughColumn:
        if fit.form_of(column["type"]).name not in _TEXTS:
            self.notes.append(f"'{column['name']}' ({column['type']}) becomes text, {why}")
        return as_text(column)

    def _made(self, column: PassthroughColumn) -> PassthroughColumn:
        """Choose the way of a column whose type is not everywhere."""
        for made in made_types.closure(self.types, column.get("made") or ()):
            here = made_types.described_here(self.connection, made["name"])
            if here is not None:
                if why := made_types.difference(made, here):
                    return self._lacking(column, f"the type {made['name']} here {why}")
                continue
            if not made["creatable"]:
                of = f" of the extension {made['extension']}" if made["extension"] else ""
                return self._texted(column, f"since this database has no type {made['name']}{of}")
            if not self.goal.options.create_types:
                return self._lacking(column, f"this database has no type {made['name']}")
        is_creatable = bool(column.get("made")) and bool(self.goal.options.create_types)
        if not is_creatable and not self._is_here(column["type"]):
            return self._texted(column, f"since this database has no type {column['type']}")
        return self._collated(column)

    def _lacking(self, column: PassthroughColumn, why: str) -> PassthroughColumn:
        self.notes.append(f"'{column['name']}' ({column['type']}) is an error: {why}")
        return {**column, "lacking": why}

    def _collated(self, column: PassthroughColumn) -> PassthroughColumn:
        collation = column.get("collation")
        if not collation or self._has_collation(collation):
            return column
        self.notes.append(
            f"'{column['name']}' has no collation \"{collation}\", which this database lacks"
        )
        return {**column, "collation": None}

    def _is_here(self, name: str) -> bool:
        return made_types.is_here(self.connection, name)

    def _has_collation(self, name: str) -> bool:
        rows = session.fetch_all(
            self.connection,
            "SELECT 1 FROM pg_collation WHERE collname = %s AND pg_collation_is_visible(oid)",
            name,
        )
        return bool(rows)


def check_types(goal: Goal, schema: pa.Schema | None) -> None:
    """Raise StoreError where a column needs a type that this database has not, or has otherwise."""
    about = described(schema)
    for column in about["columns"] if about is not None else ():
        if why := column.get("lacking"):
            name = column["name"]
            raise StoreError(
                f"{goal.who}: column '{name}' is {column['type']}: {why}",
                "have it made: options: {create_types: true} on the store; or make it there "
                f"yourself; or read the column's text: options: {{types: {{{name}: string}}}} on "
                "the home",
            )


def create_types(connection: sa.Connection, goal: Goal, schema: pa.Schema | None) -> None:
    """Make the types that the rows need and this database lacks, if the user asked for it."""
    about = described(schema)
    if about is None or not goal.options.create_types:
        return
    needed = {name for column in about["columns"] for name in column.get("made") or ()}
    types = {made["name"]: made for made in about.get("types") or ()}
    statements = made_types.create_statements(connection, made_types.closure(types, needed))
    if not statements:
        return
    # Two flows may need one type, and one of them has made it meanwhile.
    session.execute(connection, "SELECT pg_advisory_xact_lock(hashtext('hygge types'))")
    for statement in made_types.create_statements(connection, made_types.closure(types, needed)):
        session.execute(connection, statement)


def target_columns(connection: sa.Connection, names: Names) -> dict[str, TargetColumn]:
    """Return the columns of the target by name; none where there is no such table."""
    rows = session.fetch_all(connection, _TARGET_COLUMNS, names.schema, names.name)
    return {name: TargetColumn(kind, base) for name, kind, base in rows}


def present_columns(
    connection: sa.Connection, goal: Goal, run: Run, names: Names, raw: pa.Schema
) -> tuple[dict[str, TargetColumn], bool]:
    """Return the columns of the target as far as it stays; True if they must be the very same."""
    if goal.keeps_table(run.mode):
        return target_columns(connection, names), False
    old = target.existing(connection, names, key_in(raw))
    if old is None or not old.hangs:
        return {}, False
    return target_columns(connection, names), True


def misfit(
    schema: pa.Schema, field: pa.Field, there: TargetColumn | None
) -> tuple[str, str] | tuple[()] | None:
    """Return the target's type and that of the rows where the first would change values.

    An empty tuple: it would not. None: the types do not tell, but those of Arrow do.
    """
    if there is None:
        return None
    about = described(schema)
    columns = {} if about is None else {column["name"]: column for column in about["columns"]}
    column = columns.get(field.name)
    if column is None or column.get("by_value"):
        if field.type not in (pa.string(), pa.large_string()):
            return None
        return () if fit.reads_texts(there.base) else (there.type, "text")
    own = column["type"]
    if column.get("as_text"):
        fits = fit.reads_texts(there.base)
    else:
        is_text = fit.form_of(own).name in _TEXTS
        fits = own == there.type or fit.widens(column.get("base") or own, there.base)
        fits = fits or (
            is_text and fit.form_of(there.base).name not in _STRINGS and fit.reads_texts(there.base)
        )
    return () if fits else (there.type, own)


def check_texts(connection: sa.Connection, goal: Goal, names: Names) -> None:
    """Raise UnfitValue for a text that the type of its column of the target would change.

    The server cuts blanks behind a length, drops keys that a JSON repeats, and reads some texts as
    other values, all in silence.
    """
    staged = dict(target.columns_of(connection, names.schema, names.rows_name))
    written = own_columns(connection, target_of(goal)).written(list(staged))
    version = session.driver_connection(connection).info.server_version
    for name, there in target_columns(connection, names).items():
        if staged.get(name) != "text" or name not in written:
            continue
        column = quoted(name)
        condition, why = _changes_text(column, there.base, version)
        if not condition:
            continue
        changed = session.fetch_all(
            connection, f"SELECT {column} FROM {names.rows} WHERE {condition} LIMIT 1"
        )
        if changed:
            raise UnfitValue(
                f"{goal.who}: column '{name}' is {there.type}, "
                + why.format(value=f"{changed[0][0]!r:.80}", length=f"{len(changed[0][0]):,}"),
                "change the column's type in the database, or leave such rows out with `where`",
            )


def _changes_text(column: str, kind: str, version: int) -> tuple[str, str]:
    """Return the condition of texts that the type `kind` changes, and what to say of one."""
    form, cast = fit.form_of(kind), fit.own_text_cast(kind)
    if form.name in ("character varying", "character") and form.modifiers and not form.is_array:
        why = "for which {value} is too long: {length} characters"
        return f"length({column}) > {form.modifiers[0]}", why
    if cast is not None:
        return f"{column}::{cast}::text <> {column}", "which would read {value} as another value"
    if kind == "jsonb" and version >= _IS_JSON_SINCE:
        why = "which would keep the last one alone of the keys that {value} repeats"
        return f"{column} IS JSON AND {column} IS NOT JSON WITH UNIQUE KEYS", why
    return "", ""


def with_types_of(schema: pa.Schema, written: pa.Schema) -> pa.Schema:
    """Return the schema `written` with the types that a PostgreSQL says of `schema`."""
    if not is_typed_arrow(schema):
        return written
    about = (schema.metadata or {})[RAW_ABOUT]
    return written.with_metadata({**(written.metadata or {}), RAW_ABOUT: about})


def is_typed_arrow(schema: pa.Schema) -> bool:
    """True if rows come as Arrow, and their columns keep the types of their PostgreSQL."""
    return raw_format(schema) is None and described(schema) is not None
