"""The facts about DuckDB that other modules ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.database import NAMED_ZONES, Database, zoned
from hygge.connectors.sql.names import NameRules
from hygge.errors import ConfigError
from hygge.places.names import expanded

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

MAIN = "main"
_SERVICE = ("md:", "motherduck:")
"""The schema of a table that names none."""
_NOT_HELD = (
    "duration", "null", "fixed_size_binary", "month_day_nano_interval", "decimal256",
    "timestamp[ns, tz=", *zoned(NAMED_ZONES),
)  # fmt: skip


def normalized(url: URL, who: str) -> URL:
    """Return the URL of the file itself.

    Raises ConfigError for a database in memory, one of MotherDuck, a driver, or a parameter.
    """
    database = url.database or ""
    if "+" in url.drivername:
        raise ConfigError(f"{who}: DuckDB through {url.drivername} is not built", "use duckdb:///")
    if database in ("", ":memory:") or database.startswith(":memory:"):
        raise ConfigError(
            f"{who}: an in-memory DuckDB database cannot travel to other processes",
            "use a file: duckdb:///path/to.duckdb",
        )
    if database.startswith(_SERVICE):
        raise ConfigError(
            f"{who}: MotherDuck is not built: rows are staged beside the file of the database",
            "write a file, duckdb:///path/to.duckdb, and copy it there with DuckDB",
        )
    if url.query:
        raise ConfigError(
            f"{who}: DuckDB setting '{next(iter(url.query))}' in the URL is not built",
            "take it out",
        )
    # Links are resolved: DuckDB keeps its log beside the file itself, and so does hygge.
    return url.set(database=os.path.realpath(expanded(database, who)))


def table_names(table: str) -> tuple[str, str]:
    """Return schema and name of the setting `table`."""
    schema, name = split_name(table)
    return schema or MAIN, name


def _place_name(table: str) -> str:
    return ".".join(table_names(table)).lower()  # names do not distinguish case


DUCKDB = Database(
    name="DuckDB",
    backends=("duckdb",),
    package="hygge.connectors.duckdb",
    is_file=True,
    suffixes=(".duckdb", ".ddb"),
    service_prefixes=_SERVICE,
    file_holds=(8, b"DUCK"),
    locks_out_writers=True,
    hashes_rows=True,
    own_catalog=True,
    default_schema=MAIN,
    is_cased=False,
    names=NameRules(cased_columns=False, only_ascii_case=True),
    home_heeds=frozenset({"on_value"}),
    home_lossy=_NOT_HELD,
    holds_nested=True,
    store_lossy=_NOT_HELD,
    also_sees="while a run commits, no other program can open the file",
    example="duckdb:///path/to.duckdb",
    normalized=normalized,
    place_name=_place_name,
)
