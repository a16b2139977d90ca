"""Drivers that are not installed: which package to install for the URL of a connection."""

from __future__ import annotations

import importlib
import re

from hygge.errors import ConfigError

_DIALECTS = {
    "bigquery": "sqlalchemy-bigquery",
    "clickhouse": "clickhouse-sqlalchemy",
    "clickhousedb": "clickhouse-connect",
    "cockroachdb": "sqlalchemy-cockroachdb",
    "databricks": "databricks-sqlalchemy",
    "db2": "ibm-db-sa",
    "hana": "sqlalchemy-hana",
    "ibm_db_sa": "ibm-db-sa",
    "redshift": "sqlalchemy-redshift redshift-connector",
    "snowflake": "snowflake-sqlalchemy",
    "teradatasql": "teradatasqlalchemy",
    "trino": "'trino[sqlalchemy]'",
    "vertica": "sqlalchemy-vertica-python",
}
"""Backend of a URL → the package with its SQLAlchemy dialect, as `pip install` takes it."""
_WITHOUT_DIALECT = ("duckdb",)
"""Backends, named like their modules, that are not reached through SQLAlchemy."""
_MODULES = {
    "MySQLdb": "mysqlclient",
    "cx_Oracle": "cx_Oracle",
    "duckdb": "'duckdb>=1.5.6,<3'",
    "mysql": "mysql-connector-python",
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
    "pymysql": "'pymysql>=1.1,<2'",
    "snowflake": "snowflake-sqlalchemy",
}
"""Module of a driver → its package, where the two names differ."""
_NEEDS_MORE = {
    "pyodbc": "; it also needs Microsoft's ODBC driver on this machine: name it in the URL, "
    "?driver=ODBC+Driver+18+for+SQL+Server",
}


def check_driver(url: str, who: str) -> None:
    """Raise ConfigError unless the dialect and the driver of a URL are installed; nobody is asked.

    `who` names the connector in the message.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import NoSuchModuleError

    try:
        parsed = make_url(url)
        if parsed.get_backend_name() in _WITHOUT_DIALECT:
            importlib.import_module(parsed.get_backend_name())
        else:
            parsed.get_dialect().import_dbapi()
    except (NoSuchModuleError, ImportError) as error:
        raise missing_driver(who, error) from error


def missing_driver(who: str, error: Exception) -> ConfigError:
    """Return the error for a dialect or a driver that is not installed, with what to install."""
    dialect = re.search(r"sqlalchemy\.dialects:(\w+)(?:\.(\w+))?", str(error))
    if dialect is None:
        module = (getattr(error, "name", None) or "").partition(".")[0]
        package = _MODULES.get(module, module)
        what, more = f"the driver {module}", _NEEDS_MORE.get(module, "")
        if not module:
            return ConfigError(f"{who}: its driver cannot be loaded: {error}", "install it again")
        return ConfigError(
            f"{who}: {what} is not installed",
            f"pip install {package} (on every node of a cluster){more}",
        )
    backend, driver = dialect[1], dialect[2]
    if driver is not None and backend not in _DIALECTS:
        return ConfigError(
            f"{who}: SQLAlchemy knows no driver '{driver}' for {backend}",
            f"take '+{driver}' out of the URL: {backend}://…",
        )
    if backend in _DIALECTS:
        return ConfigError(
            f"{who}: the SQLAlchemy dialect of {backend} is not installed",
            f"pip install {_DIALECTS[backend]} (on every node of a cluster)",
        )
    return ConfigError(
        f"{who}: SQLAlchemy knows no database '{backend}'",
        f"check the word before :// in the URL, or install the package that brings the SQLAlchemy "
        f"dialect '{backend}'",
    )
