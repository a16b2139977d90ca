"""A Flow moves one data set from a Home to a Store: plan → move → commit → record.

Here is what people hold in hand, and what can be refused before anything begins; what happens then,
and in which order, is told in `hygge/run/once.py`. The flow finds its engine by name.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hygge.config.specs import GOES_WITH_THE_JOB, SHIPPED
from hygge.errors import (
    ConfigError,
    FlowFailed,
    JournalError,
    SourceMissing,
    Stopped,
    in_words,
    one_of,
)
from hygge.home import Home
from hygge.journal import FlowJournal, Lease
from hygge.model import Head, Limits, Mode, Report, Watermark
from hygge.places.folder import Folder
from hygge.places.place import place_at
from hygge.run.driver import Attempt, Driver
from hygge.run.engines import Engine, find_engine
from hygge.run.once import Ended, run_once
from hygge.run.watch import Seen, Silent, Watch
from hygge.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

_LOOK_S = 0.1
_PATIENCE_S = 40.0
"""For the driver of an earlier try, which Ray took for dead: till its lease is known to be free."""
_checked: set[str] = set()
"""Places where `create` was seen to hold, by this process."""


class Flow:
    """`await Flow(home=SQLHome("users"), store=ParquetStore("users")).start()`.

    `mode` defaults to `replace` where the store can, else to `append`. `name` defaults to
    `<home>_to_<store>`. `engine` is `ray` or `inline`. `limits` bounds lanes and memory. `state` is
    where the journal lies, a folder or the URL of an object store: HYGGE_STATE, else `.hygge`.
    `fresh` gives up what a run that died has staged, instead of going on with it. `shared_paths`
    are folders that every node of a cluster mounts, though hygge may not be able to tell.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        name: str | None = None,
        mode: Mode | None = None,
        key: Sequence[str] = (),
        limits: Limits | None = None,
        engine: str | Engine = "ray",
        project: str | None = None,
        state: str | os.PathLike[str] | None = None,
        fresh: bool = False,
        shared_paths: Sequence[str] = (),
    ) -> None:
        _is_a(home, Home, "home")
        _is_a(store, Store, "store")
        self.home, self.store = home, store
        self.name = name or f"{_short(home)}_to_{_short(store)}"
        self.identity = f"{project}.{self.name}" if project else self.name
        home.flow = store.flow = self.identity
        modes = store.traits.modes
        self.mode: Mode = mode or ("replace" if "replace" in modes else modes[0])
        self.key = (key,) if isinstance(key, str) else tuple(key)
        self.limits = limits or Limits()
        home.lanes = self.limits.lanes
        self.engine = engine
        self.state = os.fspath(state or os.environ.get("HYGGE_STATE") or ".hygge")
        self.fresh = fresh
        self.attempt = Attempt()
        self.shared_paths = tuple(os.path.abspath(each) for each in shared_paths)
        self.cursor = getattr(home.settings, "cursor", None)
        self._check(name)

    async def start(self, watch: Watch | None = None) -> Report:
        """Run to the end, off the event loop. Gives the Report, or raises FlowFailed with one.

        Works inside a running loop (Jupyter). Cancelling the awaiting task stops the run.
        """
        stop = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(None, self.run, watch, stop)
        try:
            report = await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([running])
            raise
        return report

    def run(self, watch: Watch | None = None, stop: threading.Event | None = None) -> Report:
        """The blocking form of `start`."""
        watch, stop = watch or Silent(), stop or threading.Event()
        began = time.monotonic()
        report = Report(
            self.name,
            "failed",
            home=self.home.describe(),
            store=self.store.describe(),
            mode=self.mode,
            guarantee=self.store.traits.guarantee,
        )
        try:
            engine = find_engine(self.engine) if isinstance(self.engine, str) else self.engine
            watch.moved(self.name, Seen(waits_for=f"the engine ({engine.name})"))

            def waits(text: str) -> None:
                watch.moved(self.name, Seen(waits_for=text))
                watch.said(self.name, f"waiting for {text}")

            try:
                engine.get_ready(self.home, self.store, self.limits, waits, stop)
                if unknown := self._reach_all(engine):
                    watch.said(self.name, unknown)
                self.home.lanes = engine.lanes(self.limits)
                if stop.is_set():
                    raise Stopped("stopped before it began")
                began, report = time.monotonic(), replace(report, started_at=time.time())
                report = self._reported(report, self._run(engine, watch, stop))
            finally:
                engine.release()
        except Exception as error:
            said = in_words(error)
            stopped = isinstance(error, Stopped)
            report = replace(
                report,
                status="stopped" if stopped else "failed",
                note=self._visible(stopped),
                seconds=time.monotonic() - began,
                error=said.message,
                hint=said.hint,
            )
            watch.ended(report)
            raise FlowFailed(f"{self.name}: {said.message}", said.hint, report) from error
        report = replace(report, seconds=time.monotonic() - began)
        watch.ended(report)
        return report

    def _reach_all(self, engine: Engine) -> str:
        """On several nodes nothing may lie on the disk of one of them; what is not known of it."""
        read, written = self.home.on_disk(), self.store.on_disk()
        places = {"the store": written} if written else {}
        state = place_at(self.state)
        if isinstance(state, Folder):
            places["the state"] = state.path
        for what, path in places.items():
            if SHIPPED in path:
                raise ConfigError(
                    f"{what}, {path}, {GOES_WITH_THE_JOB}",
                    "give an absolute path on a disk that stays, or the URL of an object store",
                )
        homes = {"the home": read} if read else {}
        return engine.reaches(homes, places, self.shared_paths, self.limits)

    def _run(self, engine: Engine, watch: Watch, stop: threading.Event) -> Ended:
        stop = _Stop(stop)  # a lease that is lost stops this flow, and no other one
        place = place_at(self.state)
        if place.describe() not in _checked:  # of many small flows each would pay for it
            place.check()
            _checked.add(place.describe())
        patience_s = _PATIENCE_S if self.attempt.again else 0.0
        with Lease(place, self.identity, stop, patience_s) as lease:
            journal = FlowJournal(place, self.identity)
            lease.on_leaving = lambda: journal.interrupted(lease.epoch)
            driver = Driver(self, journal, lease.epoch, watch, stop, self.attempt)
            try:
                return run_once(driver, engine, self.fresh)
            except Stopped as error:
                if lease.lost is None:
                    raise
                raise JournalError(
                    f"{lease.lost}, which took this one for dead", "look there for how it ended"
                ) from error

    def _reported(self, report: Report, ended: Ended) -> Report:
        receipts, moved, commit = ended.receipts, ended.moved, ended.commit
        rows, aside = (sum(getattr(r, each) for r in receipts) for each in ("rows", "set_aside"))
        return replace(
            report,
            status="done",
            rows=rows,
            bytes=sum(receipt.bytes for receipt in receipts),
            rows_read=rows + aside,
            applied=commit.applied,
            superseded=commit.superseded,
            set_aside=aside + commit.set_aside,
            splits=len(receipts),
            resumed=ended.resumed,
            lanes=moved.lanes,
            retries=moved.retries,
            wait_home_s=round(moved.wait_home_s, 3),
            wait_store_s=round(moved.wait_store_s, 3),
            note="; ".join(self._notes(ended)),
            run=ended.run.id,
            done_at=ended.done_at,
        )

    def _visible(self, stopped: bool) -> str:
        if self.store.traits.guarantee == "exactly once":
            return "nothing became visible" if stopped else ""
        return (
            "this store delivers at least once: what was written till then is there, and running "
            "it again may write it twice"
        )

    def left_open(self) -> list[str]:
        """What earlier runs of this flow left for the next one, in words."""
        journal = FlowJournal(place_at(self.state), self.identity)
        return [
            f"the run of {past.began.astimezone():%Y-%m-%d %H:%M:%S} did not end; "
            + (
                f"{journal.sealed(past.run)} splits are staged"
                if past.decision is None
                else "it was abandoned"
                if past.decision.abandoned
                else "it is decided, and is finished first"
            )
            for past in journal.unsettled()
        ]

    def since(self, base: Head | None) -> Watermark:
        """The watermark to read from, or None for everything.

        Raises ConfigError where reading everything would append rows that are there already.
        """
        if base is None or self.mode == "replace":
            return None
        if base.cursor == self.cursor and (base.watermark is not None or not base.rows):
            return base.watermark
        if self.mode == "merge" or not (self.cursor or base.cursor):
            return None  # every row again: merge changes nothing by it, plain append means it
        was = f"the watermark of '{base.cursor}'" if base.cursor else "rows without a watermark"
        raise ConfigError(
            f"{self.store.describe()} holds {was} of this flow, and now the "
            f"cursor is {repr(self.cursor) if self.cursor else 'gone'}: rows would come twice",
            "keep the cursor, use `mode: merge` with a key, or give the flow another name",
        )

    def _check(self, named: str | None) -> None:
        modes = self.store.traits.modes
        if self.mode not in modes:
            raise ConfigError(
                f"flow '{self.name}': {type(self.store).__name__} cannot {self.mode}",
                f"its modes: {', '.join(modes)}",
            )
        if self.mode == "merge" and not self.key:
            raise ConfigError(f"flow '{self.name}': mode merge needs a key", "name it: `key: [id]`")
        if self.cursor and self.mode == "replace":
            raise ConfigError(
                f"flow '{self.name}': a cursor reads only what is new, and `replace` would drop "
                "the rest",
                "use `mode: append`, or `mode: merge` with a key",
            )
        if self.cursor and named is None and self.home.name is None:
            raise ConfigError(
                f"flow '{self.name}' reads by a cursor and has no name of its own",
                'give it one, `name="orders"`: under it the store keeps how far it has read',
            )
        options = getattr(self.home.settings, "options", None)
        for option in ("cursor_ties", "null_cursor"):
            if self.mode == "append" and getattr(options, option, None) == "read":
                raise ConfigError(
                    f"flow '{self.name}': `{option}: read` reads some rows in every run, and "
                    "`append` would add them each time",
                    "use `mode: merge` with a key, or take the option out",
                )
        if self.home.holds(self.store):
            same = self.home.place() == self.store.place()
            said = "the home is the store" if same else "the store is inside the home"
            raise ConfigError(
                f"flow '{self.name}': {said} ({self.store.describe()}), so the next run would read "
                "what this one wrote",
                "write to another place",
            )

    def check_columns(self, schema: pa.Schema | None) -> None:
        """Raise SourceMissing unless the plan has every column that the flow names."""
        if schema is None:
            return
        named = [*self.key, *([self.cursor] if self.cursor else ())]
        for end in (self.home, self.store):
            decided = getattr(getattr(end.settings, "options", None), "on_value", None)
            named += decided if isinstance(decided, dict) else ()
        for name in named:
            if name not in schema.names:
                raise SourceMissing(
                    f"{self.home.describe()} has no column '{name}'",
                    one_of("its columns", name, schema.names),
                )

    def _notes(self, ended: Ended) -> list[str]:
        commit, notes = ended.commit, [*ended.notes]
        if commit.note:
            notes.insert(0, commit.note)
        if commit.superseded:
            notes.append(f"{commit.superseded:,} superseded by newer rows of the same key")
        rows = sum(receipt.rows for receipt in ended.receipts)
        accounted = commit.applied + commit.superseded + commit.set_aside
        if rows != accounted:
            # It is visible already: hiding it behind "failed" would have it run again.
            notes.append(
                f"WRONG COUNT: {rows:,} rows were staged and the store accounts for {accounted:,}; "
                "compare the store with its source, and report this as a defect of the store"
            )
        if self.store.traits.guarantee == "at least once" and (ended.moved.retries or ended.again):
            notes.append("a batch may have been written twice: this store delivers at least once")
        return notes


class _Stop(threading.Event):
    """A stop of one flow; set as well when the one that it was given is."""

    def __init__(self, outer: threading.Event) -> None:
        super().__init__()
        self.outer = outer

    def is_set(self) -> bool:
        return self.outer.is_set() or super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = _LOOK_S if until is None else until - time.monotonic()
            if left <= 0:
                break
            super().wait(min(_LOOK_S, left))
        return self.is_set()


def _is_a(given: Any, wanted: type, what: str) -> None:
    if not isinstance(given, wanted):
        hint = "give an instance: MyHome(...)" if isinstance(given, type) else None
        name = given.__name__ if isinstance(given, type) else type(given).__name__
        raise ConfigError(f"{what}= is {name}, which is not a {wanted.__name__}", hint)


def _short(end: Home | Store) -> str:
    """The end's name, else the last word of where it is: `users` of `lake/users.parquet`."""
    if end.name:
        return end.name
    last = re.split(r"[/#\\]", end.describe().rstrip("/"))[-1].split(".")[0]
    return re.sub(r"\W+", "_", last).strip("_") or type(end).__name__.lower()
