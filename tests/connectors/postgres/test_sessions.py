"""Sessions of PostgreSQL: no setting of a role, a database or a server changes what is moved."""

from __future__ import annotations

from contextlib import closing

import pytest

from hygge import Coordinator, Flow, ParquetStore, SQLHome, SQLStore
from hygge.connectors.anysql.session import connected
from hygge.connectors.postgres import idle, session
from hygge.connectors.sql import pins
from hygge.errors import FlowFailed, HomeError, StoreError

pytest_plugins = ["tests.servers.postgres"]

WRONG = {
    "DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Tokyo",
    "timezone_abbreviations": "India", "extra_float_digits": "-15", "bytea_output": "escape",
    "xmloption": "document", "xmlbinary": "hex", "array_nulls": "off", "lc_monetary": "C.UTF-8",
    "standard_conforming_strings": "off", "backslash_quote": "on", "transform_null_equals": "on",
    "quote_all_identifiers": "on", "row_security": "on", "gin_fuzzy_search_limit": "1",
    "zero_damaged_pages": "on", "ignore_checksum_failure": "on",
    "default_transaction_read_only": "on", "default_transaction_isolation": "serializable",
    "session_replication_role": "replica",
}  # fmt: skip
TYPES = (
    "id int PRIMARY KEY, d date, i interval, f float8, b bytea, a text[], m money, "
    "ts timestamptz, s text CHECK (s <> 'never')"
)
ROWS = (
    "(1, '2024-02-03', '1 mon -2 days 03:04:05', 0.1::float8 + 0.2, '\\x00ff5c', "
    "ARRAY['a', NULL, 'NULL'], 1234.56, '2024-02-03 04:05:06.7+00', 'a\\b'''), "
    "(2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
)


@pytest.fixture
def wrong(pg, schema):
    """The URL of a role for which each setting is turned the wrong way."""
    assert set(WRONG) == {*pins.POSTGRES, *pins.POSTGRES_READING, *pins.POSTGRES_WRITING}
    role = f"w{schema}"
    pg.ask(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'p'")
    for name, value in WRONG.items():
        value = value if name == "DateStyle" else f"'{value}'"
        pg.ask(f"ALTER ROLE {role} SET {name} = {value}")
    return f"postgresql://{role}:p@127.0.0.1:{pg.port}/postgres"


def settings_of(connection, names):
    return {
        name: session.fetch_one(connection, f"SELECT current_setting('{name}')")[0]
        for name in names
    }


def test_a_session_that_is_used_again_is_as_it_was_when_it_was_opened(pg, wrong):
    names = [*pins.POSTGRES, *pins.POSTGRES_READING, "search_path", "application_name"]

    def opened(name):
        return session.connected(wrong, "t", HomeError, name, read_only=True)

    with opened("one") as first:
        number, expected = first.info.backend_pid, settings_of(first, names)
    with idle.keeping(wrong):
        with idle.keeping(wrong), opened("two") as connection:
            assert connection.info.backend_pid != number
            number = connection.info.backend_pid
            connection.execute("SET search_path = pg_catalog")
            connection.execute("SELECT pg_advisory_lock(18)")
            connection.execute("BEGIN")
            connection.execute("SET TimeZone = 'Asia/Tokyo'")
        with opened("one") as again:
            assert again.info.backend_pid == number
            assert settings_of(again, names) == expected
            held = f"SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = {number}"
            assert pg.ask(held) == []
        pg.ask(f"SELECT pg_terminate_backend({number})")  # it waits; the next one gets another
        with opened("one") as connection:
            assert connection.info.backend_pid != number
            number = connection.info.backend_pid
        with pytest.raises(ZeroDivisionError), opened("one") as failed:
            assert failed.info.backend_pid == number
            raise ZeroDivisionError
        with opened("one") as connection:
            assert connection.info.backend_pid != number
    with opened("one") as connection, idle.keeping(wrong):
        assert idle.take(wrong) is None


def test_tables_of_one_pattern_are_planned_and_read_in_a_few_sessions(
    pg, schema, tmp_path, monkeypatch
):
    for number in range(10):
        pg.ask(f"CREATE TABLE {schema}.t{number} AS SELECT 1 AS id")
    (tmp_path / "flows.yml").write_text(
        f"connections: {{shop: '{pg.url}'}}\nflows:\n  shop:\n"
        f"    home: {{connection: shop, tables: ['{schema}.*']}}\n    store: 'lake/{{table}}'\n"
    )
    opened, connect = [], session.connect
    monkeypatch.setattr(session, "connect", lambda *of: opened.append(of) or connect(*of))
    report = Coordinator(tmp_path / "flows.yml", engine="inline").run()
    assert [(flow.status, flow.rows) for flow in report.flows] == [("done", 1)] * 10
    # One finds the tables, one holds their snapshot; the others plan and read side by side.
    assert len(opened) < 10


def test_every_way_to_open_a_session_pins_it(wrong):
    for read_only, more in ((True, pins.POSTGRES_READING), (False, pins.POSTGRES_WRITING)):
        expected = {**pins.POSTGRES, **more}
        with closing(session.connect(wrong, "n", read_only)) as connection:
            assert settings_of(connection, expected) == expected
    other = wrong.replace("postgresql:", "postgresql+psycopg2:")
    for side, more in ((HomeError, {}), (StoreError, pins.POSTGRES_WRITING)):
        expected = {**pins.POSTGRES, **more}
        with connected(other, "who", side) as connection:
            for name, value in expected.items():
                found = connection.exec_driver_sql(f"SELECT current_setting('{name}')").scalar()
                assert (name, found) == (name, value)


@pytest.mark.parametrize("passes", [True, False])
def test_rows_are_the_same_whatever_a_role_says(pg, schema, wrong, tmp_path, passes):
    columns = "*" if passes else "id, d, f, b, ts, s"
    pg.ask(f"CREATE TABLE {schema}.all_types ({TYPES})")
    pg.ask(f"INSERT INTO {schema}.all_types VALUES {ROWS}")
    pg.ask(f"CREATE TABLE {schema}.t AS SELECT {columns} FROM {schema}.all_types")
    pg.ask(f"CREATE TABLE {schema}.u (LIKE {schema}.t)")
    options = {} if passes else {"types": {"s": "string"}}  # rows in the server's format, or not
    home = SQLHome("t", table=f"{schema}.t", connection=wrong, options=options)
    store = SQLStore("u", table=f"{schema}.u", connection=wrong)
    flow = Flow(home, store, name="f", mode="append", engine="inline", state=tmp_path)
    assert flow.run().rows == 2
    texts = [
        pg.ask(f"SELECT r::text FROM {schema}.{table} AS r ORDER BY id") for table in ("t", "u")
    ]
    assert texts[0] == texts[1]


def test_rows_that_row_security_hides_are_an_error_of_a_home(pg, schema, tmp_path):
    pg.ask(f"CREATE ROLE h{schema} LOGIN PASSWORD 'p'")
    pg.ask(f"CREATE TABLE {schema}.t (id int, owner text)")
    pg.ask(f"INSERT INTO {schema}.t VALUES (1, 'h{schema}'), (2, 'bob')")
    pg.ask(f"ALTER TABLE {schema}.t ENABLE ROW LEVEL SECURITY")
    pg.ask(f"CREATE POLICY p ON {schema}.t USING (owner = current_user)")
    pg.ask(f"CREATE VIEW {schema}.mine AS SELECT * FROM {schema}.t WHERE owner = 'h{schema}'")
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO h{schema}")
    pg.ask(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO h{schema}")
    url = f"postgresql://h{schema}:p@127.0.0.1:{pg.port}/postgres"

    def flow(url, table="t"):
        home = SQLHome("t", table=f"{schema}.{table}", connection=url)
        store = ParquetStore("t", path=tmp_path / "out")
        return Flow(home, store, engine="inline", state=tmp_path)

    for driver in ("postgresql:", "postgresql+psycopg2:"):
        with pytest.raises(FlowFailed, match="row-level security") as caught:
            flow(url.replace("postgresql:", driver)).run()
        assert "BYPASSRLS" in caught.value.hint
        assert "view" in caught.value.hint
    assert flow(url, "mine").run().rows == 1
    pg.ask(f"ALTER ROLE h{schema} BYPASSRLS")
    assert flow(url).run().rows == 2
