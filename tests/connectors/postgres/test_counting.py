"""SQLStore on PostgreSQL: what proves that all staged rows are there."""

from __future__ import annotations

import pytest

from hygge.connectors.postgres import counting
from hygge.connectors.postgres.target import rows_table
from hygge.errors import Rejected
from hygge.model import Run, Ticket
from tests.servers.postgres import ROWS, seen, staged, store_at

pytest_plugins = ["tests.servers.postgres"]


@pytest.fixture
def store(pg, schema):
    return store_at(pg.url, schema)


def test_staged_rows_are_counted_only_where_the_servers_own_account_does_not_prove_them(
    pg, schema, store, monkeypatch
):
    found, asked = [], counting._is_accounted_for
    monkeypatch.setattr(
        counting, "_is_accounted_for", lambda *of: found.append(asked(*of)) or found[-1]
    )
    for name, breaks in (("r1", False), ("r2", True)):
        run = Run(name, "f")
        store.prepare(run, ROWS.schema)
        if breaks:  # the rows of a try that fails are in the account, too
            with pytest.raises(ZeroDivisionError):
                store.stage(Ticket(name, 0), ROWS.schema, (1 / n and ROWS for n in (1, 0)))
        receipt = store.stage(Ticket(name, 0, n=1), ROWS.schema, iter([ROWS]))
        assert store.commit(run, store.head("f"), [receipt], None).applied == 3
        assert len(seen(pg, schema)) == 3
    assert found == [True, False]


def test_rows_that_somebody_takes_out_of_the_staging_are_missed(pg, schema, store):
    run = Run("r1", "f")
    receipts = staged(store, run, ROWS)
    rows = f"{schema}.{rows_table('r1')}"
    with pg.connect() as connection:  # the server has it in its account at the end of this
        connection.execute(f"DELETE FROM {rows} WHERE id = 1")
        connection.execute("SELECT pg_stat_force_next_flush()")
    with pytest.raises(Rejected, match="3 rows were staged, but 2 rows can be found"):
        store.commit(run, None, receipts, None)
    pg.ask(f"TRUNCATE {rows}")
    with pytest.raises(Rejected, match="3 rows were staged, but 0 rows can be found"):
        store.commit(run, None, receipts, None)
    pg.ask(f"DROP TABLE {schema}.{rows_table('r1')}")
    with pytest.raises(Rejected, match="nothing can be found"):
        store.commit(run, None, receipts, None)
