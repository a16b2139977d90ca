"""Whether a run table holds the rows of its receipts, and no others.

A row and its seal are of one transaction, and COPY told how many rows it took. So a seal proves the
rows of its split, as long as nothing was taken out of the table afterwards. The server itself keeps
account of that: of the rows that all transactions inserted, deleted and updated in the table since
it was made. Where this account says that exactly the rows of the receipts were inserted, and none
deleted or changed, they are all there. Everywhere else they are counted: after a crash of the
server (which forgets the account, and empties an unlogged table), after a try that failed (whose
rows the account has too), after rows were removed, where somebody has turned the account off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hygge.connectors.postgres import session
from hygge.connectors.postgres.catalog import has_relation
from hygge.connectors.postgres.ledger import seals
from hygge.connectors.postgres.target import rows_table, schema_of
from hygge.connectors.sql.commit import check_staged
from hygge.connectors.sql.goal import Goal
from hygge.errors import Rejected, Transient
from hygge.model import Receipt, Run

if TYPE_CHECKING:
    import sqlalchemy as sa

_REPORTS_SINCE = 150_000
"""The version since which a session can be made to report its share of the account at once."""
# The file is the one that the table was made with: TRUNCATE, and whatever else writes a table anew,
# gives it another one.
_ACCOUNT = """
SELECT pg_stat_get_tuples_inserted(oid),
    pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid)
FROM pg_class WHERE oid = %s::regclass AND pg_relation_filenode(oid) = oid AND relpersistence = 'p'
"""


def report(connection: sa.Connection) -> None:
    """Let the server add to its account what this session did, at the end of its transaction."""
    if session.driver_connection(connection).info.server_version >= _REPORTS_SINCE:
        session.fetch_all(connection, "SELECT pg_stat_force_next_flush()")


def count_staged(
    connection: sa.Connection, goal: Goal, run: Run, receipts: Sequence[Receipt], table: str
) -> int:
    """Check that the run table holds the rows of these receipts and no others; return their count.

    The caller holds a lock on it under which nobody can load. Raises Rejected where rows of a
    receipt are not there, Transient where there are rows of no receipt: the next try deletes them.
    """
    sealed = seals(connection, goal, run.id)
    has_table = has_relation(connection, schema_of(connection, goal), rows_table(run.id))
    wanted = 0
    for receipt in receipts:
        match = sealed.pop((receipt.ticket.split, receipt.ticket.epoch), None)
        rows = match.rows if match and match.ticket == receipt.ticket else None
        # Rows that are sealed in a table that is gone are missing; no rows need no table.
        check_staged(receipt, rows, rows if has_table or not rows else None, goal.who)
        wanted += receipt.rows
    if any(other.rows for other in sealed.values()):
        raise Transient(
            f"{goal.who}: a try that nobody waits for sealed its rows in this moment",
            "its rows are removed, and the commit is tried again",
        )
    if has_table and not _is_accounted_for(connection, table, wanted):
        (count,) = session.fetch_one(connection, f"SELECT count(*) FROM {table}")
        if count != wanted:
            raise Rejected(
                f"{goal.who}: {wanted:,} rows were staged, but {count:,} rows can be found",
                "its staging was changed; run again",
            )
    return wanted


def _is_accounted_for(connection: sa.Connection, table: str, wanted: int) -> bool:
    """True if the server itself says that so many rows were inserted, and none taken out."""
    return session.fetch_all(connection, _ACCOUNT, table) == [(wanted, 0)]
