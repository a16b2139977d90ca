"""One state of a PostgreSQL database for all lanes of a run.

The driver's session takes ACCESS SHARE locks first, then its snapshot, and exports it. It stays in
that transaction until the run ends. The locks come first, since TRUNCATE and other commands that
write a table anew ignore snapshots: a session that waited for the lock would see the new file with
the old snapshot. What cannot be locked beforehand (a materialised view, a table of which only some
columns may be read) is locked by planning its SELECT; then its file must still be the one that the
snapshot shows.

A lane joins by the snapshot's name. When the driver's session is gone no lane can join any more,
and no other snapshot is ever read instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hygge.connectors.postgres import idle, session
from hygge.connectors.postgres.session import literal, quoted
from hygge.connectors.sql.connection import split_name
from hygge.errors import HomeError, SourceChanged, Transient, UnfitValue, without_password

if TYPE_CHECKING:
    import psycopg

_TRIES = 5
_WAIT_FOR_LOCKS = "30s"
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Tables that this session has locked, and whose file is not the one that its snapshot shows: they
# were written anew between the two.
_WRITTEN_ANEW = """
SELECT c.oid::regclass::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.database IN
  (SELECT oid FROM pg_database WHERE datname = current_database())
AND c.relkind IN ('r', 'm') AND c.relfilenode <> 0
AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
"""
# Who keeps readers out: who holds an exclusive lock, else who waits for one before them.
_LOCK_HOLDER = """
SELECT l.relation::regclass::text, a.pid, a.application_name, l.granted
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND a.pid <> pg_backend_pid()
AND l.database IN (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY l.granted DESC LIMIT 1
"""


@contextmanager
def reading(url: str, who: str, name: str, is_last: bool = False) -> Iterator[psycopg.Connection]:
    """Open a session that reads; its errors are those of `home_errors`.

    It waits 30 s for a lock, unless the URL or the user's settings say otherwise.
    """
    with (
        session.connected(url, who, HomeError, name, read_only=True, is_last=is_last) as connection,
        home_errors(connection, who),
    ):
        session.fetch_all(
            connection,
            f"SELECT set_config('lock_timeout', '{_WAIT_FOR_LOCKS}', false) "
            "WHERE current_setting('lock_timeout') = '0'",
        )
        yield connection


@contextmanager
def home_errors(connection: psycopg.Connection, who: str) -> Iterator[None]:
    """Raise psycopg's errors as HomeError, Transient or UnfitValue, with advice for reading."""
    import psycopg

    with session.translated_errors(who, HomeError):
        try:
            yield
        except psycopg.errors.LockNotAvailable as error:
            raise _lock_error(connection, who) from error
        except (
            psycopg.errors.CharacterNotInRepertoire,
            psycopg.errors.UntranslatableCharacter,
        ) as error:
            raise UnfitValue(
                f"{who}: {without_password(error).strip()}",
                "mend the text in the database, leave these rows out with `where`, or read its "
                "bytes with a query",
            ) from error
        except psycopg.DataError as error:
            raise UnfitValue(
                f"{who}: {without_password(error).strip()}",
                "the database cannot compute a value of `query`, of `where` or of the view: mend "
                "it, or leave these rows out with `where`",
            ) from error
        except psycopg.Error as error:
            if "conflict with recovery" in str(error):
                raise Transient(
                    f"{who}: {without_password(error)}".strip(),
                    "this is a replica that removed what the snapshot still needs: set "
                    "hot_standby_feedback = on there, or raise max_standby_streaming_delay, or "
                    "read the primary",
                ) from error
            raise


def _lock_error(connection: psycopg.Connection, who: str) -> Transient:
    """Return the error that names who holds the lock, if that can be found out."""
    holders = []
    with suppress(Exception):
        session.execute(connection, "ROLLBACK")
        holders = session.fetch_all(connection, _LOCK_HOLDER)
    if not holders:
        return Transient(
            f"{who}: the table is locked by another session",
            "end its transaction, then run again",
        )
    table, pid, name, is_granted = holders[0]
    does = "holds" if is_granted else "waits for"
    return Transient(
        f"{who}: session {pid} ({name or 'without a name'}) {does} an exclusive lock on {table}, "
        "which lets nobody else read",
        f"wait for its end, or end it: SELECT pg_terminate_backend({pid})",
    )


def begin(connection: psycopg.Connection, who: str, snapshot: str | None) -> None:
    """Begin a transaction that reads the state of `snapshot`, or a state of its own for None.

    Raises SourceChanged where the snapshot is gone.
    """
    import psycopg

    session.execute(connection, _BEGIN)
    if snapshot is None:
        return
    try:
        session.execute(connection, f"SET TRANSACTION SNAPSHOT {literal(snapshot)}")
    except (
        psycopg.errors.InvalidParameterValue,
        psycopg.errors.UndefinedObject,
        psycopg.errors.UndefinedFile,
        psycopg.errors.ObjectNotInPrerequisiteState,
    ) as error:
        raise SourceChanged(
            f"{who}: the snapshot {snapshot} of this run is gone, since the session of the driver "
            f"that held it ended ({without_password(error).strip()})",
            "was the server restarted, or the driver's connection cut? run again: it starts anew "
            "with a new snapshot; `consistency: split` needs none (on a replica: "
            "hot_standby_feedback = on)",
        ) from error


@contextmanager
def holding(
    url: str, who: str, flow: str | None, tables: Sequence[str],
    lock_rest: Callable[[psycopg.Connection], None] = lambda connection: None,
) -> Iterator[tuple[psycopg.Connection, str]]:  # fmt: skip
    """Hold a snapshot until the end; yields its session, in its transaction, and its exported name.

    `tables` (as SQL writes them) are locked before the snapshot is taken, as far as the rights go.
    `lock_rest(connection)` plans what will be read, which locks the rest; it is called again where
    a table was written anew in between.
    """
    with reading(url, who, session.application_name(flow), is_last=True) as connection:
        disable_idle_timeouts(connection)
        for _ in range(_TRIES):
            session.execute(connection, _BEGIN)
            for table in tables:
                _lock(connection, table)
            (snapshot,) = session.fetch_one(connection, "SELECT pg_export_snapshot()")
            lock_rest(connection)
            written_anew = session.fetch_all(connection, _WRITTEN_ANEW)
            if not written_anew:
                break
            session.execute(connection, "ROLLBACK")
        else:
            raise Transient(
                f"{who}: {written_anew[0][0]} is written anew again and again (TRUNCATE, REFRESH)",
                "run again when that is over",
            )
        # An error of the run is raised outside of `reading`: it is none of this session.
        failed: BaseException | None = None
        try:
            yield connection, snapshot
        except BaseException as error:
            failed = error
    if failed is not None:
        raise failed


def disable_idle_timeouts(connection: psycopg.Connection) -> None:
    """Let a session stay in its transaction for as long as the run goes on."""
    session.execute(connection, "SET idle_in_transaction_session_timeout = 0")
    if connection.info.server_version >= 170000:
        session.execute(connection, "SET transaction_timeout = 0")


def _lock(connection: psycopg.Connection, table: str) -> None:
    """Lock a table against being written anew, if the rights allow it."""
    import psycopg

    # The transaction goes on after a lock that is not allowed, back at the savepoint.
    session.execute(connection, "SAVEPOINT one")
    try:
        session.execute(connection, f"LOCK TABLE {table} IN ACCESS SHARE MODE")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType):
        session.execute(connection, "ROLLBACK TO SAVEPOINT one")
    session.execute(connection, "RELEASE SAVEPOINT one")


@contextmanager
def held(
    url: str, who: str, flow: str | None, tables: Sequence[str], readers: Callable[[], int]
) -> Iterator[tuple[str | None, str]]:
    """Hold one snapshot for many tables (`table` or `schema.table`) until the end.

    Yields its name, for `Ask.snapshot`, and why there is none, which is empty. Any number of
    readers may use it. No table can be written anew meanwhile.
    """
    quoted_tables = [quoted(*split_name(table)) for table in tables]

    def lock_rest(connection: psycopg.Connection) -> None:
        for table in quoted_tables:
            session.execute(connection, f"EXPLAIN SELECT FROM {table}")

    with idle.keeping(url), holding(url, who, flow, quoted_tables, lock_rest) as (_, snapshot):
        yield snapshot, ""
