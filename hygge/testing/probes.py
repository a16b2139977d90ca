"""What the suites measure with: a fresh worker process, Arrow memory, open files, printed words."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pyarrow as pa
import pytest

DRIVER = os.getpid()
"""The process that the tests run in."""
SECRET = "hunter2-is-secret"
"""What a test hides in settings, and looks for in all that is printed."""


def in_worker(work: Callable[..., Any], *args: Any) -> Any:
    """`work(*args)` in a fresh process that shares nothing with this one but pickles."""
    try:
        pickle.dumps(args)
    except Exception as error:
        raise AssertionError(
            f"this cannot travel to a worker, because it cannot be pickled: {error!r}; open "
            "connections and files inside the verbs, not in __init__"
        ) from error
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


class ArrowMemory:
    """Counts the Arrow bytes allocated since it was entered; `peak` is sampled all the while."""

    def __enter__(self) -> ArrowMemory:
        gc.collect()
        self._start = pa.total_allocated_bytes()
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def now(self) -> int:
        """Bytes allocated at this moment, above the start."""
        held: int = pa.total_allocated_bytes() - self._start
        self.peak = max(self.peak, held)
        return held

    def _sample(self) -> None:
        while not self._done.wait(0.001):
            self.now()


def open_files() -> list[str]:
    """What this process has open, by name; empty where the system does not tell."""
    folder = "/proc/self/fd"
    names = []
    for handle in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            names.append(os.readlink(f"{folder}/{handle}"))
        except OSError:
            continue  # the handle that listed the folder
    return sorted(names)


def printed(connector: Any, error: BaseException | None = None) -> str:
    """All that a connector and its error may put into a log, a plan or a traceback."""
    words = [repr(connector), str(connector), connector.describe(), str(connector.place())]
    words.append(repr(connector.settings))
    if error is not None:
        words += [str(error), repr(error), str(getattr(error, "hint", ""))]
        words += traceback.format_exception(error)
    return "\n".join(words)


def xfail_if_declared(lossy: bool, name: str, problem: str | None) -> None:
    """A strict xfail: what is declared lossy must lose, what is not declared must not."""
    if lossy and problem is None:
        pytest.fail(f"{name} is declared lossy, but returns exactly: take it off `traits.lossy`")
    if lossy:
        pytest.xfail(f"declared lossy: {problem}")
    assert problem is None, f"{name}: {problem}"
