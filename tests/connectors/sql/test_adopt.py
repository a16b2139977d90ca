"""`replace` with `adopt: true`: a table that hygge did not make stays, and gets other rows."""

from __future__ import annotations

import importlib

import pyarrow as pa
import pytest

from hygge import SQLStore
from hygge.errors import HyggeError, NotOurs, Rejected, StoreError
from hygge.model import Run, Ticket
from tests.connectors.sql.own_tables import KINDS, Postgres, database, moved

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

THREE = pa.table({"id": [1, 2, 3], "v": ["a", "b", None]})
TWO = pa.table({"id": [3, 4], "v": ["c", "d"]})
WIDER = pa.table({"id": [5], "v": ["e"], "w": [1.5]})
MODULES = {"postgresql": "postgres", "sqlite": "sqlite", "mariadb": "mariadb"}


@pytest.fixture(params=KINDS)
def base(request, tmp_path):
    """A database with a table of somebody, its rows, an index and a view."""
    base = database(request, request.param, tmp_path)
    base.ask("CREATE TABLE t (id bigint PRIMARY KEY, v varchar(9))")
    base.ask("INSERT INTO t VALUES (7, 'old')")
    base.ask("CREATE UNIQUE INDEX by_v ON t (v)")
    base.ask("CREATE VIEW seen AS SELECT id, v FROM t WHERE id < 100")
    return base


def planned(base, rows, **options):
    return base.store(**options).examine(Run("r", "f", "replace"), rows.schema)


def test_its_rows_are_replaced_and_index_and_view_stay(base):
    for refused in (base.store().prepare, base.store(schema="evolve").examine):
        with pytest.raises(NotOurs, match="hygge did not make it") as caught:
            refused(Run("r1", "f", "replace"), THREE.schema)
        assert "`adopt: true`" in caught.value.hint
    assert base.ask("SELECT * FROM t") == [(7, "old")]
    state = planned(base, THREE, adopt=True)
    assert (state.is_adopted, state.rows, state.changes) == (True, 1, ())
    assert moved(base.store(adopt=True), THREE, "replace", "r1").applied == 3
    assert base.ask("SELECT * FROM seen ORDER BY id") == [(1, "a"), (2, "b"), (3, None)]
    assert planned(base, TWO, adopt=True).is_adopted
    moved(base.store(adopt=True), TWO, "replace", "r2")
    assert base.ask("SELECT * FROM seen ORDER BY id") == [(3, "c"), (4, "d")]
    twice = pa.table({"id": [8, 9], "v": ["x", "x"]})
    with pytest.raises(Rejected, match="break a rule"):
        moved(base.store(adopt=True), twice, "replace", "r3")
    moved(base.store(adopt=True), twice.slice(0, 0), "replace", "r4")
    assert base.ask("SELECT * FROM seen") == []
    with pytest.raises(NotOurs) as caught:
        base.store().prepare(Run("r5", "f", "replace"), TWO.schema)
    assert "`adopt: true`" in caught.value.hint


def test_its_columns_are_those_of_freeze_and_of_evolve(base):
    base.ask("ALTER TABLE t ADD COLUMN d varchar(9) DEFAULT 'new'")
    base.ask("ALTER TABLE t ADD COLUMN n int")
    for options in ({}, {"schema": "freeze"}):
        with pytest.raises(StoreError, match="no column 'w'") as caught:
            planned(base, WIDER, adopt=True, **options)
        if base.name != "generic":  # its verbs are called without the Store
            assert "`columns`, or use another table; its columns: " in caught.value.hint
    (change,) = planned(base, WIDER, adopt=True, schema="evolve").changes
    commit = moved(base.store(adopt=True, schema="evolve"), WIDER, "replace", "r1")
    assert commit.changes == (change,)
    assert base.ask("SELECT id, v, d, n, w FROM t") == [(5, "e", "new", None, 1.5)]
    moved(base.store(adopt=True, schema="evolve"), TWO, "replace", "r2")
    rows = [(3, "c", "new", None, None), (4, "d", "new", None, None)]
    assert base.ask("SELECT id, v, d, n, w FROM t ORDER BY id") == rows
    with pytest.raises(StoreError, match="'v' is"):
        planned(base, TWO.set_column(1, "v", pa.array([1.5, 2.5])), adopt=True, schema="evolve")


def test_a_reader_sees_the_old_rows_until_all_new_ones_are_there(base, monkeypatch):
    store, run, seen = base.store(adopt=True), Run("r1", "f", "replace"), []
    module = importlib.import_module(f"hygge.connectors.{MODULES.get(base.name, 'anysql')}.store")
    move_head = "publish.move_head" if base.name == "mariadb" else "_Publisher.finish"
    path = f"{module.__name__}.{move_head}"
    owner = module.publish if base.name == "mariadb" else module._Publisher
    real = getattr(owner, move_head.rpartition(".")[2])

    def looked_at(*given):
        seen.append(base.ask("SELECT * FROM t"))
        if len(seen) == 1:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(path, looked_at)
    store.prepare(run, THREE.schema)
    receipt = store.stage(Ticket("r1", 0), THREE.schema, iter([THREE]))
    with pytest.raises(KeyboardInterrupt):
        store.commit(run, None, [receipt], None)
    assert base.ask("SELECT * FROM t") == [(7, "old")]
    store.commit(run, None, [receipt], None)
    store.discard(run)
    assert seen == [[(7, "old")]] * 2
    assert len(base.ask("SELECT * FROM t")) == 3
    assert store.head("f").rows == 3


def test_a_foreign_key_that_would_take_rows_with_it_is_an_error(base):
    if base.name == "sqlite":
        pytest.skip("hygge enforces no foreign keys in SQLite")
    base.ask(
        "CREATE TABLE child (t_id bigint, FOREIGN KEY (t_id) REFERENCES t (id) ON DELETE CASCADE)"
    )
    base.ask("INSERT INTO child VALUES (7)")
    for verb in ("examine", "prepare"):
        with pytest.raises(HyggeError, match="cannot be replaced: .*child") as caught:
            getattr(base.store(adopt=True), verb)(Run("r1", "f", "replace"), THREE.schema)
        assert "`mode: merge`" in caught.value.hint
    assert base.ask("SELECT * FROM child") == [(7,)]


def test_a_view_is_refused(base):
    base.ask("ALTER TABLE t RENAME TO other")
    base.ask("DROP VIEW seen")
    base.ask("CREATE VIEW t AS SELECT id, v FROM other")
    with pytest.raises(StoreError, match="is a view"):
        base.store(adopt=True).prepare(Run("r1", "f", "replace"), THREE.schema)


def test_triggers_run_as_for_an_append(base):
    base.ask("CREATE TABLE told (what varchar(9), id bigint)")
    if base.name in ("postgresql", "psycopg2"):
        base.ask(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"INSERT INTO {base.schema}.told VALUES (TG_OP, coalesce(NEW.id, OLD.id)); "
            "RETURN coalesce(NEW, OLD); END $$"
        )
        base.ask(
            "CREATE TRIGGER x AFTER INSERT OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION tell()"
        )
    else:
        for what, row in (("INSERT", "NEW"), ("DELETE", "OLD")):
            done = f"INSERT INTO told VALUES ('{what}', {row}.id)"
            done = f"BEGIN {done}; END" if base.name == "sqlite" else done
            base.ask(f"CREATE TRIGGER x{what} AFTER {what} ON t FOR EACH ROW {done}")
    moved(base.store(adopt=True), TWO, "replace", "r1")
    told = [("DELETE", 7), ("INSERT", 3), ("INSERT", 4)]
    assert sorted(base.ask("SELECT * FROM told")) == told


def test_a_table_of_another_owner_keeps_grants_and_numbers_go_on(pg, schema):
    base = Postgres(pg, schema)
    base.ask(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, v text, "
        "twice bigint GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (id)"
    )
    base.ask("CREATE TABLE part PARTITION OF t FOR VALUES FROM (0) TO (100)")
    base.ask("INSERT INTO t (v) VALUES ('old')")
    base.ask("GRANT SELECT ON t TO PUBLIC")
    commit = moved(base.store(adopt=True), THREE, "replace", "r1")
    assert "goes on after 3" in commit.note
    base.ask("INSERT INTO t (v) VALUES ('next')")
    rows = [(1, "a", 2), (2, "b", 4), (3, None, 6), (4, "next", 8)]
    assert base.ask("SELECT * FROM t ORDER BY id") == rows
    granted = "SELECT relacl::text FROM pg_class WHERE oid = 't'::regclass"
    assert "=r/" in base.ask(granted)[0][0]
    base.ask("CREATE TABLE parent (id bigint, v text)")
    base.ask("CREATE TABLE heir () INHERITS (parent)")
    base.ask("ALTER TABLE t RENAME TO u")
    base.ask("ALTER TABLE parent RENAME TO t")
    with pytest.raises(StoreError, match="inherit from it"):
        planned(base, THREE, adopt=True)


def test_a_table_without_transactions_is_refused(my, my_schema, request, tmp_path):
    for kind in ("mariadb", "generic"):
        base = database(request, kind, tmp_path)
        base.ask("CREATE TABLE IF NOT EXISTS t (id bigint, v text) ENGINE = MyISAM")
        with pytest.raises(StoreError, match="MyISAM, which has no transactions"):
            planned(base, THREE, adopt=True)


@pytest.mark.parametrize("driver", ["", "psycopg2"])
def test_rows_that_row_security_hides_from_this_user_do_not_stay_beside_the_new_ones(
    driver, pg, schema
):
    base = Postgres(pg, schema, driver)
    role = f"rls{schema}"
    for statement in (
        "CREATE TABLE t (id bigint, v text)", "INSERT INTO t VALUES (7, 'seen'), (8, 'hidden')",
        f"CREATE ROLE {role} LOGIN PASSWORD 'p'", f"GRANT ALL ON SCHEMA {schema} TO {role}",
        f"GRANT ALL ON t TO {role}", "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY p ON t TO {role} USING (id <> 8)",
    ):  # fmt: skip
        base.ask(statement)
    kind = f"postgresql+{driver}" if driver else "postgresql"
    url = f"{kind}://{role}:p@127.0.0.1:{pg.port}/postgres"
    store = SQLStore("t", table=f"{schema}.t", connection=url, options={"adopt": True})
    with pytest.raises(HyggeError, match="row-level security") as caught:
        moved(store, THREE, "replace")
    assert "BYPASSRLS" in (caught.value.hint or "")
    assert base.ask("SELECT * FROM t ORDER BY id") == [(7, "seen"), (8, "hidden")]
