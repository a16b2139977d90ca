"""The table of a PostgreSQL session in which rows are tried: see `hygge.connectors.sql.trial`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from hygge.batches import plain
from hygge.connectors.postgres import session
from hygge.connectors.postgres.load import load
from hygge.connectors.postgres.target import names_of
from hygge.connectors.postgres.types import new_columns
from hygge.connectors.sql.goal import Goal, stored
from hygge.connectors.sql.rules import SCRATCH
from hygge.connectors.sql.rules import may_mend as may_mend
from hygge.connectors.sql.rules import rules_of as rules_of
from hygge.connectors.sql.target import ORDINAL
from hygge.errors import UnfitValue

if TYPE_CHECKING:
    import sqlalchemy as sa

_BATCH = "pg_temp._hygge_batch"


@contextmanager
def scratch(goal: Goal, columns: Sequence[str]) -> Iterator[_Scratch]:
    """Make the table for these columns of the target; it ends with its session."""
    with session.opened(goal, "trial") as connection:
        yield _Scratch(connection, goal, columns)


class _Scratch:
    def __init__(self, connection: sa.Connection, goal: Goal, columns: Sequence[str]) -> None:
        self.connection, self.goal, self.columns = connection, goal, columns
        self.quote = session.quoted
        with session.transaction(connection):
            # A row that a policy hides would look like one that is not there.
            session.execute(connection, "SET row_security = off")
            session.execute(connection, "SET idle_in_transaction_session_timeout = 0")
            target = names_of(connection, goal, "trial").target
            session.execute(
                connection,
                f"CREATE TEMPORARY TABLE {SCRATCH} AS SELECT {session.quoted_list(columns)}, "
                f"0::bigint AS {ORDINAL} FROM {target} LIMIT 0",
            )
            self.types = dict(
                session.fetch_all(
                    connection,
                    "SELECT attname, format_type(atttypid, -1) FROM pg_attribute "
                    f"WHERE attrelid = 'pg_temp.{SCRATCH}'::regclass AND attnum > 0",
                )
            )

    def load(self, rows: pa.Table, start: int) -> None:
        numbers = pa.array(range(start, start + rows.num_rows), pa.int64())
        rows = plain(rows).append_column(pa.field(ORDINAL, pa.int64(), False), numbers)
        schema = stored(self.goal, rows.schema).remove_metadata()
        columns = new_columns(self.connection, schema)
        made = ", ".join(f"{self.quote(column.name)} {column.type}" for column in columns)
        # A text takes the type of its column by a cast; the type has no length here, which cuts.
        values = ", ".join(f"{self.quote(name)}::{self.types[name]}" for name in schema.names)
        listed = session.quoted_list(schema.names)
        try:
            with session.transaction(self.connection):
                session.execute(
                    self.connection,
                    f"CREATE TEMPORARY TABLE _hygge_batch ({made}) ON COMMIT DROP",
                )
                load(self.connection, self.goal, _BATCH, schema, iter([rows]), lambda: None)
                session.execute(
                    self.connection,
                    f"INSERT INTO {SCRATCH} ({listed}) SELECT {values} FROM {_BATCH}",
                )
        except UnfitValue:
            raise
        except Exception as error:
            raise _as_unfit(error, self.goal.who) from error

    def ask(self, sql: str) -> list[tuple[int, ...]]:
        with session.store_errors(self.goal), session.transaction(self.connection):
            return session.fetch_all(self.connection, sql)

    def do(self, sql: str) -> None:
        with session.store_errors(self.goal), session.transaction(self.connection):
            session.execute(self.connection, sql)


def _as_unfit(error: Exception, who: str) -> Exception:
    """Return an error of a value that its column does not take as UnfitValue; others as they are.

    Such are errors of the classes 22 (data) and 23 (the rules of a domain).
    """
    state = str(getattr(error, "sqlstate", None) or "")
    if not state.startswith(("22", "23")):
        return error
    said = str(error).strip().partition("\n")[0]
    return UnfitValue(f"{who}: {said}")
