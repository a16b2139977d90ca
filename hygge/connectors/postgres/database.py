"""PostgreSQL for the rest of hygge: names, drivers, limits and abilities."""

from __future__ import annotations

from hygge.connectors.sql.database import INEXACT, NAMED_ZONES, NESTED, Database, zoned
from hygge.connectors.sql.names import NameRules

_LOSSY = (*NESTED, *INEXACT, "string holding NUL", *zoned(NAMED_ZONES))

# A table that was never analysed has no estimate; rows and bytes of a partitioned table are those
# of its partitions. The bytes of a table that somebody locks are not asked for: that would wait.
_SIZES = """
SELECT n.nspname, c.relname, s.rows, CASE WHEN NOT s.is_locked THEN s.bytes END, s.is_locked
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT CASE WHEN min(CASE WHEN p.reltuples > 0 THEN 1 ELSE 0 END) = 1 THEN sum(p.reltuples) END
           AS rows, sum(CASE WHEN l.relation IS NULL THEN pg_table_size(p.oid) END) AS bytes,
         count(l.relation) > 0 AS is_locked
  FROM pg_class p LEFT JOIN (
    SELECT DISTINCT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  ) l ON l.relation = p.oid
  WHERE p.relkind IN ('r', 'm') AND (p.oid = c.oid OR c.relkind = 'p' AND p.oid IN (
    SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE t.isleaf))) s
WHERE c.relkind IN ('r', 'p', 'm')
"""

POSTGRES = Database(
    name="PostgreSQL",
    backends=("postgresql",),
    package="hygge.connectors.postgres",
    sets_aside=True,
    aliases=("postgres",),
    drivers=("psycopg",),
    sync_drivers=(("asyncpg", "psycopg"),),
    default_driver="psycopg",
    timeout_drivers=("psycopg", "psycopg2", "asyncpg"),
    names=NameRules(
        longest=63,
        in_bytes=True,
        most_columns=1600,
        system_columns=frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}),
    ),
    port=5432,
    default_schema="public",
    heeds=frozenset({"consistency", "on_value", "create_types"}),
    splits_by_several_columns=True,
    holds_snapshots=True,
    tells_sizes=True,
    passes_through=True,
    hashes_rows=True,
    home_lossy=tuple(kind for kind in _LOSSY if kind != "fixed_size_binary"),  # all its bytes come
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
    estimates=_SIZES,
    example="postgresql://user@host/db",
)
