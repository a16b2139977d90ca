"""The mark of tests that `make chaos` runs, and not `make test`, where a quicker sibling runs."""

from __future__ import annotations

import pytest

from tests.crash.points import ALL

only_in_chaos = pytest.mark.skipif(not ALL, reason="slow: `make chaos` runs it, HYGGE_CRASH=all")
