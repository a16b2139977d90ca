"""Runs of a Delta store, ready to be committed, and what a foreign reader sees of it."""

from __future__ import annotations

from deltalake import DeltaTable

from hygge import DeltaStore
from hygge.model import Run, Ticket
from hygge.store import new_run_id


def staged(store: DeltaStore, rows, flow="f", mode="append", key=(), cursor=None, splits=1):
    """A run that only has to be committed: `commit()`."""
    run = Run(new_run_id(), flow, mode, tuple(key), cursor)
    base = store.head(flow)
    store.prepare(run, rows.schema)
    size = -(-rows.num_rows // splits) or 1
    receipts = [
        store.stage(Ticket(run.id, at), rows.schema, iter([rows.slice(at * size, size)]))
        for at in range(splits)
    ]

    def commit(store=store, watermark=None):
        done = store.commit(run, base, receipts, watermark)
        store.discard(run)
        return done

    return commit


def ids(store: DeltaStore) -> list[int]:
    return sorted(read(store)["id"].to_pylist())


def read(store: DeltaStore):
    import pyarrow as pa

    return pa.table(DeltaTable(store.path).scan().read_all())


def by_id(store: DeltaStore) -> dict:
    rows = read(store).to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row.pop("id"): row for row in rows}
