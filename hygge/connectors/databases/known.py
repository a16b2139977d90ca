"""The databases that hygge knows, and the one that a URL means.

A new database is one folder beside this one, and one line in `DATABASES`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from hygge.connectors.anysql.database import ANYSQL, KNOWN, NAMES, through_sqlalchemy
from hygge.connectors.duckdb.database import DUCKDB
from hygge.connectors.mariadb.database import MARIADB
from hygge.connectors.postgres.database import POSTGRES
from hygge.connectors.sql.database import Database
from hygge.connectors.sqlite.database import SQLITE
from hygge.errors import HyggeError

DATABASES = (POSTGRES, MARIADB, SQLITE, DUCKDB, *KNOWN)

FILE = next(database for database in DATABASES if database.is_file)
SERVER = next(database for database in DATABASES if not database.is_file)
"""The databases whose URLs are the examples in hints."""


_LONGEST_START = 64


def database_of(url: str) -> Database:
    """Return the database that a URL means, by the backend and the driver before `://`."""
    backend, _, driver = url.partition(":")[0].lower().partition("+")
    for database in DATABASES:
        if backend not in (*database.backends, *database.aliases):
            continue
        driver = dict(database.sync_drivers).get(driver, driver)
        if driver and database.drivers and driver not in database.drivers:
            return through_sqlalchemy(database, f"{database.name} through {driver}")
        return database
    return replace(ANYSQL, name=backend, backends=(backend,))


def database_in(file: str) -> Database | None:
    """Return the database that a file is by its first bytes; None where it is another file."""
    with open(file, "rb") as opened:
        first = opened.read(_LONGEST_START)
    for database in DATABASES:
        at, held = database.file_holds or (0, b"")
        if held and first[at:].startswith(held):
            return database
    return None


def database_by_suffix(path: str) -> Database | None:
    """Return the database whose files have names that end like `path`."""
    name = path.lower()
    return next((each for each in DATABASES if name.endswith(each.suffixes or ("\0",))), None)


def is_of_service(name: str, database: Database) -> bool:
    """Return whether a database of this name is held by a service, and is no file."""
    return name.startswith(database.service_prefixes or ("\0",))


def service_url(name: str) -> str | None:
    """Return the URL of a database that a service holds, by its name; None for any other name."""
    for database in DATABASES:
        for backend in database.backends:
            own = name.removeprefix(f"{backend}:")
            if is_of_service(own, database):
                return f"{backend}:///{own}"
    return None


def reached(url: str, who: str, side: type[HyggeError]) -> Database:
    """Return the database that answers at a URL; errors of the connection are raised as `side`.

    The server is asked, once in each process, where the URL alone is not enough: at `mysql://` may
    be MariaDB or MySQL. `side` is HomeError or StoreError.
    """
    database = database_of(url)
    if database.is_served_by is None or database.is_served_by(url, who, side):
        return database
    return through_sqlalchemy(database, database.other_server)


def backends() -> tuple[str, ...]:
    """Return every backend of a URL that hygge knows by name."""
    return (*(backend for database in DATABASES for backend in database.backends), *NAMES)


def databases_with(option: str) -> str:
    """Return the names of the databases that support an option, joined for a message."""
    return " and ".join(database.name for database in DATABASES if option in database.heeds)


def unsupported(database: Database, option: str) -> tuple[str, list[str]]:
    """Return the message that a database does not support an option, and the hints."""
    hints = [f"take `{option}` out"]
    if driver := _driver_with(database, option):
        hints.append(f"connect through the driver {driver}")
    do = "do" if sum(option in known.heeds for known in DATABASES) > 1 else "does"
    return f"{database.name} does not support `{option}`; {databases_with(option)} {do}", hints


def _driver_with(database: Database, option: str) -> str | None:
    """Return the driver with which the same server supports an option, if there is one."""
    for known in DATABASES:
        if known.drivers and known.backends == database.backends and option in known.heeds:
            return known.drivers[0]
    return None


def with_driver(url: str) -> str:
    """Return the URL with the backend and the driver that hygge uses in the place of others."""
    match = re.match(r"([^:+]*)(?:\+([^:]*))?(?=:)", url)
    if match is None:
        return url
    database, driver = database_of(url), match[2]
    backend = database.backends[0] if match[1].lower() in database.aliases else match[1]
    driver = dict(database.sync_drivers).get(driver, driver) or database.default_driver
    return (f"{backend}+{driver}" if driver else backend) + url[match.end() :]
