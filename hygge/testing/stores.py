"""What every Store promises, as tests. Subclass `StoreContract`; give `make` and `rows`.

    class TestMyStore(StoreContract):
        def make(self, tmp_path): return MyStore(path=str(tmp_path / "out"))
        def rows(self, store): ...   # what a FOREIGN reader sees now; None: nothing is there

Modes, guarantee, visibility and lossy types are read from the Store's traits. A store that
delivers at least once runs the promises of one that does; the others skip with that word.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hygge.errors import NotOurs, Rejected, Superseded, Transient, UnfitValue, Unknown
from hygge.model import Commit, Head, Mode, Receipt, Run, Ticket
from hygge.store import Store, new_run_id
from hygge.testing.probes import ArrowMemory, in_worker, printed, xfail_if_declared
from hygge.testing.values import difference, every_type, is_lossy, table_of

FLOW = "shop: users/daily"  # a flow's identity is not a path
SECRET = "hunter2-is-secret"
SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


class Staged:
    """A run with its receipts, ready to be committed from anywhere."""

    def __init__(self, store: Store, run: Run, tables: Sequence[pa.Table]) -> None:
        self.store, self.run = store, run
        self.base = store.head(run.flow)
        store.prepare(run, SCHEMA)
        self.receipts = [
            store.stage(Ticket(run.id, at), SCHEMA, iter(table.to_batches_of_two()))
            if isinstance(table, _Two)
            else store.stage(Ticket(run.id, at), SCHEMA, iter([table]))
            for at, table in enumerate(tables)
        ]
