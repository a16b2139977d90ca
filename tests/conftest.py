"""One Ray for the whole suite, as `hygge` itself would start it; no test stops anybody else's."""

from __future__ import annotations

import functools
import gc
import os
import sys
import zlib

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests import ROOT
from tests.crash.points import ALL
from tests.missing import left_out

os.environ.pop("RAY_ADDRESS", None)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Programs that tests start, and Ray's workers, import from `tests` wherever they run.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
# Beside a busy program Ray's workers, which are nice by 15, would hardly run at all.
os.environ |= {"RAY_worker_niceness": "0"}
# Ray gives up its own start early on a busy machine.
os.environ |= {"RAY_raylet_start_wait_time_s": "120"}
if not ALL:  # only tests/k8s/test_prometheus.py reads what Ray's agent looks up all the time
    os.environ |= {"REPORTER_UPDATE_INTERVAL_MS": "60000"}
# A busy machine is no fault of what is tested.
settings.register_profile("hygge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hygge")


# What is collected stays until the end: the garbage collector would go through all of it in vain,
# now and in each test that calls it. `pytest_collection_finish` sets it aside.
gc.disable()


SHARED = {
    "tests.servers.mariadb": "MariaDB",
    "standing_ray": "standing Ray",
    "azurite": "Azurite",
    "ray_here": "Ray",
    "tests.servers.s3": "S3",
}
"""What stands in a file of tests that uses a slow server → the group of all files that do.

A Ray that idles in each worker costs as much as many tests, so that it ends before the next file
that does not use it.
"""
MARIADBS = 3
"""So many groups, each with a server of its own, share the files that use MariaDB and no Ray.

What uses both is one group more. None may be as long as the sixth part of all tests.
"""
LONGEST_FIRST = [
    "Ray",
    "standing Ray",
    "MariaDB",
    "S3",
    "Azurite",
    "tests/engine/",
    "tests/k8s/test_runs",
    "tests/crash/",
    "tests/examples/",
    "tests/cli/",
]
"""The groups that take more than a quarter of a minute, the longest first.

They begin in this order, so that no worker is left with one of them when the other has nothing more
to do.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups first, and in each what uses Ray last, so that Ray starts once."""
    items.sort(key=lambda item: (_place(_group(item.nodeid)), _uses("ray_here", item)))


def pytest_collection_finish() -> None:
    """Let the garbage collector look at what the tests make, and not at the tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Keep a group in one worker: a file, or all files that share a slow server.

    By a scheduler of our own, since pytest 9.2 does not read what xdist 3.8 makes of `xdist_group`.
    """
    config.option.loadscopereorder = False

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Groups(config, log)


def _group(nodeid: str) -> str:
    return _group_of_file(nodeid.partition("::")[0])


def _uses(name: str, item: pytest.Item | None) -> bool:
    """Return whether the file of a test has this word in it; without a test, it has not."""
    return item is not None and name in _text_of_file(item.nodeid.partition("::")[0])


@functools.cache
def _text_of_file(file: str) -> str:
    return (ROOT / file).read_text()


@functools.cache
def _group_of_file(file: str) -> str:
    text = _text_of_file(file)
    group = next((group for used, group in SHARED.items() if used in text), file)
    if group != "MariaDB":
        return group
    return f"MariaDB {'Ray' if 'ray_here' in text else zlib.crc32(file.encode()) % MARIADBS}"


def _place(group: str) -> int:
    """Return where a group stands among those that take long; behind them all if it does not."""
    found = (at for at, start in enumerate(LONGEST_FIRST) if group.startswith(start))
    return next(found, len(LONGEST_FIRST))


def pytest_terminal_summary(terminalreporter) -> None:
    """One line: which servers are missing, what was skipped without them, how to get them."""
    skipped = terminalreporter.stats.get("skipped", [])
    if line := left_out(str(each.longrepr[2]) for each in skipped):
        terminalreporter.write_line(line)


@pytest.fixture
def ray_here() -> None:
    """The private Ray of this process; tests share it because starting one takes seconds."""
    from hygge.engine.ray import connection, lane

    # The next test takes the lanes of this one, though others run between: to start the three
    # processes of a lane takes seven seconds of CPU.
    lane.SHORTEST_IDLE_S = 20.0
    connection.connect()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End each Ray of this process before a file that does not use it."""
    if nextitem is not None and nextitem.path == item.path:
        return
    if "hygge.engine.ray.connection" in sys.modules and not _uses("ray_here", nextitem):
        from hygge.engine.ray import connection

        connection.disconnect()
    if "tests.servers.standing" in sys.modules and not _uses("standing_ray", nextitem):
        from tests.servers import standing

        standing.end_standing_ray()


@pytest.fixture(autouse=True)
def _state_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> None:
    monkeypatch.setenv("HYGGE_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True)
def _no_database_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYGGE_DATABASE_URL", raising=False)
