"""Fetch or encode the next rows in a thread while the rows before them are in use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from hygge.open_connections import current, working_for

T = TypeVar("T")


def ends_by_itself() -> None:
    """The `give_up` for items that wait for nothing."""


def prefetched(items: Iterator[T], give_up: Callable[[], object] = ends_by_itself) -> Iterator[T]:
    """Give `items`; each is made in a thread while the item before it is in use.

    An item may be overwritten by the next but one, which is not begun before this item is left.
    Raises what `items` raises. If the caller stops early, `give_up` MUST make `items` end soon,
    whatever it waits for; it may raise.
    """
    made: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()
    turn = threading.Semaphore(1)
    left = threading.Event()
    call = current()

    def make() -> None:
        with working_for(call):
            _make()

    def _make() -> None:
        try:
            turn.acquire()
            for item in items:
                made.put((item,))
                del item
                turn.acquire()
                if left.is_set():
                    return
            made.put(None)
        except BaseException as error:  # it is raised where the items are used
            made.put(error)

    thread = threading.Thread(target=make, name="hygge-prefetch", daemon=True)
    thread.start()
    whole = False
    try:
        while True:
            came = made.get()
            turn.release()
            if came is None or isinstance(came, BaseException):
                whole = True
                break
            yield came[0]
            del came
    finally:
        if not whole:
            left.set()
            turn.release()
            with suppress(Exception):
                give_up()
        thread.join()
    if came is not None:
        raise came
