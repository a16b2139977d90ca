"""COPY past psycopg gives the bytes that psycopg gives, whatever messages lie between the rows."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from hygge.connectors.postgres import wire
from hygge.connectors.postgres.copy_in import copy_in
from hygge.connectors.postgres.copy_out import CopyOut
from hygge.connectors.postgres.session import is_lost
from hygge.connectors.postgres.wire import SocketCopy, copy_out, has_plain_socket
from tests.servers.postgres import Proxy, unframed
from tests.waiting import until

pytest_plugins = ["tests.servers.postgres"]

SOURCES = {
    "none": "SELECT 1 AS a WHERE false",
    "one": "SELECT 1 AS a",
    "narrow": "SELECT n, nullif(n % 3, 0), repeat('d', n % 5) FROM generate_series(1, 30000) AS n",
    "wide": "SELECT n, repeat(chr(100 + n % 7), n) FROM generate_series(1, 3000) AS n",
    "empty cells": "SELECT ''::text, NULL::text, E'a\\nd\\r\\n\"' FROM generate_series(1, 20000)",
    # What begins like a message: as bytes in the binary format.
    "disguised": r"SELECT n, decode(repeat('6400000005640000000b', n % 50), 'hex'), "
    r"'\x64000000'::bytea FROM generate_series(1, 20000) AS n",
    "huge": "SELECT n, repeat('x', CASE n % 2 WHEN 0 THEN 17000000 ELSE 10 END) "
    "FROM generate_series(1, 5) AS n",
}
NOISY = """
CREATE FUNCTION noisy(n bigint) RETURNS bigint AS $$
BEGIN IF n % 1000 = 7 THEN RAISE WARNING 'dd % %', n, repeat('d', 300); END IF; RETURN n; END
$$ LANGUAGE plpgsql"""


def by_psycopg(connection, sql, form):
    with connection.cursor().copy(f"COPY ({sql}) TO STDOUT (FORMAT {form})") as copy:
        return [bytes(row) for row in copy]


def by_socket(connection, sql, form, rows=1 << 60, size=1 << 20):
    """Read a COPY from the socket; return the bytes of its rows, their number, and the copy."""
    return read_all(SocketCopy(connection, copy_of(sql, form), form), form, rows, size)


def copy_of(sql, form):
    return f"COPY ({sql}) TO STDOUT (FORMAT {form})"


def read_all(copying, form, rows=1 << 60, size=1 << 20):
    parts, total = [], 0
    with closing(copying) as copy:
        while True:
            data, count, last = copy.chunk(rows, size)
            if not count:
                break
            assert count <= rows
            data = bytes(data)
            if form == "csv":
                assert data.endswith(last)
                data = data.replace(b"\nxxxx,", b"\n").removeprefix(b"xxxx,")
            else:
                data = b"".join(unframed(data))
            parts.append(data)
            total += count
    return b"".join(parts), total, copy


@pytest.mark.parametrize("form", ["csv", "text", "binary"])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("limits", [(1 << 60, 1 << 20), (1000, 1 << 60), (7, 50_000)])
def test_every_byte_is_the_same_and_the_session_goes_on(pg, source, form, limits):
    if limits[0] == 7 and source == "narrow":
        limits = (4999, 1)
    if source == "huge" and limits[0] != 7 + (form == "csv") * 993:
        return  # once in each format is enough of it
    with pg.connect() as connection:
        wanted = by_psycopg(connection, SOURCES[source], form)
        came, count, copy = by_socket(connection, SOURCES[source], form, *limits)
        assert came == b"".join(wanted)
        assert count == len(wanted)
        assert copy.rows == len(wanted) - (form == "binary")
        with connection.transaction():
            assert connection.execute("SELECT 42").fetchone() == (42,)


def test_messages_that_begin_alike_are_parsed_one_by_one(pg, monkeypatch):
    """The search for many rows at once finds none here, so each message is parsed alone."""
    monkeypatch.setattr(wire, "_row_run", lambda buffer, at, filled: ([], at))
    with pg.connect() as connection:
        for form in ("csv", "binary"):
            wanted = by_psycopg(connection, SOURCES["disguised"], form)
            assert by_socket(connection, SOURCES["disguised"], form)[0] == b"".join(wanted)


@pytest.mark.parametrize("form", ["text", "binary"])
def test_libpq_gives_the_same_messages(pg, form):
    with pg.connect() as connection:
        for source in ("none", "wide", "empty cells"):
            wanted = by_psycopg(connection, SOURCES[source], form)
            copy = CopyOut(connection, copy_of(SOURCES[source], form), framed=True)
            came, count, _ = read_all(copy, form, 1000)
            assert (came, count) == (b"".join(wanted), len(wanted))


@pytest.mark.parametrize("bare", [True, False], ids=["socket", "libpq"])
@pytest.mark.parametrize("form", ["text", "binary"])
@pytest.mark.parametrize("source", ["none", "wide", "huge"])
def test_what_one_server_sends_another_takes(pg, schema, source, form, bare):
    with pg.connect() as one, pg.connect() as two:
        two.execute(f"SET search_path = {schema}")
        two.execute(f"CREATE TABLE t AS SELECT * FROM ({SOURCES[source]}) AS s LIMIT 0")
        given = one.execute(f"SELECT count(*) FROM ({SOURCES[source]}) AS s").fetchone()
        with (
            closing(copy_out(one, copy_of(SOURCES[source], form), form, bare)) as out,
            two.transaction(),
            copy_in(two, f"COPY t FROM STDIN (FORMAT {form})", bare) as into,
        ):
            for data, _, _ in out.chunks(1 << 60, 100_000):
                into.pass_on(data)
        assert (into.rows,) == given
        same = f"SELECT count(*) FROM (SELECT * FROM t EXCEPT ALL {SOURCES[source]}) AS d"
        assert two.execute(same).fetchone() == (0,)
        assert two.execute("SELECT count(*) FROM t").fetchone() == given


@pytest.mark.parametrize("bare", [True, False], ids=["socket", "libpq"])
def test_a_copy_that_fails_leaves_the_session_in_order(pg, schema, bare):
    with pg.connect() as connection:
        connection.execute(f"SET search_path = {schema}")
        connection.execute("CREATE TABLE t (n int CHECK (n < 1000))")
        rows = b"".join(b"%d\n" % n for n in range(400_000))  # far more than a socket holds

        def load(*pieces, table="t"):
            statement = f"COPY {table} FROM STDIN"
            with connection.transaction(), copy_in(connection, statement, bare) as into:
                for each in pieces:
                    into.write(each() if callable(each) else each)
            return into.rows

        with pytest.raises(psycopg.errors.CheckViolation, match="t_n_check"):
            load(*(rows[at : at + 300_001] for at in range(0, len(rows), 300_001)))
        with pytest.raises(ZeroDivisionError):
            load(b"1\n", lambda: 1 / 0)
        with pytest.raises(psycopg.errors.UndefinedTable):
            load(table="u")
        assert load(b"7\n8\n") == 2
        assert connection.execute("SELECT array_agg(n) FROM t").fetchone() == ([7, 8],)


@pytest.mark.parametrize("bare", [True, False], ids=["socket", "libpq"])
def test_a_server_that_goes_while_rows_are_sent_is_a_lost_connection(pg, schema, bare):
    with pg.connect() as connection, pytest.raises(psycopg.OperationalError) as met:
        connection.execute(f"CREATE TABLE {schema}.t (v text)")
        connection.execute("BEGIN")
        with copy_in(connection, f"COPY {schema}.t FROM STDIN", bare) as into:
            pg.ask(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
            for _ in range(100):
                into.write(b"x" * 1_000_000 + b"\n")
    assert is_lost(met.value) or isinstance(met.value, psycopg.errors.AdminShutdown)


def test_rows_that_come_slowly_are_not_waited_for(pg):
    # The server holds back up to 8 KiB.
    sql = "SELECT repeat('x', 9000), pg_sleep(CASE n WHEN 20 THEN 3600 END) "
    sql += "FROM generate_series(1, 30) AS n"
    with pg.connect() as connection:
        copy = SocketCopy(connection, f"COPY ({sql}) TO STDOUT (FORMAT csv)", "csv")
        assert copy.chunk(18, 1 << 20)[1] == 18
        copy.close()


def test_warnings_between_rows_are_no_rows(pg, schema):
    with pg.connect() as connection:
        connection.execute(f"SET search_path = {schema}")
        connection.execute(NOISY)
        sql = "SELECT noisy(n), 'x' || n FROM generate_series(1, 20000) AS n"
        for form in ("csv", "binary"):
            connection.execute("SET client_min_messages = error")
            wanted = by_psycopg(connection, sql, form)
            connection.execute("SET client_min_messages = warning")
            for limits in ((1 << 60, 1 << 20), (1000, 1 << 60)):
                assert by_socket(connection, sql, form, *limits)[0] == b"".join(wanted)


def test_an_error_after_some_rows_is_psycopgs_error(pg):
    sql = "SELECT 10 / (50000 - n), repeat('a', 50) FROM generate_series(1, 60000) AS n"
    with pg.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero") as met:
            by_socket(connection, sql, "csv")
        assert met.value.sqlstate == "22012"
        assert met.value.diag.message_primary == "division by zero"
        assert not is_lost(met.value)
        assert connection.execute("SELECT 42").fetchone() == (42,)
        with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
            by_socket(connection, "SELECT * FROM nowhere", "csv")
        assert connection.execute("SELECT 42").fetchone() == (42,)


def test_a_session_that_is_ended_says_so(pg):
    sql = "SELECT n, pg_terminate_backend(CASE n WHEN 50000 THEN pg_backend_pid() END) " \
          "FROM generate_series(1, 100000) AS n"  # fmt: skip
    with pg.connect() as connection, pytest.raises(psycopg.errors.AdminShutdown):
        by_socket(connection, sql, "csv")


def test_a_cut_connection_is_lost(pg):
    with (
        Proxy(pg.port, lambda: 2_000_000) as proxy,
        psycopg.connect(proxy.url(), autocommit=True) as connection,
        pytest.raises(psycopg.OperationalError) as met,
    ):
        by_socket(connection, SOURCES["wide"], "csv")
    assert is_lost(met.value)
    assert proxy.cuts == 1


def test_who_closes_in_the_middle_leaves_no_query_behind(pg):
    with pg.connect() as connection:
        pid = connection.info.backend_pid
        copy = SocketCopy(connection, f"COPY ({SOURCES['wide']}) TO STDOUT (FORMAT csv)", "csv")
        assert copy.chunk(10, 1 << 20)[1] == 10
        copy.close()
        assert connection.closed
    left = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
    until(lambda: not pg.ask(left, pid), "its session is still there")


def test_a_plain_socket_is_open_and_an_encrypted_one_is_not(pg):
    class Encrypted:
        class pgconn:
            ssl_in_use = True

    with pg.connect() as connection:
        assert has_plain_socket(connection)
    assert not has_plain_socket(Encrypted)
