"""The facts about SQLite that other modules ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hygge.connectors.sql.database import Database
from hygge.connectors.sql.names import NameRules
from hygge.errors import ConfigError
from hygge.places.names import expanded

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_SETTINGS = {"uri", "mode", "timeout", "check_same_thread", "cache"}


def normalized(url: URL, who: str) -> URL:
    """Return the URL of the file itself, without parameters.

    Raises ConfigError for a database in memory, another driver, or an unknown parameter.
    """
    database, query = url.database or "", dict(url.query)
    if url.get_driver_name() != "pysqlite":
        raise ConfigError(f"{who}: SQLite through {url.drivername} is not built", "use sqlite:///")
    if database.startswith("file:"):
        database, _, inside = database.removeprefix("file:").partition("?")
        query.update(part.partition("=")[::2] for part in inside.split("&") if part)
    if database in ("", ":memory:") or query.get("mode") == "memory":
        raise ConfigError(
            f"{who}: an in-memory SQLite database cannot travel to other processes",
            "use a file: sqlite:///path/to.db",
        )
    unknown = sorted(set(query) - _SETTINGS)
    if unknown:
        raise ConfigError(f"{who}: SQLite setting '{unknown[0]}' in the URL is not built")
    # Links are resolved: SQLite keeps its logs beside the file itself, and so does hygge.
    path = os.path.realpath(expanded(database, who))
    return url.set(database=path, query={})


def table_name(table: str) -> str:
    """Return the table's name in SQLite, which has no schemas: dots belong to the name."""
    table = table.removeprefix("main.")
    if len(table) > 2 and table[0] == table[-1] == '"':
        return table[1:-1].replace('""', '"')
    return table


def _place_name(table: str) -> str:
    return table_name(table).lower()  # names do not distinguish case


SQLITE = Database(
    name="SQLite",
    backends=("sqlite",),
    package="hygge.connectors.sqlite",
    sets_aside=True,
    sync_drivers=(("aiosqlite", "pysqlite"),),
    is_file=True,
    file_holds=(0, b"SQLite format 3\x00"),
    has_schemas=False,
    tells_sizes=True,
    is_cased=False,
    names=NameRules(cased_columns=False, only_ascii_case=True, empty=True, most_columns=2000),
    reserved_prefixes=("_hygge_", "sqlite_"),
    harmless_connect_args=frozenset(
        {"check_same_thread", "timeout", "isolation_level", "detect_types", "cached_statements"}
    ),
    max_lanes=1,  # one writer at a time is all that a SQLite file takes
    estimates="SELECT 'main', name, NULL, sum(pgsize) FROM dbstat GROUP BY name",
    example="sqlite:///path/to.db",
    normalized=normalized,
    place_name=_place_name,
    split_table=lambda table: (table_name(table),),
)
