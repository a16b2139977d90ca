"""Two tables of PostgreSQL, or of DuckDB, are compared there; where these differ, rows are read."""

from __future__ import annotations

import duckdb
import pytest

from hygge import Flow, SQLHome, SQLStore
from hygge.coordinator.verify import verify_flow

pytest_plugins = ["tests.servers.postgres"]

COLUMNS = (
    "id int PRIMARY KEY, n numeric, m numeric(9,2), f float8, r real, t text, b bytea, j jsonb, "
    "at timestamptz, d date, a int[], u uuid, \"Odd, (name)\" varchar(9)"
)  # fmt: skip
ROWS = """
INSERT INTO {0}.here SELECT g, g / 7.0, g, g / 7.0::float8, g / 7.0::real, 'a,"(' || chr(228) || g,
  decode(to_hex(g + 4096), 'hex'), jsonb_build_object('k', g), '2024-01-01'::timestamptz
  + g * '1 us'::interval, '2024-01-01'::date + g, ARRAY[g, NULL], gen_random_uuid(), ''
FROM generate_series(1, 40) g;
INSERT INTO {0}.here (id, f, t) VALUES (41, 'NaN', NULL), (42, '-0', ''), (43, 'Infinity', 'null');
"""
BY_SERVERS = "compared by the database, one hash over all rows"


@pytest.fixture
def flow(pg, schema, tmp_path) -> Flow:
    pg.ask(f"CREATE TABLE {schema}.here ({COLUMNS})")
    for statement in ROWS.format(schema).split(";")[:-1]:
        pg.ask(statement)
    flow = Flow(
        SQLHome(table=f"{schema}.here", connection=pg.url, options={"splits": 3}),
        SQLStore(table=f"{schema}.there", connection=pg.url),
        engine="inline", state=tmp_path / "state", name="f",
    )  # fmt: skip
    assert flow.run().rows == 43
    return flow


def test_the_servers_tell_that_all_rows_are_the_same(flow):
    verdict = verify_flow(flow)
    assert (verdict.status, verdict.rows_source, verdict.rows_store) == ("same", 43, 43), verdict
    assert verdict.notes == [BY_SERVERS]
    assert len(verdict.columns) == 13


DAMAGES = {
    "UPDATE {0}.there SET r = 1 WHERE id = 30": "changed: id 30 in r",
    "UPDATE {0}.there SET t = 'x' WHERE id = 41": "changed: id 41 in t",
    "DELETE FROM {0}.there WHERE id = 30": "lost: id 30",
    "UPDATE {0}.there SET m = CASE id WHEN 3 THEN 4 ELSE 3 END WHERE id IN (3, 4)": (
        "changed: id 3 in m"
    ),
}


def test_what_differs_is_found_by_reading(flow, pg, schema):
    for damage, found in DAMAGES.items():
        pg.ask(damage.format(schema))
        verdict = verify_flow(flow)
        assert verdict.status == "different"
        assert found in verdict.first
        assert BY_SERVERS not in verdict.notes


def test_other_types_are_compared_by_reading(flow, pg, schema):
    pg.ask(f"ALTER TABLE {schema}.there ALTER m TYPE numeric(12,4)")
    verdict = verify_flow(flow)
    assert (verdict.status, verdict.notes) == ("same", [])


def test_an_append_with_a_cursor_is_compared_where_nothing_is_newer(pg, schema, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.here (id INT PRIMARY KEY, at DATE)")
    pg.ask(f"INSERT INTO {schema}.here VALUES (1, '2024-01-01'), (2, '2024-01-02'), (3, NULL)")
    flow = Flow(
        SQLHome(table=f"{schema}.here", connection=pg.url, cursor="at"),
        SQLStore(table=f"{schema}.there", connection=pg.url),
        engine="inline", state=tmp_path / "state", name="f", mode="append",
    )  # fmt: skip
    assert flow.run().rows == 3
    verdict = verify_flow(flow)
    assert (verdict.status, verdict.rows_source, verdict.notes) == ("same", 3, [BY_SERVERS])
    pg.ask(f"INSERT INTO {schema}.here VALUES (4, '2024-01-03')")
    verdict = verify_flow(flow)
    assert (verdict.status, verdict.rows_source) == ("same", 3)
    assert verdict.notes == ["1 row of the source is beyond the watermark"]
    pg.ask(f"UPDATE {schema}.there SET id = 9 WHERE id = 2")
    assert verify_flow(flow).status == "different"


def test_duckdb_compares_two_of_its_tables(tmp_path):
    url = f"duckdb:///{tmp_path}/d.duckdb"

    def do(*statements):
        with duckdb.connect(tmp_path / "d.duckdb") as connection:
            for statement in statements:
                connection.execute(statement)

    def digest(table):
        home = SQLHome(table=table, connection=url)
        with home.open(None) as plan:
            return home.digest(plan)

    do(
        "CREATE TABLE here (id INT PRIMARY KEY, m DECIMAL(30,2), t VARCHAR, f DOUBLE, "
        'moment TIMESTAMP, b BLOB, "Odd, (name)" BOOLEAN)',
        "INSERT INTO here SELECT i, i, 'ä' || i, i / 7, now()::TIMESTAMP, 'x', NULL "
        "FROM range(9) r(i)",
        "CREATE TABLE a (h HUGEINT, u UUID, t VARCHAR COLLATE NOCASE)",
        "INSERT INTO a VALUES (1, '00000000-0000-0000-0000-000000000001', 'x')",
        "CREATE TABLE spans AS SELECT INTERVAL 1 MONTH AS span",
    )
    flow = Flow(
        SQLHome(table="here", connection=url), SQLStore(table="there", connection=url),
        engine="inline", state=tmp_path / "state", name="f",
    )  # fmt: skip
    assert flow.run().rows == 9
    verdict = verify_flow(flow)
    assert (verdict.status, verdict.rows_store, verdict.notes) == ("same", 9, [BY_SERVERS])
    do("UPDATE there SET m = CASE id WHEN 3 THEN 4 ELSE 3 END WHERE id IN (3, 4)")
    verdict = verify_flow(flow)
    assert (verdict.status, sorted(verdict.first)) == (
        "different", ["changed: id 3 in m", "changed: id 4 in m"],
    )  # fmt: skip

    # What has one hash in DuckDB.
    for change in (
        "h = 18446744073709551616",
        "u = '00000000-0000-0001-0000-000000000000'",
        "t = 'X'",
    ):
        do("CREATE OR REPLACE TABLE b AS FROM a", f"UPDATE b SET {change}")
        assert digest("a") != digest("b"), change
    assert digest("spans") is None
