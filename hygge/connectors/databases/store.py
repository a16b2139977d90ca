"""A table of any SQL database.

What a reader of the table sees: the old rows until the commit, then the new ones, in one
transaction; staged rows are never in sight. SQLite: a run is staged in a file beside the database,
which is neither locked nor changed until the commit. Other databases: staged in tables
`_hygge_<run>_…` of the target's schema. What is committed stands in `_hygge_heads` beside it.

`replace` makes the table anew, if hygge made it and nobody else did since; anything else found
there is an error, and stays. Other flows that append to that table start anew at their next run.
PostgreSQL: the staged table takes the place of the old one, with its owner, grants, comments and
settings. Where more hangs on the old one (views, indexes, keys, triggers, policies, publications
…), where a transaction is open that began before the last row was staged, or where somebody holds
the table, its rows are deleted and the new ones inserted instead, in the same transaction. Two
exceptions: a table that is new, or made anew because its columns changed, is empty to a transaction
of REPEATABLE READ or SERIALIZABLE that is older than the rows; and such a transaction on a standby
server cannot be seen from here, so it may find a part of the rows in a table that it opens later.

MariaDB: one RENAME puts the staged table and the head in the place of the old ones; grants stay,
and so do comments and indexes while the columns stay. Where triggers or foreign keys hang on the
old table, its rows are deleted and the new ones inserted, in one transaction. A transaction of
REPEATABLE READ that is older than the rows gets error 1412 from a table that was replaced. A table
is kept by InnoDB, or `append` and `merge` refuse it. MySQL itself goes the way of all other
databases.

`append` and `merge` need the columns to fit, and say so before a row moves. `merge` updates the
rows of the same key and adds the others; NULL in the key is an error, and so are two staged rows of
one key, unless the home has a `cursor`: then the last by cursor counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hygge.connectors.mariadb.session import is_my
from hygge.connectors.postgres.session import is_pg
from hygge.connectors.sql.ask import NESTED
from hygge.connectors.sql.connection import connection_url, place, shown, sqlite_path
from hygge.connectors.sql.goal import Goal, SQLStoreOptions
from hygge.errors import ConfigError, StoreError
from hygge.model import Commit, Head, Receipt, Run, StoreTraits, Ticket, Watermark
from hygge.settings import Settings
from hygge.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


_OURS = "_hygge_"
"""How the names of tables and columns begin that a run makes beside people's own."""


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
        if self.table.lower().startswith((_OURS, "sqlite_")):
            raise ConfigError(f"SQLStore: the name '{self.table}' is reserved", "choose another")
        if sqlite_path(self.settings.connection):
            # One writer at a time is all that a SQLite file takes.
            self.traits = replace(type(self).traits, max_lanes=1)  # type: ignore[misc]  # of this one
        else:
            from hygge.connectors.sql.types import lossy

            kind = self.settings.connection.partition(":")[0].partition("+")[0]
            self.traits = replace(type(self).traits, lossy=(*NESTED, *lossy(kind)))  # type: ignore[misc]  # as above

    def describe(self) -> str:
        return f"{shown(self.settings.connection)}#{self.table}"

    def place(self) -> str | None:
        return place(self.settings.connection, self.table)

    def sees(self) -> str:
        if not is_pg(self.settings.connection):
            return self.traits.sees
        return (
            f"{self.traits.sees}; a table that is new, or has new columns, is empty to a "
            "REPEATABLE READ transaction that is older than the rows"
        )

    def needs(self) -> tuple[str, ...]:
        kind = self._kind()
        return (*super().needs(), kind.__name__, *getattr(kind, "NEEDS", ()))

    def head(self, flow: str) -> Head | None:
        return self._kind().head(self._goal(), flow)  # type: ignore[no-any-return]  # a module

    def takes(self, run: Run, raw: pa.Schema, schema: pa.Schema) -> pa.Schema | None:
        takes = getattr(self._kind(), "takes", None)
        return takes(self._goal(), run, raw, schema) if takes else None

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        if schema is not None and not schema.names:
            raise StoreError(f"{self.describe()}: the rows have no columns")
        if taken := [name for name in (schema.names if schema else ()) if name.startswith(_OURS)]:
            raise StoreError(
                f"{self.describe()}: hygge needs the name '{taken[0]}' for a column of its own",
                "rename it in a query of the home, or leave it out with `columns`",
            )
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
            from hygge.connectors.sqlite import store as sqlite_store

            return sqlite_store
        if is_pg(self.settings.connection):
            from hygge.connectors.postgres import store as pg_store

            return pg_store
        if is_my(self.settings.connection):
            from hygge.connectors.mariadb import store as my_store

            return my_store
        from hygge.connectors.anysql import store

        return store

    def _goal(self) -> Goal:
        given = self.settings
        return Goal(given.connection, self.describe(), self.table, given.options, self.flow)
