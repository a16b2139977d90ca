"""A Flow moves one data set from a Home to a Store: plan → move → commit → record.

Life of a run, all in the driver but for the move:

    head      what the store holds committed for this flow, and up to which watermark
    plan      `Home.open`: columns, splits, watermark, fixed before the first row; held to the end
    prepare   the store's invisible place; whatever can be refused is refused here
    move      an engine stages every split, each try under a ticket of its own
    commit    exactly one receipt a split; rows and head become visible together
    discard   what the run staged is removed, whether it committed or not

The flow knows no engine; it declares the `Engine` that it needs, and finds one by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from hygge.errors import (
    ConfigError,
    FlowFailed,
    Rejected,
    SourceMissing,
    Stopped,
    Transient,
    Unknown,
    in_words,
    one_of,
)
from hygge.home import Home
from hygge.model import (
    Commit,
    Head,
    Limits,
    Mode,
    Plan,
    Receipt,
    Report,
    Run,
    Split,
    Watermark,
)
from hygge.progress import Seen, Silent, Watch
from hygge.store import Store, new_run_id

if TYPE_CHECKING:
    import pyarrow as pa

_ENGINES = {"ray": "hygge.engine.on_ray", "inline": "hygge.engine.inline"}


@dataclass(frozen=True)
class Move:
    """What an engine is asked to do: stage every split of a plan once."""

    flow: str
    run: Run
    home: Home
    store: Store
    schema: pa.Schema | None
    splits: tuple[Split, ...]
    limits: Limits = field(default_factory=Limits)
    epoch: int = 0


@dataclass
class Moved:
    """What a move gave: one receipt a split, in any order, and how it went."""

    receipts: list[Receipt] = field(default_factory=list)
    lanes: int = 1
    retries: int = 0
    wait_home_s: float = 0.0
    wait_store_s: float = 0.0


class Engine(Protocol):
    """Moves splits. Blocking; called in a thread without an event loop.

    MUST give one receipt for every split, retry under new tickets what a retry may mend
    (`Transient`, a dead worker), raise the first other error with its cause kept, and end soon
    with `Stopped` once `stop` is set. MUST bound the bytes in flight by `limits.memory_per_lane`.
    """

    name: str

    def get_ready(self) -> None:
        """Come to where it runs. Called before planning, so that no snapshot waits for it."""
        ...

    def move(self, move: Move, watch: Watch, stop: threading.Event) -> Moved: ...

    def release(self) -> None:
        """Give back what `get_ready` took and no move used. Called at the end, in any case."""
        ...


def find_engine(name: str) -> Engine:
    """An engine by its name: `ray` (the default) or `inline`."""
    if name not in _ENGINES:
        raise ConfigError(f"there is no engine '{name}'", one_of("engines", name, _ENGINES))
    engine: Engine = importlib.import_module(_ENGINES[name]).engine()
    return engine


class Flow:
    """`await Flow(home=SQLHome("users"), store=ParquetStore("users")).start()`.

    `mode` defaults to `replace` where the store can, else to `append`. `name` defaults to
    `<home>_to_<store>`. `engine` is `ray` or `inline`. `limits` bounds lanes and memory.
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
    ) -> None:
        _is_a(home, Home, "home")
        _is_a(store, Store, "store")
        self.home, self.store = home, store
        self.name = name or f"{_short(home)}_to_{_short(store)}"
        self.identity = f"{project}.{self.name}" if project else self.name
        modes = store.traits.modes
        self.mode: Mode = mode or ("replace" if "replace" in modes else modes[0])
        self.key = (key,) if isinstance(key, str) else tuple(key)
        self.limits = limits or Limits()
        self.engine = engine
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
            try:
                engine.get_ready()
                if stop.is_set():
                    raise Stopped("stopped before it began")
                began, report = time.monotonic(), replace(report, started_at=time.time())
                report = self._run(engine, report, watch, stop)
            finally:
                engine.release()
        except Exception as error:
            said = in_words(error)
            stopped = isinstance(error, Stopped)
            exactly = self.store.traits.guarantee == "exactly once"
            visible = "nothing became visible" if exactly else "what was written till then is there"
            report = replace(
                report,
                status="stopped" if stopped else "failed",
                note=visible if stopped else report.note,
                seconds=time.monotonic() - began,
                error=said.message,
                hint=said.hint,
            )
            watch.ended(report)
            raise FlowFailed(f"{self.name}: {said.message}", said.hint, report) from error
        report = replace(report, seconds=time.monotonic() - began)
        watch.ended(report)
        return report

    def _run(self, engine: Engine, report: Report, watch: Watch, stop: threading.Event) -> Report:
        run = Run(new_run_id(), self.identity, self.mode, self.key, self.cursor)
        base = self.store.head(self.identity)
        since = self.since(base)
        commit: Commit | None = None
        late = ""
        try:
            with self.home.open(since) as plan:
                schema = schema_of(plan)
                self.check_columns(schema)
                watch.began(self.name, len(plan.splits))
                try:
                    self.store.prepare(run, schema)
                    move = Move(
                        self.name, run, self.home, self.store, schema, plan.splits, self.limits
                    )
                    moved = engine.move(move, watch, stop)
                    receipts = self._complete(plan, moved)
                    if stop.is_set():
                        raise Stopped("stopped before the commit")
                    watermark = since if plan.watermark is None else plan.watermark
                    commit = self._commit(run, base, receipts, watermark, watch, stop)
                    done_at = time.time()
                except Unknown:
                    raise  # what was staged may be what is visible
                except BaseException:
                    with contextlib.suppress(Exception):  # the first error is the one to tell
                        self.store.discard(run)
                    raise
                self.store.discard(run)
        except Exception as error:
            if commit is None:
                raise
            late = f"committed, and then: {in_words(error).message}"
        assert commit is not None
        rows = sum(receipt.rows for receipt in receipts)
        notes = [*self._notes(rows, commit, moved), *([late] if late else [])]
        watch.moved(self.name, Seen(rows, splits_done=len(receipts), splits=len(receipts)))
        return replace(
            report,
            status="done",
            rows=rows,
            bytes=sum(receipt.bytes for receipt in receipts),
            splits=len(receipts),
            lanes=moved.lanes,
            retries=moved.retries,
            wait_home_s=round(moved.wait_home_s, 3),
            wait_store_s=round(moved.wait_store_s, 3),
            note="; ".join(notes),
            run=run.id,
            done_at=done_at,
        )

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

    def _commit(
        self,
        run: Run,
        base: Head | None,
        receipts: list[Receipt],
        watermark: Watermark,
        watch: Watch,
        stop: threading.Event,
    ) -> Commit:
        """Commit, again after what a retry may mend; an unknown outcome is settled by the head."""
        for n in range(self.limits.retries + 1):
            try:
                return self.store.commit(run, base, receipts, watermark)
            except (Transient, Unknown) as error:
                stop.wait(min(10.0, 0.5 * 2.0**n))
                if isinstance(error, Unknown):
                    with contextlib.suppress(Transient):
                        head = self.store.head(self.identity)
                        if head is not None and head.run == run.id:
                            rows = sum(receipt.rows for receipt in receipts)
                            return Commit(head, applied=rows, note="settled by asking the head")
                if n == self.limits.retries:
                    raise
                watch.said(self.name, f"the commit is tried again: {error.message}")
        raise AssertionError("unreachable")

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
        """Raise SourceMissing unless the plan has the key and cursor columns."""
        if schema is None:
            return
        for name in (*self.key, *([self.cursor] if self.cursor else ())):
            if name not in schema.names:
                raise SourceMissing(
                    f"{self.home.describe()} has no column '{name}'",
                    one_of("its columns", name, schema.names),
                )

    def _complete(self, plan: Plan, moved: Moved) -> list[Receipt]:
        """One receipt a split, no more, no less: what the commit is decided on."""
        wanted = [split.index for split in plan.splits]
        came = sorted(receipt.ticket.split for receipt in moved.receipts)
        if came != sorted(wanted):
            raise Rejected(
                f"{len(wanted)} splits were planned and {len(came)} receipts came; "
                "nothing became visible",
                "this is a defect of hygge: please report it with this message",
            )
        return sorted(moved.receipts, key=lambda receipt: receipt.ticket.split)

    def _notes(self, rows: int, commit: Commit, moved: Moved) -> list[str]:
        notes = [commit.note] if commit.note else []
        if commit.superseded:
            notes.append(f"{commit.superseded:,} superseded by newer rows of the same key")
        accounted = commit.applied + commit.superseded + commit.set_aside
        if rows != accounted:
            # It is visible already: hiding it behind "failed" would have it run again.
            notes.append(
                f"WRONG COUNT: {rows:,} rows were staged and the store accounts for {accounted:,}; "
                "compare the store with its source, and report this as a defect of the store"
            )
        if moved.retries and self.store.traits.guarantee == "at least once":
            notes.append("a batch may have been written twice: this store delivers at least once")
        return notes


def schema_of(plan: Plan) -> pa.Schema | None:
    """The Arrow schema of a plan, or None where only the rows know."""
    import pyarrow as pa

    if plan.columns is None:
        return None
    return pa.schema([pa.field(c.name, c.type, c.nullable) for c in plan.columns])


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
