"""`replace` drops nothing in silence that people gave a table of hygge's."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge.errors import Rejected, StoreError
from hygge.model import Run, Ticket
from tests.connectors.sql.own_tables import KINDS, Lite, Maria, Postgres, database, moved

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

OLD = pa.table({"id": [1, 2], "v": ["a", "b"]})
NEW = pa.table({"id": [3], "v": ["c"]})
WIDER = pa.table({"id": [4], "v": ["d"], "w": [1.5]})


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_somebody_added_is_an_error_before_rows_move(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(), OLD, "replace", "r1")
    base.ask("ALTER TABLE t ADD COLUMN note text")
    base.ask("UPDATE t SET note = 'theirs'")
    for rows in (NEW, WIDER, NEW.drop_columns(["v"])):
        with pytest.raises(StoreError, match="'note', which the rows lack and no run") as caught:
            base.store().prepare(Run("r2", "f", "replace"), rows.schema)
        assert "DEFAULT" in caught.value.hint
    assert base.ask("SELECT * FROM t") == [(1, "a", "theirs"), (2, "b", "theirs")]
    base.ask("ALTER TABLE t DROP COLUMN note")
    moved(base.store(), NEW, "replace", "r3")
    assert base.ask("SELECT * FROM t") == [(3, "c")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_the_table_fills_itself_stays(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(), OLD, "replace", "r1")
    generated = {
        "sqlite": "int AS (id + 1)",
        "postgresql": "int GENERATED ALWAYS AS (id + 1) STORED",
    }
    kinds = (generated.get(kind, generated["postgresql"]), "varchar(9) DEFAULT 'new'")
    for name, ddl in zip("gd", kinds, strict=True):
        base.ask(f"ALTER TABLE t ADD COLUMN {name} {ddl}")
    base.ask("UPDATE t SET d = 'old'")
    for run, rows in (("r2", NEW), ("r3", OLD)):
        moved(base.store(), rows, "replace", run)
        rows = [(*row.values(), row["id"] + 1, "new") for row in rows.to_pylist()]
        assert base.ask("SELECT id, v, g, d FROM t ORDER BY id") == rows


@pytest.mark.parametrize("kind", ["postgresql", "psycopg2", "mariadb", "sqlite"])
def test_a_table_that_stays_gets_a_new_column_of_the_source_by_hand(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(), OLD, "replace", "r1")
    base.ask("ALTER TABLE t ADD COLUMN d varchar(9) DEFAULT 'new'")
    with pytest.raises(StoreError) as caught:
        base.store().prepare(Run("r2", "f", "replace"), WIDER.schema)
    assert "ALTER TABLE … ADD COLUMN" in caught.value.hint
    assert "DEFAULT" not in caught.value.hint
    double = "double" if kind == "mariadb" else "double precision"
    base.ask(f"ALTER TABLE t ADD COLUMN w {double}")
    moved(base.store(), WIDER, "replace", "r3")
    assert base.ask("SELECT id, v, w, d FROM t") == [(4, "d", 1.5, "new")]


# Not "generic": MySQL cannot make a table anew in a transaction, and hygge says so.
@pytest.mark.parametrize("kind", ["postgresql", "psycopg2", "mariadb", "sqlite"])
def test_a_column_that_the_source_has_dropped_goes(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(), WIDER, "replace", "r1")
    commit = moved(base.store(), NEW, "replace", "r2")
    assert commit.applied == 1
    assert commit.note == "the rows have no column 'w' any more, nor has the table"
    assert base.ask("SELECT * FROM t") == [(3, "c")]
    moved(base.store(), WIDER, "replace", "r3")
    assert base.ask("SELECT * FROM t") == [(4, "d", 1.5)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ADD INDEX `by ``id` (id)", "its index 'by `id'"),
        ("ADD UNIQUE u (id)", "its index 'u'"),
        ("COMMENT = 'it''s ours'", "its comment"),
        ("MODIFY v longtext COMMENT 'a value'", "the comment of column 'v'"),
        ("ALTER v SET DEFAULT 'it''s'", "the default of column 'v'"),
        ("ADD CHECK (id > 0)", "a check"),
        ("ADD CONSTRAINT big CHECK (id > 0)", "a check"),
        ("MODIFY v longtext CHECK (v <> ' DEFAULT ')", "the check of column 'v'"),
        ("PARTITION BY HASH (id) PARTITIONS 2", "its partitions"),
    ],
)  # fmt: skip
def test_mariadb_makes_no_table_anew_that_has_something_of_peoples(my, my_schema, change, words):
    base = Maria(my, my_schema)
    moved(base.store(), OLD, "replace", "r1")
    base.ask(f"ALTER TABLE t {change}")
    with pytest.raises(StoreError, match="made anew without") as caught:
        base.store().prepare(Run("r2", "f", "replace"), WIDER.schema)
    assert words in str(caught.value)
    # The hint helps: a column that is added behind the others.
    base.ask("ALTER TABLE t ADD COLUMN w double")
    before = base.ask("SHOW CREATE TABLE t")
    moved(base.store(), WIDER, "replace", "r3")
    assert base.ask("SELECT * FROM t") == [(4, "d", 1.5)]
    assert base.ask("SHOW CREATE TABLE t") == before


PEOPLES = {
    "an index": "CREATE INDEX i ON t (v)",
    "a comment": "COMMENT ON TABLE t IS 'ours'",
    "grants": "GRANT SELECT ON t TO PUBLIC",
    "a grant on a column": "GRANT SELECT (id) ON t TO PUBLIC",
    "a default": "ALTER TABLE t ALTER v SET DEFAULT 'x'",
    "a check": "ALTER TABLE t ADD CHECK (id > 0)",
    "a trigger": "CREATE TRIGGER tr BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION "
    "suppress_redundant_updates_trigger()",
    "a policy": "CREATE POLICY p ON t USING (true)",
    "parameters": "ALTER TABLE t SET (fillfactor = 70)",
    "a key": "ALTER TABLE t ADD UNIQUE (id)",
}


@pytest.mark.parametrize("what", PEOPLES)
def test_any_database_makes_no_table_anew_that_has_something_of_peoples(pg, schema, what):
    base = Postgres(pg, schema, "psycopg2")
    moved(base.store(), OLD, "replace", "r1")
    base.ask(PEOPLES[what])
    with pytest.raises(StoreError, match="something depends on it"):
        base.store().prepare(Run("r2", "f", "replace"), WIDER.schema)


@pytest.mark.parametrize("kind", ["mariadb", "generic", "psycopg2"])
@pytest.mark.parametrize("how", ["CASCADE", "SET NULL"])
def test_rows_of_other_tables_that_would_go_too_are_an_error_before_rows_move(
    request, tmp_path, kind, how
):
    base = database(request, kind, tmp_path)
    moved(base.store(), OLD, "replace", "r1")
    base.ask("CREATE UNIQUE INDEX by_id ON t (id)")
    base.ask(f"CREATE TABLE child (id bigint, FOREIGN KEY (id) REFERENCES t (id) ON DELETE {how})")
    base.ask("INSERT INTO child VALUES (1)")
    for columns in (OLD.schema, None):
        with pytest.raises(StoreError, match="cannot be replaced: (the )?rows of (.*)child"):
            base.store().prepare(Run("r2", "f", "replace"), columns)
    assert base.ask("SELECT * FROM child") == [(1,)]


def test_a_type_that_is_another_one_is_said(pg, schema):
    base = Postgres(pg, schema)
    moved(base.store(), OLD, "replace", "r1")
    base.ask("ALTER TABLE t ALTER v TYPE varchar(9)")
    note = moved(base.store(), NEW, "replace", "r2").note
    assert note == "column 'v' was character varying(9) and is text"


def test_not_null_that_is_gone_is_said(pg, schema):
    base = Postgres(pg, schema)
    moved(base.store(), OLD, "replace", "r1")
    base.ask("ALTER TABLE t ALTER v SET NOT NULL")
    assert "NOT NULL of 'v' is gone" in moved(base.store(), NEW, "replace", "r2").note
    assert moved(base.store(), NEW, "replace", "r3").note == ""


def test_triggers_of_sqlite_stay_and_are_not_run_by_a_replace(tmp_path):
    base = Lite(tmp_path / "x.db")
    moved(base.store(), OLD, "replace", "r1")
    base.ask("ALTER TABLE t ADD COLUMN d DEFAULT 7")
    base.ask("CREATE TABLE log (n)")
    for event, row in (("DELETE", "old"), ("INSERT", "new")):
        base.ask(
            f"CREATE TRIGGER on_{event} AFTER {event} ON t BEGIN "
            f"INSERT INTO log VALUES ({row}.id); END"
        )
    base.ask("CREATE INDEX by_v ON t (v)")
    moved(base.store(), NEW, "replace", "r2")
    assert base.ask("SELECT * FROM log") == []
    base.ask("INSERT INTO t (id) VALUES (9)")
    assert base.ask("SELECT * FROM log") == [(9,)]
    names = base.ask("SELECT name FROM sqlite_master WHERE tbl_name = 't' ORDER BY name")
    assert names == [("by_v",), ("on_DELETE",), ("on_INSERT",), ("t",)]


def test_a_column_that_comes_in_mid_run_is_an_error_at_the_commit(pg, schema):
    base = Postgres(pg, schema)
    store = base.store()
    moved(store, OLD, "replace", "r1")
    run, head = Run("r2", "f", "replace"), store.head("f")
    store.prepare(run, NEW.schema)
    base.ask("ALTER TABLE t ADD COLUMN note text")
    receipt = store.stage(Ticket("r2", 0), NEW.schema, iter([NEW]))
    with pytest.raises(Rejected, match="'note'"):
        store.commit(run, head, [receipt], None)
    assert base.ask("SELECT count(*) FROM t") == [(2,)]


def test_a_view_of_sqlite_that_breaks_is_said(tmp_path):
    base = Lite(tmp_path / "x.db")
    moved(base.store(), WIDER, "replace", "r1")
    base.ask("CREATE VIEW whole AS SELECT id, v FROM t")
    base.ask("CREATE VIEW part AS SELECT w FROM t")
    base.ask("CREATE VIEW never AS SELECT lacking FROM t")
    note = moved(base.store(), NEW, "replace", "r2").note
    assert note.endswith("the view 'part' cannot be read any more: no such column: w")
    assert "whole" not in note
    assert "never" not in note


def test_a_view_of_mariadb_that_breaks_is_said(my, my_schema):
    base = Maria(my, my_schema)
    moved(base.store(), WIDER, "replace", "r1")
    base.ask("CREATE VIEW whole AS SELECT id, v FROM t")
    base.ask("CREATE VIEW part AS SELECT w FROM t")
    note = moved(base.store(), NEW, "replace", "r2").note
    assert "the view 'part' cannot be read any more: View " in note
    assert "whole" not in note
