"""The lease of a flow: one process drives it at a time.

It saves work; no promise of hygge depends on it.

Life of a lease: its holder creates `lease/<epoch>.json`, one number above the newest, and writes a
new beat into it every few seconds. The next driver looks at the newest lease. It may create the
next number if that lease was freed, if its process on this machine is gone, or if its beat has not
changed for `TTL_S` on the *observer's* own clock; of several drivers that try, one succeeds. A
holder that finds a newer number was taken for dead, and stops. The number is the epoch of all
tickets of that driver, so no two drivers ever use the same ticket, even if one was wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime

from hygge.errors import HyggeError, JournalError, Stopped
from hygge.journal.entries import Facts, decode, encode
from hygge.places.names import file_name
from hygge.places.place import Place

TTL_S = 30.0
"""Seconds without a beat after which a holder counts as dead."""
BEAT_S = 4.0
"""Seconds between two beats."""
_LOOK_S = 0.5
_held: weakref.WeakSet[Lease] = weakref.WeakSet()
"""The leases of this process that are not freed."""


class Lease:
    """`with Lease(place, flow, stop) as lease:` drives the flow under `lease.epoch`.

    Raises JournalError where another process drives it, and still does after `patience_s` seconds.
    When another driver takes the flow over, it sets `stop`, and `lost` says which.
    """

    epoch: int

    def __init__(
        self, place: Place, flow: str, stop: threading.Event, patience_s: float = 0.0
    ) -> None:
        self.place, self.flow, self.stop, self.patience_s = place, flow, stop, patience_s
        self.folder = f"flows/{file_name(flow)}/lease"
        self.since = datetime.now(UTC).isoformat(timespec="seconds")
        self.beat = 0
        self.lost: str | None = None
        self.on_leaving: Callable[[], None] | None = None
        """Called when this process ends without leaving the `with` block."""
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Lease:
        while True:
            newest, key, held = self._newest()
            if held is not None:
                over = held["freed"] or _is_gone(held) or self._was_mine(newest, held)
                if not over:
                    self._observe(key, held)
            self.epoch = newest + 1
            if self._created():
                break
        with contextlib.suppress(HyggeError):  # old leases do no harm
            for older in self.place.keys(self.folder):
                if older < self._key(self.epoch):
                    self.place.remove(older)
        threading.Thread(target=self._live, name="hygge-lease", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def free(self) -> None:
        """Let the next driver begin at once; safe to call twice."""
        with self._lock:
            if not self._over.is_set():
                self._over.set()
                _held.discard(self)
                with contextlib.suppress(HyggeError):
                    self.place.put(self._key(self.epoch), self._content(freed=True))

    def _created(self) -> bool:
        _held.add(self)  # first, so that `_was_mine` of another thread finds it among the live ones
        mine = False
        try:
            # The number may be free only because older leases were removed; then a newer exists.
            created = self.place.create(self._key(self.epoch), self._content())
            mine = created and self._newest()[0] == self.epoch
        finally:
            if not mine:
                _held.discard(self)
        return mine

    def _was_mine(self, epoch: int, held: Facts) -> bool:
        """Return whether this process held it and could not free it, on a full disk for example."""
        if held["pid"] != os.getpid() or _is_gone(held):
            return False
        if held["machine"] != _process(os.getpid())["machine"]:
            return False
        live = {(lease.place.describe(), lease.folder, lease.epoch) for lease in list(_held)}
        return (self.place.describe(), self.folder, epoch) not in live

    def _live(self) -> None:
        while not self._over.wait(BEAT_S):
            # If a beat cannot be written or the lease not read, the worst case is a take-over.
            with contextlib.suppress(HyggeError), self._lock:
                if self._over.is_set():
                    return
                newest, _, held = self._newest()
                if held is not None and newest > self.epoch:
                    self.lost = f"{_who(held)} took this flow over"
                    self._over.set()
                    self.stop.set()
                    return
                self.beat += 1
                self.place.put(self._key(self.epoch), self._content())

    def _observe(self, key: str, held: Facts) -> None:
        """Return when the holder turns out to be dead; raise JournalError when it is alive."""
        beat_at = first = time.monotonic()
        while time.monotonic() - beat_at < TTL_S:
            if self.stop.wait(_LOOK_S):
                raise Stopped("stopped while another run held the flow")
            _, newest, now = self._newest()
            if now is None or now["freed"] or _is_gone(now):
                return
            beats = newest != key or now["beat"] != held["beat"]
            if beats and time.monotonic() - first < self.patience_s:
                key, held, beat_at = newest, now, time.monotonic()
            elif beats:
                raise JournalError(
                    f"flow '{self.flow}' is being run by {_who(now)}, since {now['since']}",
                    "wait for it or end it, then run again; one that died is taken over by itself; "
                    "if it is a flow of that name in another file, give each file a `project:`",
                )

    def _newest(self) -> tuple[int, str, Facts | None]:
        """Return (epoch, key, facts) of the newest lease; (0, "", None) if there is none."""
        keys = self.place.keys(self.folder)
        for key in reversed(keys):
            content = self.place.get(key)
            if content is not None:
                shown = f"{self.place.describe().rstrip('/')}/{key}"
                hint = "remove that file when nobody runs this flow, then run again"
                return _number(key), key, decode(content, "lease", self.flow, shown, hint)
        return 0, "", None

    def _key(self, epoch: int) -> str:
        return f"{self.folder}/{epoch:08d}.json"

    def _content(self, freed: bool = False) -> bytes:
        facts = {
            "host": socket.gethostname(), "pid": os.getpid(), "since": self.since,
            "beat": self.beat, "freed": freed, **_process(os.getpid()), **_own_job(),
        }  # fmt: skip
        return encode("lease", self.flow, facts)


def interrupt_all() -> None:
    """Free every lease of this process, which is about to end without leaving their blocks."""
    for lease in list(_held):
        if lease.on_leaving is not None:
            with contextlib.suppress(HyggeError):  # it is only evidence
                lease.on_leaving()
        lease.free()


def _number(key: str) -> int:
    name = key.rpartition("/")[2].removesuffix(".json")
    if not name.isdigit():
        raise JournalError(f"{key} is no lease that hygge wrote", "remove that file")
    return int(name)


def _who(held: Facts) -> str:
    job = held.get("job")  # absent outside a Ray job, and in a lease of an older version
    in_job = (
        f" (Ray job {job}: `hygge status {job}` tells, `hygge stop {job}` ends it)" if job else ""
    )
    return f"process {held['pid']} on {held['host']}{in_job}"


def _own_job() -> dict[str, str]:
    """Return the id of the Ray job that this process is the driver of; {} if of none."""
    try:
        config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
        return {"job": str(config["metadata"]["job_submission_id"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _process(pid: int) -> Facts:
    """Return what identifies a process, also after its pid was given to another one.

    `machine` names the boot and the pid namespace, `started` the start of the process in ticks;
    both are None where they cannot be read.
    """
    if sys.platform != "linux":
        return {"machine": None, "started": None}
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        # A container has a pid namespace of its own.
        space = os.readlink("/proc/self/ns/pid")
        with open(f"/proc/{pid}/stat") as file:
            stat = file.read().rpartition(")")[2].split()
    except OSError:
        return {"machine": None, "started": None}
    # A zombie or dead process is gone too; only its parent has not waited for it yet.
    started = None if stat[0] in "ZX" else int(stat[19])
    return {"machine": f"{boot} {space}", "started": started}


def _is_gone(held: Facts) -> bool:
    """Return whether the holder was a process of this machine that has ended."""
    mine = _process(os.getpid())
    if mine["machine"] is None or held["machine"] != mine["machine"]:
        return False
    return bool(_process(held["pid"])["started"] != held["started"])
