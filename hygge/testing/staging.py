"""Helpers for the tests of Stores: `StoreHooks`, which a subclass fills, runs, and tagged rows.

`begin_run` prepares a run, `stage_split` stages one split of it, `stage_run` does both, and
`Staged.commit` commits it. The rows of `tagged_rows` carry a tag, so that a test sees whose they
are.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hygge.errors import Rejected
from hygge.model import Commit, Head, Mode, Receipt, Run, Ticket, Watermark
from hygge.store import Store, new_run_id
from hygge.testing.values import difference

FLOW = "shop: users/daily"
"""The name of a flow; a Store must not take it for a path."""
SCHEMA = pa.schema([pa.field("n", pa.int64()), pa.field("text", pa.string())])


@dataclass(frozen=True)
class Staged:
    """A prepared run with the receipts of its splits."""

    store: Store
    run: Run
    base: Head | None
    receipts: tuple[Receipt, ...]

    def commit(self, store: Store | None = None, watermark: Watermark = None) -> Commit:
        """Commit through the Store that staged, or through another one at the same place."""
        return (store or self.store).commit(self.run, self.base, self.receipts, watermark)


def begin_run(store: Store, mode: Mode | None = None, schema: pa.Schema | None = SCHEMA) -> Staged:
    """Prepare a run, and return it without receipts; a merge has the key `n`."""
    modes = store.traits.modes
    mode = mode or ("replace" if "replace" in modes else modes[0])
    run = Run(new_run_id(), FLOW, mode, ("n",) if mode == "merge" else ())
    base = store.head(FLOW)
    store.prepare(run, schema)
    return Staged(store, run, base, ())


def stage_run(store: Store, *splits: pa.Table, mode: Mode | None = None) -> Staged:
    """Prepare a run, and stage each table of `splits` as one split, in two batches."""
    begun = begin_run(store, mode, splits[0].schema)
    receipts = tuple(stage_split(begun, table, split=at) for at, table in enumerate(splits))
    return Staged(store, begun.run, begun.base, receipts)


def stage_split(
    begun: Staged,
    table: pa.Table,
    split: int = 0,
    n: int = 0,
    store: Store | None = None,
    epoch: int = 0,
) -> Receipt:
    """Stage one split under the ticket (split, epoch, n), in two batches."""
    half = (table.num_rows + 1) // 2
    batches = [table] if table.num_rows < 2 else [table.slice(0, half), table.slice(half)]
    ticket = Ticket(begun.run.id, split, epoch, n)
    return (store or begun.store).stage(ticket, table.schema, iter(batches))


def tagged_rows(tag: str, start: int = 0, count: int = 20) -> pa.Table:
    """Return rows whose `text` begins with the tag, except some that are NULL or ''."""
    n = list(range(start, start + count))
    return pa.table({"n": n, "text": [_text(tag, at) for at in n]}, schema=SCHEMA)


def _text(tag: str, at: int) -> str | None:
    if at % 10 == 3:
        return None
    return "" if at % 10 == 5 else f"{tag} {at}"


def count_tags(rows: pa.Table) -> dict[str, int]:
    """Return tag → number of its rows; rows with NULL or '' are not counted."""
    counts: dict[str, int] = {}
    for text in rows.column("text").to_pylist():
        if text:
            tag = str(text).split(" ")[0]
            counts[tag] = counts.get(tag, 0) + 1
    return counts


def copy_of(store: Store) -> Store:
    """Return the Store as another process would have it: at the same place, with no state."""
    copy: Store = pickle.loads(pickle.dumps(store))
    return copy


def mib_batches(count: int) -> Iterator[pa.Table]:
    """Yield `count` batches of about 1 MiB, each in memory of its own."""
    for at in range(count):
        n = pa.array(range(at * 1024, at * 1024 + 1024), pa.int64())
        text = pc.binary_repeat(pc.utf8_lpad(pc.cast(n, pa.string()), 16, "0"), 64)
        yield pa.table({"n": n, "text": text}, schema=SCHEMA)


class StoreHooks:
    """The methods that a subclass of `StoreContract` defines, and the checks that the tests use.

    `make` and `rows` are required; the others are optional hooks.
    """

    def make(self, tmp_path: Path) -> Store:
        """Return a Store at a place where nothing is yet; called once a test."""
        raise NotImplementedError("define `make(self, tmp_path)`: a Store where nothing is yet")

    def rows(self, store: Store) -> pa.Table | None:
        """Return what a reader other than hygge sees there now; None where nothing is.

        Read it with another library: the tests check what is visible, and not what hygge says.
        """
        raise NotImplementedError("define `rows(self, store)`: what a foreign reader sees")

    def plant_foreign(self, store: Store) -> Callable[[], bool]:
        """Hook: put data there that hygge did not write; return a check that it is unchanged."""
        pytest.skip("no hook plant_foreign: nothing foreign can be at this Store's place")

    def make_with_secret(self, secret: str, tmp_path: Path) -> Store:
        """Hook: return a Store whose settings hold the secret and whose target is unreachable."""
        pytest.skip("no hook make_with_secret: this Store is given no secret")

    def make_exactly_once(self, tmp_path: Path) -> Store:
        """Return `make(tmp_path)`; skip the test for a Store that delivers at least once."""
        store = self.make(tmp_path)
        if store.traits.guarantee != "exactly once":
            pytest.skip(f"traits.guarantee is '{store.traits.guarantee}'")
        return store

    def skip_without_mode(self, store: Store, mode: Mode) -> None:
        """Skip the test for a Store that does not have this mode."""
        if mode not in store.traits.modes:
            pytest.skip(f"traits.modes has no {mode}")

    def assert_shows(
        self, store: Store, expected: pa.Table, when: str = "after the commit"
    ) -> None:
        """Assert that a foreign reader sees exactly these rows."""
        seen = self.rows(store)
        if seen is None and expected.num_rows == 0:
            return
        problem = difference(seen, expected)
        assert problem is None, f"{when}: {problem}"

    def assert_refused(self, run: Staged, kind: type[Rejected]) -> None:
        """Assert that the commit of the run raises this class of error."""
        refused: Rejected | None = None
        try:
            run.commit()
        except Rejected as error:
            refused = error
        assert type(refused) is kind, f"a commit gave {refused!r}, {kind.__name__} was due"
