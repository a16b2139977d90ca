"""Tables of PostgreSQL that inherit from the target: a DELETE of its rows takes theirs along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hygge.connectors.sql.target import Target
from hygge.errors import StoreError

if TYPE_CHECKING:
    import sqlalchemy as sa

# The partitions of a partitioned table are the table itself.
_INHERITING = """
SELECT inhrelid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = coalesce(:schema, current_schema()) AND c.relname = :name AND c.relkind <> 'p'
ORDER BY 1 LIMIT 1
"""


def check_inheriting(connection: sa.Connection, target: Target, who: str) -> None:
    """Raise StoreError where a table inherits from the target, whose rows are to be deleted.

    PostgreSQL alone has such tables. It is asked once more under the lock of the table, below which
    no table can begin to inherit from it.
    """
    import sqlalchemy as sa

    if target.dialect != "postgresql":
        return
    values = {"schema": target.schema, "name": target.name}
    child = connection.execute(sa.text(_INHERITING), values).scalar()
    if child is not None:
        raise StoreError(
            f"{who} has tables that inherit from it ({child}), whose rows would be deleted with "
            "its own",
            "name one of these tables, or use `mode: append`",
        )
