"""How MariaDB and MySQL are asked what a user may do with tables that a run will make."""

from __future__ import annotations

NO_TABLE = (1051, 1146)
"""What they answer to a statement on a table that is not there, where the right is."""


def asking(table: str) -> tuple[str, ...]:
    """Return statements on `table`, a quoted name that no table has: they change nothing.

    They are those of a run, which drops its own tables at the end.

    The server refuses for want of a right before it looks for the table. It never carries out what
    is only prepared.
    """
    return (
        f"PREPARE hygge FROM 'CREATE TABLE {table} (a int)'",
        "DEALLOCATE PREPARE hygge",
        f"SELECT 1 FROM {table}",
        f"INSERT INTO {table} VALUES (1)",
        f"UPDATE {table} SET a = 1",
        f"DELETE FROM {table}",
        f"DROP TABLE {table}",
    )
