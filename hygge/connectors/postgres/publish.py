"""Publishing in PostgreSQL: the rows of a run table become those of the target, in one transaction.

`replace`, and a first load, exchange the tables: the run table takes the target's name, owner,
grants, comments and storage parameters. Rows that were loaded before a snapshot was taken are
visible to it, all others are not; so a reader of REPEATABLE READ that has begun in the middle of
the load would see a part of them in the new table. While there is one, and where something hangs on
the old table, or somebody holds it, the old rows are deleted and the new ones inserted instead.
"""

from __future__ import annotations

import time
from typing import Any

from hygge.connectors.postgres import session
from hygge.connectors.postgres.session import ask, changed
from hygge.connectors.postgres.target import Names, There, alike, columns_of, found
from hygge.connectors.sql import ledger
from hygge.connectors.sql.commit import check_all_in
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.heads import not_ours
from hygge.errors import Rejected, Transient

SWAP_WAIT_MS = 1000
"""How long the exchange waits for those who hold the table; others wait behind it meanwhile."""
HIDDEN_WAIT_S = 1.0
"""How long transactions that this user may not look into are given to end."""


def add_key(connection: Any, goal: Goal, names: Names, key: tuple[str, ...]) -> None:
    """The primary key of the run table, built before anybody is kept waiting; safe twice."""
    import psycopg

    name = f"{names.rows_name}_pkey"
    there = ask(
        connection,
        "SELECT 1 FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'", names.rows,
    )  # fmt: skip
    if there:
        return
    constraint = f"{session.quoted(name)} PRIMARY KEY ({', '.join(map(session.quoted, key))})"
    try:
        ask(connection, f"ALTER TABLE {names.rows} ADD CONSTRAINT {constraint}")
    except (psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded) as error:
        raise Rejected(
            f"{goal.who}: the rows do not keep to the primary key ({', '.join(key)}) that their "
            f"source has: {str(error).strip()}",
            "the source may have changed while it was read; run again, or read it with a query",
        ) from error


def turned(connection: Any, names: Names) -> None:
    """Columns of the run table that are text, and of another type in the target, become that type.

    Of the type as such: whether a value keeps to its length is seen when it is inserted.
    """
    rows = ask(
        connection,
        "SELECT a.attname, format_type(t.atttypid, -1) FROM pg_attribute a "
        "JOIN pg_attribute t ON t.attname = a.attname AND t.attrelid = %s::regclass "
        "JOIN pg_type y ON y.oid = t.atttypid WHERE a.attrelid = %s::regclass AND a.attnum > 0 "
        "AND NOT a.attisdropped AND NOT t.attisdropped AND a.atttypid = 'text'::regtype "
        "AND y.typcategory <> 'S'",
        names.target, names.rows,
    )  # fmt: skip
    changes = [
        f"ALTER COLUMN {session.quoted(name)} TYPE {kind} USING {session.quoted(name)}::{kind}"
        for name, kind in rows
    ]
    if changes:
        ask(connection, f"ALTER TABLE {names.rows} {', '.join(changes)}")


def replaced(
    connection: Any,
    goal: Goal,
    names: Names,
    key: tuple[str, ...],
    rows: int,
    newest: int | None,
) -> None:
    """The run table's rows instead of the target's; `newest` is who changed the run table last."""
    there = found(connection, names, key)
    reader = _old_reader(connection, goal, newest)
    may_swap = reader is None and _is_plain(connection, names)
    if there is None:
        if may_swap:
            _take_the_name(connection, goal, names, key)
        else:
            _made_anew(connection, names)
            _fill(connection, goal, names, rows)
        return
    same = alike(there.columns, columns_of(connection, names.schema, names.rows_name))
    if not there.hangs and may_swap and same:
        may_swap = _held_at_once(connection, names)
    elif not there.hangs and not same:
        ask(connection, f"LOCK TABLE {names.target} IN ACCESS EXCLUSIVE MODE")
    now = found(connection, names, key)  # once more, as nobody else can change it any longer
    if now is None or not ledger.is_made(connection, goal):
        raise not_ours(goal.who)
    if same and (now.hangs or not may_swap):
        _emptied(connection, goal, names)
        _fill(connection, goal, names, rows)
    elif now.hangs:
        raise has_other_columns(goal, now)
    elif may_swap:
        _exchange(connection, goal, names, now, key)
    else:
        dress = _dress(connection, names, now, names.target)
        ask(connection, f"DROP TABLE {names.target}")
        _made_anew(connection, names)
        _put_on(connection, names.target, now, dress)
        _fill(connection, goal, names, rows)


def has_other_columns(goal: Goal, there: There) -> Rejected:
    """The table would have to be made anew, and must not be."""
    listed = ", ".join(there.hangs[:5]) + (" …" if len(there.hangs) > 5 else "")
    return Rejected(
        f"{goal.who} has other columns than the rows, and something depends on it: {listed}",
        "drop what depends on it, or keep the columns with `columns`",
    )


def appended(connection: Any, goal: Goal, names: Names, rows: int) -> None:
    """The run table's rows added to the target's."""
    _fill(connection, goal, names, rows)


def _fill(connection: Any, goal: Goal, names: Names, rows: int) -> None:
    import psycopg

    columns = [name for name, _ in columns_of(connection, names.schema, names.rows_name)]
    listed = ", ".join(map(session.quoted, columns))
    try:
        count = changed(
            connection,
            f"INSERT INTO {names.target} ({listed}) SELECT {listed} FROM {names.rows}",
        )
    except psycopg.IntegrityError as error:
        raise breaks_a_rule(goal, error) from error
    check_all_in(count, rows, goal.who)


def breaks_a_rule(goal: Goal, error: Exception) -> Rejected:
    """A key or another rule of the target that the rows do not keep to."""
    return Rejected(
        f"the rows break a rule of {goal.who}: {str(error).strip()}",
        "use `mode: merge` with a key, or leave these rows out with `where`",
    )


def _emptied(connection: Any, goal: Goal, names: Names) -> None:
    """The old rows deleted, by whatever triggers and rules there are; others' are not let in."""
    ask(connection, "SET CONSTRAINTS ALL DEFERRED")
    ask(connection, f"LOCK TABLE {names.target} IN SHARE ROW EXCLUSIVE MODE")
    if not ledger.is_made(connection, goal):
        raise not_ours(goal.who)
    ask(connection, f"DELETE FROM {names.target}")
    if ask(connection, f"SELECT 1 FROM {names.target} LIMIT 1"):
        raise Rejected(
            f"{names.target} keeps rows that were to be replaced: a trigger or a rule of it "
            "forbids their deletion",
            "use `mode: append` or `mode: merge`, or write to a table without them",
        )


def _held_at_once(connection: Any, names: Names) -> bool:
    """Whether nobody uses the table, or only for a moment; then nobody else can from here on."""
    import psycopg

    (before,) = ask(connection, "SELECT current_setting('lock_timeout')")[0]
    ask(connection, "SAVEPOINT hygge_swap")
    ask(connection, f"SET LOCAL lock_timeout = {SWAP_WAIT_MS}")
    try:
        ask(connection, f"LOCK TABLE {names.target} IN ACCESS EXCLUSIVE MODE")
    except psycopg.errors.LockNotAvailable:
        ask(connection, "ROLLBACK TO SAVEPOINT hygge_swap")
        return False
    ask(connection, "SELECT set_config('lock_timeout', %s, true)", before)
    ask(connection, "RELEASE SAVEPOINT hygge_swap")
    return True


def _exchange(
    connection: Any, goal: Goal, names: Names, there: There, key: tuple[str, ...]
) -> None:
    import psycopg

    if key:
        add_key(connection, goal, names, key)
    _put_on(connection, names.rows, there, _dress(connection, names, there, names.rows))
    try:
        ask(connection, f"DROP TABLE {names.target}")
    except psycopg.errors.DependentObjectsStillExist as error:
        raise Transient(
            f"{goal.who}: something came to depend on the table in this moment: {error}",
            "run again",
        ) from error
    _take_the_name(connection, goal, names, key, there.key_name)


def _take_the_name(
    connection: Any, goal: Goal, names: Names, key: tuple[str, ...], key_name: str | None = None
) -> None:
    if key:
        add_key(connection, goal, names, key)
    ask(connection, f"ALTER TABLE {names.rows} RENAME TO {session.quoted(names.name)}")
    if not key:
        return
    wanted = key_name or f"{names.name.encode()[:58].decode(errors='ignore')}_pkey"
    taken = ask(
        connection,
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        names.schema, wanted,
    )  # fmt: skip
    if not taken:
        old = session.quoted(f"{names.rows_name}_pkey")
        ask(
            connection,
            f"ALTER TABLE {names.target} RENAME CONSTRAINT {old} TO {session.quoted(wanted)}",
        )


def _made_anew(connection: Any, names: Names) -> None:
    """A table like the run table, without its rows, in the target's name."""
    ask(connection, f"CREATE TABLE {names.target} (LIKE {names.rows} INCLUDING ALL)")


def _is_plain(connection: Any, names: Names) -> bool:
    (found,) = ask(
        connection, "SELECT relpersistence = 'p' FROM pg_class WHERE oid = %s::regclass", names.rows
    )
    return bool(found[0])


_DRESS = """
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


def _dress(connection: Any, names: Names, there: There, new: str) -> list[str]:
    """Statements that give `new`, which is or will be like the run table, what the target has."""
    _put_on(connection, names.rows, there, [])  # a change of owner changes who is granted what
    sql = _DRESS.replace("{new}", new.replace("%", "%%%%").replace("'", "''"))
    return [statement for (statement,) in ask(connection, sql, names.target, names.rows)]


def _put_on(connection: Any, new: str, there: There, statements: list[str]) -> None:
    """The owner of the old table, and what `_dress` said."""
    if ask(connection, "SELECT current_user")[0][0] != there.owner:
        ask(connection, f"ALTER TABLE {new} OWNER TO {session.quoted(there.owner)}")
    for statement in statements:
        ask(connection, statement)


def _old_reader(connection: Any, goal: Goal, newest: int | None) -> str | None:
    """Whose snapshot may be older than the rows of the run table, in words.

    The session that holds this flow's own snapshot does not count: all of it was read. Of sessions
    that this user may not look into, each transaction counts that is open now and does not end
    soon.
    """
    if newest is None:
        return None
    name = session.application(goal.flow)
    own = name if name == f"hygge/{goal.flow}" else None  # else others may be called so too
    rows = ask(
        connection,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL "
        "AND age(backend_xmin) >= age(%s::text::xid) "
        "AND application_name IS DISTINCT FROM %s AND backend_type <> 'autovacuum worker'",
        str(newest % 2**32), own,
    )  # fmt: skip
    if rows:
        return f"session {rows[0][0]}"
    hidden = set(_hidden(connection))
    until = time.monotonic() + HIDDEN_WAIT_S
    while hidden and time.monotonic() < until:
        time.sleep(0.02)
        hidden &= set(_hidden(connection))
    return f"session {hidden.pop()[1]}" if hidden else None


def _hidden(connection: Any) -> list[tuple[str, int]]:
    """Open transactions of sessions whose snapshots are not shown to this user."""
    found = ask(
        connection,
        "SELECT l.virtualtransaction, l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' "
        "AND a.datname = current_database() AND a.query = '<insufficient privilege>' "
        "AND a.usesysid IS NOT NULL",  # the server's own workers have none
    )
    return [(name, pid) for name, pid in found]
