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
import importlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from hygge.errors import (
    ConfigError,
    FlowFailed,
    HyggeError,
    Rejected,
    SourceMissing,
    Stopped,
    Unknown,
    one_of,
    without_password,
)
from hygge.home import Home
from hygge.model import Commit, Limits, Mode, Plan, Receipt, Report, Run, Split
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
        self._check()

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
            engine.get_ready()
            began, report = time.monotonic(), replace(report, started_at=time.time())
            report = self._run(engine, report, watch, stop)
        except Exception as error:
            said = in_words(error)
            report = replace(
                report,
                status="stopped" if isinstance(error, Stopped) else "failed",
                seconds=time.monotonic() - began,
                error=said.message,
                hint=said.hint,
            )
            watch.ended(report)
            raise FlowFailed(f"{self.name}: {said.message}", said.hint, report) from error
        report = replace(report, seconds=time.monotonic() - began)
        watch.ended(report)
        return report

    def _run(
        self, engine: Engine, report: Report, watch: Watch, stop: threading.Event
    ) -> Report:
        run = Run(new_run_id(), self.identity, self.mode, self.key, self.cursor)
        base = self.store.head(self.identity)
        since = base.watermark if base and self.mode != "replace" else None
        with self.home.open(since) as plan:
            schema = schema_of(plan)
            self.check_columns(schema)
            watch.began(self.name, len(plan.splits))
            self.store.prepare(run, schema)
            decided = True
            try:
                move = Move(self.name, run, self.home, self.store, schema, plan.splits, self.limits)
                moved = engine.move(move, watch, stop)
                receipts = self._complete(plan, moved)
                if stop.is_set():
                    raise Stopped("stopped before the commit; nothing became visible")
                watermark = plan.watermark
                if watermark is None and base is not None and self.mode != "replace":
                    watermark = base.watermark
                commit = self.store.commit(run, base, receipts, watermark)
                done_at = time.time()
            except Unknown:
                decided = False
                raise
            finally:
                if decided:
                    self.store.discard(run)
        rows = sum(receipt.rows for receipt in receipts)
        self._reconcile(rows, commit)
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
            note=self._note(commit, moved),
            run=run.id,
            done_at=done_at,
        )

    def _check(self) -> None:
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
        here = self.home.place()
        if here is not None and here == self.store.place():
            raise ConfigError(
                f"flow '{self.name}': the home is the store ({self.store.describe()})",
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

    def _reconcile(self, rows: int, commit: Commit) -> None:
        accounted = commit.applied + commit.superseded + commit.set_aside
        if rows != accounted:
            raise Rejected(
                f"{rows:,} rows were staged and {accounted:,} are accounted for "
                f"(applied {commit.applied:,}, superseded {commit.superseded:,}, "
                f"set aside {commit.set_aside:,})",
                "this is a defect of the store: please report it with this message",
            )

    def _note(self, commit: Commit, moved: Moved) -> str:
        notes = [commit.note] if commit.note else []
        if commit.superseded:
            notes.append(f"{commit.superseded:,} superseded by newer rows of the same key")
        if moved.retries and self.store.traits.guarantee == "at least once":
            notes.append("a batch may have been written twice: this store delivers at least once")
        return "; ".join(notes)


def schema_of(plan: Plan) -> pa.Schema | None:
    """The Arrow schema of a plan, or None where only the rows know."""
    import pyarrow as pa

    if plan.columns is None:
        return None
    return pa.schema([pa.field(c.name, c.type, c.nullable) for c in plan.columns])


def in_words(error: BaseException) -> HyggeError:
    """Any error as one of ours, without secrets; ours pass as they are."""
    if isinstance(error, HyggeError):
        return error
    text = without_password(str(error)).strip() or "no message"
    where = ""
    frame = error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        where = f" ({code.co_filename}:{frame.tb_lineno})"
        frame = frame.tb_next
    said = getattr(error, "hygge_where", where)
    return HyggeError(f"{type(error).__name__}: {text}{said}", "run with --debug for the traceback")


def _is_a(given: Any, wanted: type, what: str) -> None:
    if not isinstance(given, wanted):
        hint = "give an instance: MyHome(...)" if isinstance(given, type) else None
        name = given.__name__ if isinstance(given, type) else type(given).__name__
        raise ConfigError(f"{what}= is {name}, which is not a {wanted.__name__}", hint)


def _short(end: Home | Store) -> str:
    return end.name or type(end).__name__.lower()
