"""Measurements for the suites: a fresh process, Arrow memory, open files, printed text."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from typing import TypeVar

import pyarrow as pa
import pytest

from hygge.home import Home
from hygge.store import Store

Result = TypeVar("Result")
DRIVER = os.getpid()
"""The id of the process that the tests run in."""
SECRET = "hunter2-is-secret"
"""A password that tests put into settings, and look for in all that is printed."""


def in_worker(work: Callable[..., Result], *args: object) -> Result:
    """Return `work(*args)`, called in a fresh process; arguments and result are pickled."""
    try:
        pickle.dumps(args)
    except Exception as error:
        raise AssertionError(
            f"this cannot travel to a worker, because it cannot be pickled: {error!r}; open "
            "connections and files inside the verbs, not in __init__"
        ) from error
    with ProcessPoolExecutor(1, _processes(), _set_variables, (dict(os.environ),)) as pool:
        return pool.submit(work, *args).result()


def _set_variables(variables: dict[str, str]) -> None:
    """Set the variables of this process, whose parent may have started with others."""
    os.environ.clear()
    os.environ.update(variables)


@cache
def _processes() -> BaseContext:
    """Make processes that know nothing of this one: each would import Arrow and pandas for itself.

    Where the system can, they are forked from one that has imported these and done nothing else.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["hygge.testing", "pandas", "sqlalchemy"])
    return context


class ArrowMemory:
    """Counts the Arrow bytes that were allocated since it was entered.

    `peak` is the most that was allocated at once; a thread samples it every millisecond.
    """

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
        """Return the bytes that are allocated now, beyond those at the start."""
        held: int = pa.total_allocated_bytes() - self._start
        self.peak = max(self.peak, held)
        return held

    def _sample(self) -> None:
        while not self._done.wait(0.001):
            self.now()


def open_files() -> list[str]:
    """Return the names of the files that are open here; [] on a system without /proc."""
    folder = "/proc/self/fd"
    names = []
    for handle in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            names.append(os.readlink(f"{folder}/{handle}"))
        except OSError:
            continue  # the handle that listed the folder is closed by now
    return sorted(names)


def is_file(name: str) -> bool:
    """Return whether the name of an open handle is the path of a file; a socket has none."""
    return name.startswith("/") and not name.startswith(("/dev/", "/proc/", "/memfd:"))


def all_text_of(connector: Home | Store, error: BaseException | None = None) -> str:
    """Return all that a connector and its error may put into a log, a plan or a traceback."""
    texts = [repr(connector), str(connector), connector.describe(), str(connector.place())]
    texts.append(repr(connector.settings))
    if error is not None:
        texts += [str(error), repr(error), str(getattr(error, "hint", ""))]
        texts += traceback.format_exception(error)
    return "\n".join(texts)


def xfail_if_declared(lossy: bool, name: str, problem: str | None) -> None:
    """End the test of one type: a declared loss must happen, any other must not.

    `problem`: how the values differ, None where all survived. A declared loss is a strict xfail.
    """
    if lossy and problem is None:
        pytest.fail(f"{name} is declared lossy, but returns exactly: take it off `traits.lossy`")
    if lossy:
        pytest.xfail(f"declared lossy: {problem}")
    assert problem is None, f"{name}: {problem}"
