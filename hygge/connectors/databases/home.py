"""A table or query of any SQL database.

What a reader gets: the types of the catalog, exactly. PostgreSQL: all splits are of one moment,
which the driver holds; tables are cut by where their rows lie, partitions by their names, and by
`split_by` if it is given. MariaDB: all splits are of one moment as well, where several lanes read
and the rights allow a lock for an instant; tables are cut by their primary key or `split_by`. With
`consistency: split` ranges of the primary key are each as of their own read, and a dead driver's
run is gone on with. SQLite splits by rowid within one state of its file. Other databases are one
split unless `split_by` is given.

With `cursor`, a run reads `cursor > watermark AND cursor <= its highest value now`: rows that share
the highest value come together, and what is written later is for the next run. So a row that gets
a cursor value later which is not above the watermark (two rows within one tick of a clock, a
transaction that was open while the run read) is never read. `mode: merge` with
`options: {cursor_ties: read}` reads the watermark's own rows again, which a merge takes without
harm; nothing reads those below it. Rows whose cursor is NULL come with the first run; later runs
stop at them unless `options.null_cursor` decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from hygge.connectors.anysql import types
from hygge.connectors.mariadb.session import is_my
from hygge.connectors.postgres.session import is_pg
from hygge.connectors.sql.ask import NESTED, Ask, SQLHomeOptions
from hygge.connectors.sql.connection import connection_url, place, shown, sqlite_path
from hygge.errors import ConfigError
from hygge.home import Home
from hygge.model import HomeTraits, Plan, Split, Watermark
from hygge.settings import Settings


class SQLHome(Home):
    """`SQLHome("users", connection="postgresql://…", options={"batch_size": 10_000})`."""

    traits: ClassVar[HomeTraits] = HomeTraits(cursor=True, lossy=NESTED)

    raw: pa.Schema | None = None
    snapshot: str | None = None
    """A snapshot that the driver holds for several flows."""

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
        split_by: str | list[str] | None = None
        """An integer, date, timestamp, uuid or text column whose ranges are read independently;
        several for a composite key."""
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

        keys = given.split_by
        self.split_keys: tuple[str, ...] = (
            () if keys is None else (keys,) if isinstance(keys, str) else tuple(keys)
        )
        if keys is not None and not self.split_keys:
            raise ConfigError("SQLHome: split_by is empty", "name a column, or leave it away")
        if len(self.split_keys) > 1 and not getattr(self._kind(), "COMPOSITE_KEYS", False):
            raise ConfigError(
                f"SQLHome: split_by of {len(self.split_keys)} columns is not built for this kind "
                "of database",
                f"split by one: split_by: {self.split_keys[0]}",
            )
        if is_pg(given.connection):
            lossy = (*NESTED, *types.lossy("postgresql"))
            self.traits = replace(type(self).traits, lossy=lossy)  # type: ignore[misc]  # of this one

    def describe(self) -> str:
        what = f"#{self.table}" if self.table else f" ({self.name or 'query'})"
        return shown(self.settings.connection) + what

    def place(self) -> str | None:
        return place(self.settings.connection, self.table) if self.table else None

    def needs(self) -> tuple[str, ...]:
        kind = self._kind()
        return (*super().needs(), kind.__name__, *getattr(kind, "NEEDS", ()))

    def open(self, since: Watermark = None) -> AbstractContextManager[Plan]:
        return self._kind().planned(self._ask(), since)  # type: ignore[no-any-return]  # a module

    def read(self, split: Split) -> Iterator[pa.Table]:
        return self._kind().read(self._ask(), split)  # type: ignore[no-any-return]  # a module

    def passing(self, raw: pa.Schema) -> SQLHome:
        passing = copy(self)
        passing.raw = raw
        return passing

    def _kind(self) -> Any:
        """The code of this kind of database: `planned(ask, since)` and `read(ask, split)`."""
        if is_pg(self.settings.connection):
            from hygge.connectors.postgres import home as pg_home

            return pg_home
        if is_my(self.settings.connection):
            from hygge.connectors.mariadb import home as my_home

            return my_home
        if sqlite_path(self.settings.connection):
            from hygge.connectors.sqlite import home as sqlite_home

            return sqlite_home
        from hygge.connectors.anysql import home

        return home

    def _ask(self) -> Ask:
        given = self.settings
        columns = None if given.columns is None else tuple(given.columns)
        keys = self.split_keys
        return Ask(
            given.connection,
            self.describe(),
            self.table,
            given.query,
            columns,
            given.where,
            keys[0] if keys else None,
            given.cursor,
            given.options,
            self.flow,
            self.raw,
            self.snapshot,
            keys,
            self.lanes or max(1, (os.cpu_count() or 1) // 2),
        )
