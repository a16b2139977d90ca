"""The rows of a PostgreSQL as it sends them, and their types: what a Home offers, and reads then.

All columns are offered with their own types. The Store answers with the way of each one, see
`choosing`: as it is, or as its text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import raw_format, raw_schema
from hygge.connectors.postgres import made_types
from hygge.connectors.postgres.catalog import Column
from hygge.connectors.postgres.made_types import MadeType
from hygge.connectors.postgres.session import quoted
from hygge.connectors.postgres.types import (
    Passthrough,
    PassthroughColumn,
    Selection,
    arrow_of,
    passthrough_of,
)
from hygge.connectors.sql.ask import Ask
from hygge.shape.bound import Bound

if TYPE_CHECKING:
    import psycopg

FORMATS = {"pgcopy-binary": "binary", "pgcopy-text": "text"}
"""The formats of a passthrough, and of COPY."""


def offer(
    connection: psycopg.Connection,
    ask: Ask,
    columns: Sequence[Column],
    selections: Sequence[Selection],
    key: Sequence[str],
) -> pa.Schema:
    """Return the rows as COPY sends them, with all that a Store must know of their types."""
    needed = made_types.describe(connection, [column.type_oid for column in columns])
    described_types: dict[str, MadeType] = {}
    offered: list[PassthroughColumn] = []
    for column, selection in zip(columns, selections, strict=True):
        made = needed.get(column.type_oid, [])
        described_types.update({each["name"]: each for each in made})
        way: PassthroughColumn = {
            "name": column.name, "type": column.native, "builtin": column.builtin,
            "nullable": selection.nullable, "collation": column.collation,
            "base": column.base, "made": [each["name"] for each in made],
        }  # fmt: skip
        is_text = selection.type in (pa.string(), pa.large_string())
        if is_text and (column.name in ask.stated or arrow_of(column) != pa.string()):
            way = as_text(way)
        elif selection.type != arrow_of(column):
            way["by_value"] = True
        offered.append(way)
    about: Passthrough = {
        "columns": offered,
        "key": list(key),
        "server": connection.info.server_version,
        "types": list(described_types.values()),
    }
    return raw_schema("pgcopy", json.dumps(about))


def as_text(column: PassthroughColumn) -> PassthroughColumn:
    """Return a column as it is where it comes as text."""
    text: PassthroughColumn = {
        "name": column["name"], "type": "text", "builtin": True,
        "nullable": column.get("nullable", True), "collation": None, "base": "", "made": [],
        "as_text": True,
    }  # fmt: skip
    if "source" in column:
        text["source"] = column["source"]
    return text


def reshaped(raw: pa.Schema, bound: Bound) -> pa.Schema:
    """Return an offer with the columns that a flow's shape makes of those of the source.

    A column that the source does not have as it comes out is one of Arrow, and the rows come as
    Arrow tables then, as they do for a function of the user's; the types of the other columns stay
    those of the source.
    """
    about = passthrough_of(raw)
    before = {column["name"]: column for column in about["columns"]}
    columns: list[PassthroughColumn] = []
    origins = bound.kept if bound.calls else bound.origins
    for field in bound.schema:
        source = origins.get(field.name)
        if source is None:
            made: PassthroughColumn = {
                "name": field.name, "type": "", "builtin": True, "nullable": field.nullable,
                "by_value": True,
            }  # fmt: skip
            columns.append(made)
            continue
        column: PassthroughColumn = {**before[source], "name": field.name}
        if field.name != source:
            column["source"] = source
        if bound.calls:
            column["nullable"] = field.nullable
        columns.append(column)
    if bound.calls:
        about["by_value"] = True
    targets = {source: target for target, source in bound.origins.items()}
    key = about.get("key") or []
    is_whole = all(name in targets for name in key)
    about["columns"], about["key"] = columns, [targets[name] for name in key] if is_whole else []
    return raw_schema("pgcopy", json.dumps(about))


def wanted(sql: str, raw: pa.Schema, names: Sequence[str]) -> str:
    """Return the SELECT of a split, in the form that the Store chose for each column.

    `names` are the columns that `sql` gives. Rows that come as Arrow keep all of them.
    """
    columns = passthrough_of(raw).get("columns") or []
    texts = {column.get("source", column["name"]) for column in columns if column.get("as_text")}
    if raw_format(raw) is None or not columns:
        pairs = [(name, name) for name in names]
    else:
        pairs = [(column["name"], column.get("source", column["name"])) for column in columns]
    if not texts and pairs == [(name, name) for name in names]:
        return sql
    chosen = []
    for target, source in pairs:
        name = quoted(source)
        if source in texts:
            # concat writes every type as COPY does, and char(n) with its blanks; NULL stays NULL,
            # and a row of NULLs is no NULL.
            name = f"CASE WHEN {name} IS DISTINCT FROM NULL THEN concat({name}) END"
        chosen.append(f"{name} AS {quoted(target)}")
    return f"SELECT {', '.join(chosen)} FROM (\n{sql}\n) AS h"
