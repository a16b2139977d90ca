"""Runs for the tests of Stores: what a suite asks of its subclass, and rows with a tag."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hygge.errors import Rejected
from hygge.model import Commit, Head, Mode, Receipt, Run, Ticket, Watermark
from hygge.store import Store, new_run_id
from hygge.testing.values import difference

FLOW = "shop: users/daily"
"""A flow's identity is a name, and never a path."""
_COLUMNS: dict[str, Any] = {"n": pa.int64(), "text": pa.string()}
SCHEMA = pa.schema(_COLUMNS)


@dataclass(frozen=True)
class Staged:
    """A prepared run with the receipts of its splits; `commit` may be called from anywhere."""

    store: Store
    run: Run
    base: Head | None
    receipts: tuple[Receipt, ...]

    def commit(self, store: Store | None = None, watermark: Watermark = None) -> Commit:
        """Commit through the store that staged, or through another one at the same place."""
        return (store or self.store).commit(self.run, self.base, self.receipts, watermark)


def begin(store: Store, mode: Mode | None = None, schema: pa.Schema | None = SCHEMA) -> Staged:
    """A prepared run without receipts; merges go by `n`."""
    modes = store.traits.modes
    mode = mode or ("replace" if "replace" in modes else modes[0])
    run = Run(new_run_id(), FLOW, mode, ("n",) if mode == "merge" else ())
    base = store.head(FLOW)
    store.prepare(run, schema)
    return Staged(store, run, base, ())


def put(store: Store, *splits: pa.Table, mode: Mode | None = None) -> Staged:
    """A run with one receipt for each of `splits`; each comes in two batches."""
    begun = begin(store, mode, splits[0].schema)
    receipts = tuple(stage(begun, table, split=at) for at, table in enumerate(splits))
    return Staged(store, begun.run, begun.base, receipts)


def stage(
    begun: Staged,
    table: pa.Table,
    split: int = 0,
    n: int = 0,
    store: Store | None = None,
    epoch: int = 0,
) -> Receipt:
    """One try at one split."""
    half = (table.num_rows + 1) // 2
    batches = [table] if table.num_rows < 2 else [table.slice(0, half), table.slice(half)]
    ticket = Ticket(begun.run.id, split, epoch, n)
    return (store or begun.store).stage(ticket, table.schema, iter(batches))


def tagged(tag: str, start: int = 0, count: int = 20) -> pa.Table:
    """Rows that say whose they are; NULL and '' among them."""
    n = list(range(start, start + count))
    text = [None if at % 10 == 3 else "" if at % 10 == 5 else f"{tag} {at}" for at in n]
    return pa.table({"n": n, "text": text}, schema=SCHEMA)


def tags(rows: pa.Table) -> dict[str, int]:
    """How many rows of each tag there are; NULL and '' have none."""
    found: dict[str, int] = {}
    for text in rows.column("text").to_pylist():
        if text:
            tag = str(text).split(" ")[0]
            found[tag] = found.get(tag, 0) + 1
    return found


def twin_of(store: Store) -> Store:
    """The same place as another process would see it."""
    twin: Store = pickle.loads(pickle.dumps(store))
    return twin


def megabytes(count: int) -> Iterator[pa.Table]:
    """Batches of about 1 MiB, each in memory of its own."""
    for at in range(count):
        n = pa.array(range(at * 1024, at * 1024 + 1024), pa.int64())
        text = pc.binary_repeat(pc.utf8_lpad(pc.cast(n, pa.string()), 16, "0"), 64)
        yield pa.table({"n": n, "text": text}, schema=SCHEMA)


class StoreHooks:
    """What a Store's own test gives (`make`, `rows`, hooks), and how the suites ask."""

    def make(self, tmp_path: Path) -> Store:
        """A Store at a place where nothing is yet."""
        raise NotImplementedError("give `make(self, tmp_path)`: a Store where nothing is yet")

    def rows(self, store: Store) -> pa.Table | None:
        """What a reader that is not hygge sees there now; None where nothing is."""
        raise NotImplementedError("give `rows(self, store)`: what a foreign reader sees")

    def plant_foreign(self, store: Store) -> Callable[[], bool]:
        """Hook: put there what hygge did not write; gives a check whether it is still there."""
        pytest.skip("no hook plant_foreign: nothing foreign can be at this Store's place")

    def make_with_secret(self, secret: str, tmp_path: Path) -> Store:
        """Hook: a Store whose settings hold the secret, and whose target cannot be reached."""
        pytest.skip("no hook make_with_secret: this Store is given no secret")

    def exact(self, tmp_path: Path) -> Store:
        store = self.make(tmp_path)
        if store.traits.guarantee != "exactly once":
            pytest.skip(f"traits.guarantee is '{store.traits.guarantee}'")
        return store

    def needs(self, store: Store, mode: Mode) -> None:
        if mode not in store.traits.modes:
            pytest.skip(f"traits.modes has no {mode}")

    def shows(self, store: Store, expected: pa.Table, when: str = "after the commit") -> None:
        seen = self.rows(store)
        if seen is None and expected.num_rows == 0:
            return
        problem = difference(seen, expected)
        assert problem is None, f"{when}: {problem}"

    def refused(self, run: Staged, kind: type[Rejected]) -> None:
        refused: Rejected | None = None
        try:
            run.commit()
        except Rejected as error:
            refused = error
        assert type(refused) is kind, f"a commit gave {refused!r}, {kind.__name__} was due"
