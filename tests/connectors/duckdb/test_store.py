"""SQLStore on DuckDB: existing tables, schema evolution, merges with `_op`, the lock."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from hygge import SQLStore
from hygge.changes import marked
from hygge.connectors.duckdb import session
from hygge.errors import NotOurs, Rejected, StoreError, Superseded, Transient, UnfitValue
from hygge.model import Run, Ticket

THREE = pa.table({"id": [1, 2, 3], "name": ["a", "b", None]})


def store_at(path, table="users", **options):
    return SQLStore(table, connection=f"duckdb:///{path}", options=options)


def staged(store, run, *tables):
    store.prepare(run, tables[0].schema)
    return [
        store.stage(Ticket(run.id, at), table.schema, iter([table]))
        for at, table in enumerate(tables)
    ]


def move(store, *tables, mode="append", run="r1", key=(), cursor=None):
    moved = Run(run, "f", mode, key, cursor)
    base = store.head("f")
    try:
        return store.commit(moved, base, staged(store, moved, *tables), None)
    finally:
        store.discard(moved)


def test_rows_go_into_a_table_that_fills_columns_itself(path, sql):
    sql(
        "CREATE TABLE users (id BIGINT PRIMARY KEY, name VARCHAR, age INTEGER DEFAULT 7, "
        "twice BIGINT AS (id * 2))"
    )
    move(store_at(path), THREE)
    assert sql("SELECT id, name, age, twice FROM users ORDER BY id")[2] == (3, None, 7, 6)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("(id INTEGER, name VARCHAR)", "column 'id' is INTEGER, which cannot keep int64 exactly"),
        ("(id BIGINT)", "has no column 'name', which the rows have"),
        ("(id BIGINT, name VARCHAR, more INTEGER)", "has column 'more', which the rows lack"),
        ("(id BIGINT, name DATE)", "column 'name' is DATE, which cannot keep string"),
    ],
)
def test_a_table_that_rows_do_not_fit_is_refused_before_they_move(table, said, path, sql):
    sql(f"CREATE TABLE users {table}")
    with pytest.raises(StoreError, match=said.replace("(", r"\(").replace(")", r"\)")):
        store_at(path).prepare(Run("r1", "f", "append"), THREE.schema)


def test_a_wider_column_takes_narrower_rows(path, sql):
    sql("CREATE TABLE users (id HUGEINT, seen TIMESTAMP, d DECIMAL(20,4))")
    rows = pa.table(
        {
            "id": pa.array([1], pa.int32()),
            "seen": pa.array([5], pa.timestamp("ms")),
            "d": pa.array(["1.5"]).cast(pa.decimal128(5, 1)),
        }
    )
    move(store_at(path), rows)
    ((_, at, number),) = sql("FROM users")
    assert (at.microsecond, str(number)) == (5000, "1.5000")


OWN = {
    "HUGEINT": "-170141183460469231731687303715884105727", "UHUGEINT": str(2**128 - 1),
    "BIGNUM": "1" * 50, "TIMETZ": "12:00:00.000001+05:30", "INTERVAL": "1 month 3 days 00:00:01",
    "BIT": "0101", "JSON": '{"a":  1.10}', "ENUM('sad', 'so so')": "so so",
    "UUID": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
}  # fmt: skip


def test_a_table_takes_the_texts_of_its_own_types_and_no_other(path, sql):
    columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(OWN))
    sql(f"CREATE TABLE users (id BIGINT, {columns})")
    rows = pa.table({"id": [1, 2]} | {f"c{at}": [v, None] for at, v in enumerate(OWN.values())})
    move(store_at(path), rows)
    shown = ", ".join(f"CAST(c{at} AS VARCHAR)" for at in range(len(OWN)))
    assert sql(f"SELECT {shown} FROM users WHERE id = 1") == [tuple(OWN.values())]
    for column, value in (("c0", "007"), ("c4", "1 mon"), ("c7", "glad"), ("c8", "no uuid")):
        wrong = rows.set_column(rows.column_names.index(column), column, pa.array([value, None]))
        with pytest.raises(Rejected, match=f"which does not keep the text of 1 row, .*'{value}'"):
            move(store_at(path), wrong, run="r2")
    assert sql("SELECT count(*) FROM users") == [(2,)]


def test_a_sequence_goes_on_after_the_values_that_came(path, sql):
    sql("CREATE SCHEMA s")
    sql('CREATE SEQUENCE s."The ids" INCREMENT BY 5')
    sql("""CREATE TABLE users (id BIGINT DEFAULT nextval('s."The ids"'), name VARCHAR)""")
    note = move(store_at(path), THREE).note
    if duckdb.__version__.startswith("1."):
        assert 'the sequence s."The ids" stays where it is: this DuckDB cannot' in note
        return
    assert 'the sequence s."The ids" goes on after 3' in note
    sql("INSERT INTO users (name) VALUES ('d')")
    assert sql("SELECT id FROM users WHERE name = 'd'") == [(8,)]
    assert "sequence" not in move(store_at(path), THREE, run="r2").note


def test_rows_that_break_a_rule_are_rejected_and_nothing_is_visible(path, sql):
    sql("CREATE TABLE users (id BIGINT CHECK (id < 3), name VARCHAR)")
    with pytest.raises(Rejected, match="the rows break a rule of"):
        move(store_at(path), THREE)
    assert sql("FROM users") == []


def test_a_replace_keeps_indexes_and_comments(path, sql):
    store = store_at(path)
    move(store, THREE, mode="replace")
    sql(
        "CREATE INDEX by_name ON users (name); COMMENT ON TABLE users IS 'it''s ours'; "
        "COMMENT ON COLUMN users.id IS 'who'"
    )
    move(store, THREE.slice(1), mode="replace", run="r2")
    assert sql("SELECT index_name FROM duckdb_indexes()") == [("by_name",)]
    assert sql("SELECT comment FROM duckdb_tables() WHERE table_name = 'users'") == [("it's ours",)]
    done = move(store, THREE.select(["id"]), mode="replace", run="r3")
    assert "the index 'by_name' was not made again" in done.note


def test_a_table_that_somebody_changed_is_not_ours_any_more_unless_it_is_adopted(path, sql):
    move(store_at(path), THREE, mode="replace")
    sql("ALTER TABLE users ADD PRIMARY KEY (id)")
    with pytest.raises(NotOurs):
        move(store_at(path), THREE, mode="replace", run="r2")
    move(store_at(path, adopt=True), THREE.slice(0, 2), mode="replace", run="r3")
    assert sql("SELECT count(*) FROM users") == [(2,)]
    assert sql("SELECT has_primary_key FROM duckdb_tables() WHERE table_name = 'users'") == [
        (True,)
    ]


def test_a_table_follows_its_rows_in_the_same_transaction(path, sql):
    sql("CREATE TABLE users (id INTEGER NOT NULL, name VARCHAR)")
    store = store_at(path, schema="evolve")
    rows = THREE.append_column("more", pa.array([[1], [], None], pa.list_(pa.int64())))
    done = move(store, rows)
    assert [each.partition(":")[0] for each in done.changes] == [
        "column 'id' was INTEGER and is BIGINT",
        "column 'id' may be NULL from now on",
        "column 'more' (BIGINT[]) is added",
    ]
    assert sql("SELECT more FROM users ORDER BY id") == [([1],), ([],), (None,)]


def test_other_schemas_are_written_and_missing_ones_refused(path, sql):
    sql("CREATE SCHEMA raw")
    move(store_at(path, "raw.users"), THREE)
    assert sql("SELECT count(*) FROM raw.users") == [(3,)]
    for file in (path, f"{path}.new.duckdb"):
        with pytest.raises(StoreError, match="there is no schema 'no'"):
            store_at(file, "no.users").prepare(Run("r1", "f", "append"), THREE.schema)


def test_nested_values_and_names_of_all_kinds_are_kept(path, sql):
    rows = pa.table(
        {
            "filename": ["f"],
            "rowid": ['a"b'],
            'wei"rd name': pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "s": [{"a b": [1.5, None]}],
            "pair": pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
            "second": pa.array([5], pa.timestamp("s")),
        }
    )
    move(store_at(path, "users"), rows, mode="replace")
    ((file, rowid, entries, struct, *_),) = sql("FROM users")
    assert (file, rowid, entries, struct) == ("f", 'a"b', {"k": 1}, {"a b": [1.5, None]})
    kinds = sql("SELECT data_type FROM duckdb_columns() WHERE table_name = 'users'")
    assert [kind for (kind,) in kinds][-2:] == ["TINYINT[2]", "TIMESTAMP_S"]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([2**63 - 1], pa.timestamp("us")), "which DuckDB takes for infinity"),
        (pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int8())), "one key twice"),
        (pa.array([5], pa.duration("us")), "which DuckDB cannot keep exactly"),
        (pa.array([b"\xff"]).view(pa.string()), "is no UTF-8 text"),
    ],
)
def test_a_value_that_duckdb_would_change_is_an_error(column, said, path):
    with pytest.raises(UnfitValue, match=said):
        move(store_at(path), pa.table({"v": column}))


def test_a_folder_whose_name_is_a_pattern_is_no_pattern(tmp_path, sql):
    folder = tmp_path / "day=1" / "a[1]*'"
    folder.mkdir(parents=True)
    at = str(folder / "x.duckdb")
    move(store_at(at), THREE)
    assert sql("SELECT count(*), min(id) FROM users", at) == [(3, 1)]


class TestMerge:
    def rows(self, *rows):
        names = ["id", "name", "_op"][: len(rows[0])]
        table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
        return table if len(names) == 2 else table.cast(marked(table.schema, "the changes"))

    def test_the_last_state_of_a_key_wins(self, path, sql):
        store = store_at(path)
        move(store, THREE, mode="merge", key=("id",))
        sql("ALTER TABLE users ADD COLUMN _op INTEGER DEFAULT 7")
        first = self.rows((1, "x", "update"), (4, "d", "insert"), (2, "b", "delete"))
        second = self.rows((4, "d", "delete"), (5, "e", "insert"), (2, "again", "insert"))
        done = move(store, first, second, mode="merge", run="r2", key=("id",))
        expected = [(1, "x", 7), (2, "again", 7), (3, None, 7), (5, "e", 7)]
        assert sql("FROM users ORDER BY id") == expected
        assert (done.applied, done.superseded) == (4, 2)
        assert done.note == "changes: 3 inserted or updated, 1 deleted"

    def test_a_cursor_tells_the_last_row_of_a_key(self, path, sql):
        rows = self.rows((1, "late"), (1, "early"), (2, "only"))
        rows = rows.append_column("at", pa.array([9, 3, 1]))
        move(store_at(path), rows, mode="merge", key=("id",), cursor="at")
        assert sql("FROM users ORDER BY id") == [(1, "late", 9), (2, "only", 1)]

    def test_without_either_a_key_that_comes_twice_is_refused(self, path):
        with pytest.raises(Rejected, match="is not unique"):
            move(store_at(path), self.rows((1, "a"), (1, "b")), mode="merge", key=("id",))

    def test_a_cursor_tells_the_last_change_and_a_delete_may_be_null(self, path, sql):
        sql('CREATE TABLE users (id BIGINT, name VARCHAR NOT NULL, "at" BIGINT)')
        rows = self.rows((1, "a", "insert"), (1, None, "delete"), (2, None, "delete"))
        gone = rows.append_column("at", pa.array([1, 2, 3]))
        move(store_at(path), gone, mode="merge", key=("id",), cursor="at")
        assert sql("FROM users") == []
        back = rows.append_column("at", pa.array([2, 1, 3]))
        move(store_at(path), back, mode="merge", run="r2", key=("id",), cursor="at")
        assert sql("FROM users") == [(1, "a", 2)]
        tie = rows.append_column("at", pa.array([4, 4, 3]))
        with pytest.raises(Rejected, match="of 1 row nobody can tell which change of a key"):
            move(store_at(path), tie, mode="merge", run="r3", key=("id",), cursor="at")

    def test_rows_of_a_table_with_keys_and_indexes_are_updated(self, path, sql):
        sql(
            "CREATE TABLE users (id BIGINT PRIMARY KEY, name VARCHAR UNIQUE); "
            "INSERT INTO users VALUES (1, 'a'), (2, 'b')"
        )
        move(store_at(path), self.rows((1, "c"), (3, "a")), mode="merge", key=("id",))
        assert sql("FROM users ORDER BY id") == [(1, "c"), (2, "b"), (3, "a")]

    def test_a_value_that_goes_from_one_row_to_another_is_free_for_it(self, path, sql):
        """The rows are more than DuckDB looks at at once; columns that they lack stay."""
        sql(
            "CREATE TABLE users (id BIGINT PRIMARY KEY, name VARCHAR UNIQUE, own INTEGER "
            "DEFAULT 7, twice BIGINT AS (id * 2)); "
            "INSERT INTO users SELECT i, 'n' || i, i FROM range(3000) r(i)"
        )
        moved = self.rows(*((n, f"n{(n + 1) % 3000}", "update") for n in range(3000)))
        gone = self.rows((0, "n1", "delete"), (9000, "n1", "insert"))
        move(store_at(path), moved, mode="merge", key=("id",))
        done = move(store_at(path), gone, mode="merge", run="r2", key=("id",))
        assert sql("SELECT count(*), count(DISTINCT name) FROM users") == [(3000, 3000)]
        found = sql("FROM users WHERE id IN (2, 9000) ORDER BY 1")
        assert found == [(2, "n3", 2, 4), (9000, "n1", 7, 18000)]
        assert done.note == "changes: 1 inserted or updated, 1 deleted"

    def test_a_key_with_a_collation_is_compared_byte_by_byte(self, path, sql):
        sql("CREATE TABLE users (id VARCHAR COLLATE NOCASE PRIMARY KEY, name VARCHAR)")
        for run, rows in enumerate([[("A", "x"), ("a", "y")], [("a", "z"), ("b", "n")]]):
            move(store_at(path), self.rows(*rows), mode="merge", run=f"r{run}", key=("id",))
        assert sorted(sql("FROM users")) == [("A", "x"), ("a", "z"), ("b", "n")]


def test_rows_that_others_refer_to_are_updated_and_never_replaced(path, sql):
    store = store_at(path)
    sql("CREATE TABLE users (id BIGINT PRIMARY KEY, name VARCHAR)")
    sql("CREATE TABLE orders (who BIGINT REFERENCES users (id)); INSERT INTO users VALUES (1, 'a')")
    move(store_at(path, adopt=True), THREE, mode="replace")
    sql("INSERT INTO orders VALUES (1)")
    with pytest.raises(StoreError, match="rows of the table 'orders' refer to its rows"):
        store_at(path, adopt=True).prepare(Run("r2", "f", "replace"), THREE.schema)
    other = pa.table({"id": [1, 9], "name": ["new", "nine"]})
    move(store, other, mode="merge", run="r3", key=("id",))
    assert sql("FROM users ORDER BY id") == [(1, "new"), (2, "b"), (3, None), (9, "nine")]
    gone = TestMerge().rows((1, "x", "delete"))
    with pytest.raises(Rejected, match="rows of another table refer to rows that would be deleted"):
        move(store, gone, mode="merge", run="r4", key=("id",))
    lost = pa.table({"who": [77]})
    with pytest.raises(Rejected, match="the rows refer to rows that another table lacks"):
        move(store_at(path, "orders"), lost, run="r5")


def test_a_rival_with_the_same_base_is_superseded(path, sql):
    ours, theirs = store_at(path), store_at(path)
    first, second = Run("r1", "f", "append"), Run("r2", "f", "append")
    receipts = staged(ours, first, THREE), staged(theirs, second, THREE)
    ours.commit(first, None, receipts[0], None)
    with pytest.raises(Superseded):
        theirs.commit(second, None, receipts[1], None)
    assert ours.commit(first, None, receipts[0], None).note == "it was committed before"
    assert sql("SELECT count(*) FROM users") == [(3,)]


def test_what_others_do_between_the_plan_and_the_commit(path, sql):
    store = store_at(path)
    move(store, THREE)

    def late(number):
        run = Run(f"late{number}", "f", "append")
        base, receipts = store.head("f"), staged(store, run, THREE)
        return lambda: store.commit(run, base, receipts, None)

    commit = late(1)
    sql("INSERT INTO users VALUES (9, 'theirs'); ALTER TABLE users ADD COLUMN more INTEGER")
    with pytest.raises(Rejected, match="has column 'more', which the rows lack"):
        commit()
    sql("ALTER TABLE users DROP COLUMN more")
    assert commit().applied == 3
    assert sql("SELECT count(*) FROM users") == [(7,)]
    commit = late(2)
    sql("DROP TABLE users")
    with pytest.raises(Rejected, match="is gone, but flow"):
        commit()
    Path(path).unlink()
    with pytest.raises(Superseded):
        commit()


def test_what_is_missing_or_short_of_the_staged_rows_is_rejected(path):
    store, run = store_at(path), Run("r1", "f", "append")
    (receipt,) = staged(store, run, THREE)
    with pytest.raises(Rejected, match="was staged with 4 rows, but 3 rows"):
        store.commit(run, None, [replace(receipt, rows=4)], None)
    (file,) = Path(path).parent.glob(".lake.duckdb.hygge/r1/*.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(Rejected, match="but nothing can be found"):
        store.commit(run, None, [receipt], None)
    assert store.resume(run, [receipt]) == []
    assert not file.exists()


def test_an_attempt_that_outlives_its_run_leaves_nothing(path):
    store, run = store_at(path), Run("r1", "f", "append")
    store.prepare(run, THREE.schema)

    def batches():
        yield THREE
        store.discard(run)

    with pytest.raises(StoreError, match="was discarded"):
        store.stage(Ticket("r1", 0), THREE.schema, batches())
    assert not Path(path).parent.joinpath(".lake.duckdb.hygge").exists()


def test_a_file_that_another_process_holds_is_waited_for_and_its_pid_told(path, sql, monkeypatch):
    sql("CREATE TABLE t (a INTEGER)")
    store, run = store_at(path), Run("r1", "f", "append")
    receipts = staged(store, run, THREE)
    monkeypatch.setattr(session, "LOCK_WAIT_S", 0.2)
    code = f"import duckdb; c = duckdb.connect({path!r}); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(Transient, match=f"locked by another program: PID {other.pid} "):
            store.commit(run, None, receipts, None)
        monkeypatch.setattr(session, "LOCK_WAIT_S", 60)
        other.communicate(b"\n")
    assert store.commit(run, None, receipts, None).applied == 3


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("duckdb:///md:sales", "MotherDuck is not built"),
        ("duckdb:///:memory:", "cannot travel to other processes"),
        ("duckdb:///x.duckdb?threads=1", "'threads' in the URL is not built"),
    ],
)
def test_databases_without_a_file_of_their_own_are_refused(url, said):
    from hygge.errors import ConfigError

    with pytest.raises(ConfigError, match=said):
        SQLStore("t", connection=url)
