"""A store that writes a table of any SQL database.

A reader of the table sees the old rows until the commit, and the new rows after it; staged rows are
never visible. SQLite stages a run in a file beside the database, which is neither locked nor
changed until the commit. Other databases stage in tables `_hygge_<run>_…` in the schema of the
target. The table `_hygge_heads` beside the target records what is committed.

`replace` creates the table anew, provided that hygge created it and nobody else changed it since; a
table of anybody else is an error, and stays. With `adopt` it takes any table, which stays itself,
as it does with `schema`: the rows are deleted and inserted in one transaction. Other flows that
append to that table start anew at their next run.

PostgreSQL: the staged table replaces the old one, with its owner, grants, comments and settings.
In three cases the old rows are deleted and the new ones inserted instead, in one transaction: more
depends on the old table (views, indexes, keys, triggers, policies, publications …); a transaction
is open that began before the last row was staged; or another session holds the table. There are two
exceptions. A transaction of REPEATABLE READ or SERIALIZABLE that is older than the rows sees an
empty table, if that is new or was created anew because its columns changed. And such a transaction
on a standby server is not visible here, so it may find a part of the rows in a table that it opens
later.

MariaDB: one RENAME replaces the old table and the head by the staged ones. Grants stay, and so do
comments and indexes if the columns stay. If triggers or foreign keys depend on the old table, its
rows are deleted and the new ones inserted, in one transaction. A transaction of REPEATABLE READ
that is older than the rows gets error 1412 from a table that was replaced. The engine of the table
has to be InnoDB, or `append` and `merge` refuse it. MySQL itself is one of the other databases.

`append` and `merge` need columns that fit, and fail before a row moves if they do not. `merge`
updates the rows with the same key and adds the others. NULL in the key is an error, and so are two
staged rows with one key, unless the home has a `cursor`: then the last one by cursor counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict, Unpack

from hygge.batches import again, raw_format
from hygge.changes import has_op
from hygge.connectors.anysql.database import ANYSQL
from hygge.connectors.databases.bad_values import checks_of, trial_of
from hygge.connectors.databases.bad_values import remarks as remarks_on_rules
from hygge.connectors.databases.connection import (
    DatabaseSettings,
    connection_url,
    file_of,
    place,
)
from hygge.connectors.databases.errors import in_words
from hygge.connectors.databases.home import SQLHome
from hygge.connectors.databases.known import database_of, reached
from hygge.connectors.databases.options import refuse_unsupported
from hygge.connectors.sql.changes import staged, staged_batches
from hygge.connectors.sql.connection import shown
from hygge.connectors.sql.database import NESTED, Database, StoreVerbs
from hygge.connectors.sql.drivers import check_driver
from hygge.connectors.sql.goal import Goal, SQLStoreOptions, SQLStoreOptionsDict
from hygge.connectors.sql.heads import OR_ELSEWHERE, OR_REPLACE
from hygge.connectors.sql.names import check_columns, check_table
from hygge.errors import ConfigError, HyggeError, StoreError, UnfitValue
from hygge.extension_types import is_json
from hygge.home import Home
from hygge.model import (
    Commit,
    Head,
    Mode,
    Receipt,
    Run,
    StoreTraits,
    TargetState,
    Ticket,
    Watermark,
)
from hygge.store import Store
from hygge.type_words import word_of

if TYPE_CHECKING:
    import pyarrow as pa

    from hygge.bad_rows import BadRows
    from hygge.connectors.databases.connection import Connectable


_OURS = "_hygge_"
"""The beginning of the names of all tables and columns that hygge creates for itself."""


class SQLStoreArguments(TypedDict, total=False):
    """The keyword arguments of `SQLStore`."""

    connection: Connectable | None
    table: str | None
    options: SQLStoreOptions | SQLStoreOptionsDict


class SQLStore(Store):
    """`SQLStore("users", connection="sqlite:///lake.db")`."""

    traits: StoreTraits = StoreTraits(
        modes=("replace", "append", "merge"),
        visibility="atomic",
        sees="the old rows or the new ones: one transaction shows a run",
        lossy=NESTED,
        json=True,
        changes=True,
    )

    class Settings(DatabaseSettings):
        table: str | None = None
        """`table` or `schema.table`; a part in double quotes may hold dots. Default: the name."""
        options: SQLStoreOptions = SQLStoreOptions()

    settings: SQLStore.Settings

    def __init__(self, name: str | None = None, **settings: Unpack[SQLStoreArguments]) -> None:
        # Of a misspelt key the settings complain, and not of the connection that is missing then.
        if settings.keys() <= self.Settings.model_fields.keys():
            settings["connection"] = connection_url(settings.get("connection"), type(self).__name__)
        super().__init__(name, **settings)
        table = self.settings.table or name
        if not table:
            raise ConfigError("SQLStore knows no table", 'SQLStore("users") writes the table users')
        self.table: str = table
        database = self.database
        if self.table.lower().startswith(database.reserved_prefixes):
            raise ConfigError(f"SQLStore: the name '{self.table}' is reserved", "choose another")
        check_table(database.names, database.table_parts(self.table), self.describe())
        refuse_unsupported(database, self.settings.options, self.describe())
        traits = type(self).traits
        lanes = database.max_lanes or traits.max_lanes
        nested = not database.holds_nested
        self.traits = replace(traits, lossy=database.store_lossy, max_lanes=lanes, json=nested)

    @property
    def database(self) -> Database:
        """The database that the URL of the connection means."""
        return database_of(self.settings.connection)

    def describe(self) -> str:
        return f"{shown(self.settings.connection)}#{self.table}"

    def place(self) -> str | None:
        return place(self.settings.connection, self.table)

    def is_also(self, place: str) -> bool:
        database = self.database
        if not database.is_cased:
            return True
        if database.ignores_case is None:
            return False
        try:
            return database.ignores_case(self.settings.connection, self.describe(), StoreError)
        except HyggeError:  # the run itself says that it cannot be reached
            return False

    def on_disk(self) -> str | None:
        return file_of(self.settings.connection)

    def sees(self) -> str:
        return "; ".join(filter(None, (self.traits.sees, self.database.also_sees)))

    def reader(self, schema: pa.Schema) -> Home:
        return SQLHome(table=self.table, connection=self.settings.connection)

    def needs(self) -> tuple[str, ...]:
        verbs = self.database.store()
        return (*super().needs(), f"{self.database.package}.store", *verbs.NEEDS)

    def head(self, flow: str) -> Head | None:
        with self._in_words():
            return self._verbs().head(self._goal(), flow)

    def takes(self, run: Run, raw: pa.Schema, schema: pa.Schema) -> pa.Schema | None:
        self._check_names(schema)
        verbs = self.database.passthrough()
        with self._in_words():
            return verbs.takes(self._goal(), run, raw, schema) if verbs else None

    def remarks(self, schema: pa.Schema | None) -> list[str]:
        remarks = super().remarks(schema)
        if schema is None or raw_format(schema) is not None:
            return remarks
        if self.most_bad_rows is not None and self.flow_mode in ("append", "merge"):
            with suppress(HyggeError):  # the run itself says that it cannot be reached
                database, adds = self._reached(), self.flow_mode == "append"
                remarks += remarks_on_rules(self._goal(), database, schema.names, adds)
        if self.most_bad_rows is not None and has_op(schema):
            remarks.append(
                "a change that the table refuses in the commit is not set aside, but fails the run"
            )
        wider, goal = dict(self.database.wider_types), self._goal()
        texts = {field.name for field in schema if goal.on_value(field.name) == "as_text"}
        nested = [f"'{each.name}'" for each in schema if is_json(each) and each.name not in texts]
        if nested:
            kind = self.database.json_type
            remarks.append(
                f"nested values are kept as JSON, in a column {kind}: {', '.join(nested)}"
            )
        kept = [
            f"'{field.name}' ({word_of(field.type)}) as {wider[str(field.type)]}"
            for field in schema
            if str(field.type) in wider and goal.on_value(field.name) != "as_text"
        ]
        if kept:
            remarks.append(f"kept in a wider type, with every value: {', '.join(kept)}")
        return remarks

    def prepare(self, run: Run, schema: pa.Schema | None) -> None:
        self._refuse_columns(schema)
        with self._in_words():
            self._verbs().prepare(self._goal(), run, staged(schema))

    def check_packages(self) -> None:
        check_driver(self.settings.connection, self.describe())

    def check_here(self, mode: Mode) -> None:
        self.check_packages()
        if self.database.is_file and self.database.package != ANYSQL.package:
            self.examine(Run("check", "", mode), None)

    def examine(self, run: Run, schema: pa.Schema | None) -> TargetState:
        self._refuse_columns(schema)
        with self._in_words():
            return self._verbs().examine(self._goal(), run, staged(schema))

    def stage(
        self, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt:
        if schema is None:  # only the rows know their columns
            batches = self._with_checked_names(batches)
        with self._in_words():
            if self.bad_rows is None:
                batches = staged_batches(batches, schema)
                goal = replace(self._goal(), batches_stay=self.batches_stay)
                return self._verbs().stage(goal, ticket, staged(schema), batches)
            return self._stage_good(ticket, schema, batches, self.bad_rows)

    def _stage_good(
        self,
        ticket: Ticket,
        schema: pa.Schema | None,
        batches: Iterator[pa.Table],
        bad_rows: BadRows,
    ) -> Receipt:
        """Stage the rows that the table does not refuse; the others go to `bad_rows`."""
        goal, verbs = self._goal(), self._verbs()
        stays = self.flow_mode is not None and goal.keeps_table(self.flow_mode)
        database = self._reached() if stays else None
        batches = bad_rows.sifted(batches, checks_of(goal, verbs.check_batch, database))
        with ExitStack() as stack:
            trial = None
            if database is not None and self.flow_mode != "replace":
                adds = self.flow_mode == "append"
                trial = stack.enter_context(trial_of(goal, database, bad_rows, adds))
            elif database is None and self._reached().keeps_checks:
                of_rows = trial_of(goal, self._reached(), bad_rows, adds=False, only_firm=True)
                trial = stack.enter_context(of_rows)
            if trial is not None:
                batches = trial.sifted(batches)
            receipt = verbs.stage(goal, ticket, staged(schema), staged_batches(batches, schema))
            if receipt.ticket != ticket:
                for _ in batches:  # staged by an earlier attempt: what it set aside is found again
                    pass
                if trial is not None and trial.found_elsewhere:
                    raise StoreError(
                        f"{goal.who}: an earlier attempt staged split {ticket.split}, and which "
                        "rows it set aside for rules of the table is not known",
                        "run again",
                    )
            return receipt

    def resume(self, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]:
        with self._in_words():
            return self._verbs().resume(self._goal(), run, receipts)

    def commit(
        self, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
    ) -> Commit:
        goal = replace(self._goal(), refused=self.refused_rows)
        with self._in_words(StoreError):
            return self._verbs().commit(goal, run, base, receipts, watermark)

    def discard(self, run: Run) -> None:
        with self._in_words():
            self._verbs().discard(self._goal(), run)

    @contextmanager
    def _in_words(self, unfit: type[HyggeError] = UnfitValue) -> Iterator[None]:
        try:
            with in_words(self.describe(), StoreError, unfit):
                yield
        except HyggeError as error:
            if self._goal().options.adopt and error.hint:
                error.hint = error.hint.replace(OR_REPLACE, OR_ELSEWHERE)
            raise

    def _refuse_columns(self, schema: pa.Schema | None) -> None:
        """Raise StoreError for rows without columns, and for columns that hygge itself needs."""
        if schema is not None and not schema.names:
            raise StoreError(
                f"{self.describe()}: the rows have no columns", "choose some with `columns`"
            )
        if schema is not None and raw_format(schema) is None:
            self._check_names(schema)

    def _check_names(self, schema: pa.Schema) -> None:
        """Raise StoreError for a column whose name this database or hygge itself cannot take."""
        if taken := [name for name in schema.names if name.startswith(_OURS)]:
            raise StoreError(
                f"{self.describe()}: hygge needs the name '{taken[0]}' for a column of its own",
                "rename it in a query of the home, or leave it out with `columns`",
            )
        database = self.database
        check_columns(database.names, schema.names, database.name, self.describe())

    def _with_checked_names(self, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Return the batches; the names of their columns are checked before the first is taken."""
        first = next(batches, None)
        if first is not None:
            self._check_names(first.schema)
            batches = again(first, batches)
            del first  # a batch is held by one at a time
            yield from batches

    def _verbs(self) -> StoreVerbs:
        """Return the code of the database that answers; raise ConfigError for a wrong option."""
        return self._reached().store()

    def _reached(self) -> Database:
        database = reached(self.settings.connection, self.describe(), StoreError)
        refuse_unsupported(database, self.settings.options, self.describe())
        return database

    def _goal(self) -> Goal:
        given = self.settings
        sets_aside = self.most_bad_rows is not None
        return Goal(
            given.connection, self.describe(), self.table, given.options, self.flow, sets_aside
        )
