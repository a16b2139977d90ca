"""One frozen object for each kind of database: everything that others ask about it.

Each database folder has a `database.py` with its object, and `connectors/databases/known.py` lists
them. Configuration, the Coordinator, SQLHome and SQLStore ask the object and know no database by
name. These modules import nothing heavy: the code of a database is loaded by its verbs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.names import NameRules
from hygge.errors import HyggeError

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa
    from sqlalchemy.engine import URL

    from hygge.connectors.sql.ask import Ask
    from hygge.connectors.sql.goal import Goal
    from hygge.connectors.sql.listing import Described, Listing, Table, TableFacts
    from hygge.connectors.sql.rules import Rule
    from hygge.connectors.sql.target import Target
    from hygge.connectors.sql.trial import Scratch
    from hygge.model import Commit, Head, Plan, Receipt, Run, Split, TargetState, Ticket, Watermark
    from hygge.shape.bound import Bound

NESTED = ("list", "large_list", "fixed_size_list", "struct", "map", "month_day_nano_interval")
"""Arrow types that a column of a database does not hold."""
INEXACT = ("duration", "time64[ns]", "timestamp[ns", "null", "fixed_size_binary")
"""Arrow types that no database of ours holds exactly."""
NAMED_ZONES = (
    "Africa/", "America/", "Antarctica/", "Arctic/", "Asia/", "Atlantic/", "Australia/", "Brazil/",
    "Canada/", "Etc/", "Europe/", "GMT", "Indian/", "Pacific/", "US/", "+", "-",
)  # fmt: skip
"""How the names of all time zones but UTC begin."""


def zoned(zones: Sequence[str]) -> tuple[str, ...]:
    """The timestamp types whose zones begin like one of `zones`."""
    return tuple(f"timestamp[{unit}, tz={zone}" for unit in ("s", "ms", "us") for zone in zones)


_ANY_NAMES = NameRules()


class HomeVerbs(Protocol):
    """What `home.py` of a database gives."""

    NEEDS: tuple[str, ...]
    """Modules that a process which reads will import."""

    def planned(self, ask: Ask, since: Watermark) -> AbstractContextManager[Plan]: ...
    def read(self, ask: Ask, split: Split) -> Iterator[pa.Table]: ...


class OfferingVerbs(HomeVerbs, Protocol):
    """A `home.py` that also offers rows in the server's own format."""

    def reshaped(self, raw: pa.Schema, bound: Bound) -> pa.Schema: ...


class SnapshotVerbs(HomeVerbs, Protocol):
    """A `home.py` that can also hold one snapshot for several flows."""

    def held(
        self, url: str, who: str, flow: str, tables: Sequence[str], readers: Callable[[], int]
    ) -> AbstractContextManager[tuple[str | None, str]]: ...


class StoreVerbs(Protocol):
    """What `store.py` of a database gives: the verbs of a Store, with the Goal first."""

    NEEDS: tuple[str, ...]
    """Modules that a process which writes will import."""

    def head(self, goal: Goal, flow: str) -> Head | None: ...
    def prepare(self, goal: Goal, run: Run, schema: pa.Schema | None) -> None: ...
    def examine(self, goal: Goal, run: Run, schema: pa.Schema | None) -> TargetState: ...
    def stage(
        self, goal: Goal, ticket: Ticket, schema: pa.Schema | None, batches: Iterator[pa.Table]
    ) -> Receipt: ...
    def check_batch(self, goal: Goal, batch: pa.Table) -> None: ...
    def resume(self, goal: Goal, run: Run, receipts: Sequence[Receipt]) -> list[Receipt]: ...
    def commit(
        self,
        goal: Goal,
        run: Run,
        base: Head | None,
        receipts: Sequence[Receipt],
        watermark: Watermark,
    ) -> Commit: ...
    def discard(self, goal: Goal, run: Run) -> None: ...


class TrialVerbs(Protocol):
    """What `trial.py` of a database gives: which rows its table would refuse in the commit."""

    def may_mend(self, connection: sa.Connection, target: Target) -> bool: ...
    def rules_of(
        self, connection: sa.Connection, target: Target, names: Sequence[str], adds: bool
    ) -> list[Rule]: ...
    def scratch(self, goal: Goal, columns: Sequence[str]) -> AbstractContextManager[Scratch]: ...


class PassthroughVerbs(StoreVerbs, Protocol):
    """A `store.py` that also takes rows in the server's own format."""

    def takes(
        self, goal: Goal, run: Run, raw: pa.Schema, schema: pa.Schema
    ) -> pa.Schema | None: ...


class CatalogVerbs(Protocol):
    """What `catalog.py` of a database gives."""

    def tables(self, url: str, who: str, patterns: Sequence[str]) -> Listing: ...


class DigestVerbs(Protocol):
    """`digest.py` of a database that sums up the hashes of rows."""

    def digest(self, ask: Ask, plan: Plan) -> tuple[int, int] | None:
        """Return rows, and the sum of their hashes; equal for the same rows in any order.

        None: there is no hash for values of these types.
        """
        ...


class OwnCatalogVerbs(CatalogVerbs, Protocol):
    """A `catalog.py` that is asked in the place of SQLAlchemy."""

    def described(
        self, url: str, who: str, tables: Sequence[tuple[str | None, str]]
    ) -> list[Described]: ...
    def facts(
        self, url: str, who: str, tables: Sequence[Table], count: bool
    ) -> list[TableFacts]: ...


class OwnTrialVerbs(Protocol):
    """A `trial.py` of a database whose catalog is its own."""

    def not_null(self, goal: Goal) -> frozenset[str]: ...
    def own_rules(self, goal: Goal, names: Sequence[str], adds: bool) -> list[Rule]: ...


class SizeVerbs(Protocol):
    """What `sizes.py` of a database gives."""

    def sizes(self, url: str, who: str, tables: Sequence[str]) -> dict[str, int]: ...


@dataclass(frozen=True)
class Database:
    """One kind of database, and the packages that hold its code."""

    name: str
    """For people: `PostgreSQL`."""
    backends: tuple[str, ...]
    """The words before `+` and `:` in its URLs; the first is the one that hygge writes."""
    package: str
    """The package of `home.py`, `store.py` and `catalog.py`."""

    aliases: tuple[str, ...] = ()
    """Words that people write for a backend, and SQLAlchemy does not know."""
    drivers: tuple[str, ...] = ()
    """Drivers in a URL for which `package` has the code; empty: every driver."""
    sync_drivers: tuple[tuple[str, str], ...] = ()
    """Drivers for asyncio, and the blocking one that takes the place of each."""
    default_driver: str | None = None
    """The driver of a URL that names none; None leaves that to SQLAlchemy."""
    timeout_drivers: tuple[str, ...] = ()
    """Drivers whose parameters for timeouts are known."""

    is_file: bool = False
    """Whether a database is a file on a disk: it has no server, no port and no connections."""
    file_holds: tuple[int, bytes] | None = None
    """A position and the bytes that each of its files has there, which tell it from others."""
    suffixes: tuple[str, ...] = ()
    """Endings of the names of its files, where no other file has them."""
    service_prefixes: tuple[str, ...] = ()
    """How the names of databases begin that a service holds, and no file."""
    has_schemas: bool = True
    """Whether tables are in schemas."""
    locks_out_writers: bool = False
    """Whether nobody can write the file while a plan of a Home is open."""
    own_catalog: bool = False
    """Whether its catalog is asked by its own code, and not through SQLAlchemy: `catalog.py` has
    `described` and `facts`, `trial.py` has `not_null` and `own_rules`."""
    is_cased: bool = True
    """Whether the names `Users` and `users` mean two tables."""
    names: NameRules = _ANY_NAMES
    """The names that it takes as they are."""
    port: int = 0
    """The port of a URL that names none."""
    schema_is_database: bool = False
    """True if the schema of a table is the name of a database."""
    default_schema: str = ""
    """The schema of a table that names none, as far as it is the same for everybody."""
    reserved_prefixes: tuple[str, ...] = ("_hygge_",)
    """Names of tables that begin like this cannot be written."""

    harmless_connect_args: frozenset[str] = frozenset()
    """`connect_args` of an Engine that hygge may leave out."""
    heeds: frozenset[str] = frozenset()
    """Options that only some databases heed: `consistency`, `on_value`."""
    home_heeds: frozenset[str] = frozenset()
    """The same, of which a Store heeds none."""
    holds_nested: bool = False
    """Whether columns hold lists, structs and maps as they are."""
    splits_by_several_columns: bool = False
    """Whether `split_by` may name several columns."""
    holds_snapshots: bool = False
    """Whether one snapshot can be held for several flows: `home.py` has `held`."""
    tells_sizes: bool = False
    """Whether the sizes of tables are known without reading them: there is a `sizes.py`."""
    passes_through: bool = False
    """Whether rows may come in the server's own format: `store.py` has `takes`."""
    sets_aside: bool = False
    """Whether its commit sets rows aside that the table refuses: there is a `refusing.py`."""
    keeps_checks: bool = False
    """Whether rows of a `replace` are loaded into a new table that has the CHECKs of the old one,
    and refuses a row before the commit."""
    hashes_rows: bool = False
    """Whether the database sums up the hashes of rows: there is a `digest.py`."""
    home_lossy: tuple[str, ...] = NESTED
    """Arrow types, or how their names begin, that a Home does not give exactly."""
    store_lossy: tuple[str, ...] = NESTED
    """Arrow types, or how their names begin, that a Store does not hold exactly."""
    json_type: str = "of text"
    """The type of columns for nested values, in a sentence of the plan."""
    wider_types: tuple[tuple[str, str], ...] = ()
    """Arrow types that a Store keeps as a wider type of its own, and what that is called."""
    max_lanes: int | None = None
    """How many lanes may write at once; None: as many as there are."""
    also_sees: str = ""
    """What else a reader of a table may see, for `plan`."""
    estimates: str = ""
    """SQL of schema, name, rows and bytes of each table, as the catalog estimates them; NULL where
    it does not. A fifth column may say whether somebody has locked the table."""
    example: str = ""
    """A URL, for hints."""

    normalized: Callable[[URL, str], URL] | None = None
    """Checks a URL, and gives the one that every process understands; ConfigError."""
    place_name: Callable[[str], str] | None = None
    """The table's name for comparing places, where a database writes names its own way."""
    split_table: Callable[[str], tuple[str | None, ...]] | None = None
    """Reads the names in the setting `table`, where a database has no schemas."""
    ignores_case: Callable[[str, str, type[HyggeError]], bool] | None = None
    """Whether the server behind a URL takes `Users` and `users` for one table, where `is_cased`
    does not know it."""
    is_served_by: Callable[[str, str, type[HyggeError]], bool] | None = None
    """Whether the server behind a URL is one that the code of `package` can talk to. None: each."""
    other_server: str = ""
    """The server that it is otherwise."""

    def table_parts(self, table: str) -> tuple[str | None, ...]:
        """Return the names in the setting `table`: schema, if it has one, and table."""
        if self.split_table is not None:
            return self.split_table(table)
        return split_name(table)

    def home(self) -> HomeVerbs:
        """The code that reads; loaded here."""
        return cast(HomeVerbs, importlib.import_module(f"{self.package}.home"))

    def store(self) -> StoreVerbs:
        """The code that writes; loaded here."""
        return cast(StoreVerbs, importlib.import_module(f"{self.package}.store"))

    def trial(self) -> TrialVerbs:
        """The code that tries rows; loaded here."""
        return cast(TrialVerbs, importlib.import_module(f"{self.package}.trial"))

    def own_trial(self) -> OwnTrialVerbs:
        """The same for a database whose catalog is its own."""
        return cast(OwnTrialVerbs, self.trial())

    def catalog(self) -> CatalogVerbs:
        """The code that lists tables; loaded here."""
        return cast(CatalogVerbs, importlib.import_module(f"{self.package}.catalog"))

    def own(self) -> OwnCatalogVerbs | None:
        """The code that is asked in the place of SQLAlchemy, where there is such code."""
        return cast(OwnCatalogVerbs, self.catalog()) if self.own_catalog else None

    def snapshots(self) -> SnapshotVerbs | None:
        """The code that holds one snapshot for several flows, where there is such code."""
        return cast(SnapshotVerbs, self.home()) if self.holds_snapshots else None

    def digests(self) -> DigestVerbs | None:
        """The code that has the server sum up hashes of rows, where there is such code."""
        if not self.hashes_rows:
            return None
        return cast(DigestVerbs, importlib.import_module(f"{self.package}.digest"))

    def sizes(self) -> SizeVerbs | None:
        """The code that tells the sizes of tables, where there is such code."""
        if not self.tells_sizes:
            return None
        return cast(SizeVerbs, importlib.import_module(f"{self.package}.sizes"))

    def passthrough(self) -> PassthroughVerbs | None:
        """The code that takes rows in the server's own format, where there is such code."""
        return cast(PassthroughVerbs, self.store()) if self.passes_through else None
