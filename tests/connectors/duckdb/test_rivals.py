"""Drivers of one flow race for a DuckDB file: one of them wins, and no row is lost or doubled."""

from __future__ import annotations

import multiprocessing

import duckdb
import pyarrow as pa

from hygge import SQLStore
from hygge.errors import Superseded
from hygge.model import Run, Ticket

ROUNDS, RIVALS = 3, 3


def rival(url, name, base_rows, begin, told):
    store = SQLStore("t", connection=url)
    run, base = Run(name, "f", "append"), store.head("f")
    rows = pa.table({"who": [name] * base_rows, "n": list(range(base_rows))})
    store.prepare(run, rows.schema)
    receipts = [
        store.stage(Ticket(name, split), rows.schema, iter([rows.slice(split * 50, 50)]))
        for split in range(2)
    ]
    begin.wait()
    try:
        store.commit(run, base, receipts, None)
        told.put(name)
    except Superseded:
        told.put("")
    finally:
        store.discard(run)


def test_of_rivals_with_one_base_one_wins_each_round(tmp_path):
    url, winners = f"duckdb:///{tmp_path}/t.duckdb", []
    context = multiprocessing.get_context("spawn")
    for turn in range(ROUNDS):
        begin, told = context.Barrier(RIVALS), context.Queue()
        names = [f"r{turn}{at}" for at in range(RIVALS)]
        rivals = [
            context.Process(target=rival, args=(url, name, 100, begin, told)) for name in names
        ]
        for each in rivals:
            each.start()
        said = [told.get(timeout=120) for _ in rivals]
        for each in rivals:
            each.join()
        assert sorted(said)[:-1] == [""] * (RIVALS - 1)
        winners.append(max(said))
    with duckdb.connect(f"{tmp_path}/t.duckdb", read_only=True) as database:
        seen = database.execute("SELECT who, count(*), sum(n) FROM t GROUP BY 1 ORDER BY 1")
        assert seen.fetchall() == [(name, 100, 4950) for name in sorted(winners)]
    assert not (tmp_path / ".t.duckdb.hygge").exists()
