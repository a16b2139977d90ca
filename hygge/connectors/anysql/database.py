"""What others ask about databases that have no code of their own and go through SQLAlchemy."""

from __future__ import annotations

from dataclasses import replace

from hygge.connectors.sql.database import INEXACT, NESTED, Database, zoned
from hygge.connectors.sql.names import NameRules

ANYSQL = Database(
    name="any other database",
    backends=(),
    package="hygge.connectors.anysql",
    store_lossy=(*NESTED, *INEXACT, "string holding NUL", "uint64", *zoned(("",))),
)
KNOWN = (
    replace(
        ANYSQL,
        name="SQL Server",
        backends=("mssql",),
        port=1433,
        is_cased=False,
        names=NameRules(longest=128, cased_columns=False),
    ),
    replace(ANYSQL, name="Oracle", backends=("oracle",), port=1521),
)
"""Those of which more is known than the name."""
NAMES = (
    "snowflake", "bigquery", "redshift", "cockroachdb", "clickhouse", "trino", "databricks",
    "vertica",
)  # fmt: skip
"""Backends of SQLAlchemy's plug-ins, for near misses only."""


def through_sqlalchemy(database: Database, name: str) -> Database:
    """The same database where its own code does not fit, by the name `name` for people."""
    return replace(
        database,
        name=name,
        package=ANYSQL.package,
        heeds=ANYSQL.heeds,
        splits_by_several_columns=ANYSQL.splits_by_several_columns,
        holds_snapshots=ANYSQL.holds_snapshots,
        sets_aside=ANYSQL.sets_aside,
        tells_sizes=ANYSQL.tells_sizes,
        passes_through=ANYSQL.passes_through,
        home_lossy=ANYSQL.home_lossy,
        json_type=ANYSQL.json_type,
        also_sees=ANYSQL.also_sees,
        is_served_by=ANYSQL.is_served_by,
    )
