"""SQL that is run as it stands, through any driver.

SQLAlchemy writes two percent signs for one in a name, where the driver makes one of them again. A
driver does so only for a statement with parameters: these have none, and `%` means itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy as sa


def quoter(connection: sa.Connection) -> Callable[[str], str]:
    """Return what writes a name in the quotes of a database, if it needs some, for `run_plain`."""
    preparer = connection.dialect.identifier_preparer
    return lambda name: _single(connection, str(preparer.quote(name)))


def quoted_table(connection: sa.Connection, schema: str | None, name: str) -> str:
    """Return the name of a table for `run_plain`; `schema` is None where it is the usual one."""
    import sqlalchemy as sa

    preparer = connection.dialect.identifier_preparer
    return _single(connection, str(preparer.format_table(sa.table(name, schema=schema))))


def _single(connection: sa.Connection, quoted: str) -> str:
    """Return a name in quotes, with each percent sign once."""
    is_doubled = "%%" in str(connection.dialect.identifier_preparer.quote("%"))
    return quoted.replace("%%", "%") if is_doubled else quoted


def run_plain(connection: sa.Connection, sql: str) -> sa.CursorResult[Any]:
    """Run a statement as it stands."""
    return connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
