"""What is said of a server that a test needs and that is not installed: skipped here, failed in CI.

The end of a run tells all of it in one line, also where other processes ran the tests.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

_SAID = "{server} is missing ({how}): its tests are skipped"


def skipped_without(server: str, how: str) -> NoReturn:
    """Skip a test that needs `server`; `how` it is to be had."""
    if os.environ.get("CI"):
        pytest.fail(f"{server} is missing ({how}); CI must not leave its tests out")
    pytest.skip(_SAID.format(server=server, how=how))


def left_out(reasons: Iterable[str]) -> str:
    """One line about what was skipped for want of a server; empty where nothing was."""
    said = re.compile(r"(?:Skipped: )?(.+) is missing \((.+)\): its tests are skipped")
    found = Counter(match.groups() for each in reasons if (match := said.fullmatch(each)))
    told = [
        f"without {server} {count} test{'s'[: count != 1]} skipped (to have it: {how})"
        for (server, how), count in sorted(found.items())
    ]
    return "; ".join(told)
