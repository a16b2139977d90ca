"""Columns for which a table has values of its own: numbers, generated values, defaults."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge.connectors.databases.home import SQLHome
from hygge.connectors.databases.store import SQLStore
from hygge.errors import Rejected, StoreError
from hygge.model import Run
from hygge.run.flow import Flow
from tests.connectors.sql.own_tables import KINDS, Lite, Maria, Postgres, database, moved

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


NULLS = pa.table({"id": pa.array([7, None, 0], pa.int64()), "n": [1, 2, 3]})


@pytest.mark.parametrize("mode", ["append", "merge"])
@pytest.mark.parametrize(
    ("kind", "ddl"),
    [
        ("mariadb", "CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, n bigint)"),
        ("sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY, n bigint)"),
        ("sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, n bigint)"),
        ("generic", "CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, n bigint)"),
    ],
)
def test_null_does_not_become_the_tables_next_number(request, tmp_path, kind, ddl, mode):
    base = database(request, kind, tmp_path)
    base.ask(ddl)
    with pytest.raises(Rejected, match="column 'id' is NULL in 1 row,") as caught:
        moved(base.store(), NULLS, mode, key=("n",))
    assert caught.value.hint
    assert base.ask("SELECT * FROM t") == []
    known = NULLS.filter(pa.array([True, False, True]))
    assert moved(base.store(), known, mode, run="r2", key=("n",)).applied == 2
    assert base.ask("SELECT * FROM t ORDER BY n") == [(7, 1), (0, 3)]


def test_a_part_of_a_key_is_no_number_that_sqlite_gives(tmp_path):
    base = Lite(tmp_path / "x.db")
    base.ask("CREATE TABLE t (id INTEGER, n bigint, PRIMARY KEY (id, n))")
    with pytest.raises(StoreError, match="has column 'id', which the rows lack"):
        base.store().prepare(Run("r1", "f", "append"), pa.schema([("n", pa.int64())]))
    assert moved(base.store(), NULLS).applied == 3
    assert base.ask("SELECT * FROM t ORDER BY n") == [(7, 1), (None, 2), (0, 3)]


# Generated columns, identity, sequences

THREE = pa.table({"id": [1, 2], "v": ["a", "b"], "g": ["from", "there"]})
TWO = THREE.drop_columns(["g"])
TEXT = "longtext CHARACTER SET utf8mb4"
GENERATED = {
    "postgresql": [
        "id bigint, v text, g text GENERATED ALWAYS AS (upper(v)) STORED",
        "id bigint, v text, g text GENERATED ALWAYS AS (upper(v)) VIRTUAL",
    ],
    "psycopg2": ["id bigint, v text, g text GENERATED ALWAYS AS (upper(v)) STORED"],
    "mariadb": [
        f"id bigint, v {TEXT}, g {TEXT} AS (upper(v)) VIRTUAL",
        f"id bigint, v {TEXT}, g varchar(9) AS (upper(v)) PERSISTENT",
    ],
    "generic": [f"id bigint, v {TEXT}, g {TEXT} AS (upper(v)) VIRTUAL"],
    "sqlite": [
        "id bigint, v text, g text AS (upper(v)) VIRTUAL",
        "id bigint, v text, g AS (upper(v)) STORED",
    ],
}


@pytest.mark.parametrize("kind", GENERATED)
def test_a_generated_column_is_left_out_of_what_is_written_and_said(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    for ddl in GENERATED[kind]:
        for mode in ("append", "merge"):
            base.ask(f"CREATE TABLE t ({ddl})")
            commit = moved(base.store(), THREE, mode, f"{mode}1", ("id",))
            assert (
                commit.note == "the table generates 'g' itself: the values that came were left out"
            )
            assert base.ask("SELECT * FROM t ORDER BY id") == [(1, "a", "A"), (2, "b", "B")]
            more = pa.table({"id": [2, 3], "v": ["x", "y"]})
            assert moved(base.store(), more, mode, f"{mode}2", ("id",)).note == ""
            merged = [(1, "a", "A"), (2, "x", "X"), (3, "y", "Y")]
            assert set(merged) <= set(base.ask("SELECT * FROM t"))
            base.ask("DROP TABLE t")
            base.ask("DROP TABLE _hygge_heads")


@pytest.mark.parametrize("kind", ["postgresql", "psycopg2", "mariadb", "sqlite"])
@pytest.mark.parametrize("type_of_g", ["varchar(1)", "int"])
def test_what_would_not_fit_into_a_generated_column_is_left_out_too(
    request, tmp_path, kind, type_of_g
):
    base = database(request, kind, tmp_path)
    stored = " STORED" if kind in ("postgresql", "psycopg2") else ""
    text = TEXT if kind == "mariadb" else "text"
    base.ask(f"CREATE TABLE t (id bigint, v {text}, g {type_of_g} GENERATED ALWAYS AS (7){stored})")
    for mode, run in (("append", "r1"), ("merge", "r2")):
        assert moved(base.store(), THREE, mode, run, ("id",)).applied == 2
    assert [int(g) for (g,) in base.ask("SELECT g FROM t")] == [7, 7]


@pytest.mark.parametrize("passthrough", [True, False])
def test_tables_of_one_definition_with_generated_columns_and_identity(
    pg, schema, tmp_path, passthrough
):
    source, target = Postgres(pg, schema), Postgres(pg, pg.schema())
    ddl = (
        "CREATE TABLE t (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v varchar(50), "
        "g text GENERATED ALWAYS AS (upper(v::text)) STORED, n serial)"
    )
    for each in (source, target):
        each.ask(ddl)
    source.ask("INSERT INTO t (v) VALUES ('a'), ('b')")
    options = {} if passthrough else {"types": {"id": "int32"}}
    home = SQLHome("t", table=f"{schema}.t", connection=pg.url, options=options)
    report = Flow(
        home, target.store(), name="f", mode="append", engine="inline", state=tmp_path / "s"
    ).run()
    rows = [(1, "a", "A", 1), (2, "b", "B", 2)]
    assert target.ask("SELECT * FROM t ORDER BY id") == rows
    assert "the table generates 'g' itself" in report.note
    assert f"the sequence {target.schema}.t_id_seq goes on after 2" in report.note
    assert f"the sequence {target.schema}.t_n_seq goes on after 2" in report.note
    target.ask("INSERT INTO t (v) VALUES ('c')")
    assert target.ask("SELECT id, n FROM t WHERE v = 'c'") == [(3, 3)]


NUMBERED = {
    "postgresql": (
        "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text",
        "id bigint GENERATED BY DEFAULT AS IDENTITY (INCREMENT 5) PRIMARY KEY, v text",
        "id bigserial PRIMARY KEY, v text",
        "id bigint PRIMARY KEY DEFAULT nextval('s'), v text",
    ),
    "psycopg2": ("id bigserial PRIMARY KEY, v text",),
    "mariadb": (
        f"id bigint AUTO_INCREMENT PRIMARY KEY, v {TEXT}",
        f"id bigint DEFAULT nextval(s) PRIMARY KEY, v {TEXT}",
    ),
    "generic": (f"id bigint AUTO_INCREMENT PRIMARY KEY, v {TEXT}",),
    "sqlite": (
        "id INTEGER PRIMARY KEY, v text",
        "id INTEGER PRIMARY KEY AUTOINCREMENT, v text",
    ),
}


@pytest.mark.parametrize("kind", NUMBERED)
def test_the_next_number_is_behind_those_that_were_written(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    if kind != "sqlite":
        base.ask("CREATE SEQUENCE s")
    for ddl in NUMBERED[kind]:
        for mode in ("append", "merge"):
            base.ask(f"CREATE TABLE t ({ddl})")
            commit = moved(base.store(), TWO, mode, f"{mode}1", ("id",))
            base.ask("INSERT INTO t (v) VALUES ('c')")
            ((number,),) = base.ask("SELECT id FROM t WHERE v = 'c'")
            assert number > 2, ddl
            is_said = kind in ("postgresql", "psycopg2") or ("nextval" in ddl and mode == "append")
            if "nextval" not in ddl or mode == "append":  # that sequence has gone on already
                assert ("goes on after 2" in commit.note) is is_said
            low = pa.table({"id": [number - 1000], "v": ["low"]})
            assert moved(base.store(), low, mode, f"{mode}2", ("id",)).note == ""
            base.ask("INSERT INTO t (v) VALUES ('d')")
            assert base.ask("SELECT id FROM t WHERE v = 'd'")[0][0] > number
            base.ask("DROP TABLE t")
            base.ask("DROP TABLE _hygge_heads")


def test_a_sequence_that_cannot_follow_is_said(pg, schema):
    base = Postgres(pg, schema)
    base.ask("CREATE SEQUENCE s AS smallint; CREATE SEQUENCE down INCREMENT -1")
    base.ask("CREATE TABLE t (id bigint DEFAULT nextval('s'), n bigint DEFAULT nextval('down'))")
    rows = pa.table({"id": [40_000], "n": [-5]})
    note = moved(base.store(), rows).note
    assert f"the sequence {schema}.s stays where it is: it ends before 40000" in note
    assert f"the sequence {schema}.down goes on after -5" in note
    assert base.ask("SELECT nextval('s'), nextval('down')") == [(1, -6)]
    role = f"writer_{schema}"
    base.ask(
        f"CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT CREATE, USAGE ON SCHEMA {schema} TO {role}; "
        f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}; "
        f"GRANT SELECT ON SEQUENCE s TO {role}"
    )
    url = pg.url.replace("postgres@", f"{role}:p@")
    store = SQLStore("t", table=f"{schema}.t", connection=url)
    note = moved(store, pa.table({"id": [50], "n": [0]}), run="r2").note
    assert f"the sequence {schema}.s stays where it is, since this user has no right" in note


def test_a_merge_that_would_update_an_identity_is_an_error_before_rows_move(pg, schema):
    base = Postgres(pg, schema)
    base.ask("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, v text PRIMARY KEY)")
    with pytest.raises(StoreError, match="'id' is GENERATED ALWAYS") as caught:
        base.store().prepare(Run("r1", "f", "merge", ("v",)), TWO.schema)
    base.ask(caught.value.hint.partition("or ")[2].replace("TABLE …", "TABLE t"))
    assert moved(base.store(), TWO, "merge", "r2", ("v",)).applied == 2


def test_an_identity_that_a_driver_cannot_write_is_an_error_before_rows_move(pg, schema):
    base = Postgres(pg, schema, "psycopg2")
    base.ask("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, v text PRIMARY KEY)")
    with pytest.raises(StoreError, match="'id' is GENERATED ALWAYS"):
        base.store().prepare(Run("r1", "f", "append"), TWO.schema)
    base.ask("ALTER TABLE t ALTER COLUMN id SET GENERATED BY DEFAULT")
    assert moved(base.store(), TWO, run="r2").applied == 2
    base.ask("INSERT INTO t (v) VALUES ('c')")
    assert base.ask("SELECT id FROM t WHERE v = 'c'") == [(3,)]


def test_rows_go_through_a_view_into_an_identity(pg, schema):
    base = Postgres(pg, schema)
    base.ask("CREATE TABLE b (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)")
    base.ask("CREATE VIEW t AS SELECT * FROM b")
    for mode, run in (("append", "r1"), ("merge", "r2")):
        assert moved(base.store(), TWO, mode, run, ("id",)).applied == 2
    assert base.ask("SELECT * FROM b") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_generated_columns_alone_are_an_error_before_rows_move(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    stored = " STORED" if kind in ("postgresql", "psycopg2") else ""
    base.ask(f"CREATE TABLE t (id bigint DEFAULT 1, n bigint GENERATED ALWAYS AS (2){stored})")
    with pytest.raises(StoreError, match="generates all columns"):
        base.store().prepare(Run("r1", "f", "append"), pa.schema([("n", pa.int64())]))


def test_a_table_with_a_history_takes_rows_and_keeps_it(my, my_schema):
    base = Maria(my, my_schema)
    moved(base.store(), TWO, "replace", "r1")
    base.ask("ALTER TABLE t ADD SYSTEM VERSIONING")
    moved(base.store(), TWO.slice(1), "append", "r2")
    moved(base.store(), TWO.slice(0, 1), "replace", "r3")
    assert base.ask("SELECT * FROM t") == [(1, "a")]
    assert base.ask("SELECT count(*) FROM t FOR SYSTEM_TIME ALL") == [(4,)]
    wider = TWO.append_column("w", [[1, 2]])
    with pytest.raises(StoreError, match="its history hangs on it"):
        base.store().prepare(Run("r4", "f", "replace"), wider.schema)
