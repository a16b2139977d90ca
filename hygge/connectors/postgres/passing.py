"""The rows of a PostgreSQL as it sends them, and their types: what a Home offers, and reads then.

All columns are offered with their own types. The Store answers with the way of each one, see
`choosing`: as it is, or as its text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import raw_schema
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
    return {
        "name": column["name"], "type": "text", "builtin": True,
        "nullable": column.get("nullable", True), "collation": None, "base": "", "made": [],
        "as_text": True,
    }  # fmt: skip


def wanted(sql: str, raw: pa.Schema) -> str:
    """Return the SELECT of a split, in the form that the Store chose for each column."""
    columns = passthrough_of(raw).get("columns") or []
    if not any(column.get("as_text") for column in columns):
        return sql
    chosen = []
    for column in columns:
        name = quoted(column["name"])
        if column.get("as_text"):
            # concat writes every type as COPY does, and char(n) with its blanks; NULL stays NULL,
            # and a row of NULLs is no NULL.
            chosen.append(
                f"CASE WHEN {name} IS DISTINCT FROM NULL THEN concat({name}) END AS {name}"
            )
        else:
            chosen.append(name)
    return f"SELECT {', '.join(chosen)} FROM (\n{sql}\n) AS h"
