"""The table that a database Store writes, and the options for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Literal, TypedDict

import pyarrow as pa
from pydantic import Field

from hygge.batches import key_of, plain_schema, with_key
from hygge.connectors.sql.ask import OnValue
from hygge.model import Contract
from hygge.refused_rows import RefusedRows
from hygge.settings import Settings


class SQLStoreOptions(Settings):
    """How a database is written."""

    batch_size: int = Field(default=5_000, gt=0)
    """Rows handed to the driver at once, where there is no faster way (PostgreSQL has COPY)."""
    zones: Literal["error", "utc"] = "error"
    """A column in another time zone than UTC, in a database that does not keep the zone: an error,
    or the same moments in UTC from then on. SQLite keeps the zone."""
    on_value: OnValue | dict[str, OnValue] = "error"
    """A value that the table cannot hold exactly (NUL in a text, a decimal beyond its precision):
    an error, NULL instead of it, or the column as text. For all columns, or by column."""
    create_types: bool | None = None
    """Whether types that somebody made at the source (enum, domain, composite), and that this
    database lacks, are made with the table: PostgreSQL to PostgreSQL. Otherwise they are an error
    before rows move."""
    contract: Contract | None = Field(default=None, alias="schema")
    """What becomes of the table where the rows have other columns than before: `freeze` is an
    error, `evolve` alters the table. Default: `append` and `merge` freeze, `replace` makes a table
    of hygge's anew."""
    adopt: bool = False
    """Whether `replace` also takes a table that hygge did not make. The table stays, with grants,
    indexes and views: its rows are deleted and the new ones inserted in one transaction."""


class SQLStoreOptionsDict(TypedDict, total=False):
    """`SQLStoreOptions` as a dict."""

    batch_size: int
    zones: Literal["error", "utc"]
    on_value: OnValue | Mapping[str, OnValue]
    create_types: bool | None
    schema: Contract | None
    adopt: bool


@dataclass(frozen=True)
class Goal:
    """One table of one database, with the settings of SQLStore."""

    url: str = dataclass_field(repr=False)
    who: str
    """The name in errors."""
    table: str
    options: SQLStoreOptions
    flow: str | None = None
    """The flow, for the names of its sessions."""
    sets_aside: bool = False
    """True if rows that the table refuses may be set aside in the commit."""
    refused: RefusedRows | None = dataclass_field(default=None, compare=False, repr=False)
    """In a commit: what takes such rows; None: they are errors."""
    batches_stay: bool = False
    """In `stage`: see `Store.batches_stay`."""

    @property
    def evolves(self) -> bool:
        """True if the table follows the columns of the rows: `schema: evolve`."""
        return self.options.contract == "evolve"

    def keeps_table(self, mode: str) -> bool:
        """True if rows go into the table that is there, whose columns are those to keep to.

        Only a `replace` without `schema` and `adopt` may make a table anew.
        """
        return mode != "replace" or self.options.adopt or self.options.contract is not None

    def on_value(self, column: str) -> OnValue:
        """The way to treat values of this column that the database cannot hold."""
        ways = self.options.on_value
        return ways if isinstance(ways, str) else ways.get(column, "error")


def stored(goal: Goal, schema: pa.Schema) -> pa.Schema:
    """The columns as they are written: plain types, and text or NULL where the user asked for it.

    A column in which a value may become NULL is not NOT NULL.
    """
    fields = []
    for field in plain_schema(schema):
        on_value = goal.on_value(field.name)
        if on_value == "as_text":
            field = field.with_type(pa.string()).remove_metadata()  # nor is it JSON
        elif on_value == "set_null" and not _is_always_held(field.type):
            field = field.with_nullable(True)
        fields.append(field)
    written = with_key(pa.schema(fields), key_of(schema))
    assert written is not None
    return written


def _is_always_held(kind: pa.DataType) -> bool:
    """True for a type all of whose values every database holds."""
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))
