"""One Ray for the whole suite, as `hygge` itself would start it; no test stops anybody else's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import ROOT
from tests.missing import left_out

os.environ.pop("RAY_ADDRESS", None)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Programs that tests start, and Ray's workers, import from `tests` wherever they run.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
# Beside a busy program Ray's workers, which are nice by 15, would hardly run at all.
os.environ |= {"RAY_worker_niceness": "0"}
# A busy machine is no fault of what is tested.
settings.register_profile("hygge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hygge")


SHARED = {"standing_ray": "standing Ray", "azurite": "Azurite"}
"""What a module imports of tests/servers → the group of all modules that do."""
LONGEST_FIRST = [
    "standing Ray",
    "MariaDB",
    "tests/engine/",
    "tests/config/test_buckets",
    "tests/k8s/test_runs",
    "Azurite",
    "tests/crash/",
    "tests/examples/",
    "tests/connectors/files/test_prefix",
    "tests/cli/",
]
"""How groups begin that take more than a quarter of a minute, the longest first.

None of them is left to one worker at the end, while the other has nothing to do.
"""


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups then
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its group, and put the longest groups first.

    A group stays in one of the processes that run side by side. It is a file, or all files that use
    the same server, if that one starts slowly.
    """
    groups = {item: _group(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _place(groups[item]))


def _group(item: pytest.Item) -> str:
    module = getattr(item.getparent(pytest.Module), "obj", None)
    if "tests.servers.mariadb" in getattr(module, "pytest_plugins", ()):
        return "MariaDB"
    used = (group for name, group in SHARED.items() if hasattr(module, name))
    return next(used, item.nodeid.partition("::")[0])


def _place(group: str) -> int:
    """Return where a group stands among those that take long; behind them all if it does not."""
    found = (at for at, start in enumerate(LONGEST_FIRST) if group.startswith(start))
    return next(found, len(LONGEST_FIRST))


def pytest_terminal_summary(terminalreporter) -> None:
    """One line: which servers are missing, what was skipped without them, how to get them."""
    skipped = terminalreporter.stats.get("skipped", [])
    if line := left_out(str(each.longrepr[2]) for each in skipped):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """The private Ray of this process; tests share it because starting one takes seconds."""
    from hygge.engine.ray import connection

    connection.connect()
    yield
    connection.disconnect()


@pytest.fixture(autouse=True)
def _state_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> None:
    monkeypatch.setenv("HYGGE_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True)
def _no_database_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYGGE_DATABASE_URL", raising=False)
