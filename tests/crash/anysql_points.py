"""Kill a run at each of its statements that change something in a database of SQLAlchemy's.

The database is the PostgreSQL of the tests, through psycopg2: for that driver hygge has nothing of
its own. The statements are found in a connection and a cursor that psycopg2 itself is asked for.
The rest is as in `postgres_points`: killed before each of them and after each COMMIT, nothing is
restored between two points, one line of JSON is printed.

    python -m tests.crash.anysql_points <mode> <url> <schema> <folder> [head apart]
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psycopg2
from psycopg2.extensions import connection as PlainConnection
from psycopg2.extensions import cursor as PlainCursor

from hygge import Flow
from tests.crash.postgres_points import CHANGES, main


class Point:
    """The number of the point that comes next, and of the one at which the process is killed."""

    number, last = 0, -1

    @classmethod
    def reached(cls) -> None:
        if cls.number == cls.last:
            os.kill(os.getpid(), signal.SIGKILL)
        cls.number += 1


class Cursor(PlainCursor):
    def changes(self, query: str | bytes) -> None:
        text = query if isinstance(query, str) else query.decode()
        if CHANGES.match(text):
            Point.reached()
            self.connection.has_changes = True

    def execute(self, query: str | bytes, *given: object) -> None:
        self.changes(query)
        super().execute(query, *given)

    def executemany(self, query: str | bytes, *given: object) -> None:
        self.changes(query)
        super().executemany(query, *given)


class Connection(PlainConnection):
    has_changes = False

    def commit(self) -> None:
        changed, self.has_changes = self.has_changes, False
        if changed:
            Point.reached()
        super().commit()
        if changed:
            Point.reached()


def dying(moving: Flow, point: int) -> Callable[[], object]:
    """Return the work of a run that is killed at the point of this number."""
    real = psycopg2.connect

    def connect(*given: object, **named: object) -> PlainConnection:
        return real(*given, **named, connection_factory=Connection, cursor_factory=Cursor)

    def work() -> None:
        psycopg2.connect = connect
        Point.last = point
        moving.run()

    return work


if __name__ == "__main__":
    main(dying, "postgresql+psycopg2:")
