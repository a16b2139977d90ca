"""The databases that hygge knows, and which of them a URL means.

A new database is one folder beside this one, and one line in `DATABASES`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from hygge.connectors.anysql.database import ANYSQL, KNOWN, NAMES, through_sqlalchemy
from hygge.connectors.mariadb.database import MARIADB
from hygge.connectors.postgres.database import POSTGRES
from hygge.connectors.sql.database import Database
from hygge.connectors.sqlite.database import SQLITE
from hygge.errors import HyggeError

DATABASES = (POSTGRES, MARIADB, SQLITE, *KNOWN)

FILE = next(database for database in DATABASES if database.is_file)
SERVER = next(database for database in DATABASES if not database.is_file)
"""The databases that hints take as examples."""


def database_of(url: str) -> Database:
    """The database that a URL means, by its words before `://`."""
    backend, _, driver = url.partition(":")[0].lower().partition("+")
    for database in DATABASES:
        if backend not in (*database.backends, *database.aliases):
            continue
        driver = dict(database.sync_drivers).get(driver, driver)
        if driver and database.drivers and driver not in database.drivers:
            return through_sqlalchemy(database, f"{database.name} through {driver}")
        return database
    return replace(ANYSQL, name=backend, backends=(backend,))


def reached(url: str, who: str, side: type[HyggeError]) -> Database:
    """The database that answers at a URL; `side` is HomeError or StoreError.

    The server is asked where the URL alone does not tell, once in each process: a `mysql://` URL
    may mean MariaDB or MySQL.
    """
    database = database_of(url)
    if database.is_served_by is None or database.is_served_by(url, who, side):
        return database
    return through_sqlalchemy(database, database.other_server)


def backends() -> tuple[str, ...]:
    """Every backend of a URL that has a name here."""
    return (*(backend for database in DATABASES for backend in database.backends), *NAMES)


def that_heed(option: str) -> str:
    """The names of the databases that heed an option, for people."""
    return " and ".join(database.name for database in DATABASES if option in database.heeds)


def driver_that_heeds(database: Database, option: str) -> str | None:
    """The driver through which the same server heeds an option, where there is one."""
    for known in DATABASES:
        if known.drivers and known.backends == database.backends and option in known.heeds:
            return known.drivers[0]
    return None


def with_driver(url: str) -> str:
    """The URL with the backend and the driver that hygge uses where it names another or none."""
    match = re.match(r"([^:+]*)(?:\+([^:]*))?(?=:)", url)
    if match is None:
        return url
    database, driver = database_of(url), match[2]
    backend = database.backends[0] if match[1].lower() in database.aliases else match[1]
    driver = dict(database.sync_drivers).get(driver, driver) or database.default_driver
    return (f"{backend}+{driver}" if driver else backend) + url[match.end() :]
