"""One state of a PostgreSQL database for all lanes of a run.

The driver's session takes ACCESS SHARE locks first, then its snapshot, and exports it; it stands in
that transaction until the run ends. The locks come first because TRUNCATE and everything else that
writes a table anew is not in any snapshot: who waited for the lock sees the new file with the old
snapshot. What cannot be locked beforehand (a materialised view, a table of which only columns may
be read) is locked by planning its SELECT, and the file that stands then must be the snapshot's.

A lane joins by the snapshot's name; once the driver's session is gone nobody can, and no other
snapshot is ever read instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from hygge.connectors.postgres.session import application, in_words, literal, quoted, session
from hygge.connectors.sql.connection import split_name
from hygge.errors import HomeError, SourceChanged, Transient, UnfitValue, without_password

_TRIES = 5
_WAIT_FOR_LOCKS = "30s"
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_NOT_THE_SNAPSHOTS = """
SELECT c.oid::regclass::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.database IN
  (SELECT oid FROM pg_database WHERE datname = current_database())
AND c.relkind IN ('r', 'm') AND c.relfilenode <> 0
AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
"""
_WHO_HOLDS = """
SELECT l.relation::regclass::text, a.pid, a.application_name, l.granted
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND a.pid <> pg_backend_pid()
AND l.database IN (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY l.granted DESC LIMIT 1
"""


@contextmanager
def reading(url: str, who: str, name: str) -> Iterator[Any]:
    """A session that reads, with what goes wrong at a Home in its words."""
    with session(url, who, HomeError, name, read_only=True) as connection, worded(connection, who):
        connection.execute(
            f"SELECT set_config('lock_timeout', '{_WAIT_FOR_LOCKS}', false) "
            "WHERE current_setting('lock_timeout') = '0'"
        )
        yield connection


@contextmanager
def worded(connection: Any, who: str) -> Iterator[None]:
    """psycopg's errors in the words of a Home that reads."""
    import psycopg

    with in_words(who, HomeError):
        try:
            yield
        except psycopg.errors.LockNotAvailable as error:
            raise _locked_out(connection, who) from error
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


def _locked_out(connection: Any, who: str) -> Transient:
    holder = None
    with suppress(Exception):
        connection.execute("ROLLBACK")
        holder = connection.execute(_WHO_HOLDS).fetchone()
    if holder is None:
        return Transient(
            f"{who}: the table is locked by another session",
            "end its transaction, then run again",
        )
    table, pid, name, granted = holder
    does = "holds" if granted else "waits for"
    return Transient(
        f"{who}: session {pid} ({name or 'without a name'}) {does} an exclusive lock on {table}, "
        "which lets nobody else read",
        f"wait for its end, or end it: SELECT pg_terminate_backend({pid})",
    )


def begin(connection: Any, who: str, snapshot: str | None) -> None:
    """Begin to read: in the state that `snapshot` names, or in one of its own."""
    import psycopg

    connection.execute(_BEGIN)
    if snapshot is None:
        return
    try:
        connection.execute(f"SET TRANSACTION SNAPSHOT {literal(snapshot)}")
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
    touch: Callable[[Any], None] = lambda connection: None,
) -> Iterator[tuple[Any, str]]:  # fmt: skip
    """A session in its transaction and the name of the snapshot that it exports, until the end.

    `tables` (as SQL writes them) are locked before the snapshot is taken, as far as the rights go;
    `touch(connection)` plans what will be read, which locks the rest.
    """
    with reading(url, who, application(flow)) as connection:
        waits_for_ever(connection)
        for _ in range(_TRIES):
            connection.execute(_BEGIN)
            for table in tables:
                _lock(connection, table)
            (snapshot,) = connection.execute("SELECT pg_export_snapshot()").fetchone()
            touch(connection)
            anew = connection.execute(_NOT_THE_SNAPSHOTS).fetchall()
            if not anew:
                break
            connection.execute("ROLLBACK")
        else:
            raise Transient(
                f"{who}: {anew[0][0]} is written anew again and again (TRUNCATE, REFRESH)",
                "run again when that is over",
            )
        failed: BaseException | None = None
        try:
            yield connection, snapshot
        except (
            BaseException
        ) as error:  # of the run meanwhile: not of this session, nor in its words
            failed = error
    if failed is not None:
        raise failed


def waits_for_ever(connection: Any) -> None:
    """Let a session stand in its transaction as long as the run goes on."""
    connection.execute("SET idle_in_transaction_session_timeout = 0")
    if connection.info.server_version >= 170000:
        connection.execute("SET transaction_timeout = 0")


def _lock(connection: Any, table: str) -> None:
    import psycopg

    connection.execute("SAVEPOINT one")
    try:
        connection.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType):
        connection.execute("ROLLBACK TO SAVEPOINT one")
    connection.execute("RELEASE SAVEPOINT one")


@contextmanager
def held(
    url: str, who: str, flow: str | None, tables: Sequence[str], readers: Callable[[], int]
) -> Iterator[tuple[str | None, str]]:
    """Hold one snapshot for many tables (`table` or `schema.table` each), until the end.

    Gives its name, for `Ask.snapshot`, and why there is none, which is never. Any number of readers
    may use it. No table can be written anew meanwhile.
    """
    named = [quoted(*split_name(table)) for table in tables]

    def touch(connection: Any) -> None:
        for table in named:
            connection.execute(f"EXPLAIN SELECT FROM {table}")

    with holding(url, who, flow, named, touch) as (_, snapshot):
        yield snapshot, ""
