"""The log of a table: rivals, drivers that sleep or die, answers that are lost, in all three.

A run is shown by one entry of a log: a manifest in a bucket, a version of a Delta table, what the
catalog of an Iceberg table names. Each scene is the same for all of them; what a reader sees is
read without hygge. Kills at each call are tried in tests/crash, by log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException

from hygge import DeltaStore, ParquetStore
from hygge.connectors.delta.log import Log as DeltaLog
from hygge.connectors.files.prefix import Prefix
from hygge.connectors.iceberg.log import Log as IcebergLog
from hygge.errors import Superseded, Transient, Unknown
from hygge.store import Store
from hygge.testing.staging import FLOW, Staged, copy_of, count_tags, stage_run, tagged_rows
from hygge.testing.values import difference
from tests.chaos import only_in_chaos
from tests.connectors.iceberg import lakes
from tests.crash.points import ALL
from tests.readers.objects import rows_at
from tests.servers.s3 import passing, s3, started  # noqa: F401  # a fixture

HTTP = {"allow_http": "true", "aws_conditional_put": "etag"}
ROUNDS = 100 if ALL else 2


@dataclass
class Table:
    """A table of one kind, at a place where nothing is yet."""

    log: type
    make: Callable[[], Store]
    shown: Callable[[], pa.Table | None]
    mode: Any
    lost: Callable[[], Any] = nullcontext
    """A context in which the entry of a log lands, and its answer does not arrive."""

    def run(self, tag: str, start: int = 0, flow: str = FLOW) -> Staged:
        """A run that only has to be committed."""
        store = self.make()
        staged = stage_run(store, tagged_rows(tag, start), mode=self.mode)
        run = replace(staged.run, flow=flow)
        return replace(staged, run=run, base=staged.base if flow == FLOW else store.head(flow))

    def has(self, *wanted: pa.Table) -> None:
        """Check that a reader sees these rows, each of them once."""
        seen = self.shown()
        assert seen is not None
        assert difference(seen, pa.concat_tables(wanted)) is None


@contextmanager
def _lost_by_catalog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = SqlCatalog.commit_table

    def silent(self: SqlCatalog, *given: Any) -> Any:
        real(self, *given)
        raise CommitStateUnknownException("500: nobody knows")

    with monkeypatch.context() as patched:
        patched.setattr(SqlCatalog, "commit_table", silent)
        yield


@contextmanager
def _lost_by_proxy(part: str) -> Iterator[None]:
    answers = [500, 0]  # the client asks again; the second time nobody answers at all

    def lose(request: Any) -> int | None:
        is_entry = request.command == "PUT" and part in request.path
        return answers.pop(0) if is_entry and answers else None

    with passing(started()) as proxy, pytest.MonkeyPatch.context() as patched:
        proxy.after = lose
        patched.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield
    assert not answers


def _kinds(*kinds: str, mode: str = "append") -> list[Any]:
    """The tables of these kinds; Delta in a bucket is slow, and a sibling of the one on a disk."""
    marks = {"Delta in a bucket": only_in_chaos}
    return [
        pytest.param((kind, mode), id=f"{kind}, {mode}", marks=marks.get(kind, ()))
        for kind in kinds
    ]


KINDS = _kinds("bucket", "Delta", "Delta in a bucket", "Iceberg")
MODES = [*KINDS, *_kinds("Delta", "Iceberg", mode="merge")]
ANSWERED = [("bucket", "append"), ("Delta in a bucket", "append"), ("Iceberg", "append")]


@pytest.fixture(params=KINDS)
def table(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    kind, mode = request.param
    if kind == "Iceberg":
        shown = lambda: lakes.rows(tmp_path)  # noqa: E731
        lost = lambda: _lost_by_catalog(monkeypatch)  # noqa: E731
        return Table(IcebergLog, lambda: lakes.store(tmp_path), shown, mode, lost)
    if kind == "Delta":
        path = str(tmp_path / "a table # 100%")
        return Table(DeltaLog, lambda: DeltaStore(path=path), lambda: _delta(path), mode)
    url = f"{request.getfixturevalue('s3')}/users"
    if kind == "bucket":
        lost = lambda: _lost_by_proxy("/_hygge/")  # noqa: E731
        return Table(Prefix, lambda: ParquetStore(path=url), lambda: rows_at(url), mode, lost)
    lost = lambda: _lost_by_proxy("/_delta_log/")  # noqa: E731
    return Table(DeltaLog, lambda: DeltaStore(path=url), lambda: _delta(url), mode, lost)


def _delta(url: str) -> pa.Table | None:
    options = HTTP if "://" in url else None
    if not DeltaTable.is_deltatable(url, storage_options=options):
        return None
    return pa.table(DeltaTable(url, storage_options=options).scan().read_all())


def _raced(runs: list[Staged]) -> list[int]:
    """Commit all at the same moment; return which of them won."""
    together = threading.Barrier(len(runs))

    def commit(at: int) -> bool:
        together.wait()
        try:
            runs[at].commit()
        except (Superseded, Transient):
            return False
        return True

    with ThreadPoolExecutor(len(runs)) as pool:
        won = list(pool.map(commit, range(len(runs))))
    for run in runs:
        run.store.discard(run.run)
    return [at for at, is_won in enumerate(won) if is_won]


@pytest.mark.parametrize("table", MODES, indirect=True)
def test_of_rivals_one_wins_each_round_and_of_flows_all(table: Table) -> None:
    """First creators of the table, then rivals of one flow, then flows side by side."""
    expected = []
    for number in range(ROUNDS):
        rivals = [table.run(f"r{at}", 100 * number) for at in range(3)]
        won = _raced(rivals)
        assert len(won) == 1, f"round {number}: {won} committed over the same head"
        head = table.make().head(FLOW)
        assert head is not None
        assert (head.run, head.generation) == (rivals[won[0]].run.id, number + 1)
        expected.append(tagged_rows(f"r{won[0]}", 100 * number))
    flows = [table.run("f", 100_000 + 100 * at, f"flow {at}") for at in range(4)]
    assert _raced(flows) == [0, 1, 2, 3]
    table.has(*expected, *(tagged_rows("f", 100_000 + 100 * at) for at in range(4)))


class Died(BaseException):
    """The driver is gone."""


@contextmanager
def _at_its_entry(table: Table, before: Any = None, after: Any = None) -> Iterator[None]:
    """Have something happen just before or after the next entry is created, once."""
    real, acts = table.log.create_next, {"before": before, "after": after}

    def create_next(*given: Any) -> Any:
        if act := acts.pop("before", None):
            act()
        result = real(*given)
        if act := acts.pop("after", None):
            act()
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(table.log, "create_next", create_next)
        yield


def _dies() -> None:
    raise Died


def test_who_sleeps_before_its_entry_and_wakes_after_others_changes_nothing_of_theirs(
    table: Table,
) -> None:
    table.run("old").commit()
    slow, quick = table.run("slow", 100), table.run("quick", 200)
    with _at_its_entry(table, before=quick.commit), pytest.raises(Superseded):
        slow.commit()
    for run in (slow, quick):
        run.store.discard(run.run)
    beside, other = table.run("beside", 300), table.run("other", 400, "other flow")
    with _at_its_entry(table, before=other.commit):
        beside.commit()
    twice = table.run("twice", 500)

    def settled() -> None:
        twice.commit(copy_of(twice.store))
        twice.store.discard(twice.run)

    with _at_its_entry(table, before=settled):
        assert twice.commit().applied == 20
    starts = {"old": 0, "quick": 200, "beside": 300, "other": 400, "twice": 500}
    table.has(*(tagged_rows(tag, start) for tag, start in starts.items()))
    head = table.make().head(FLOW)
    assert head is not None
    assert (head.run, head.generation) == (twice.run.id, 4)


def test_who_dies_before_or_after_its_entry_is_followed_by_one_who_commits_once(
    table: Table,
) -> None:
    for number, when in enumerate(({"before": _dies}, {"after": _dies}) * 2):
        run = table.run("x", 100 * number)
        with _at_its_entry(table, **when), pytest.raises(Died):
            run.commit()
        if table.log is not Prefix:  # whose files a plain reader sees one by one, when it settles
            seen = table.shown()
            rows = 0 if seen is None else seen.num_rows
            assert rows == 20 * (number + ("after" in when))
        head = run.commit(copy_of(run.store)).head
        assert (head.run, head.generation) == (run.run.id, number + 1)
        run.store.discard(run.run)
    table.has(*(tagged_rows("x", 100 * number) for number in range(4)))


@pytest.mark.parametrize("table", ANSWERED, indirect=True, ids=" ".join)
def test_who_loses_the_answer_asks_the_head(table: Table) -> None:
    table.run("old").commit()
    run = table.run("new", 100)
    with table.lost():
        try:
            run.commit()
        except Unknown:
            run.store.discard(run.run)  # removes nothing that may be visible
    head = run.commit(copy_of(run.store)).head
    assert (head.run, head.generation) == (run.run.id, 2)
    table.has(tagged_rows("old"), tagged_rows("new", 100))


@only_in_chaos
@pytest.mark.parametrize("table", MODES, indirect=True)
@pytest.mark.parametrize("number", range(20 if ALL else 1))
def test_of_first_creators_one_wins_each_time(number: int, table: Table) -> None:
    rivals = [table.run(f"r{at}") for at in range(3)]
    (won,) = _raced(rivals)
    seen = table.shown()
    assert seen is not None
    assert list(count_tags(seen)) == [f"r{won}"]
    table.has(tagged_rows(f"r{won}"))
