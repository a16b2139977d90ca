"""Publishing in PostgreSQL: the rows of a run table become those of the target, in one transaction.

`replace`, and a first load, exchange the tables: the run table takes the target's name, owner,
grants, comments and storage parameters. A snapshot shows the rows of the run table that were loaded
before it was taken, and no others. So a REPEATABLE READ transaction that began in the middle of the
load would see a part of the rows in the new table. While there is such a transaction, and where
something hangs on the old table, or another session holds it, the old rows are deleted and the new
ones are inserted instead.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hygge.connectors.postgres import session, target
from hygge.connectors.postgres.catalog import has_relation
from hygge.connectors.postgres.kept import changes, check_columns
from hygge.connectors.postgres.refusing import (
    ConvertedRows,
    RowsOfPostgres,
    take_unconvertible,
)
from hygge.connectors.postgres.staying import delete_rows
from hygge.connectors.postgres.target import Existing, Names, columns_of
from hygge.connectors.sql import ledger as sql_ledger
from hygge.connectors.sql.commit import broken_rule, check_all_in
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import not_ours
from hygge.connectors.sql.own_columns import own_columns
from hygge.connectors.sql.refusing import Range, put_all
from hygge.errors import Rejected, Transient
from hygge.model import Run

if TYPE_CHECKING:
    import sqlalchemy as sa

SWAP_WAIT_MS = 1000
"""The longest wait for sessions that hold the table; other sessions wait behind the exchange."""
HIDDEN_WAIT_S = 1.0
"""The longest wait for the end of transactions that this user may not look into."""


def add_key(connection: sa.Connection, goal: Goal, names: Names, key: tuple[str, ...]) -> None:
    """Add the primary key to the run table, if it is not there; Rejected where the rows break it.

    It is called before the commit locks anything, since building the index may take long.
    """
    import psycopg

    existing = session.fetch_all(
        connection,
        "SELECT 1 FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'", names.rows,
    )  # fmt: skip
    if existing:
        return
    name = session.quoted(f"{names.rows_name}_pkey")
    constraint = f"{name} PRIMARY KEY ({session.quoted_list(key)})"
    try:
        session.execute(connection, f"ALTER TABLE {names.rows} ADD CONSTRAINT {constraint}")
    except (psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded) as error:
        raise Rejected(
            f"{goal.who}: the rows do not keep to the primary key ({', '.join(key)}) that their "
            f"source has: {str(error).strip()}",
            "the source may have changed while it was read; run again, or read it with a query",
        ) from error


def build_key(connection: sa.Connection, goal: Goal, names: Names, key: tuple[str, ...]) -> bool:
    """Add the primary key to the run table; False where rows break it that may be set aside."""
    if goal.refused is None:
        add_key(connection, goal, names, key)
        return True
    session.execute(connection, "SAVEPOINT hygge_key")
    try:
        add_key(connection, goal, names, key)
    except Rejected:
        session.execute(connection, "ROLLBACK TO SAVEPOINT hygge_key")
        return False
    session.execute(connection, "RELEASE SAVEPOINT hygge_key")
    return True


def convert_texts(connection: sa.Connection, goal: Goal, run: Run, names: Names) -> None:
    """Give columns of the run table that are text the type that they have in the target.

    The type has no modifier here: whether a value keeps to its length is checked by the INSERT. The
    rows that the goal's `refused` takes are deleted.
    """
    columns = session.fetch_all(
        connection,
        "SELECT a.attname, format_type(t.atttypid, -1) FROM pg_attribute a "
        "JOIN pg_attribute t ON t.attname = a.attname AND t.attrelid = %s::regclass "
        "JOIN pg_type y ON y.oid = t.atttypid WHERE a.attrelid = %s::regclass AND a.attnum > 0 "
        "AND NOT a.attisdropped AND NOT t.attisdropped AND a.atttypid = 'text'::regtype "
        "AND y.typcategory <> 'S' AND coalesce(to_jsonb(t)->>'attgenerated', '') = ''",
        names.target, names.rows,
    )  # fmt: skip
    changes = [
        f"ALTER COLUMN {session.quoted(name)} TYPE {kind} USING {session.quoted(name)}::{kind}"
        for name, kind in columns
    ]
    if changes and goal.refused is not None:
        rows = ConvertedRows(connection, goal, run, names)
        rows.casts = [f"{session.quoted(name)}::{kind}" for name, kind in columns]
        take_unconvertible(rows)
    if changes:
        session.execute(connection, f"ALTER TABLE {names.rows} {', '.join(changes)}")


def replace(
    connection: sa.Connection,
    goal: Goal,
    run: Run,
    names: Names,
    key: tuple[str, ...],
    rows: int,
    last_change: int | None,
) -> list[str]:
    """Put the run table's rows in the place of the target's; return what there is to say.

    `key` is the primary key of the rows' source, which a new table has; `last_change` the last
    transaction that changed the run table. The goal's `refused` takes rows that break the key.

    Raises NotOurs where hygge did not make the target, Rejected where other columns would need
    another table and something hangs on this one.
    """
    old = target.existing(connection, names, key)
    can_swap = not _has_old_reader(connection, goal, last_change) and _is_logged(connection, names)
    keeps_key = not key or bool(old and old.hangs) or build_key(connection, goal, names, key)
    can_swap = can_swap and keeps_key
    if old is None:
        if can_swap:
            _take_name(connection, goal, names, key)
        else:
            _create_like_run_table(connection, names, () if keeps_key else key)
            insert(connection, goal, run, names, rows)
        return []
    own = own_columns(connection, sql_ledger.target_of(goal))
    columns = columns_of(connection, names.schema, names.rows_name)
    same_columns = target.takes_rows(old, own, columns)
    if not old.hangs and can_swap and same_columns:
        can_swap = _lock_at_once(connection, names)
    elif not old.hangs and not (same_columns and keeps_key):
        session.execute(connection, f"LOCK TABLE {names.target} IN ACCESS EXCLUSIVE MODE")
    # Looked at once more: under the lock nobody else can change it.
    old = target.existing(connection, names, key)
    if old is None or not sql_ledger.is_made(connection, goal):
        raise not_ours(goal.who)
    check_columns(connection, goal, old, columns)
    if same_columns and (old.hangs or (keeps_key and not can_swap)):
        delete_rows(connection, goal, names)
        insert(connection, goal, run, names, rows)
        return []
    if can_swap and key:
        add_key(connection, goal, names, key)
    notes = changes(connection, names)
    if can_swap:
        _swap(connection, goal, names, old, key)
    else:
        statements = _attributes_of(connection, names, old, names.target)
        session.execute(connection, f"DROP TABLE {names.target}")
        _create_like_run_table(connection, names, () if keeps_key else key)
        _set_attributes(connection, names.target, old, statements)
        insert(connection, goal, run, names, rows)
    return notes


def insert(connection: sa.Connection, goal: Goal, run: Run, names: Names, rows: int) -> None:
    """Insert the run table's `rows` rows into the target; Rejected unless it took all of them.

    Columns that the target generates are left out. The goal's `refused` takes the rows that break a
    rule of the target.
    """
    import psycopg

    staged = _AppendedRows(connection, goal, run, names)
    staged.total = rows
    try:
        put_all(staged, goal.refused)
    except (psycopg.IntegrityError, psycopg.errors.WithCheckOptionViolation) as error:
        raise broken_rule(str(error), goal.who, merges=False) from error


class _AppendedRows(RowsOfPostgres):
    """Staged rows that are inserted."""

    def put(self, rows: Range | None) -> None:
        own = own_columns(self.connection, sql_ledger.target_of(self.goal))
        staged = columns_of(self.connection, self.names.schema, self.names.rows_name)
        columns = own.written([name for name, _ in staged])
        listed = session.quoted_list(columns)
        count = session.execute(
            self.connection,
            f"INSERT INTO {self.names.target} ({listed}) {own.overriding(columns)}"
            f"SELECT {listed} FROM {self.names.rows} s WHERE {self.condition(rows)}",
        )
        check_all_in(count, self.count(rows), self.who)


def _lock_at_once(connection: sa.Connection, names: Names) -> bool:
    """Lock the target for the exchange; False where other sessions hold it for too long."""
    import psycopg

    (lock_timeout,) = session.fetch_one(connection, "SELECT current_setting('lock_timeout')")
    # The transaction goes on after a lock that was not got, back at the savepoint.
    session.execute(connection, "SAVEPOINT hygge_swap")
    session.execute(connection, f"SET LOCAL lock_timeout = {SWAP_WAIT_MS}")
    try:
        session.execute(connection, f"LOCK TABLE {names.target} IN ACCESS EXCLUSIVE MODE")
    except psycopg.errors.LockNotAvailable:
        session.execute(connection, "ROLLBACK TO SAVEPOINT hygge_swap")
        return False
    session.fetch_all(connection, "SELECT set_config('lock_timeout', %s, true)", lock_timeout)
    session.execute(connection, "RELEASE SAVEPOINT hygge_swap")
    return True


def _swap(
    connection: sa.Connection, goal: Goal, names: Names, old: Existing, key: tuple[str, ...]
) -> None:
    """Drop the target, and give its name and attributes to the run table."""
    import psycopg

    if key:
        add_key(connection, goal, names, key)
    statements = _attributes_of(connection, names, old, names.rows)
    _set_attributes(connection, names.rows, old, statements)
    try:
        session.execute(connection, f"DROP TABLE {names.target}")
    except psycopg.errors.DependentObjectsStillExist as error:
        raise Transient(
            f"{goal.who}: something came to depend on the table in this moment: {error}",
            "run again",
        ) from error
    _take_name(connection, goal, names, key, old.key_name)


def _take_name(
    connection: sa.Connection,
    goal: Goal,
    names: Names,
    key: tuple[str, ...],
    key_name: str | None = None,
) -> None:
    """Rename the run table to the target's name, and its key to `key_name` if that name is free."""
    if key:
        add_key(connection, goal, names, key)
    name = session.quoted(names.name)
    session.execute(connection, f"ALTER TABLE {names.rows} RENAME TO {name}")
    if not key:
        return
    wanted = key_name or f"{names.name.encode()[:58].decode(errors='ignore')}_pkey"
    if has_relation(connection, names.schema, wanted):
        return
    old, new = session.quoted(f"{names.rows_name}_pkey"), session.quoted(wanted)
    session.execute(connection, f"ALTER TABLE {names.target} RENAME CONSTRAINT {old} TO {new}")


def _create_like_run_table(
    connection: sa.Connection, names: Names, key: tuple[str, ...] = ()
) -> None:
    """Create the target like the run table, without rows; with a key that the run table lacks."""
    session.execute(connection, f"CREATE TABLE {names.target} (LIKE {names.rows} INCLUDING ALL)")
    if key:
        listed = session.quoted_list(key)
        session.execute(connection, f"ALTER TABLE {names.target} ADD PRIMARY KEY ({listed})")


def _is_logged(connection: sa.Connection, names: Names) -> bool:
    """True if the run table is a table that survives a crash, and so may become the target."""
    (is_logged,) = session.fetch_one(
        connection, "SELECT relpersistence = 'p' FROM pg_class WHERE oid = %s::regclass", names.rows
    )
    return bool(is_logged)


# Writes the statements that give the table {new} what another one has: grants of the table and of
# its columns, comments, storage parameters. Takes both tables as values, the other one first.
_ATTRIBUTES = """
WITH old AS (SELECT * FROM pg_class WHERE oid = %s::regclass),
    new AS (SELECT * FROM pg_class WHERE oid = %s::regclass),
    had AS (SELECT a.grantee, a.privilege_type, a.is_grantable
        FROM old, aclexplode(coalesce(relacl, acldefault('r', relowner))) a),
    has AS (SELECT a.grantee, a.privilege_type, a.is_grantable
        FROM new, aclexplode(coalesce(relacl, acldefault('r', relowner))) a),
    parts AS (SELECT o.attname, x.grantee, x.privilege_type, x.is_grantable
        FROM pg_attribute o JOIN pg_attribute n
            ON n.attname = o.attname AND NOT n.attisdropped AND n.attrelid = (SELECT oid FROM new),
            aclexplode(o.attacl) x
        WHERE o.attrelid = (SELECT oid FROM old) AND NOT o.attisdropped)
SELECT statement FROM (
    SELECT 1 AS step, format('REVOKE %%s ON {new} FROM %%s', privilege_type,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END) AS statement
    FROM (TABLE has EXCEPT TABLE had) x
    UNION ALL
    SELECT 2, format('GRANT %%s ON {new} TO %%s%%s', privilege_type,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
    FROM (TABLE had EXCEPT TABLE has) x
    UNION ALL
    SELECT 2, format('GRANT %%s (%%I) ON {new} TO %%s%%s', privilege_type, attname,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
    FROM parts
    UNION ALL
    SELECT 2, format('COMMENT ON TABLE {new} IS %%L', d.description)
    FROM pg_description d, old
    WHERE d.classoid = 'pg_class'::regclass AND d.objoid = old.oid AND d.objsubid = 0
    UNION ALL
    SELECT 2, format('COMMENT ON COLUMN {new}.%%I IS %%L', o.attname, d.description)
    FROM pg_description d JOIN pg_attribute o ON o.attrelid = d.objoid AND o.attnum = d.objsubid
        JOIN pg_attribute n ON n.attname = o.attname AND n.attrelid = (SELECT oid FROM new), old
    WHERE d.classoid = 'pg_class'::regclass AND d.objoid = old.oid
    UNION ALL
    SELECT 2, format('ALTER TABLE {new} SET (%%I = %%L)', p.option_name, p.option_value)
    FROM old, pg_options_to_table(old.reloptions) p
) all_of_them ORDER BY step
"""


def _attributes_of(connection: sa.Connection, names: Names, old: Existing, new: str) -> list[str]:
    """Return statements that give the table `new` the grants, comments and parameters of `old`.

    `new` is the run table, or will be made like it.
    """
    # The owner first: a change of owner changes the grants that are compared.
    _set_attributes(connection, names.rows, old, [])
    sql = _ATTRIBUTES.replace("{new}", new.replace("%", "%%%%").replace("'", "''"))
    return [
        statement for (statement,) in session.fetch_all(connection, sql, names.target, names.rows)
    ]


def _set_attributes(
    connection: sa.Connection, new: str, old: Existing, statements: list[str]
) -> None:
    """Give the table `new` the owner of the old one, and run the statements of `_attributes_of`."""
    if session.fetch_one(connection, "SELECT current_user")[0] != old.owner:
        owner = session.quoted(old.owner)
        session.execute(connection, f"ALTER TABLE {new} OWNER TO {owner}")
    for statement in statements:
        session.execute(connection, statement)


def _has_old_reader(connection: sa.Connection, goal: Goal, last_change: int | None) -> bool:
    """True if a session may have a snapshot that is older than rows of the run table.

    The session that holds this flow's own snapshot does not count: all of it was read. Where this
    user may not look into a session, its transaction counts if it is open now and does not end
    soon.
    """
    if last_change is None:
        return False
    name = session.application_name(goal.flow)
    own = name if name == f"hygge/{goal.flow}" else None  # other flows may have a name that was cut
    readers = session.fetch_all(
        connection,
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL "
        "AND age(backend_xmin) >= age(%s::text::xid) "
        "AND application_name IS DISTINCT FROM %s AND backend_type <> 'autovacuum worker'",
        str(last_change % 2**32), own,
    )  # fmt: skip
    if readers:
        return True
    hidden = _hidden_transactions(connection)
    until = time.monotonic() + HIDDEN_WAIT_S
    while hidden and time.monotonic() < until:
        time.sleep(0.02)
        hidden &= _hidden_transactions(connection)
    return bool(hidden)


def _hidden_transactions(connection: sa.Connection) -> set[str]:
    """Return open transactions of sessions whose snapshots are not shown to this user."""
    rows = session.fetch_all(
        connection,
        "SELECT l.virtualtransaction FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' "
        "AND a.datname = current_database() AND a.query = '<insufficient privilege>' "
        "AND a.usesysid IS NOT NULL",  # the server's own workers have none
    )
    return {transaction for (transaction,) in rows}
