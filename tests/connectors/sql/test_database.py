"""The object of each database, and that nobody outside of the connectors knows one by name."""

from __future__ import annotations

import ast
import re
from dataclasses import fields

import pytest

from hygge import SQLHome, SQLStore
from hygge.connectors.databases.connection import connection_url, place
from hygge.connectors.databases.known import DATABASES, database_of
from hygge.errors import ConfigError
from tests import ROOT

NAMES = re.compile(r"postgres|psycopg|mysql|mariadb|sqlite|duckdb|oracle|mssql", re.IGNORECASE)


def names_of_databases(path) -> list[str]:
    """The string constants and names of a module, but for its docstrings, that name a database."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        text = None
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            text = node.value
        elif isinstance(node, ast.Name):
            text = node.id
        elif isinstance(node, ast.ImportFrom):
            text = node.module
        if text and NAMES.search(text):
            found.append(f"{path.name}:{getattr(node, 'lineno', 0)}: {text}")
    return found


@pytest.mark.parametrize("room", ["config", "run", "journal", "coordinator", "cli", "report"])
def test_no_database_is_known_by_name_outside_of_the_connectors(room):
    found = [
        name for path in (ROOT / "hygge" / room).rglob("*.py") for name in names_of_databases(path)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("url", "name", "package"),
    [
        ("postgresql://h/d", "PostgreSQL", "postgres"),
        ("postgres://h/d", "PostgreSQL", "postgres"),
        ("postgresql+asyncpg://h/d", "PostgreSQL", "postgres"),
        ("postgresql+psycopg2://h/d", "PostgreSQL through psycopg2", "anysql"),
        ("mysql://h/d", "MariaDB", "mariadb"),
        ("MariaDB+pymysql://h/d", "MariaDB", "mariadb"),
        ("sqlite:///x.db", "SQLite", "sqlite"),
        ("mssql+pyodbc://h/d", "SQL Server", "anysql"),
        ("snowflake://h/d", "snowflake", "anysql"),
    ],
)
def test_a_url_means_one_database(url, name, package):
    database = database_of(url)
    assert (database.name, database.package.rsplit(".", 1)[1]) == (name, package)


@pytest.mark.parametrize("database", DATABASES, ids=lambda database: database.name)
def test_an_object_is_as_complete_as_its_code(database):
    for verb in ("planned", "read", "NEEDS"):
        assert hasattr(database.home(), verb)
    for verb in ("head", "prepare", "stage", "resume", "commit", "discard", "NEEDS"):
        assert hasattr(database.store(), verb)
    assert callable(database.catalog().tables)
    assert hasattr(database.home(), "held") or not database.holds_snapshots
    assert hasattr(database.store(), "takes") or not database.passes_through
    assert hasattr(database.sizes(), "sizes") or not database.tells_sizes
    option_names = {field.name for field in fields(database)}
    assert {"heeds", "is_file", "names"} <= option_names


def test_a_connection_and_a_place_are_what_they_were():
    assert connection_url("postgres://u:p@h/d", "t") == "postgresql+psycopg://u:p@h/d"
    assert connection_url("mysql://h/d", "t") == "mysql+pymysql://h/d"
    assert connection_url("mssql+pyodbc://h/d", "t") == "mssql+pyodbc://h/d"
    assert place("postgresql+psycopg://u@H/d", "t") == "postgresql://h:5432/d#public.t"
    assert place("mariadb+pymysql://h/d", "a.t") == "mariadb://h:3306/d#a.t"
    assert place("sqlite:////x/y.db", 'main."T"') == "sqlite:/x/y.db#t"


def test_a_database_that_is_a_file_is_on_disk_and_a_server_is_not(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    assert SQLHome("t", connection=url).on_disk() == f"{tmp_path}/x.db"
    assert SQLStore("t", connection=url).on_disk() == f"{tmp_path}/x.db"
    assert SQLStore("t", connection="postgresql://h/d").on_disk() is None


@pytest.mark.parametrize("connector", [SQLHome, SQLStore])
def test_a_misspelt_key_is_named_with_the_nearest_one(connector):
    with pytest.raises(ConfigError, match="does not know 'conection'") as caught:
        connector("t", conection="sqlite:///x.db")
    assert "did you mean 'connection'?" in (caught.value.hint or "")
