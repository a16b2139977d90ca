"""A home that reads a table or a query of any SQL database.

A reader gets the exact types of the catalog. Splits, and the moment that they show, depend on the
database:

- PostgreSQL: all splits show one moment, which the driver holds. Tables are split by the physical
  places of their rows, partitioned tables by their partitions, and by `split_by` where it is given.
- MariaDB: all splits show one moment too, where several lanes read and the user may lock tables for
  an instant. Tables are split by their primary key or by `split_by`.
- `consistency: split` (both): each range of the primary key shows the moment of its own read, and
  the run of a dead driver is resumed.
- SQLite: tables are split by rowid, and all splits show one state of the file.
- DuckDB: the same; the file is locked until the run ends, so that nobody can write it.
- Other databases: one split, unless `split_by` is given.

With `cursor`, a run reads `cursor > watermark AND cursor <= the highest value now`. Rows that share
the highest value are read together. Rows that get the watermark's own value later are read by the
next run: `merge` reads all rows at the watermark again, and `append` leaves out those that came
before, which the head of the store remembers by the flow's `key`, or by all of their values (up to
10,000 rows; beyond that `options: {cursor_ties: …}` decides, and plan and report say so). Rows that
get a value below the watermark later are never read (a transaction that was open during the read,
for example), unless `lag` reads back by so much in each run. A highest value above which nothing
can come, texts that do not sort as what they mean and uuids of another version than 7 are errors.
Rows whose cursor is NULL are read by the first run; later runs fail at them unless
`options.null_cursor` decides.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict, Unpack, cast

import pyarrow as pa

from hygge.connectors.databases import described
from hygge.connectors.databases.connection import (
    DatabaseSettings,
    connection_url,
    file_of,
    place,
)
from hygge.connectors.databases.errors import in_words
from hygge.connectors.databases.known import database_of, reached
from hygge.connectors.databases.options import refuse_unsupported
from hygge.connectors.sql.ask import Ask, SQLHomeOptions, SQLHomeOptionsDict
from hygge.connectors.sql.connection import shown
from hygge.connectors.sql.database import NESTED, Database, OfferingVerbs
from hygge.connectors.sql.drivers import check_driver
from hygge.connectors.sql.lag import DURATION
from hygge.connectors.sql.names import check_table
from hygge.errors import ConfigError, HomeError, SourceMissing
from hygge.home import Home, is_quick
from hygge.model import HomeTraits, Mode, Plan, Split, Watermark
from hygge.places.names import hint_for_missing

if TYPE_CHECKING:
    from hygge.connectors.databases.connection import Connectable
    from hygge.shape.bound import Bound


class SQLHomeArguments(TypedDict, total=False):
    """The keyword arguments of `SQLHome`."""

    connection: Connectable | None
    table: str | None
    query: str | None
    columns: list[str] | tuple[str, ...] | None
    where: str | None
    split_by: str | list[str] | tuple[str, ...] | None
    cursor: str | None
    lag: str | int | float | None
    changes: bool
    options: SQLHomeOptions | SQLHomeOptionsDict


class SQLHome(Home):
    """`SQLHome("users", connection="postgresql://…", options={"batch_size": 10_000})`."""

    traits: HomeTraits = HomeTraits(cursor=True, lossy=NESTED)

    raw: pa.Schema | None = None
    snapshot: str | None = None
    """The name of a snapshot that the Coordinator holds for several flows."""
    only: bool = False
    """True for one table of `tables:`: tables that inherit from it are tables of their own."""

    own_columns: tuple[str, ...] = ()
    """Columns that settings of this one table of `tables:` name, and that must be there."""

    class Settings(DatabaseSettings):
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
        lag: str | int | float | None = None
        """How far below the watermark rows are read again in each run: `10m`, `1h` or `2d` of dates
        and timestamps, a number of numbers. `merge` merges them; `append` needs a `key`, by which
        it leaves out those that came before."""
        changes: bool = False
        """Whether the rows are changes: a column `_op` says insert, update or delete, and `mode:
        merge` applies them in the order of the `cursor`, or of a query."""
        options: SQLHomeOptions = SQLHomeOptions()

    settings: SQLHome.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[SQLHomeArguments]) -> None:
        # Of a misspelt key the settings complain, and not of the connection that is missing then.
        if settings.keys() <= self.Settings.model_fields.keys():
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

        _check_lag(given.lag, given.cursor, given.options.cursor_ties)
        keys = given.split_by
        self.split_keys: tuple[str, ...] = (
            () if keys is None else (keys,) if isinstance(keys, str) else tuple(keys)
        )
        if keys is not None and not self.split_keys:
            raise ConfigError("SQLHome: split_by is empty", "name a column, or leave it away")
        database = self.database
        if len(self.split_keys) > 1 and not database.splits_by_several_columns:
            raise ConfigError(
                f"SQLHome: split_by of {len(self.split_keys)} columns is not built for "
                f"{database.name}",
                f"split by one: split_by: {self.split_keys[0]}",
            )
        if self.table:
            check_table(database.names, database.table_parts(self.table), self.describe())
        refuse_unsupported(database, given.options, self.describe())
        _check_order(given.changes, given.cursor, self.table, self.split_keys)
        # The key of a table of changes is not the key of what they change.
        knows_key = bool(self.table) and not given.changes
        self.traits = replace(
            type(self).traits, key=knows_key, lossy=database.home_lossy, changes=given.changes
        )

    @property
    def database(self) -> Database:
        """The database that the URL of the connection means."""
        return database_of(self.settings.connection)

    def describe(self) -> str:
        what = f"#{self.table}" if self.table else f" ({self.name or 'query'})"
        return shown(self.settings.connection) + what

    def place(self) -> str | None:
        return place(self.settings.connection, self.table) if self.table else None

    def check_here(self, mode: Mode) -> None:
        check_driver(self.settings.connection, self.describe())
        path = file_of(self.settings.connection)
        if path is not None and not os.path.isfile(path):
            raise SourceMissing(
                f"there is no {self.database.name} database {path}", hint_for_missing(path)
            )

    def on_disk(self) -> str | None:
        return file_of(self.settings.connection)

    def locks(self) -> str | None:
        return self.on_disk() if self.database.locks_out_writers else None

    def needs(self) -> tuple[str, ...]:
        verbs = self.database.home()
        return (*super().needs(), f"{self.database.package}.home", *verbs.NEEDS)

    @contextmanager
    def open(self, since: Watermark = None) -> Iterator[Plan]:
        with contextlib.ExitStack() as stack:
            with self._naming_condition(), in_words(self.describe(), HomeError):
                database, ask = self._reached(), self._ask()
                plan = stack.enter_context(database.home().planned(ask, since))
            if database.package != self.database.package:
                plan = replace(plan, reason=f"{plan.reason}; {database.name}: read row by row")
            yield plan

    def glance(self) -> contextlib.AbstractContextManager[Plan] | None:
        if self.settings.cursor is not None or self.snapshot is not None:
            return None  # the highest value of a column without an index takes long
        path = self.on_disk()
        if path is not None:
            return self.open() if is_quick([os.path.getsize(path)]) else None
        home = copy(self)
        options = self.settings.options.model_copy(update={"splits": 1})
        home.settings = self.settings.model_copy(update={"options": options})
        return home.open()

    def read(self, split: Split) -> Iterator[pa.Table]:
        with in_words(self.describe(), HomeError):
            yield from self._reached().home().read(self._ask(), split)

    def digest(self, plan: Plan) -> tuple[int, int] | None:
        """Return the rows of a plan that is open, and a sum of their hashes; None: not built.

        Two plans with the same columns in the same kind of database have the same sum if they have
        the same rows.
        """
        with in_words(self.describe(), HomeError):
            database = self._reached()
            verbs = database.digests()
            return None if verbs is None else verbs.digest(self._ask(), plan)

    def primary_key(self) -> tuple[str, ...]:
        if not self.table or not self.traits.key:
            return ()
        *schema, table = self.database.table_parts(self.table)
        with in_words(self.describe(), HomeError):
            return described.primary_key(
                self.settings.connection, self.describe(), schema[0] if schema else None, table
            )

    @contextmanager
    def _naming_condition(self) -> Iterator[None]:
        """Name `where` in an error without a hint: the database does not say whose text it is."""
        try:
            yield
        except HomeError as error:
            if error.hint is None and self.settings.where is not None:
                error.hint = f"`where` went into the query as it is: {self.settings.where}"
            raise

    def passing(self, raw: pa.Schema) -> SQLHome:
        passing = copy(self)
        passing.raw = raw
        return passing

    def reshaped(self, raw: pa.Schema, bound: Bound) -> pa.Schema | None:
        return cast(OfferingVerbs, self._reached().home()).reshaped(raw, bound)

    def _reached(self) -> Database:
        """Return the database that answers; raise ConfigError for options it does not support."""
        database = reached(self.settings.connection, self.describe(), HomeError)
        refuse_unsupported(database, self.settings.options, self.describe())
        return database

    def _ask(self) -> Ask:
        given = self.settings
        columns = None if given.columns is None else tuple(given.columns)
        keys = self.split_keys
        ties = given.options.cursor_ties
        is_append = self.flow_mode == "append" and given.cursor is not None
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
            not is_append and (ties == "read" or (ties is None and self.flow_mode == "merge")),
            is_append and ties != "skip",
            self.ties,
            self.flow_key,
            given.lag,
            self.only,
            self.shape,
        )


def _check_order(
    changes: bool, cursor: str | None, table: str | None, split_by: tuple[str, ...]
) -> None:
    """Raise ConfigError for changes of which nobody can tell the order."""
    if not changes or cursor is not None:
        return
    if table or split_by:
        what = "the rows of a table" if table else "rows that are read by `split_by`"
        raise ConfigError(
            f"SQLHome: {what} have no order, and of the changes of one key the last one counts",
            "name the column that tells their order, `cursor: seq`; or give a `query` with ORDER "
            "BY, without `split_by`",
        )


def _check_lag(lag: str | int | float | None, cursor: str | None, ties: str | None) -> None:
    """Raise ConfigError for a lag that means nothing."""
    if lag is None:
        return
    if cursor is None:
        raise ConfigError("SQLHome: lag needs a cursor", "name one, or take the lag out")
    if ties == "skip":
        raise ConfigError(
            "SQLHome: lag reads rows again, and `cursor_ties: skip` leaves them out",
            "take one of the two out",
        )
    good = DURATION.fullmatch(lag.strip()) is not None if isinstance(lag, str) else lag >= 0
    if not good:
        raise ConfigError(
            f"SQLHome: lag is {lag!r}",
            "write a duration (`30s`, `10m`, `1h`, `2d`) for dates and timestamps, or a number for "
            "numbers",
        )
