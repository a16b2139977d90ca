"""Drivers of one flow race for a DuckDB file: one of them wins, and no row is lost or doubled."""

from __future__ import annotations

import multiprocessing

import duckdb
import pyarrow as pa

from hygge import SQLStore
from hygge.errors import Superseded
from hygge.model import Run, Ticket
from tests.waiting import LIMIT_S

ROUNDS, RIVALS = 3, 3


def rival(url, at, begin, told):
    store = SQLStore("t", connection=url)
    for turn in range(ROUNDS):
        name = f"r{turn}{at}"
        run, base = Run(name, "f", "append"), store.head("f")
        rows = pa.table({"who": [name] * 100, "n": list(range(100))})
        store.prepare(run, rows.schema)
        receipts = [
            store.stage(Ticket(name, split), rows.schema, iter([rows.slice(split * 50, 50)]))
            for split in range(2)
        ]
        begin.wait()
        try:
            store.commit(run, base, receipts, None)
            told.put((turn, name))
        except Superseded:
            told.put((turn, ""))
        finally:
            store.discard(run)
        begin.wait()  # nobody asks for the head of the next round before this one is over


def test_of_rivals_with_one_base_one_wins_each_round(tmp_path):
    url, winners = f"duckdb:///{tmp_path}/t.duckdb", []
    context = multiprocessing.get_context("spawn")
    begin, told = context.Barrier(RIVALS), context.Queue()
    rivals = [context.Process(target=rival, args=(url, at, begin, told)) for at in range(RIVALS)]
    for each in rivals:
        each.start()
    said = sorted(told.get(timeout=LIMIT_S) for _ in range(ROUNDS * RIVALS))
    for each in rivals:
        each.join()
    for turn in range(ROUNDS):
        names = [name for of, name in said if of == turn]
        assert names[:-1] == [""] * (RIVALS - 1)
        winners.append(names[-1])
    with duckdb.connect(f"{tmp_path}/t.duckdb", read_only=True) as database:
        seen = database.execute("SELECT who, count(*), sum(n) FROM t GROUP BY 1 ORDER BY 1")
        assert seen.fetchall() == [(name, 100, 4950) for name in sorted(winners)]
    assert not (tmp_path / ".t.duckdb.hygge").exists()
