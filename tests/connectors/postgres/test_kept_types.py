"""PostgreSQL into another PostgreSQL: each column keeps its type, whatever the others need."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from hygge import Flow, SQLHome, SQLStore
from hygge.errors import FlowFailed
from hygge.report.text import plan_line, plan_text

pytest_plugins = ["tests.servers.postgres"]

COLUMNS = "id int PRIMARY KEY, u uuid, j jsonb, tags text[], ttl interval, n numeric, c char(4)"
NATIVE = {
    "id": "integer", "u": "uuid", "j": "jsonb", "tags": "text[]", "ttl": "interval",
    "n": "numeric", "c": "character(4)",
}  # fmt: skip
VALUES = (
    "1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": 1}', '{x,NULL}', '1 day 1.5s', 1.50, 'x '"
)
KINDS = (
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)


class Pair:
    """Two databases of one server: a source and a target."""

    def __init__(self, pg):
        start = pg.url.rpartition("/")[0]
        for end in ("source", "target"):
            pg.ask(f"CREATE DATABASE kept_{end}")
        self.source, self.target = f"{start}/kept_source", f"{start}/kept_target"

    def emptied(self, folder):
        self.folder = folder
        for ask in (self.ask_source, self.ask_target):
            ask("DROP SCHEMA IF EXISTS public, other CASCADE")
            ask("CREATE SCHEMA public")
        return self

    def at(self, url, sql):
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def ask_source(self, sql):
        return self.at(self.source, sql)

    def ask_target(self, sql):
        return self.at(self.target, sql)

    def flow(self, mode="replace", store=None, **home):
        ends = (
            SQLHome("s", connection=self.source, **home),
            SQLStore("t", connection=self.target, options=store or {}),
        )
        key = ["id"] if mode == "merge" else []
        return Flow(*ends, name="f", mode=mode, key=key, engine="inline", state=self.folder)

    def kinds(self, table="t"):
        return dict(self.ask_target(KINDS.format(table)))

    def plan(self, flow):
        with flow.home.open() as plan:
            return plan_text(flow, plan)


@pytest.fixture(scope="module")
def databases(pg):
    return Pair(pg)


@pytest.fixture
def pair(databases, tmp_path):
    return databases.emptied(tmp_path)


@pytest.fixture
def filled(pair):
    pair.ask_source(f"CREATE TABLE s ({COLUMNS})")
    pair.ask_source(f"INSERT INTO s VALUES ({VALUES})")
    return pair


def same_rows(pair, source="TABLE s", target="TABLE t"):
    shown = "SELECT x::text FROM ({}) x ORDER BY 1"
    rows = pair.ask_target(shown.format(target))
    assert rows == pair.ask_source(shown.format(source))
    assert rows
    return True


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ("ADD email varchar(20)", {"email": "character varying(20)"}),
        ("DROP tags", {"tags": None}),
        ("ALTER c TYPE char(6)", {"c": "character(6)"}),
        ("ALTER n TYPE numeric(9,2)", {"n": "numeric(9,2)"}),
    ],
)
def test_a_replace_after_alter_table_keeps_the_types(filled, change, more):
    filled.flow().run()
    assert filled.kinds() == NATIVE
    filled.ask_source(f"ALTER TABLE s {change}")
    report = filled.flow().run()
    assert filled.kinds() == {name: kind for name, kind in (NATIVE | more).items() if kind}
    assert same_rows(filled)
    assert "becomes text" not in report.note


def test_a_target_that_became_text_gets_its_types_back(filled):
    filled.flow(query="SELECT id, u::text, j::text FROM s").run()
    assert filled.kinds() == {"id": "integer", "u": "text", "j": "text"}
    filled.flow().run()
    assert filled.kinds() == NATIVE


def test_a_table_that_something_depends_on_keeps_its_texts_and_the_plan_says_so(filled):
    filled.flow(query="SELECT id, u::text, n FROM s").run()
    filled.ask_target("CREATE VIEW v AS TABLE t")
    flow = filled.flow(columns=["id", "u", "n"])
    words = "'u' (uuid) becomes text, since the target's column is text"
    assert words in filled.plan(flow)
    assert words in flow.run().note
    assert filled.kinds() == {"id": "integer", "u": "text", "n": "numeric"}
    assert filled.ask_target("SELECT u FROM t") == filled.ask_source("SELECT u::text FROM s")


@pytest.mark.parametrize(
    ("options", "kind", "value"),
    [
        ({"on_value": {"at": "set_null"}}, "timestamp with time zone", None),
        ({"on_value": {"at": "as_text"}}, "text", "infinity"),
        ({"on_value": "set_null"}, "timestamp with time zone", None),
        ({"types": {"at": "string"}}, "text", "infinity"),
        ({"types": {"n": "float64"}, "on_value": {"at": "set_null"}},
         "timestamp(6) with time zone", None),
        ({"types": {"n": "decimal(9,3)"}, "on_value": {"at": "as_text"}}, "text", "infinity"),
    ],
)  # fmt: skip
def test_an_option_for_one_column_changes_that_column_alone(filled, options, kind, value):
    filled.ask_source("ALTER TABLE s ADD at timestamptz(6) DEFAULT 'infinity' NOT NULL")
    kind = kind.replace("timestamp with", "timestamp(6) with")
    report = filled.flow(options=options).run()
    stated = {"float64": "double precision", "decimal(9,3)": "numeric(9,3)"}
    n = stated.get(options.get("types", {}).get("n"), "numeric")
    assert filled.kinds() == NATIVE | {"at": kind, "n": n}
    assert filled.ask_target("SELECT at FROM t") == [(value,)]
    rest = "id, u, j, tags, ttl, c, n"
    shown = {"numeric(9,3)": "n::numeric(9,3)", "double precision": "n::float8"}.get(n, "n")
    assert same_rows(filled, f"SELECT {rest[:-1]}{shown} FROM s", f"SELECT {rest} FROM t")
    assert ("'at'" in report.note) is (kind == "text")


def test_merge_and_append_with_a_stated_type_keep_the_other_types(filled):
    options = {"types": {"n": "decimal(9,3)"}}
    for mode in ("merge", "merge", "append"):
        flow = filled.flow(mode, options=options)
        if mode == "append":
            filled.ask_target("DELETE FROM t")
        assert flow.run().applied == 1
        assert filled.kinds() == NATIVE | {"n": "numeric(9,3)"}
        assert same_rows(filled, "SELECT id, u, j, tags, ttl, n::numeric(9,3), c FROM s")


MADE = """
CREATE SCHEMA other;
CREATE TYPE "Mood's" AS ENUM ('sad', 'o''k', E'back\\\\slash');
CREATE DOMAIN other.price AS numeric(9,2) DEFAULT 1 CHECK (VALUE > 0);
CREATE TYPE pair AS (mood "Mood's", "a b" other.price[], t text COLLATE "C");
CREATE DOMAIN pairs AS pair[];
CREATE TABLE s (id int PRIMARY KEY, m "Mood's", ms "Mood's"[], p other.price, q pair, qs pairs,
    u uuid);
INSERT INTO s VALUES (1, 'sad', '{sad,NULL,o''k}', 1.50, ROW('sad', '{1.25}', 'é'),
    ARRAY[ROW(NULL, NULL, NULL)]::pair[], 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
    (2, E'back\\\\slash', NULL, NULL, NULL, NULL, NULL)
"""
MADE_KINDS = {
    "id": "integer", "m": "\"Mood's\"", "ms": "\"Mood's\"[]", "p": "other.price", "q": "pair",
    "qs": "pairs", "u": "uuid",
}  # fmt: skip


@pytest.mark.parametrize("types", [{}, {"id": "int64"}])
def test_made_types_are_made_with_the_table_where_the_user_says_so(pair, types):
    pair.ask_source(MADE)
    home = {"options": {"types": types}}
    with pytest.raises(FlowFailed, match="'m' is .*this database has no type") as caught:
        pair.flow(**home).run()
    assert "create_types: true" in str(caught.value)
    assert pair.ask_target("SELECT 1 FROM pg_class WHERE relname = 't'") == []
    pair.flow(store={"create_types": True}, **home).run()
    assert pair.kinds() == MADE_KINDS | ({"id": "bigint"} if types else {})
    assert same_rows(pair)
    checks = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid <> 0"
    assert pair.ask_target(checks) == pair.ask_source(checks)
    # Labels that came later, in their order.
    pair.ask_source("ALTER TYPE \"Mood's\" ADD VALUE 'new' BEFORE 'o''k'")
    pair.ask_source("UPDATE s SET m = 'new'")
    pair.flow(store={"create_types": True}, **home).run()
    assert same_rows(pair)
    labels = "SELECT enumlabel FROM pg_enum ORDER BY enumsortorder"
    assert pair.ask_target(labels) == pair.ask_source(labels)
    pair.flow(**home).run()  # they are here now


@pytest.mark.parametrize(
    ("here", "words"),
    [
        ("CREATE DOMAIN k AS numeric(5,1)", r"is made of numeric\(5,1\), and of numeric\(9,2\)"),
        ("CREATE TYPE k AS (a int)", "is a type of kind composite, and of kind domain"),
    ],
)
def test_a_type_of_the_same_name_that_is_another_is_an_error_before_rows_move(pair, here, words):
    pair.ask_source("CREATE DOMAIN k AS numeric(9,2); CREATE TABLE s (id int, k k)")
    pair.ask_source("INSERT INTO s VALUES (1, 1.25)")
    pair.ask_target(here)
    with pytest.raises(FlowFailed, match=words):
        pair.flow(store={"create_types": True}).run()


def test_a_type_that_cannot_be_made_becomes_text_and_the_other_columns_keep_theirs(pair):
    pair.ask_source("CREATE TYPE span AS RANGE (subtype = float8)")
    pair.ask_source("CREATE TABLE s (id int, r span, rs span[], u uuid)")
    pair.ask_source("INSERT INTO s VALUES (1, '[1.5,2)', '{\"[1,2)\"}', gen_random_uuid())")
    flow = pair.flow()
    words = "'r' (span) becomes text, since this database has no type span"
    assert words in pair.plan(flow)
    with flow.home.open() as plan:
        assert words in plan_line(flow, plan), "also as one of many tables"
    assert "'rs' (span[]) becomes text" in flow.run().note
    assert pair.kinds() == {"id": "integer", "r": "text", "rs": "text", "u": "uuid"}
    assert same_rows(pair)


def test_a_row_of_no_type_becomes_text(filled):
    flow = filled.flow(query="SELECT id, u, ROW(id, n) AS r, ARRAY[ROW(1, n)] AS rs FROM s")
    assert "'r' (record) becomes text" in flow.run().note
    assert filled.kinds() == {"id": "integer", "u": "uuid", "r": "text", "rs": "text"}
    assert filled.ask_target("SELECT r, rs FROM t") == [("(1,1.50)", '{"(1,1.50)"}')]


def test_two_tables_at_once_make_a_type_that_both_need_once(pair):
    pair.ask_source("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    for table in ("s", "s2", "s3", "s4"):
        pair.ask_source(f"CREATE TABLE {table} (id int, m mood)")
        pair.ask_source(f"INSERT INTO {table} VALUES (1, 'ok')")

    def move(table):
        store = SQLStore(table, connection=pair.target, options={"create_types": True})
        home = SQLHome(table, connection=pair.source)
        return Flow(home, store, name=table, engine="inline", state=pair.folder).run().rows

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(move, ("s", "s2", "s3", "s4"))) == [1] * 4
    assert pair.kinds("s3") == {"id": "integer", "m": "mood"}
