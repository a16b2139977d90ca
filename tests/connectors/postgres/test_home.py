"""What is read from PostgreSQL and how it is split: sources, names, keys, cursors."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from hygge import SQLHome
from hygge.errors import HomeError, SourceChanged, SourceMissing, UnfitValue

pytest_plugins = ["tests.servers.postgres"]


def home_of(pg, table=None, splits="auto", **settings):
    options = {"splits": splits, **settings.pop("options", {})}
    name = None if table else "q"
    return SQLHome(name, table=table, connection=pg.url, options=options, **settings)


def rows_of(home, since=None):
    """Return the plan, and the rows of each split."""
    with home.open(since) as plan:
        tables = [list(home.read(split)) for split in plan.splits]
    return plan, [[row for table in each for row in table.to_pylist()] for each in tables]


def each_once(home, wanted, splits=None):
    plan, parts = rows_of(home)
    came = [tuple(row.values()) for part in parts for row in part]
    assert Counter(came) == Counter(wanted), plan.reason
    assert splits is None or len(plan.splits) == splits, plan.reason
    return plan


def numbers(pg, schema, count=1000, more=""):
    pg.ask(f"CREATE TABLE {schema}.t (n int {more}, v text)")
    pg.ask(f"INSERT INTO {schema}.t SELECT n, repeat('x', 100) FROM generate_series(1, {count}) n")
    pg.ask(f"ANALYZE {schema}.t")
    return pg.ask(f"SELECT n, v FROM {schema}.t")


# Sources


def test_a_table_is_cut_by_where_its_rows_lie(pg, schema):
    wanted = numbers(pg, schema)
    plan = each_once(home_of(pg, f"{schema}.t", 4), wanted, splits=4)
    assert "4 splits by ctid" in plan.reason
    assert "under one snapshot" in plan.reason
    assert "anew" in plan.dead_driver
    plan = each_once(home_of(pg, f"{schema}.t"), wanted, splits=1)
    assert "one split" in plan.reason
    assert len(each_once(home_of(pg, f"{schema}.t", 40), wanted).splits) > 4


def test_a_table_that_was_never_analyzed_or_is_empty_is_read(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (n int, v text)")
    for splits in ("auto", 5):
        each_once(home_of(pg, f"{schema}.t", splits), [])
    pg.ask(f"INSERT INTO {schema}.t VALUES (1, 'a')")
    for splits in ("auto", 5):
        each_once(home_of(pg, f"{schema}.t", splits), [(1, "a")])


def test_a_materialised_view_is_cut_too_and_a_view_or_a_query_is_not(pg, schema):
    wanted = numbers(pg, schema)
    pg.ask(f"CREATE MATERIALIZED VIEW {schema}.m AS SELECT * FROM {schema}.t")
    pg.ask(f"CREATE VIEW {schema}.v AS SELECT * FROM {schema}.t")
    assert "materialised view" in each_once(home_of(pg, f"{schema}.m", 4), wanted, 4).reason
    assert "a view" in each_once(home_of(pg, f"{schema}.v", 4), wanted, 1).reason
    query = f"SELECT * FROM {schema}.t -- all; of it\n;"
    assert "a query" in each_once(home_of(pg, splits=4, query=query), wanted, 1).reason
    each_once(home_of(pg, splits=4, query=query, split_by="n"), wanted, 4)
    each_once(home_of(pg, f"{schema}.v", 4, split_by="n"), wanted, 4)


def partitioned(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.p (n int, v text) PARTITION BY RANGE (n)")
    for name, low, high, more in (
        ("a", 0, 600, ""), ("b", 600, 800, "PARTITION BY LIST (v)"), ("c", 800, 2000, ""),
    ):  # fmt: skip
        pg.ask(
            f"CREATE TABLE {schema}.{name} PARTITION OF {schema}.p "
            f"FOR VALUES FROM ({low}) TO ({high}) {more}"
        )
    pg.ask(f"CREATE TABLE {schema}.b1 (v text, gone int, n int)")  # columns in another order
    pg.ask(f"ALTER TABLE {schema}.b1 DROP gone")
    pg.ask(f"ALTER TABLE {schema}.b ATTACH PARTITION {schema}.b1 DEFAULT")
    pg.ask(f"INSERT INTO {schema}.p SELECT n, repeat('x', 100) FROM generate_series(1, 999) n")
    pg.ask(f"ANALYZE {schema}.p")
    return pg.ask(f"SELECT n, v FROM {schema}.p")


def test_a_partitioned_table_is_read_by_its_partitions(pg, schema):
    wanted = partitioned(pg, schema)
    plan = each_once(home_of(pg, f"{schema}.p", 4), wanted)
    assert "of 3 partitions" in plan.reason
    assert len(plan.splits) > 3
    plan = each_once(home_of(pg, f"{schema}.p", 2, where="p.n > 10"), wanted[10:])
    assert len(plan.splits) > 1
    assert "one split" in each_once(home_of(pg, f"{schema}.p"), wanted, 1).reason


def test_tables_that_inherit_and_foreign_partitions_are_read_once(pg, schema):
    wanted = numbers(pg, schema)
    pg.ask(f"CREATE TABLE {schema}.child () INHERITS ({schema}.t)")
    pg.ask(f"INSERT INTO {schema}.child SELECT n, 'c' FROM generate_series(1, 50) n")
    pg.ask(f"ANALYZE {schema}.child")
    wanted += [(n, "c") for n in range(1, 51)]
    each_once(home_of(pg, f"{schema}.t", 4), wanted)
    each_once(home_of(pg, f"{schema}.t"), wanted, 1)


def test_partitions_that_cannot_be_read_by_name_are_read_through_their_parent(pg, schema):
    wanted = partitioned(pg, schema)
    role = f"r{schema}"
    pg.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    pg.ask(f"GRANT SELECT ON {schema}.p TO {role}")
    url = f"postgresql://{role}:x@127.0.0.1:{pg.port}/postgres"
    home = SQLHome(table=f"{schema}.p", connection=url, options={"splits": 4})
    assert "rights" in each_once(home, wanted, 1).reason


def test_only_some_columns_and_rows(pg, schema):
    numbers(pg, schema)
    home = home_of(pg, f"{schema}.t", 3, columns=["n"], where="n % 2 = 0 -- even ones")
    each_once(home, [(n,) for n in range(2, 1001, 2)], 3)
    assert rows_of(home_of(pg, f"{schema}.t", columns=["v", "n"]))[0].columns[0].name == "v"


# Names


NAMES = ['say "hi"', "two words", "Capital", "select", "x" * 63, "größe", "a.b", "100%s", ":colon",
         "'; DROP TABLE victim; --", "$1", "back\\slash", "n\nl"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read_and_nothing_is_injected(pg, schema, name):
    quoted = '"' + name.replace('"', '""') + '"'
    with pg.connect() as connection:
        connection.execute(f"CREATE TABLE {schema}.victim (n int)")
        connection.execute(f"CREATE TABLE {schema}.{quoted} ({quoted} int PRIMARY KEY, other int)")
        connection.execute(
            f"INSERT INTO {schema}.{quoted} SELECT n, 1 FROM generate_series(1, 900) n"
        )
    wanted = [(n,) for n in range(1, 901)]
    for settings in ({}, {"split_by": name}, {"cursor": name}):
        home = home_of(pg, f"{schema}.{quoted}", 3, columns=[name], **settings)
        assert len(each_once(home, wanted).splits) > 1
    by_split = home_of(pg, f"{schema}.{quoted}", 3, options={"consistency": "split"})
    each_once(by_split, [(n, 1) for n in range(1, 901)])
    options = {"types": {name: "string"}}
    each_once(home_of(pg, f"{schema}.{quoted}", columns=[name], options=options),
              [(str(n),) for n in range(1, 901)])  # fmt: skip
    assert pg.ask(f"SELECT count(*) FROM {schema}.victim") == [(0,)]


def test_columns_that_differ_in_case_only(pg, schema):
    pg.ask(f'CREATE TABLE {schema}.t (id int, "ID" int, "Id" int)')
    pg.ask(f"INSERT INTO {schema}.t VALUES (1, 2, 3)")
    each_once(home_of(pg, f"{schema}.t"), [(1, 2, 3)])
    each_once(home_of(pg, f"{schema}.t", columns=["Id", "id"]), [(3, 1)])


def test_what_is_not_there_is_named_with_the_nearest(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.orders (total int)")
    for home, words in (
        (home_of(pg, f"{schema}.order"), "did you mean 'orders'"),
        (home_of(pg, f"{schema}.orders", columns=["totl"]), "did you mean 'total'"),
        (home_of(pg, f"{schema}.orders", cursor="totals"), "did you mean 'total'"),
        (home_of(pg, f"{schema}.orders", split_by=["total", "tote"]), "did you mean 'total'"),
    ):
        with pytest.raises(SourceMissing) as caught:
            home.open().__enter__()
        assert words in caught.value.hint
    with pytest.raises(HomeError, match="more than one column named 'a'"):
        home_of(pg, query="SELECT 1 AS a, 2 AS a").open().__enter__()
    pg.ask(f"CREATE TABLE {schema}.bare ()")
    with pytest.raises(HomeError, match="has no columns"):
        home_of(pg, f"{schema}.bare").open().__enter__()


# Batches


def test_batches_keep_to_rows_and_bytes_and_a_huge_row_passes_alone(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (n int, v text)")
    pg.ask(f"INSERT INTO {schema}.t SELECT n, repeat('x', CASE WHEN n = 50 THEN 3000000 "
           "ELSE 1000 END) FROM generate_series(1, 100) n")  # fmt: skip
    for options, most in (({"batch_size": 7}, 7), ({"batch_bytes": 10_000}, 40)):
        home = home_of(pg, f"{schema}.t", 1, options=options)
        with home.open() as plan:
            batches = list(home.read(plan.splits[0]))
        assert sum(each.num_rows for each in batches) == 100
        assert max(each.num_rows for each in batches) <= most
    huge = [each for each in batches if each.nbytes > 1_000_000]
    assert len(huge) == 1


def test_columns_that_changed_since_the_plan_are_noticed(pg, schema):
    numbers(pg, schema, more="PRIMARY KEY")
    home = home_of(pg, f"{schema}.t", 3, options={"consistency": "split"})
    with home.open() as plan:
        pg.ask(f"ALTER TABLE {schema}.t ADD w int")  # one more is no matter: it was not planned
        assert next(home.read(plan.splits[0])).column_names == ["n", "v"]
        pg.ask(f"ALTER TABLE {schema}.t ALTER v TYPE varchar(200)")
        with pytest.raises(SourceChanged, match="no longer those of the plan"):
            list(home.read(plan.splits[0]))


def test_a_right_that_is_missing_on_one_column_names_it(pg, schema):
    numbers(pg, schema)
    role = f"c{schema}"
    pg.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    pg.ask(f"GRANT SELECT (n) ON {schema}.t TO {role}")
    url = f"postgresql://{role}:x@127.0.0.1:{pg.port}/postgres"
    with pytest.raises(HomeError, match="may not read column 'v'") as caught:
        SQLHome(table=f"{schema}.t", connection=url).open().__enter__()
    assert f"GRANT SELECT ON {schema}.t" in caught.value.hint.replace('"', "")
    assert "columns: [n]" in caught.value.hint
    home = SQLHome(table=f"{schema}.t", connection=url, columns=["n"], options={"splits": 3})
    each_once(home, [(n,) for n in range(1, 1001)])


def test_a_read_only_session_of_a_named_flow(pg, schema):
    pg.ask(f"CREATE VIEW {schema}.me AS SELECT current_setting('application_name') AS name, "
           "current_setting('transaction_read_only') AS ro")  # fmt: skip
    home = home_of(pg, f"{schema}.me")
    home.flow = "orders"
    _, [[row]] = rows_of(home)
    assert row["name"].startswith("hygge/orders/")
    assert row["ro"] == "on"
    pg.ask(f"CREATE TABLE {schema}.t (n int)")
    pg.ask(f"CREATE FUNCTION {schema}.f() RETURNS int LANGUAGE sql AS "
           f"'INSERT INTO {schema}.t VALUES (1) RETURNING n'")  # fmt: skip
    with pytest.raises(HomeError, match="read-only"):
        rows_of(home_of(pg, query=f"SELECT {schema}.f() AS n"))
    assert pg.ask(f"SELECT * FROM {schema}.t") == []


def test_tables_of_arrow_have_the_schema_of_the_plan(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (n int NOT NULL, v text)")
    pg.ask(f"INSERT INTO {schema}.t VALUES (1, NULL)")
    home = home_of(pg, f"{schema}.t")
    with home.open() as plan:
        (table,) = home.read(plan.splits[0])
    wanted = [pa.field("n", pa.int32(), False), pa.field("v", pa.string())]
    assert table.schema.equals(pa.schema(wanted))


def test_a_query_that_fails_half_way_says_what_the_database_says(pg, schema):
    numbers(pg, schema)
    home = home_of(pg, query=f"SELECT 1 / (n - 900) AS n FROM {schema}.t")
    with home.open() as plan, pytest.raises(UnfitValue, match="division by zero") as caught:
        list(home.read(plan.splits[0]))
    assert "`query`" in caught.value.hint
