"""`EngineContract`: the tests that every engine must pass. Subclass it and define `engine`.

    class TestInline(EngineContract):
        def engine(self): return InlineEngine()

The tests move rows between the two connectors of `hygge.testing.connectors`. For an engine that
works in the caller's own process the tests that kill a worker are skipped: the connectors find out
that the process to be killed is that of the tests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from hygge.errors import Stopped, Transient, UnfitValue
from hygge.model import MIB, Limits, Receipt, Run
from hygge.run.attempts import SplitAttempts
from hygge.run.engines import Engine, MoveRequest, MoveResult, schema_of
from hygge.run.watch import Silent
from hygge.store import new_run_id
from hygge.testing.connectors import (
    REMEDY,
    SAID,
    SCHEMA,
    Numbers,
    Shelf,
    Trouble,
    logged_values,
    read_log,
    read_sealed,
)
from hygge.testing.probes import DRIVER

Side = Literal["home", "store"]


def _ignore(receipt: Receipt) -> None:
    """Do nothing with a receipt."""


class EngineContract:
    """The tests of an engine; a subclass defines `engine`."""

    hang_s: ClassVar[float] = 120.0
    """Seconds after which a move counts as hanging."""
    stop_s: ClassVar[float] = 10.0
    """The move that is asked to stop would take four times as many seconds without the stop."""

    def engine(self) -> Engine:
        """Return the engine to test; called once a test."""
        raise NotImplementedError("define `engine(self)`: the engine to test")

    # Every row, once

    @pytest.mark.parametrize("lanes", [1, 3])
    def test_every_row_arrives_once(self, lanes: int, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"splits": 7})
        self._complete(home, store, self._moved(home, store, Limits(lanes=lanes)))

    def test_every_split_gives_one_receipt(self, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"splits": 3})
        moved = self._moved(home, store, epoch=4)
        tickets = [(receipt.ticket.split, receipt.ticket.epoch) for receipt in moved.receipts]
        assert sorted(tickets) == [(0, 4), (1, 4), (2, 4)], f"(split, epoch): {tickets}"
        assert {receipt.ticket.run for receipt in moved.receipts} == set(_runs(store))

    def test_batches_arrive_in_order_within_a_split(self, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"splits": 3, "batches": 12})
        for receipt in self._moved(home, store, Limits(lanes=2)).receipts:
            table = read_sealed(store.settings.folder, receipt.ticket)
            assert table is not None
            numbers: list[int] = table.column("n").to_pylist()
            assert numbers == sorted(numbers), f"split {receipt.ticket.split} came as {numbers}"

    def test_the_decision_is_left_to_the_flow(self, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"splits": 2})
        self._moved(home, store)
        folder = store.settings.folder
        assert not logged_values(folder, "commit"), "the engine committed"
        assert not logged_values(folder, "discard"), "the engine discarded"

    def test_each_receipt_is_told_as_it_comes(self, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"splits": 3})
        receipts: list[Receipt] = []
        splits_read: list[int] = []

        def keep(receipt: Receipt) -> None:
            receipts.append(receipt)
            splits_read.append(len(logged_values(store.settings.folder, "read")))

        moved = self._moved(home, store, on_receipt=keep)
        assert receipts == moved.receipts, "`sealed` was called with other receipts"
        assert moved.rows_read == sum(receipt.rows for receipt in receipts)
        assert splits_read[0] < 3, "the first receipt came when all splits had been read"

    def test_a_receipt_that_cannot_be_kept_ends_the_move(self, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"splits": 50})

        def keep(receipt: Receipt) -> None:
            raise UnfitValue("the journal is full", "make room")

        error = self._failed(home, store, on_receipt=keep)
        assert isinstance(error, UnfitValue), f"{error!r} is not what the journal raised"
        tries = len(logged_values(store.settings.folder, "read"))
        assert tries < 50, "it went on to the end"

    # Failures

    @pytest.mark.parametrize("side", ["home", "store"])
    def test_a_transient_error_costs_no_row(self, side: Side, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"splits": 3}, side, Trouble(kind="transient", split=1))
        attempts = SplitAttempts()
        moved = self._moved(home, store, attempts=attempts)
        self._complete(home, store, moved)
        tickets = logged_values(store.settings.folder, "stage")
        assert len(tickets) == len(set(tickets)), f"a ticket was used twice: {tickets}"
        assert moved.retries >= 1, "a retry was not counted"
        facts = attempts.facts()
        columns = zip(*facts["bars"], strict=True)
        told = dict(zip(facts["columns"], columns, strict=True))
        assert (sum(told["staged"]), sum(told["failed"])) == (3, 1), f"attempts were told as {told}"
        rows = sum(receipt.rows for receipt in moved.receipts)
        assert sum(told["rows"]) == rows, f"{rows} rows were staged, and told as {told['rows']}"

    def test_a_transient_error_that_stays_ends_the_move(self, tmp_path: Path) -> None:
        trouble = Trouble(kind="transient", times=50)
        home, store = _make_ends(tmp_path, {"splits": 1}, "home", trouble)
        error = self._failed(home, store, Limits(retries=1))
        assert isinstance(error, Transient), f"{error!r} is not the Transient that stayed"
        tries = len(logged_values(store.settings.folder, "read"))
        assert tries == 2, f"{tries} tries, though one retry was allowed"

    @pytest.mark.parametrize("kind", ["unfit", "foreign"])
    @pytest.mark.parametrize("side", ["home", "store"])
    def test_an_error_that_stays_stops_at_once_with_its_cause(
        self, side: Side, kind: Literal["unfit", "foreign"], tmp_path: Path
    ) -> None:
        home, store = _make_ends(tmp_path, {"splits": 1}, side, Trouble(kind=kind))
        error = self._failed(home, store)
        if kind == "unfit":
            assert isinstance(error, UnfitValue), f"{error!r} is not the UnfitValue that was raised"
            assert (error.message, error.hint) == (SAID, REMEDY)
        else:
            text = " ".join(f"{type(cause).__name__}: {cause}" for cause in _chain(error))
            assert "ZeroDivisionError" in text, f"the type of the cause is lost: {text}"
            assert SAID in text, f"the text of the cause is lost: {text}"
        tries = len(logged_values(store.settings.folder, "read"))
        assert tries == 1, f"an error that a retry cannot mend was tried {tries} times"

    def test_a_home_that_breaks_midway_seals_nothing(self, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"splits": 1}, "home", Trouble(kind="unfit"))
        self._failed(home, store)
        files = [path.name for path in Path(store.settings.folder).glob("*.arrow")]
        assert not files, f"sealed with half of its rows: {files}"

    @pytest.mark.parametrize("side", ["home", "store"])
    def test_a_killed_worker_costs_no_row(self, side: Side, tmp_path: Path) -> None:
        trouble = Trouble(kind="kill", split=1)
        home, store = _make_ends(tmp_path, {"splits": 3}, side, trouble)
        moved = self._moved(home, store)
        if logged_values(store.settings.folder, "spared"):
            pytest.skip("this engine works in the caller's process: its worker is the driver")
        self._complete(home, store, moved)

    def test_it_moves_again_after_a_failure(self, tmp_path: Path) -> None:
        engine = self.engine()
        home, store = _make_ends(tmp_path, {"splits": 2}, "store", Trouble(kind="foreign"))
        self._failed(home, store, engine=engine)
        self._complete(home, store, self._moved(home, store, engine=engine))

    def test_a_stop_ends_the_move_soon(self, tmp_path: Path) -> None:
        pause_s = self.stop_s / 50
        home, store = _make_ends(tmp_path, {"splits": 1, "batches": 200, "wait_s": pause_s})
        stop = threading.Event()
        moving = _Moving(self.engine(), _move(home, store, Limits()), stop)
        until = time.monotonic() + self.hang_s
        while not logged_values(store.settings.folder, "made"):
            assert time.monotonic() < until, "no batch was read"
            moving.join(0.02)
        stop.set()
        moving.join(self.hang_s)
        assert not moving.is_alive(), "still moving after it was asked to stop"
        assert isinstance(moving.error, Stopped), f"{moving.error!r} is not Stopped"
        batches = len(logged_values(store.settings.folder, "made"))
        assert batches < 200, "it read every batch before it stopped"

    # Memory and schemas

    def test_bytes_in_flight_are_bounded_when_the_store_is_slow(self, tmp_path: Path) -> None:
        home, store = _make_ends(
            tmp_path, {"batches": 40, "rows": 8, "padding_bytes": 16_384}, "store"
        )
        store = Shelf(folder=store.settings.folder, driver=DRIVER, wait_s=0.01)
        self._moved(home, store, Limits(lanes=1, memory_per_lane=MIB, batch_bytes=MIB // 4))
        held = most = largest = 0
        for fact in read_log(store.settings.folder):
            held += fact.get("made", 0) - fact.get("taken", 0)
            most, largest = max(most, held), max(largest, fact.get("made", 0))
        # Besides the budget: one batch that the Home makes, one in transit, one in the Store.
        assert most <= MIB + 3 * largest, f"{most:,} bytes were in flight, {MIB:,} were allowed"

    def test_a_batch_larger_than_the_budget_passes_alone(self, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"batches": 3, "rows": 1, "padding_bytes": 3 * MIB})
        moved = self._moved(home, store, Limits(lanes=1, memory_per_lane=MIB, batch_bytes=MIB))
        self._complete(home, store, moved)

    def test_an_empty_home_gives_an_empty_receipt(self, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"batches": 0})
        moved = self._moved(home, store)
        assert [receipt.rows for receipt in moved.receipts] == [0]
        assert logged_values(store.settings.folder, "schema") == [SCHEMA.names]

    @pytest.mark.parametrize("rows", [10, 0])
    def test_an_unknown_schema_is_found_by_looking(self, rows: int, tmp_path: Path) -> None:
        home, store = _make_ends(tmp_path, {"declared": False, "rows": rows})
        self._complete(home, store, self._moved(home, store))
        staged = logged_values(store.settings.folder, "schema")
        assert staged == [SCHEMA.names], f"the Store was given the schema {staged}"

    def _moved(
        self,
        home: Numbers,
        store: Shelf,
        limits: Limits = Limits(lanes=1),  # noqa: B008  # frozen
        epoch: int = 0,
        engine: Engine | None = None,
        on_receipt: Callable[[Receipt], None] = _ignore,
        attempts: SplitAttempts | None = None,
    ) -> MoveResult:
        move = replace(_move(home, store, limits, epoch), on_receipt=on_receipt)
        move = replace(move, attempts=attempts or SplitAttempts())
        moving = _Moving(engine or self.engine(), move)
        moving.join(self.hang_s)
        assert not moving.is_alive(), f"the move hangs: {read_log(store.settings.folder)[-3:]}"
        if moving.error is not None:
            raise AssertionError(f"the move failed: {moving.error!r}") from moving.error
        assert moving.moved is not None
        return moving.moved

    def _failed(
        self,
        home: Numbers,
        store: Shelf,
        limits: Limits = Limits(lanes=1),  # noqa: B008  # frozen
        engine: Engine | None = None,
        on_receipt: Callable[[Receipt], None] = _ignore,
    ) -> BaseException:
        move = replace(_move(home, store, limits), on_receipt=on_receipt)
        moving = _Moving(engine or self.engine(), move)
        moving.join(self.hang_s)
        assert not moving.is_alive(), f"the move hangs: {read_log(store.settings.folder)[-3:]}"
        assert moving.error is not None, f"the error was swallowed: {moving.moved}"
        return moving.error

    def _complete(self, home: Numbers, store: Shelf, moved: MoveResult) -> None:
        scene = home.settings
        splits = sorted(receipt.ticket.split for receipt in moved.receipts)
        assert splits == list(range(scene.splits)), f"receipts came for the splits {splits}"
        numbers: list[int] = []
        for receipt in moved.receipts:
            table = read_sealed(store.settings.folder, receipt.ticket)
            assert table is not None, f"{receipt.ticket} has a receipt and was never sealed"
            assert table.num_rows == receipt.rows
            numbers += table.column("n").to_pylist()
        wanted = range(scene.splits * scene.batches * scene.rows)
        lost = sorted(set(wanted) - set(numbers))
        assert not lost, f"{len(lost)} of {len(wanted)} rows are lost: {lost[:5]}…"
        assert len(numbers) == len(wanted), f"{len(numbers)} rows came, {len(wanted)} were sent"


class _Moving(threading.Thread):
    """A move in a thread of its own, so that a move that hangs fails its test."""

    def __init__(
        self, engine: Engine, move: MoveRequest, stop: threading.Event | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.engine, self.to_move, self.stop = engine, move, stop or threading.Event()
        self.moved: MoveResult | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.moved = self.engine.move(self.to_move, Silent(), self.stop)
        except BaseException as error:
            self.error = error


def _make_ends(
    tmp_path: Path, home: Mapping[str, object], side: Side = "home", trouble: Trouble | None = None
) -> tuple[Numbers, Shelf]:
    """Return a Home and a Store in the folder, and `trouble` at the side that is named."""
    scene: dict[str, object] = {"folder": str(tmp_path), "driver": DRIVER}
    troubled = {**scene, "trouble": trouble}
    source = Numbers("numbers", **home, **(troubled if side == "home" else scene))
    return source, Shelf("shelf", **(troubled if side == "store" else scene))


def _move(home: Numbers, store: Shelf, limits: Limits, epoch: int = 0) -> MoveRequest:
    with home.open() as plan:
        run = Run(new_run_id(), "contract")
        return MoveRequest(
            "contract", run, home, store, schema_of(plan), plan.splits, limits, epoch
        )


def _runs(store: Shelf) -> list[str]:
    return [str(run) for run in logged_values(store.settings.folder, "run")]


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error, its cause, the cause of that, and so on."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen
