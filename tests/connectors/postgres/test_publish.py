"""SQLStore on PostgreSQL, `replace`: what is exchanged, what is filled anew, and what both keep."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge.batches import with_key
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.postgres import publish
from hygge.connectors.postgres.target import rows_table
from hygge.errors import Rejected, StoreError
from hygge.model import Run, Ticket
from tests.servers.postgres import MORE, ROWS, moved, seen, staged, store_at
from tests.waiting import LIMIT_S

pytest_plugins = ["tests.servers.postgres"]


def oid(pg, schema, name="t"):
    return pg.ask(f"SELECT '{schema}.{name}'::regclass::oid")[0][0]


def keyed(store, name, rows, key=("id",)):
    """A `replace` of rows whose source says its primary key."""
    run, base = Run(name, "f"), store.head("f")
    store.prepare(run, with_key(rows.schema, key))
    receipt = store.stage(Ticket(name, 0), rows.schema, iter([rows]))
    commit = store.commit(run, base, [receipt], None)
    store.discard(run)
    return commit


def test_a_table_that_nothing_hangs_on_is_exchanged_and_keeps_what_people_gave_it(pg, schema):
    name = f'{schema}."it\'s 100% ""odd"""'
    store = SQLStore("t", table=name, connection=pg.url)
    moved(store, Run("r0", "f"), ROWS)
    pg.ask(f'CREATE ROLE "owner {schema}"')
    pg.ask(f'CREATE ROLE "reader {schema}"')
    pg.ask(f'GRANT USAGE, CREATE ON SCHEMA {schema} TO "owner {schema}"')
    pg.ask(f'ALTER TABLE {name} OWNER TO "owner {schema}"')
    pg.ask(f'GRANT SELECT, UPDATE ON {name} TO "reader {schema}" WITH GRANT OPTION')
    pg.ask(f"GRANT SELECT ON {name} TO PUBLIC")
    pg.ask(f"REVOKE TRUNCATE ON {name} FROM postgres")
    pg.ask(f'REVOKE DELETE ON {name} FROM "owner {schema}"')
    pg.ask(f'GRANT INSERT (id), UPDATE (v) ON {name} TO "reader {schema}"')
    pg.ask(f"COMMENT ON TABLE {name} IS 'it''s 100% theirs'")
    pg.ask(f"COMMENT ON COLUMN {name}.v IS 'a \\ value'")
    pg.ask(f"ALTER TABLE {name} SET (fillfactor = 70, autovacuum_enabled = false)")
    asked = (
        "SELECT pg_get_userbyid(relowner), ARRAY(SELECT a::text FROM aclexplode(relacl) a "
        "ORDER BY a::text), reloptions, obj_description(oid, 'pg_class'), "
        "col_description(oid, 2), (SELECT array_agg(attacl::text ORDER BY attnum) "
        "FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0) "
        "FROM pg_class c WHERE relname = 'it''s 100% \"odd\"' AND relnamespace = '"
        f"{schema}'::regnamespace"
    )
    before, was = pg.ask(asked), pg.ask(f"SELECT $${name}$$::regclass::oid")
    assert moved(store, Run("r1", "f"), MORE).applied == 2
    assert pg.ask(asked) == before
    assert before[0][2] == ["fillfactor=70", "autovacuum_enabled=false"]
    assert pg.ask(f"SELECT $${name}$$::regclass::oid") != was, "it was not exchanged"
    assert len(pg.ask(f"SELECT * FROM {name}")) == 2
    assert moved(store, Run("r2", "f"), ROWS).applied == 3
    assert pg.ask(asked) == before


HANGING = {
    "a view": "CREATE VIEW {0}.x AS SELECT id FROM {0}.t",
    "a materialised view": "CREATE MATERIALIZED VIEW {0}.x AS SELECT id FROM {0}.t",
    "an index": "CREATE INDEX x ON {0}.t (v)",
    "a unique index": "CREATE UNIQUE INDEX x ON {0}.t (id)",
    "a check": "ALTER TABLE {0}.t ADD CHECK (id > 0)",
    "a default": "ALTER TABLE {0}.t ALTER v SET DEFAULT 'x'",
    "a foreign key of another table, deferrable": "ALTER TABLE {0}.t ADD UNIQUE (id); "
    "CREATE TABLE {0}.x (id bigint REFERENCES {0}.t (id) DEFERRABLE); "
    "INSERT INTO {0}.x VALUES (3)",
    "a foreign key of its own": "CREATE TABLE {0}.x (id bigint PRIMARY KEY); "
    "INSERT INTO {0}.x VALUES (1), (2), (3), (4); "
    "ALTER TABLE {0}.t ADD FOREIGN KEY (id) REFERENCES {0}.x",
    "a trigger": "CREATE FUNCTION {0}.x() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN RETURN NEW; END'; "
    "CREATE TRIGGER x BEFORE INSERT ON {0}.t FOR EACH ROW EXECUTE FUNCTION {0}.x()",
    "a rule": "CREATE RULE x AS ON UPDATE TO {0}.t DO ALSO NOTHING",
    "a policy": "CREATE POLICY x ON {0}.t USING (true)",
    "row security": "ALTER TABLE {0}.t ENABLE ROW LEVEL SECURITY",
    "a publication": "ALTER TABLE {0}.t REPLICA IDENTITY FULL; "
    "CREATE PUBLICATION x{0} FOR TABLE {0}.t",
    "a publication of what comes": "CREATE PUBLICATION x{0} FOR TABLE {0}.t "
    "WITH (publish = 'insert')",
    "a publication of the schema": "CREATE PUBLICATION x{0} FOR TABLES IN SCHEMA {0} "
    "WITH (publish = 'insert')",
    "extended statistics": "CREATE STATISTICS {0}.x ON id, v FROM {0}.t",
    "a statistics target": "ALTER TABLE {0}.t ALTER v SET STATISTICS 500",
    "a storage": "ALTER TABLE {0}.t ALTER v SET STORAGE EXTERNAL",
    "a replica identity": "ALTER TABLE {0}.t REPLICA IDENTITY FULL",
    "a parent by inheritance": "CREATE TABLE {0}.x (id bigint); ALTER TABLE {0}.t INHERIT {0}.x",
    "a function of its rows": "CREATE FUNCTION {0}.x({0}.t) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a column of its type": "CREATE TABLE {0}.x (x {0}.t)",
    "unlogged": "ALTER TABLE {0}.t SET UNLOGGED",
    "an owner without rights": "CREATE ROLE o{0}; ALTER TABLE {0}.t OWNER TO o{0}",
}


@pytest.mark.parametrize("what", HANGING)
def test_a_table_that_something_hangs_on_is_filled_anew_and_stays_itself(pg, schema, store, what):
    moved(store, Run("r0", "f"), ROWS)
    with pg.connect() as people:
        people.execute(HANGING[what].format(schema))
    before = oid(pg, schema)
    assert moved(store, Run("r1", "f"), MORE, ROWS.slice(0, 1)).applied == 3
    assert oid(pg, schema) == before, f"{what} is lost"
    assert seen(pg, schema) == [(1, "a"), (3, "c"), (4, "d")]
    # Other columns would need another table: said before a row moves.
    with pytest.raises(Rejected, match="something depends on it") as caught:
        store.prepare(Run("r2", "f"), pa.schema({"id": pa.string(), "v": pa.string()}))
    assert caught.value.hint
    store.discard(Run("r2", "f"))
    assert oid(pg, schema) == before


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("ON DELETE CASCADE", "would be removed"),
        ("ON DELETE SET NULL", "set to NULL"),
        ("", "may refer to it"),
        ("ON DELETE RESTRICT", "may refer to it"),
    ],
)
def test_rows_of_other_tables_that_refer_to_the_old_ones_are_an_error_before_rows_move(
    pg, schema, store, how, words
):
    moved(store, Run("r0", "f"), ROWS)
    pg.ask(f"ALTER TABLE {schema}.t ADD UNIQUE (id)")
    pg.ask(f"CREATE TABLE {schema}.child (id bigint REFERENCES {schema}.t (id) {how})")
    pg.ask(f"INSERT INTO {schema}.child VALUES (1)")
    with pytest.raises(StoreError, match=words) as caught:
        store.prepare(Run("r1", "f"), MORE.schema)
    assert "DEFERRABLE" in caught.value.hint
    assert pg.ask(f"SELECT * FROM {schema}.child") == [(1,)]
    if not how:  # nobody refers to it
        pg.ask(f"DELETE FROM {schema}.child")
        assert moved(store, Run("r2", "f"), MORE).applied == 2


def test_a_rule_that_keeps_old_rows_is_an_error(pg, schema, store):
    moved(store, Run("r0", "f"), ROWS)
    pg.ask(f"CREATE RULE x AS ON DELETE TO {schema}.t DO INSTEAD NOTHING")
    with pytest.raises(Rejected, match="keeps rows that were to be replaced"):
        moved(store, Run("r1", "f"), MORE)
    assert len(seen(pg, schema)) == 3


# The primary key of the source


def test_the_key_of_the_source_is_the_key_of_the_table_and_is_exchanged_with_it(pg, schema, store):
    keys = (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' "
        f"AND conrelid = '{schema}.t'::regclass"
    )
    keyed(store, "r0", ROWS)
    assert pg.ask(keys) == [("t_pkey", "PRIMARY KEY (id)")]
    before = oid(pg, schema)
    keyed(store, "r1", MORE)
    assert pg.ask(keys) == [("t_pkey", "PRIMARY KEY (id)")]
    assert oid(pg, schema) != before, "a key that the new table has too is nothing that hangs"
    moved(store, Run("r2", "f"), ROWS)  # which knows of no key
    assert pg.ask(keys) == [("t_pkey", "PRIMARY KEY (id)")]
    assert len(seen(pg, schema)) == 3


def test_rows_that_do_not_keep_to_the_key_are_rejected(pg, schema, store):
    keyed(store, "r0", ROWS)
    for name, rows in (("r1", pa.concat_tables([MORE, MORE])), ("r2", pa.table({"id": [1, None]}))):
        with pytest.raises(Rejected, match=r"primary key \(id\)") as caught:
            keyed(store, name, rows)
        assert caught.value.hint
    assert len(seen(pg, schema)) == 3


def test_columns_are_made_with_precision_and_not_null(pg, schema, store):
    fields = pa.schema(
        [
            pa.field("id", pa.int32(), nullable=False),
            pa.field("price", pa.decimal128(15, 2), nullable=False),
            pa.field("at", pa.timestamp("us", "UTC")),
        ]
    )
    rows = pa.table({"id": [1], "price": ["1.50"], "at": [0]}).cast(
        pa.schema(
            [("id", pa.int32()), ("price", pa.decimal128(15, 2)), ("at", fields.field(2).type)]
        )
    )
    keyed(store, "r0", rows.cast(fields))
    asked = (
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        f"WHERE attrelid = '{schema}.t'::regclass AND attnum > 0"
    )
    assert pg.ask(asked) == [
        ("id", "integer", True),
        ("price", "numeric(15,2)", True),
        ("at", "timestamp with time zone", False),
    ]
    names = pg.ask(f"SELECT conname FROM pg_constraint WHERE conrelid = '{schema}.t'::regclass")
    assert not any("_hygge" in name for (name,) in names)


# Readers


@pytest.mark.parametrize("first", [True, False])
def test_a_reader_that_began_in_the_middle_of_the_load_never_sees_a_part_of_it(
    pg, schema, store, first
):
    if not first:
        moved(store, Run("r0", "f"), ROWS)
    run, base = Run("r1", "f"), store.head("f")
    store.prepare(run, ROWS.schema)
    receipts = [store.stage(Ticket("r1", 0), ROWS.schema, iter([ROWS]))]
    with pg.connect() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class")  # takes its snapshot
        receipts.append(store.stage(Ticket("r1", 1), MORE.schema, iter([MORE])))
        assert store.commit(run, base, receipts, None).applied == 5
        rows = reader.execute(f"SELECT id FROM {schema}.t").fetchall()
        assert len(rows) == (0 if first else 3)
        reader.execute("COMMIT")
        assert len(reader.execute(f"SELECT id FROM {schema}.t").fetchall()) == 5


def test_a_reader_that_this_user_may_not_look_into_is_counted_all_the_same(pg, schema, monkeypatch):
    monkeypatch.setattr(publish, "HIDDEN_WAIT_S", 0.1)
    pg.ask(f"CREATE ROLE w{schema} LOGIN PASSWORD 'p'")
    pg.ask(f"GRANT ALL ON SCHEMA {schema} TO w{schema}")
    store = store_at(f"postgresql://w{schema}:p@127.0.0.1:{pg.port}/postgres", schema)
    moved(store, Run("r0", "f"), ROWS)
    before = oid(pg, schema)
    run, base = Run("r1", "f"), store.head("f")
    store.prepare(run, ROWS.schema)
    with pg.connect() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class")
        receipt = store.stage(Ticket("r1", 0), MORE.schema, iter([MORE]))
        store.commit(run, base, [receipt], None)
        assert len(reader.execute(f"SELECT id FROM {schema}.t").fetchall()) == 3
        reader.execute("COMMIT")
    assert oid(pg, schema) == before
    store.discard(run)
    monkeypatch.setattr(publish, "HIDDEN_WAIT_S", LIMIT_S)
    moved(store, Run("r2", "f"), ROWS)
    assert oid(pg, schema) != before, "with nobody there it is exchanged"


def test_somebody_who_holds_the_table_is_not_waited_for_long(pg, schema, store, monkeypatch):
    moved(store, Run("r0", "f"), ROWS)
    monkeypatch.setattr(publish, "SWAP_WAIT_MS", 50)
    before = oid(pg, schema)
    with pg.connect() as reader:
        reader.execute("BEGIN")
        assert len(reader.execute(f"SELECT * FROM {schema}.t").fetchall()) == 3
        assert moved(store, Run("r1", "f"), MORE).applied == 2
        assert len(reader.execute(f"SELECT * FROM {schema}.t").fetchall()) == 2
    assert oid(pg, schema) == before


# Rights


@pytest.mark.parametrize(("mode", "right"), [("append", "INSERT"), ("merge", "UPDATE")])
def test_a_missing_right_is_an_error_before_rows_move(pg, schema, mode, right):
    pg.ask(f"CREATE ROLE m{schema} LOGIN PASSWORD 'p'")
    pg.ask(f"GRANT ALL ON SCHEMA {schema} TO m{schema}")
    pg.ask(f"CREATE TABLE {schema}.t (id bigint, v text)")
    pg.ask(f"GRANT SELECT ON {schema}.t TO m{schema}")
    if mode == "merge":
        pg.ask(f"GRANT INSERT ON {schema}.t TO m{schema}")
    store = store_at(f"postgresql://m{schema}:p@127.0.0.1:{pg.port}/postgres", schema)
    with pytest.raises(StoreError, match=f"may not {right}") as caught:
        store.prepare(Run("r1", "f", mode, ("id",)), ROWS.schema)
    assert f"GRANT {right}" in caught.value.hint


def test_a_missing_right_on_one_column_is_an_error_before_rows_move(pg, schema):
    pg.ask(f"CREATE ROLE c{schema} LOGIN PASSWORD 'p'")
    pg.ask(f"GRANT ALL ON SCHEMA {schema} TO c{schema}")
    pg.ask(f"CREATE TABLE {schema}.t (id bigint, v text, more int DEFAULT 1)")
    pg.ask(f"GRANT INSERT (id) ON {schema}.t TO c{schema}")
    store = store_at(f"postgresql://c{schema}:p@127.0.0.1:{pg.port}/postgres", schema)
    with pytest.raises(StoreError, match=r'may not INSERT \("v"\)') as caught:
        store.prepare(Run("r1", "f", "append"), ROWS.schema)
    assert 'GRANT INSERT ("v")' in caught.value.hint
    pg.ask(f"GRANT INSERT (v) ON {schema}.t TO c{schema}")
    assert moved(store, Run("r2", "f", "append"), ROWS).applied == 3


def test_rows_that_row_security_hides_are_an_error(pg, schema):
    pg.ask(f"CREATE ROLE h{schema} LOGIN PASSWORD 'p'")
    pg.ask(f"GRANT ALL ON SCHEMA {schema} TO h{schema}")
    store = store_at(f"postgresql://h{schema}:p@127.0.0.1:{pg.port}/postgres", schema)
    moved(store, Run("r0", "f"), ROWS)
    pg.ask(f"ALTER TABLE {schema}.t ENABLE ROW LEVEL SECURITY")
    pg.ask(f"ALTER TABLE {schema}.t FORCE ROW LEVEL SECURITY")
    pg.ask(f"CREATE POLICY p ON {schema}.t USING (id > 1)")
    with pytest.raises(StoreError, match="row-level security"):
        moved(store, Run("r1", "f"), MORE)
    assert len(seen(pg, schema)) == 3


def test_subscribers_to_everything_do_not_see_what_is_staged(pg, schema, store):
    moved(store, Run("r0", "f"), ROWS)
    pg.ask(f"CREATE PUBLICATION all{schema} FOR ALL TABLES")
    try:
        pg.ask(f"ALTER TABLE {schema}.t REPLICA IDENTITY FULL")
        staged(store, Run("r1", "f"), MORE)
        pg.ask(f"ALTER TABLE {schema}.t REPLICA IDENTITY DEFAULT")
        name = rows_table("r1")
        table = f"'{schema}.{name}'::regclass"
        assert pg.ask(f"SELECT relpersistence FROM pg_class WHERE oid = {table}") == [("u",)]
        with pytest.raises(StoreError, match="no replica identity") as caught:
            store.prepare(Run("r2", "f"), MORE.schema)
        assert "REPLICA IDENTITY FULL" in caught.value.hint
        pg.ask(f"ALTER TABLE {schema}.t REPLICA IDENTITY FULL")
        assert moved(store, Run("r3", "f"), MORE).applied == 2
    finally:
        pg.ask(f"DROP PUBLICATION all{schema}")
    assert seen(pg, schema) == [(3, "c"), (4, "d")]


@pytest.mark.parametrize("hangs", [False, True])
def test_another_flow_may_replace_what_hygge_made(pg, schema, store, hangs):
    moved(store, Run("r0", "a"), ROWS)
    if hangs:
        pg.ask(f"CREATE VIEW {schema}.x AS SELECT * FROM {schema}.t")
    moved(store, Run("r1", "b"), MORE)
    assert seen(pg, schema) == [(3, "c"), (4, "d")]
    assert store.head("a") is None
    moved(store, Run("r2", "a"), ROWS)
    assert len(seen(pg, schema)) == 3
