"""`replace` deletes no rows of tables of PostgreSQL that inherit from the target."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge.errors import HyggeError, StoreError
from hygge.model import Run, Ticket
from tests.connectors.sql.own_tables import database, moved

pytest_plugins = ["tests.servers.postgres"]

ROWS = pa.table({"id": [1, 2]})


@pytest.fixture(params=["postgresql", "psycopg2"])
def base(request, tmp_path):
    """A schema in which hygge has made and filled the table `t`."""
    base = database(request, request.param, tmp_path)
    moved(base.store(), ROWS, "replace", "r0")
    return base


def inherit(base):
    base.ask("CREATE TABLE child () INHERITS (t)")
    base.ask("INSERT INTO child VALUES (7)")


def test_it_is_refused_before_rows_move(base):
    inherit(base)
    for verb in ("examine", "prepare"):
        for options in ({}, {"adopt": True}, {"schema": "evolve"}):
            with pytest.raises(StoreError, match=r"inherit from it \(.*child\)") as caught:
                getattr(base.store(**options), verb)(Run("r1", "f", "replace"), ROWS.schema)
            assert "name one of these tables" in caught.value.hint
    moved(base.store(), ROWS, "append", "r2")
    assert base.ask("SELECT id FROM t ORDER BY 1") == [(1,), (1,), (2,), (2,), (7,)]


@pytest.mark.parametrize("schema_of_rows", [ROWS.schema, None])
def test_a_table_that_inherits_since_rows_were_staged_keeps_its_rows(base, schema_of_rows):
    store, run, head = base.store(), Run("r1", "f", "replace"), base.store().head("f")
    store.prepare(run, schema_of_rows)
    batches = [] if schema_of_rows is None else [ROWS]
    receipt = store.stage(Ticket("r1", 0), schema_of_rows, iter(batches))
    inherit(base)
    with pytest.raises(HyggeError, match="inherit from it"):
        store.commit(run, head, [receipt], None)
    assert base.ask("SELECT id FROM t ORDER BY 1") == [(1,), (2,), (7,)]


def test_a_table_that_inherits_itself_and_one_with_partitions_are_replaced(base):
    base.ask("CREATE TABLE parent (id bigint)")
    base.ask("INSERT INTO parent VALUES (9)")
    base.ask("ALTER TABLE t INHERIT parent")
    moved(base.store(), ROWS.slice(0, 1), "replace", "r1")
    assert base.ask("SELECT id FROM parent ORDER BY 1") == [(1,), (9,)]
    base.ask("DROP TABLE t")
    base.ask("CREATE TABLE t (id bigint) PARTITION BY RANGE (id)")
    base.ask("CREATE TABLE part PARTITION OF t FOR VALUES FROM (0) TO (100)")
    moved(base.store(adopt=True), ROWS, "replace", "r2")
    assert base.ask("SELECT id FROM part ORDER BY 1") == [(1,), (2,)]
