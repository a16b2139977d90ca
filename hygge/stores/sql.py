"""A table of any SQL database.

What a reader of the table sees: the old rows until the commit, then the new ones, in one
transaction; staged rows are never in sight. SQLite: a run is staged in a file beside the database,
which is neither locked nor changed until the commit. Other databases: staged in tables
`_hygge_<run>_…` of the target's schema. What is committed stands in `_hygge_heads` beside it. One
exception, PostgreSQL's own: a table made anew because its columns changed is empty to a transaction
of REPEATABLE READ or SERIALIZABLE that began before the commit and reads it only after.

`replace` makes the table anew, if hygge made it and nobody else did since; anything else found
there is an error, and stays. Other flows that append to that table start anew at their next run.
`append` and `merge` need the columns to fit, and say so before a row moves. `merge` updates the
rows of the same key and adds the others; NULL in the key is an error, and so are two staged rows of
one key, unless the home has a `cursor`: then the last by cursor counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hygge.errors import ConfigError, StoreError
from hygge.io.sql import connection_url, place, shown, sqlite_path
from hygge.io.sql_ask import NESTED
from hygge.io.sql_goal import Goal, SQLStoreOptions
from hygge.model import Commit, Head, Receipt, Run, StoreTraits, Ticket, Watermark
from hygge.settings import Settings
from hygge.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


class SQLStore(Store):
    """`SQLStore("users", connection="sqlite:///lake.db")`."""

    traits: ClassVar[StoreTraits] = StoreTraits(
        modes=("replace", "append", "merge"),
        visibility="atomic",
        sees="the old rows or the new ones: one transaction shows a run",
        lossy=NESTED,
    )

    class Settings(Settings):
        connection: str = Field(repr=False)
        """A SQLAlchemy URL, Engine or Connection. Default: the environment's HYGGE_DATABASE_URL."""
        table: str | None = None
        """`table` or `schema.table`; a part in double quotes may hold dots. Default: the name."""
        options: SQLStoreOptions = SQLStoreOptions()

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        settings["connection"] = connection_url(settings.get("connection"), type(self).__name__)
        super().__init__(name, **settings)
        table = self.settings.table or name
        if not table:
            raise ConfigError("SQLStore knows no table", 'SQLStore("users") writes the table users')
        self.table: str = table
        if self.table.lower().startswith(("_hygge_", "sqlite_")):
            raise ConfigError(f"SQLStore: the name '{self.table}' is reserved", "choose another")
        if sqlite_path(self.settings.connection):
            # One writer at a time is all that a SQLite file takes.
            self.traits = replace(type(self).traits, max_lanes=1)  # type: ignore[misc]  # of this one
        else:
            from hygge.io.sql_types import lossy

            kind = self.settings.connection.partition(":")[0].partition("+")[0]
            self.traits = replace(type(self).traits, lossy=(*NESTED, *lossy(kind)))  # type: ignore[misc]  # as above

    def describe(self) -> str:
        return f"{shown(self.settings.connection)}#{self.table}"

    def place(self) -> str | None:
        return place(self.settings.connection, self.table)

    def head(self, flow: str) -> Head | None:
        return self._kind().head(self._goal(), flow)  # type: ignore[no-any-return]  # a module

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        if schema is not None and not schema.names:
            raise StoreError(f"{self.describe()}: the rows have no columns")
        self._kind().prepare(self._goal(), run, schema)

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        return self._kind().stage(self._goal(), ticket, schema, batches)  # type: ignore[no-any-return]  # a module

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        return self._kind().resume(self._goal(), run, receipts)  # type: ignore[no-any-return]  # a module

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        return self._kind().commit(self._goal(), run, base, receipts, watermark)  # type: ignore[no-any-return]  # a module

    def discard(self, run: Run) -> None:
        self._kind().discard(self._goal(), run)

    def _kind(self) -> Any:
        """The code of this kind of database: the verbs, each with a Goal first."""
        if sqlite_path(self.settings.connection):
            from hygge.io import sqlite_store

            return sqlite_store
        from hygge.io import sql_store

        return sql_store

    def _goal(self) -> Goal:
        return Goal(self.settings.connection, self.describe(), self.table, self.settings.options)
