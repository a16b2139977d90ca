"""PostgreSQL for the rest of hygge: names, drivers, limits and abilities."""

from __future__ import annotations

from hygge.connectors.sql.database import INEXACT, NAMED_ZONES, NESTED, Database, zoned
from hygge.connectors.sql.names import NameRules

_LOSSY = (*NESTED, *INEXACT, "string holding NUL", *zoned(NAMED_ZONES))

POSTGRES = Database(
    name="PostgreSQL",
    backends=("postgresql",),
    package="hygge.connectors.postgres",
    aliases=("postgres",),
    drivers=("psycopg",),
    sync_drivers=(("asyncpg", "psycopg"),),
    default_driver="psycopg",
    timeout_drivers=("psycopg", "psycopg2", "asyncpg"),
    names=NameRules(
        longest=63,
        in_bytes=True,
        system_columns=frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}),
    ),
    port=5432,
    default_schema="public",
    heeds=frozenset({"consistency", "on_value", "create_types"}),
    splits_by_several_columns=True,
    holds_snapshots=True,
    passes_through=True,
    home_lossy=_LOSSY,
    store_lossy=_LOSSY,
    json_type="json",
    wider_types=(
        ("uint64", "numeric(20,0)"),
        ("uint32", "bigint"),
        ("uint16", "integer"),
        ("uint8", "smallint"),
    ),
    also_sees="a table that is new, or has new columns, is empty to a REPEATABLE READ transaction "
    "that is older than the rows",
    example="postgresql://user@host/db",
)
