"""`schema: freeze | evolve`: each cell of the table in docs/schema.md, in each database."""

from __future__ import annotations

import decimal

import pyarrow as pa
import pytest

from hygge import Flow, SQLHome
from hygge.errors import FlowFailed, StoreError
from hygge.model import Run, Ticket
from tests.connectors.sql.own_tables import KINDS, Postgres, database, moved

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

OLD = pa.table({"id": [1, 2], "v": ["a", "b"]})
WIDER = pa.table({"id": [3], "v": ["c"], "w": [1.5]})
NARROW = OLD.drop_columns(["v"])


def of(kind, *values, nullable=True):
    """Return a table with a key and a column `n` of this type."""
    fields = [pa.field("id", pa.int64()), pa.field("n", kind, nullable)]
    ids = range(len(values))
    return pa.table([pa.array(ids, pa.int64()), pa.array(values, kind)], pa.schema(fields))


def planned(base, rows, mode="append", key=(), **options):
    """Return what `plan` says of the columns."""
    run = Run("20260101T000000-00000000", "f", mode, key)
    return base.store(**options).examine(run, rows.schema).changes


@pytest.mark.parametrize("mode", ["append", "merge"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_column_is_added_and_one_that_is_gone_stays(request, tmp_path, kind, mode):
    base, key = database(request, kind, tmp_path), ("id",) if mode == "merge" else ()
    moved(base.store(), OLD, mode, "r1", key)
    with pytest.raises(StoreError, match="no column 'w'") as caught:
        base.store(schema="freeze").prepare(Run("r2", "f", mode, key), WIDER.schema)
    assert "schema: evolve" in caught.value.hint
    (change,) = planned(base, WIDER, mode, key, schema="evolve")
    assert "column 'w'" in change
    assert "is added: ALTER TABLE" in change
    assert "w" not in str(base.ask("SELECT * FROM t LIMIT 0"))
    commit = moved(base.store(schema="evolve"), WIDER, mode, "r2", key)
    assert commit.changes == (change,)
    assert "column 'w'" in commit.note
    # The other flow and the next run know the table as it is, and it is still hygge's to replace.
    assert planned(base, WIDER, mode, key, schema="evolve") == ()
    commit = moved(base.store(schema="evolve"), NARROW.slice(0, 0), mode, "r3", key)
    assert [change[:10] for change in commit.changes] == ["column 'v'", "column 'w'"]
    assert "it stays, NULL from now on" in commit.note
    four = pa.table({"id": [4]})
    assert not moved(base.store(schema="evolve"), four, mode, "r4", key).changes
    rows = [(1, "a", None), (2, "b", None), (3, "c", 1.5), (4, None, None)]
    assert base.ask("SELECT * FROM t ORDER BY id") == rows
    moved(base.store(), WIDER, "replace", "r5")
    assert base.ask("SELECT * FROM t") == [(3, "c", 1.5)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wider_type_widens_the_column_and_a_narrower_one_does_not(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    small = of(pa.int32(), 1, nullable=False)
    moved(base.store(), small, "append", "r1")
    with pytest.raises(StoreError, match="'n' is"):
        base.store().prepare(Run("r2", "f", "append"), of(pa.int64(), 2).schema)
    commit = moved(base.store(schema="evolve"), of(pa.int64(), 2**40, None), "append", "r2")
    assert "column 'n' was" in commit.changes[0]
    assert not moved(base.store(schema="evolve"), of(pa.int16(), 3), "append", "r3").changes
    rows = [(1,), (3,), (2**40,), (None,)]
    assert base.ask("SELECT n FROM t ORDER BY n IS NULL, n") == rows
    moved(base.store(), of(pa.int64(), 5), "replace", "r4")  # it is still hygge's own
    assert base.ask("SELECT n FROM t") == [(5,)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        (pa.float32(), pa.float64(), 1e300),
        (pa.decimal128(6, 2), pa.decimal128(12, 2), decimal.Decimal("1234567890.12")),
    ],
)
def test_a_double_and_a_longer_decimal_fit_behind_evolve(request, tmp_path, kind, old, new, value):
    base = database(request, kind, tmp_path)
    moved(base.store(), of(old, 1), "append", "r1")
    moved(base.store(schema="evolve"), of(new, value), "append", "r2")
    came = [type(value)(found) for (found,) in base.ask("SELECT n FROM t WHERE n IS NOT NULL")]
    assert sorted(came) == [1, value]


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_rows_lack_is_an_error_where_nothing_is_said_of_columns(
    request, tmp_path, kind
):
    base = database(request, kind, tmp_path)
    moved(base.store(), pa.table({"n": [1], "more": [2]}), "append", "r1")
    with pytest.raises(StoreError, match="has column 'more', which the rows lack"):
        moved(base.store(), pa.table({"n": [2]}), "append", "r2")
    assert base.ask("SELECT n, more FROM t") == [(1, 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_another_type_is_an_error_that_names_both(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(), of(pa.int32(), 1), "append", "r1")
    for schema in ("freeze", "evolve"):
        with pytest.raises(StoreError, match="(?i)'n' is '?int.*, (and|which cannot keep)"):
            base.store(schema=schema).prepare(
                Run("r2", "f", "append"), of(pa.timestamp("us"), 0).schema
            )


@pytest.mark.parametrize("kind", KINDS)
def test_not_null_goes_and_a_column_that_must_have_a_value_is_an_error(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(), of(pa.int64(), 1, nullable=False), "append", "r1")
    (change,) = planned(base, of(pa.int64(), None), schema="evolve")
    assert "'n' may be NULL" in change
    with pytest.raises(StoreError, match="column 'n' .*NOT NULL.*rows lack"):
        base.store(schema="evolve").prepare(Run("r2", "f", "append"), NARROW.schema)
    moved(base.store(schema="evolve"), of(pa.int64(), None), "append", "r3")
    assert base.ask("SELECT n FROM t ORDER BY n IS NULL") == [(1,), (None,)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_renamed_column_is_one_that_stays_and_one_that_is_added(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(), OLD, "append", "r1")
    commit = moved(base.store(schema="evolve"), pa.table({"id": [3], "u": ["c"]}), "append", "r2")
    assert len(commit.changes) == 2
    assert base.ask("SELECT * FROM t ORDER BY id")[2] == (3, None, "c")


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_is_not_there_is_an_error(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(), OLD, "merge", "r1", ("id",))
    for rows in (OLD.rename_columns(["no", "v"]), WIDER):
        with pytest.raises(StoreError, match="key"):
            base.store(schema="evolve").prepare(
                Run("r2", "f", "merge", ("no",) if "no" in rows.column_names else ("w",)),
                rows.schema,
            )


@pytest.mark.parametrize("kind", KINDS)
def test_a_default_of_the_table_fills_a_column_that_rows_lack(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    base.ask("CREATE TABLE t (id bigint, v varchar(9) DEFAULT 'new' NOT NULL, x varchar(9))")
    commit = moved(base.store(schema="evolve"), pa.table({"id": [4]}), "append", "r1")
    assert commit.changes == ()
    assert base.ask("SELECT * FROM t") == [(4, "new", None)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_flows_of_other_columns_share_a_table(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(schema="evolve"), OLD, "append", "r1")
    other = pa.table({"id": [7], "x": [1.5]})
    moved(base.store(schema="evolve"), other, "append", "r2", flow="g")
    for run, rows, flow in (("r3", OLD.slice(0, 1), "f"), ("r4", other, "g")):
        assert moved(base.store(schema="evolve"), rows, "append", run, flow=flow).applied == 1
    assert len(base.ask("SELECT * FROM t")) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_that_fails_behind_its_alter_is_done_by_the_next(request, tmp_path, kind):
    base = database(request, kind, tmp_path)
    moved(base.store(), of(pa.int32(), 1), "append", "r1")
    store, rows = base.store(schema="evolve"), WIDER.append_column("n", pa.array([2**40]))
    run, rows = Run("r2", "f", "append"), rows.select(["id", "n", "w"])
    head = store.head("f")
    store.prepare(run, rows.schema)
    receipt = store.stage(Ticket("r2", 0), rows.schema, iter([rows]))
    module = {"postgresql": "postgres", "sqlite": "sqlite", "mariadb": "mariadb"}.get(kind)
    module = f"hygge.connectors.{module or 'anysql'}.store._Publisher.publish"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, die)
        store.commit(run, head, [receipt], None)
    altered = kind in ("mariadb", "generic")
    assert len(base.ask("SELECT * FROM t LIMIT 1")[0]) == (3 if altered else 2)
    store.commit(run, head, [receipt], None)
    store.discard(run)
    assert base.ask("SELECT * FROM t ORDER BY n") == [(0, 1, None), (3, 2**40, 1.5)]
    moved(base.store(), rows, "replace", "r4")
    assert base.ask("SELECT id, w FROM t") == [(3, 1.5)]


def die(*_args):
    raise KeyboardInterrupt


def test_columns_from_postgresql_have_its_own_types_and_views_are_respected(pg, schema, tmp_path):
    base = Postgres(pg, schema)
    base.ask("CREATE TABLE s (id int PRIMARY KEY, v varchar(5), n int)")
    base.ask("INSERT INTO s VALUES (1, 'a', 7)")
    flow = Flow(
        SQLHome("s", table=f"{schema}.s", connection=pg.url, cursor="id"),
        base.store(schema="evolve"),
        name="f",
        mode="append",
        key="id",
        engine="inline",
        state=tmp_path,
    )
    flow.run()
    base.ask("ALTER TABLE s ADD tags text[], ALTER v TYPE varchar(20), ALTER n TYPE bigint")
    base.ask("INSERT INTO s VALUES (2, 'longer than 5', 8, '{x,y}')")
    base.ask("CREATE VIEW w AS SELECT v FROM t")
    with pytest.raises(FlowFailed, match="while something reads it: .* view"):
        flow.run()
    base.ask("DROP VIEW w")
    changes = [change.partition(":")[0] for change in flow.run().changes]
    assert changes == [
        "column 'v' was character varying(5) and is character varying(20)",
        "column 'n' was integer and is bigint",
        "column 'tags' (text[]) is added",
    ]
    rows = [(1, "a", 7, None), (2, "longer than 5", 8, ["x", "y"])]
    assert base.ask("SELECT * FROM t ORDER BY id") == rows
