"""A Flow moves one data set from a Home to a Store: plan → move → commit → record.

This module holds the class that users create, the checks before anything begins, and the report.
`hygge/run/once.py` describes the steps of a run and their order. The flow finds its engine by name.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from hygge import changes
from hygge.batches import with_key
from hygge.config.specs import GOES_WITH_THE_JOB
from hygge.errors import (
    ConfigError,
    FlowFailed,
    JournalError,
    Stopped,
    as_hygge_error,
)
from hygge.home import Home
from hygge.journal import FlowJournal, Lease
from hygge.model import Head, Limits, Mode, Plan, Report, Run, TargetState, Watermark
from hygge.places.folder import Folder
from hygge.places.place import place_at
from hygge.places.shipped import SHIPPED
from hygge.run.driver import Attempt, Driver
from hygge.run.ends import check_type, short_name
from hygge.run.engines import Engine, EngineName, find_engine, passthrough, schema_of
from hygge.run.key import find_key
from hygge.run.once import Outcome, run_flow
from hygge.run.preflight import find_mistakes
from hygge.run.recorder import Recorder
from hygge.run.said import listening
from hygge.run.shaping import shaped_home, shaped_plan
from hygge.run.stall import StallGuard
from hygge.run.start import watermark_of
from hygge.run.watch import LinkedStop, Progress, Silent, Watch, run_in_thread
from hygge.run.watched_place import WatchedPlace
from hygge.shape.settings import Shape, ShapeDict, as_shape
from hygge.store import Store, new_run_id

_PATIENCE_S = 40.0
"""Time that the lease of an earlier attempt's driver, which Ray took for dead, needs to run out."""
_checked: set[str] = set()
"""Places of which this process has checked that `create` never overwrites."""


class Flow:
    """`await Flow(home=SQLHome("users"), store=ParquetStore("users")).start()`.

    `mode` defaults to `replace` where the store can replace, else to the store's first mode. `key`
    names the columns by which `merge` finds a row; for a table of a database it defaults to the
    table's primary key. `name` defaults to `<home>_to_<store>`.
    `engine` is `ray` or `inline`. `limits` bounds lanes and memory. `state` is where the journal
    lies, a folder or the URL of an object store; it defaults to HYGGE_STATE, else `.hygge`. `fresh`
    gives up what a run that died has staged, instead of resuming it. `shared_paths` are folders
    that every node of a cluster mounts. `shape` says what becomes of the columns. Raises
    ConfigError for what can never work.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        name: str | None = None,
        mode: Mode | None = None,
        key: str | Sequence[str] = (),
        limits: Limits | None = None,
        engine: EngineName | Engine = "ray",
        project: str | None = None,
        state: str | os.PathLike[str] | None = None,
        fresh: bool = False,
        shared_paths: Sequence[str] = (),
        shape: Shape | ShapeDict | None = None,
    ) -> None:
        check_type(home, Home, "home")
        check_type(store, Store, "store")
        self.shape = as_shape(shape)
        if self.shape is not None:
            home = shaped_home(home, self.shape)
        self.home, self.store = home, store
        self.name = name or f"{short_name(home)}_to_{short_name(store)}"
        self.identity = f"{project}.{self.name}" if project else self.name
        home.flow = store.flow = self.identity
        modes = store.traits.modes
        self.mode: Mode = mode or ("replace" if "replace" in modes else modes[0])
        home.flow_mode = store.flow_mode = self.mode
        self.key = (key,) if isinstance(key, str) else tuple(key)
        home.flow_key = self.key
        self.limits = limits or Limits()
        home.lanes = self.limits.lanes
        sets_aside = self.limits.on_bad_row == "set_aside"
        if self.shape is not None:
            self.shape.check_bad_rows(sets_aside)
        home.most_bad_rows = self.limits.max_bad_rows if sets_aside else None
        store.most_bad_rows = home.most_bad_rows
        self.engine = engine
        self.state = os.fspath(state or os.environ.get("HYGGE_STATE") or ".hygge")
        self.fresh = fresh
        self.attempt = Attempt()
        self.lacks_cursor = ""
        """The cursor of many tables that this one lacks: so it is replaced."""
        self.renamed = ""
        """The sentence that says how one table of many is named in the store, if otherwise."""
        self.start_from: str | None = None
        """A value of the cursor above which it reads, where the store knows no watermark."""
        self.shared_paths = tuple(os.path.abspath(path) for path in shared_paths)
        self.cursor = getattr(home.settings, "cursor", None)
        self._check(name)

    def __repr__(self) -> str:
        key = f", key={list(self.key)!r}" if self.key else ""
        return f"Flow({self.home!r}, {self.store!r}, name={self.name!r}, mode={self.mode!r}{key})"

    async def start(self, watch: Watch | None = None) -> Report:
        """Run to the end in a thread. Returns the Report, or raises FlowFailed with one.

        Works inside a running event loop (Jupyter). Cancelling the awaiting task stops the run.
        Without a `watch`, a notebook shows the progress and everything else nothing.
        """
        return await run_in_thread(self.run, watch)

    def run(self, watch: Watch | None = None, stop: threading.Event | None = None) -> Report:
        """Do the same as `start`, blocking. The run stops soon after `stop` is set."""
        watch, stop = Recorder(watch or Silent()), stop or threading.Event()
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
            watch.moved(self.name, Progress(waits_for=f"the engine ({engine.name})"))

            def on_wait(text: str) -> None:
                watch.moved(self.name, Progress(waits_for=text))
                watch.said(self.name, f"waiting for {text}")

            try:
                if engine.starts_long():
                    find_mistakes(self, watch, stop)
                engine.get_ready(self.home, self.store, self.limits, on_wait, stop)
                if unchecked := self._check_paths(engine):
                    watch.said(self.name, unchecked)
                self.home.lanes = engine.lanes(self.limits)
                if stop.is_set():
                    raise Stopped("stopped before it began")
                watch.moved(self.name, Progress(waits_for="its plan"))
                watch.restart_clock()
                began, report = time.monotonic(), replace(report, started_at=time.time())
                report = self._reported(report, self._run(engine, watch, stop))
            finally:
                engine.release()
        except Exception as error:
            reason = as_hygge_error(error)
            is_stopped = isinstance(error, Stopped)
            report = replace(
                report,
                status="stopped" if is_stopped else "failed",
                note=self._visible_after_failure(is_stopped),
                seconds=time.monotonic() - began,
                error=reason.message,
                hint=reason.hint,
                run=watch.run,
            )
            if not isinstance(error, JournalError):  # another driver is at work, or no state
                watch.keep(self.state, self.identity, report)
            watch.ended(report)
            raise FlowFailed(f"{self.name}: {reason.message}", reason.hint, report) from error
        report = replace(report, seconds=time.monotonic() - began)
        watch.keep(self.state, self.identity, report)
        watch.ended(report)
        return report

    def _check_paths(self, engine: Engine) -> str:
        """Raise ConfigError where files lie on a disk that is not there for all, or not for long.

        Returns what could not be checked, for people, or "".
        """
        read = {f"the home{end}": path for end, path in self.home.seen_by_nodes().items()}
        written = {f"the store{end}": path for end, path in self.store.seen_by_nodes().items()}
        state = place_at(self.state)
        if isinstance(state, Folder):
            written["the state"] = state.path
        for what, path in written.items():
            if SHIPPED in path:
                raise ConfigError(
                    f"{what}, {path}, {GOES_WITH_THE_JOB}",
                    "give an absolute path on a disk that stays, or the URL of an object store",
                )
        return engine.check_paths(read, written, self.shared_paths, self.limits)

    def _run(self, engine: Engine, watch: Recorder, stop: threading.Event) -> Outcome:
        stop = LinkedStop(stop)  # losing the lease stops this flow, and no other one
        place = place_at(self.state)
        if not isinstance(place, Folder):
            place = WatchedPlace(place, self.limits, lambda text: watch.said(self.name, text))
        if place.describe() not in _checked:  # once a process: many small flows share a place
            place.check()
            _checked.add(place.describe())
        patience_s = _PATIENCE_S if self.attempt.is_repeated else 0.0
        with listening(), Lease(place, self.identity, stop, patience_s) as lease:
            journal = FlowJournal(place, self.identity)
            lease.on_leaving = lambda: journal.note_interruption(lease.epoch)
            guard = StallGuard(self.limits, lambda text: watch.said(self.name, text))
            driver = Driver(self, journal, lease.epoch, watch, stop, guard, self.attempt)
            try:
                driver.retry("the key", lambda: driver.ask_home("the key", lambda: find_key(self)))
                return run_flow(driver, engine, self.fresh)
            except Stopped as error:
                if lease.lost is None:
                    raise
                raise JournalError(
                    f"{lease.lost}, which took this one for dead", "look there for how it ended"
                ) from error

    def _reported(self, report: Report, outcome: Outcome) -> Report:
        """Return `report` with what the run led to."""
        receipts, move, commit = outcome.receipts, outcome.move, outcome.commit
        rows = sum(receipt.rows for receipt in receipts)
        set_aside = sum(receipt.set_aside for receipt in receipts)
        filtered = sum(receipt.filtered for receipt in receipts)
        return replace(
            report,
            status="done",
            rows=rows,
            bytes=sum(receipt.bytes for receipt in receipts),
            rows_read=rows + set_aside + filtered,
            filtered=filtered,
            applied=commit.applied,
            superseded=commit.superseded,
            set_aside=set_aside + commit.set_aside,
            splits=len(receipts),
            resumed=outcome.resumed,
            lanes=move.lanes,
            lanes_bound=move.lanes_bound,
            retries=move.retries,
            wait_home_s=round(move.wait_home_s, 3),
            wait_store_s=round(move.wait_store_s, 3),
            note="; ".join(self._notes(outcome)),
            changes=commit.changes,
            run=outcome.run.id,
            done_at=outcome.done_at,
        )

    def _visible_after_failure(self, is_stopped: bool) -> str:
        """Return a note about what a reader of the store sees of a run that failed."""
        if self.store.traits.guarantee == "exactly once":
            return "nothing became visible" if is_stopped else ""
        return (
            "this store delivers at least once: what was written till then is there, and running "
            "it again may write it twice"
        )

    def left_open(self) -> list[str]:
        """Return a sentence for each earlier run without an outcome, for `hygge plan`."""
        journal = FlowJournal(place_at(self.state), self.identity)
        sentences = []
        for record in journal.open_runs():
            if record.decision is None:
                state = f"{journal.count_receipts(record.run)} splits are staged"
            elif record.decision.abandoned:
                state = "it was abandoned"
            else:
                state = "it is decided, and is finished first"
            began = f"{record.began.astimezone():%Y-%m-%d %H:%M:%S}"
            sentences.append(f"the run of {began} did not end; {state}")
        return sentences

    def check_here(self) -> None:
        """Raise what this machine alone can tell: no connection is opened, and no row is read."""
        self.home.check_here(self.mode)
        self.store.check_here(self.mode)
        if isinstance(place := place_at(self.state), Folder):
            place.check_rights()

    def examine(self, plan: Plan) -> TargetState | None:
        """Raise what a run of `plan` would before a row moves; return what the store holds now."""
        place_at(self.state).check_rights()
        run = self.new_run()
        schema = passthrough(self.store, run, plan) or schema_of(plan)
        return self.store.examine(run, with_key(schema, plan.key))

    def new_run(self, run_id: str | None = None) -> Run:
        """Return a run of this flow; its key and cursor are named as the store has them."""
        key, cursor = self.key, self.cursor
        if self.shape is not None:
            key = tuple(map(self.shape.target, key))
            cursor = None if cursor is None else self.shape.target(cursor)
        return Run(run_id or new_run_id(), self.identity, self.mode, key, cursor)

    def shaped(self, plan: Plan) -> Plan:
        """Return a plan of the home with the columns that the store gets.

        Raises SourceMissing unless the plan has every column that the flow names.
        """
        return shaped_plan(self, plan)

    def repeats(self) -> str:
        """Return a sentence where each run appends all rows of the home again, else ""."""
        # Of a class of the user's nobody knows; what is moved again after a mend is moved once.
        is_known = type(self.home).__module__.startswith(("hygge.connectors.", "hygge.engine."))
        if not is_known or self.mode != "append" or self.cursor is not None:
            return ""
        why = "the home does not know which are new"
        if self.home.traits.cursor:
            why = "no `cursor` says which are new"
        return f"each run adds all rows of the home again: {why}"

    def since(self, base: Head | None) -> Watermark:
        """Return the watermark to read from, or None to read everything.

        `base` is the head of the store. Raises ConfigError where reading everything would append
        rows that are there already.
        """
        watermark = watermark_of(self, base, self.start_from)
        is_the_heads = base is not None and watermark is not None and self.start_from is None
        self.home.ties = base.ties if base is not None and is_the_heads else None
        return watermark

    def _check(self, given_name: str | None) -> None:
        """Raise ConfigError for what can never work, before anything begins."""
        modes = self.store.traits.modes
        if self.mode not in modes:
            raise ConfigError(
                f"flow '{self.name}': {type(self.store).__name__} cannot {self.mode}",
                f"its modes: {', '.join(modes)}",
            )
        store_name = type(self.store).__name__
        wrong = changes.refused(self.home.traits, self.store.traits, store_name, self.mode)
        if wrong is not None:
            raise ConfigError(f"flow '{self.name}': {wrong[0]}", wrong[1])
        if self.mode == "merge" and not self.key and not self.home.traits.key:
            raise ConfigError(f"flow '{self.name}': mode merge needs a key", "name it: `key: [id]`")
        if self.cursor and self.mode == "replace":
            raise ConfigError(
                f"flow '{self.name}': a cursor reads only what is new, and `replace` would drop "
                "the rest",
                "use `mode: append`, or `mode: merge` with a key",
            )
        if self.cursor and given_name is None and self.home.name is None:
            raise ConfigError(
                f"flow '{self.name}' reads by a cursor and has no name of its own",
                'give it one, `name="orders"`: under it the store keeps how far it has read',
            )
        options = getattr(self.home.settings, "options", None)
        if self.mode == "append" and getattr(options, "null_cursor", None) == "read":
            raise ConfigError(
                f"flow '{self.name}': `null_cursor: read` reads some rows in every run, and "
                "`append` would add them each time",
                "use `mode: merge` with a key, or take the option out",
            )
        if self.mode == "append" and not self.key and getattr(self.home.settings, "lag", None):
            raise ConfigError(
                f"flow '{self.name}': `lag` reads rows in more than one run, and `append` without "
                "a key would add them each time",
                "name the key by which they are known: `key: [id]`; or use `mode: merge`",
            )
        if self.home.holds(self.store):
            is_same = self.home.place() == self.store.place()
            relation = "the home is the store" if is_same else "the store is inside the home"
            raise ConfigError(
                f"flow '{self.name}': {relation} ({self.store.describe()}), so the next run would "
                "read what this one wrote",
                "write to another place",
            )

    def _notes(self, outcome: Outcome) -> list[str]:
        commit, notes = outcome.commit, [*outcome.notes, *outcome.move.notes]
        if commit.note:
            notes.insert(0, commit.note)
        if commit.superseded:
            notes.append(f"{commit.superseded:,} superseded by newer rows of the same key")
        rows = sum(receipt.rows for receipt in outcome.receipts)
        accounted = commit.applied + commit.superseded + commit.set_aside
        if rows != accounted:
            # The rows are visible already; after "failed" people would run it again.
            notes.append(
                f"WRONG COUNT: {rows:,} rows were staged and the store accounts for {accounted:,}; "
                "compare the store with its source, and report this as a defect of the store"
            )
        if commit.applied and (repeats := self.repeats()):
            notes.append(repeats)
        may_repeat = outcome.move.retries or outcome.follows_open_run
        if self.store.traits.guarantee == "at least once" and may_repeat:
            notes.append("a batch may have been written twice: this store delivers at least once")
        return notes
