"""The example of a plug-in: its own tests pass, and its types are found once it is installed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from waiting import LIMIT_S

from hygge import registry

PLUGIN = Path(__file__).parent.parent / "examples" / "plugin"


def test_the_plugins_own_tests_pass():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PLUGIN)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PLUGIN, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout[-3000:]


def test_its_tests_are_short():
    for path in PLUGIN.glob("test_*.py"):
        assert len(path.read_text().splitlines()) <= 20, path.name


def test_its_types_are_found_once_it_is_installed(tmp_path, monkeypatch):
    # What pip writes of the entry points, without a network: a .dist-info beside the module.
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    dist = tmp_path / "hygge_arrow_zip-0.1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n{name} = {at}\n" for group, each in groups for name, at in each.items()]
    (dist / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(PLUGIN))
    registry.find.cache_clear()
    registry.kinds.cache_clear()
    assert "arrow_zip" in registry.kinds("home")
    assert registry.find("home", "arrow_zip").__name__ == "ArrowZipHome"
    assert registry.find("store", "arrow_zip").__name__ == "ArrowZipStore"


@pytest.fixture(autouse=True)
def _forget():
    yield
    registry.find.cache_clear()
    registry.kinds.cache_clear()
