"""A folder with a small table in SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verify.commands import ALL, add
from tests.verify.ends import execute


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    execute(Path("home.db"), ALL)
    add(range(1, 21))
    return tmp_path
