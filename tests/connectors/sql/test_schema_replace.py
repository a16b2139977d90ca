"""`schema: freeze | evolve` with `mode: replace`: the table stays, in each database."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge.errors import Rejected, StoreError
from hygge.model import Run
from tests.connectors.sql.own_tables import KINDS, database, moved
from tests.connectors.sql.test_schema import NARROW, OLD, WIDER, of, planned

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


@pytest.fixture(params=KINDS)
def base(request, tmp_path):
    return database(request, request.param, tmp_path)


def replaced(base, rows, run, schema="evolve"):
    return moved(base.store(schema=schema), rows, "replace", run)


def refused(base, rows, match, *ways):
    """The rows are refused before they move."""
    for schema in ways:
        with pytest.raises(StoreError, match=match):
            base.store(schema=schema).prepare(Run("no", "f", "replace"), rows.schema)


def test_the_same_columns_are_replaced_in_the_table_that_is_there(base):
    replaced(base, OLD, "r1", "freeze")  # nothing is there: it is made
    base.ask("CREATE INDEX mine ON t (id)")
    replaced(base, OLD.slice(0, 1), "r2", "freeze")
    assert base.ask("SELECT * FROM t") == [(1, "a")]
    assert not base.store(schema="freeze").examine(Run("r", "f", "replace"), OLD.schema).is_adopted
    moved(base.store(), OLD, "replace", "r3")  # hygge's own, as before
    assert base.ask("SELECT * FROM t ORDER BY id") == [(1, "a"), (2, "b")]


def test_a_new_column_and_one_that_is_gone(base):
    replaced(base, OLD, "r1")
    refused(base, WIDER, "no column 'w'", "freeze")
    refused(base, NARROW, "'v', which the rows lack", "freeze")
    (change,) = planned(base, WIDER, "replace", schema="evolve")
    assert "is added: ALTER TABLE" in change
    assert replaced(base, WIDER, "r2").changes == (change,)
    assert base.ask("SELECT * FROM t") == [(3, "c", 1.5)]
    commit = replaced(base, NARROW, "r3")
    assert "column 'v'" in commit.changes[0]
    assert "it stays, NULL from now on" in commit.note
    assert base.ask("SELECT * FROM t ORDER BY id") == [(1, None, None), (2, None, None)]
    # Without `schema` the table would be made anew, without a column that the last run left.
    with pytest.raises(StoreError, match="'w', which the rows lack"):
        base.store().prepare(Run("r4", "f", "replace"), OLD.schema)


def test_a_wider_a_narrower_and_another_type(base):
    replaced(base, of(pa.int32(), 1), "r1")
    refused(base, of(pa.int64(), 2), "'n' is", "freeze")
    assert "column 'n' was" in replaced(base, of(pa.int64(), 2**40), "r2").changes[0]
    assert base.ask("SELECT n FROM t") == [(2**40,)]
    assert not replaced(base, of(pa.int16(), 3), "r3").changes
    replaced(base, of(pa.int64(), 2**41), "r4", "freeze")
    assert base.ask("SELECT n FROM t") == [(2**41,)]
    refused(base, of(pa.timestamp("us"), 0), "'n' is", "freeze", "evolve")


def test_null_is_let_in_by_evolve_alone(base):
    replaced(base, of(pa.int64(), 1, nullable=False), "r1")
    refused(base, NARROW, "'n'.*rows lack", "freeze", "evolve")
    with pytest.raises((Rejected, StoreError)):
        replaced(base, of(pa.int64(), None), "r2", "freeze")
    assert base.ask("SELECT n FROM t") == [(1,)]
    assert "may be NULL" in replaced(base, of(pa.int64(), None), "r3").changes[0]
    assert base.ask("SELECT n FROM t") == [(None,)]


def test_a_renamed_column_is_one_that_stays_and_one_that_is_added(base):
    replaced(base, OLD, "r1")
    renamed = OLD.rename_columns(["id", "u"])
    refused(base, renamed, "no column 'u'", "freeze")
    assert len(replaced(base, renamed, "r2").changes) == 2
    assert base.ask("SELECT * FROM t ORDER BY id") == [(1, None, "a"), (2, None, "b")]
