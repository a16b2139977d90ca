"""SQLStore on PostgreSQL: a table or a head that others have changed stops a run, and is kept."""

from __future__ import annotations

import psycopg
import pyarrow as pa
import pytest

from hygge.errors import NotOurs, Rejected, StoreError
from hygge.model import Run
from tests.servers.postgres import MORE, ROWS, moved, seen, staged

pytest_plugins = ["tests.servers.postgres"]


@pytest.mark.parametrize(
    ("change", "words", "mode"),
    [
        ("ALTER TABLE {}.t DROP COLUMN v", "no column 'v'", "append"),
        ("ALTER TABLE {}.t ALTER COLUMN id TYPE integer", "cannot keep int64 exactly", "append"),
        ("ALTER TABLE {}.t ADD COLUMN w int", "has column 'w', which the rows lack", "merge"),
        ("DROP TABLE {}.t", "is gone", "append"),
        ("DROP TABLE {0}.t; CREATE TABLE {0}.t (id bigint, v text)", "did not make it", "replace"),
    ],
)
@pytest.mark.parametrize("when", ["between runs", "in mid-run"])
def test_a_table_that_was_altered_is_an_error_and_stays(
    pg, schema, store, change, words, mode, when
):
    moved(store, Run("r0", "f", mode, ("id",)), ROWS, watermark=3)
    before, run = store.head("f"), Run("r1", "f", mode, ("id",))
    if when == "in mid-run":
        receipts = staged(store, run, MORE)
    with pg.connect() as other:
        other.execute(change.format(schema))
    with pytest.raises(StoreError, match=words) as caught:
        if when == "between runs":
            store.prepare(run, MORE.schema)
        else:
            store.commit(run, before, receipts, 4)
    assert caught.value.hint
    if when == "in mid-run":
        assert isinstance(caught.value, Rejected)
    else:
        assert isinstance(caught.value, NotOurs) is (mode == "replace")
    assert store.head("f") == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE {} SET format = 99", "written by a newer hygge"),
        ("UPDATE {} SET format = 0, generation = -1", "generation"),
        ("UPDATE {} SET columns = 'nonsense'", "Expecting value"),
        ("UPDATE {} SET watermark = '[1]'", "watermark"),
        ("UPDATE {} SET watermark = NULL", "flow 'f'"),
        ("ALTER TABLE {} DROP COLUMN format", "no column 'format'"),
        ("ALTER TABLE {} DROP COLUMN target", "target"),
        ("ALTER TABLE {} ALTER COLUMN generation TYPE text", "generation"),
        ("DROP TABLE {0}; CREATE TABLE {0} (x int)", "target"),
        ("ALTER TABLE {0} DROP CONSTRAINT _hygge_heads_pkey; INSERT INTO {0} SELECT * FROM {0}",
         "two heads"),
    ],
)  # fmt: skip
def test_a_head_that_hygge_did_not_write_stops_everything(pg, schema, store, change, words):
    moved(store, Run("r0", "f", "append"), ROWS)
    run, base = Run("r1", "f", "append"), store.head("f")
    receipts = staged(store, run, MORE)
    with pg.connect() as other:
        other.execute(change.format(f"{schema}._hygge_heads"))
    for verb in (
        lambda: store.head("f"),
        lambda: store.prepare(Run("r2", "f", "append"), ROWS.schema),
        lambda: store.commit(run, base, receipts, None),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            verb()
        assert caught.value.hint
        assert not isinstance(caught.value, Rejected)
    assert len(seen(pg, schema)) == 3
    store.discard(run)
    assert len(seen(pg, schema)) == 3


def test_columns_of_other_values_make_the_table_anew_only_while_nothing_hangs_on_it(
    pg, schema, store
):
    moved(store, Run("r0", "f"), ROWS)
    other = pa.table({"id": ["x"]})
    pg.ask(f"CREATE VIEW {schema}.hangs AS SELECT * FROM {schema}.t")
    with pytest.raises(Rejected, match="something depends on it"):
        moved(store, Run("r1", "f"), other)
    assert len(seen(pg, schema)) == 3
    pg.ask(f"DROP VIEW {schema}.hangs")
    moved(store, Run("r2", "f"), other)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        seen(pg, schema)
    assert pg.ask(f"SELECT id FROM {schema}.t") == [("x",)]


def test_rows_that_the_check_option_of_a_view_refuses_break_a_rule(pg, schema, store):
    pg.ask(f"CREATE TABLE {schema}.under (id bigint, v text)")
    shown = f"SELECT * FROM {schema}.under WHERE id < 3"
    pg.ask(f"CREATE VIEW {schema}.t AS {shown} WITH CHECK OPTION")
    with pytest.raises(Rejected, match="the rows break a rule of .*: new row violates check opt"):
        moved(store, Run("r0", "f", "append"), ROWS)
    assert seen(pg, schema) == []
