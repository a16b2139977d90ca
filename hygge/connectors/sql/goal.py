"""The table that a database Store writes, and the options for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
from pydantic import Field

from hygge.batches import key_of, plain_schema, with_key
from hygge.connectors.sql.ask import OnValue
from hygge.settings import Settings


class SQLStoreOptions(Settings):
    """How a database is written."""

    batch_size: int = Field(5_000, gt=0)
    """Rows handed to the driver at once, where there is no faster way (PostgreSQL has COPY)."""
    zones: Literal["error", "utc"] = "error"
    """Where the database keeps moments without the name of their zone: a column in another zone
    than UTC is an error, or keeps its moments and is in UTC from then on. SQLite keeps the name."""
    on_value: OnValue | dict[str, OnValue] = "error"
    """A value that the table cannot hold exactly (NUL in a text, a decimal beyond its precision):
    an error, NULL instead, or the column is written as text. For all columns, or by column."""


@dataclass(frozen=True)
class Goal:
    """One table of one database, as SQLStore was told."""

    url: str = field(repr=False)
    who: str
    """What to call it in errors."""
    table: str
    options: SQLStoreOptions
    flow: str | None = None
    """Whose sessions these are, for their names."""

    def on_value(self, column: str) -> OnValue:
        """What becomes of values of this column that the database cannot hold."""
        given = self.options.on_value
        return given if isinstance(given, str) else given.get(column, "error")


def stored(goal: Goal, schema: pa.Schema) -> pa.Schema:
    """The columns as they are written: plain ones, and text where the user asked for it."""
    fields = [
        each.with_type(pa.string()) if goal.on_value(each.name) == "as_text" else each
        for each in plain_schema(schema)
    ]
    told = with_key(pa.schema(fields), key_of(schema))
    assert told is not None
    return told
