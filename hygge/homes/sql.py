"""A table or query of any SQL database.

What a reader gets: the types of the catalog, exactly; SQLite splits by rowid within one state of
its file, other databases are one split unless `split_by` is given. With `cursor`, a run reads
`cursor > watermark AND cursor <= its highest value now`: rows that share the highest value come
together, and what is written later is for the next run. So a row that gets a cursor value later
which is not above the watermark (two rows within one tick of a clock, a transaction that was open
while the run read) is never read. `mode: merge` with `options: {cursor_ties: read}` reads the
watermark's own rows again, which a merge takes without harm; nothing reads those below it. Rows
whose cursor is NULL come with the first run; later runs stop at them unless `options.null_cursor`
decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from hygge.errors import ConfigError
from hygge.home import Home
from hygge.io.sql import connection_url, place, shown, sqlite_path
from hygge.io.sql_ask import NESTED, Ask, SQLHomeOptions
from hygge.model import HomeTraits, Plan, Split, Watermark
from hygge.settings import Settings


class SQLHome(Home):
    """`SQLHome("users", connection="postgresql://…", options={"batch_size": 10_000})`."""

    traits: ClassVar[HomeTraits] = HomeTraits(cursor=True, lossy=NESTED)

    class Settings(Settings):
        connection: str = Field(repr=False)
        """A SQLAlchemy URL, Engine or Connection. Default: the environment's HYGGE_DATABASE_URL."""
        table: str | None = None
        """`table` or `schema.table`; a part in double quotes may hold dots. Default: the name."""
        query: str | None = None
        """A SELECT, instead of a table."""
        columns: list[str] | None = None
        """Only these, in this order."""
        where: str | None = None
        """A condition in the database's own SQL."""
        split_by: str | None = None
        """An integer, date, timestamp or text column whose ranges are read independently."""
        cursor: str | None = None
        """A column that only grows: `append` and `merge` read what is beyond the last run."""
        options: SQLHomeOptions = SQLHomeOptions()

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        settings["connection"] = connection_url(settings.get("connection"), type(self).__name__)
        super().__init__(name, **settings)
        given = self.settings
        if given.table and given.query:
            raise ConfigError("SQLHome was given a table and a query", "give one of the two")
        if given.columns is not None and not given.columns:
            raise ConfigError("SQLHome: columns is empty", "leave it away to read every column")
        self.table: str | None = given.table or (None if given.query else name)
        if not self.table and not given.query:
            raise ConfigError(
                "SQLHome knows neither a table nor a query",
                'SQLHome("users") reads the table users; or give table= or query=',
            )

    def describe(self) -> str:
        what = f"#{self.table}" if self.table else f" ({self.name or 'query'})"
        return shown(self.settings.connection) + what

    def place(self) -> str | None:
        return place(self.settings.connection, self.table) if self.table else None

    def open(self, since: Watermark = None) -> AbstractContextManager[Plan]:
        return self._kind().planned(self._ask(), since)  # type: ignore[no-any-return]  # a module

    def read(self, split: Split) -> Iterator[pa.Table]:
        return self._kind().read(self._ask(), split)  # type: ignore[no-any-return]  # a module

    def _kind(self) -> Any:
        """The code of this kind of database: `planned(ask, since)` and `read(ask, split)`."""
        if sqlite_path(self.settings.connection):
            from hygge.io import sqlite_home

            return sqlite_home
        from hygge.io import sql_home

        return sql_home

    def _ask(self) -> Ask:
        given = self.settings
        columns = None if given.columns is None else tuple(given.columns)
        return Ask(
            given.connection,
            self.describe(),
            self.table,
            given.query,
            columns,
            given.where,
            given.split_by,
            given.cursor,
            given.options,
        )
