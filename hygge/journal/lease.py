"""Who drives a flow just now. It saves work; nothing that is promised leans on it.

Life of a lease: its holder creates `lease/<epoch>.json`, one number above the newest there is, and
writes a new beat into it every few seconds. Whoever comes next looks at the newest: one that was
freed, whose process is gone from this machine, or whose beat stands still for `TTL_S` on the
*observer's* own clock may be followed by creating the next number; of several who try one wins. A
holder that finds a newer number was taken for dead: it stops. The number is the epoch of all
tickets of that driver, so no two drivers ever use the same ticket, whoever is right about whom.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hygge.errors import HyggeError, JournalError, Stopped
from hygge.journal.entries import read, written
from hygge.places.names import file_name
from hygge.places.place import Place

TTL_S = 30.0
BEAT_S = 4.0
_LOOK_S = 0.5
_held: weakref.WeakSet[Lease] = weakref.WeakSet()


class Lease:
    """`with Lease(place, flow, stop) as lease:` drives the flow under `lease.epoch`.

    Raises JournalError where somebody else does, and still does after `patience_s`. Sets `stop`
    when somebody took it over; `lost` then says who.
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
        """Notes that this process ends without coming back here."""
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Lease:
        while True:
            newest, key, held = self._newest()
            over = held is None or held["freed"] or _is_gone(held) or self._was_mine(newest, held)
            if held is not None and not over:
                self._observe(key, held)
            self.epoch = newest + 1
            if self._created():
                break
        with contextlib.suppress(HyggeError):  # they are of no use to anybody
            for older in self.place.keys(self.folder):
                if older < self._key(self.epoch):
                    self.place.remove(older)
        threading.Thread(target=self._live, name="hygge-lease", daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.free()

    def free(self) -> None:
        """Let the next driver begin at once."""
        with self._lock:
            if not self._over.is_set():
                self._over.set()
                _held.discard(self)
                with contextlib.suppress(HyggeError):
                    self.place.put(self._key(self.epoch), self._content(freed=True))

    def _created(self) -> bool:
        _held.add(self)  # first, so that no thread of this process takes it for left behind
        mine = False
        try:
            # A number that is free because older ones were removed has a newer one beside it.
            created = self.place.create(self._key(self.epoch), self._content())
            mine = created and self._newest()[0] == self.epoch
        finally:
            if not mine:
                _held.discard(self)
        return mine

    def _was_mine(self, epoch: int, held: dict[str, Any]) -> bool:
        """Whether this process held it and could not free it: on a full disk, say."""
        mine = held["pid"] == os.getpid() and not _is_gone(held)
        known = (self.place.describe(), self.folder, epoch)
        live = {(each.place.describe(), each.folder, each.epoch) for each in list(_held)}
        return mine and held["machine"] == _process(os.getpid())["machine"] and known not in live

    def _live(self) -> None:
        while not self._over.wait(BEAT_S):
            # A beat that could not be written, or a look that failed, costs a take-over at most.
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

    def _observe(self, key: str, held: dict[str, Any]) -> None:
        """Come back when the holder is seen to be dead; raise JournalError when it lives."""
        seen = first = time.monotonic()
        while time.monotonic() - seen < TTL_S:
            if self.stop.wait(_LOOK_S):
                raise Stopped("stopped while another run held the flow")
            _, newest, now = self._newest()
            if now is None or now["freed"] or _is_gone(now):
                return
            beats = newest != key or now["beat"] != held["beat"]
            if beats and time.monotonic() - first < self.patience_s:
                key, held, seen = newest, now, time.monotonic()
            elif beats:
                raise JournalError(
                    f"flow '{self.flow}' is being run by {_who(now)}, since {now['since']}",
                    "wait for it or end it, then run again; one that died is taken over by itself",
                )

    def _newest(self) -> tuple[int, str, dict[str, Any] | None]:
        keys = self.place.keys(self.folder)
        for key in reversed(keys):
            content = self.place.get(key)
            if content is not None:
                shown = f"{self.place.describe().rstrip('/')}/{key}"
                mend = "remove that file when nobody runs this flow, then run again"
                return _number(key), key, read(content, "lease", self.flow, shown, mend)
        return 0, "", None

    def _key(self, epoch: int) -> str:
        return f"{self.folder}/{epoch:08d}.json"

    def _content(self, freed: bool = False) -> bytes:
        facts = {
            "host": socket.gethostname(), "pid": os.getpid(), "since": self.since,
            "beat": self.beat, "freed": freed, **_process(os.getpid()),
        }  # fmt: skip
        return written("lease", self.flow, facts)


def interrupt_all() -> None:
    """Free every lease of this process, which is about to end without coming back here."""
    for lease in list(_held):
        if lease.on_leaving is not None:
            with contextlib.suppress(HyggeError):  # it is evidence, no more
                lease.on_leaving()
        lease.free()


def _number(key: str) -> int:
    name = key.rpartition("/")[2].removesuffix(".json")
    if not name.isdigit():
        raise JournalError(f"{key} is no lease that hygge wrote", "remove that file")
    return int(name)


def _who(held: dict[str, Any]) -> str:
    return f"process {held['pid']} on {held['host']}"


def _process(pid: int) -> dict[str, Any]:
    """What tells this process from every other of the machine, also after its id came back."""
    if sys.platform != "linux":
        return {"machine": None, "started": None}
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        # A container has ids of its own.
        space = os.readlink("/proc/self/ns/pid")
        with open(f"/proc/{pid}/stat") as file:
            stat = file.read().rpartition(")")[2].split()
    except OSError:
        return {"machine": None, "started": None}
    # Killed, and not waited for by its parent: gone as well.
    started = None if stat[0] in "ZX" else int(stat[19])
    return {"machine": f"{boot} {space}", "started": started}


def _is_gone(held: dict[str, Any]) -> bool:
    """Whether the holder was a process of this very machine, and is no more."""
    mine = _process(os.getpid())
    if mine["machine"] is None or held["machine"] != mine["machine"]:
        return False
    return bool(_process(held["pid"])["started"] != held["started"])
