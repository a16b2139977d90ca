"""Run a command of hygge in a folder of its own, and take what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from hygge.cli.main import main
from tests.cli.commands import Said


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Said:
    """Return what a command prints to standard output, or to standard error where it fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*words: str, code: int = 0) -> str:
        result = main(list(words))
        printed = capsys.readouterr()
        assert result == code, printed.out + printed.err
        return printed.err if code else printed.out

    return run
