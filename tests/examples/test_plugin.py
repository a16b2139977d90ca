"""The example of a plug-in: its own tests pass, and its types are found once it is installed."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib

import pytest

from hygge import ParquetHome, registry
from hygge.journal.fingerprint import with_current_types
from tests import ROOT
from tests.waiting import LIMIT_S

PLUGIN = ROOT / "examples" / "plugin"


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
    assert "arrow_zip" in registry.kinds("home")
    assert registry.find("home", "arrow_zip").__name__ == "ArrowZipHome"
    assert registry.find("store", "arrow_zip").__name__ == "ArrowZipStore"
    assert registry.type_of("home", registry.find("home", "arrow_zip")) == "arrow_zip"
    old = {"mode": "append", "home.type": "arrow_zip.ArrowZipHome", "store.type": "own.Store"}
    assert with_current_types(old) == {**old, "home.type": "arrow_zip"}
    assert with_current_types(with_current_types(old)) == with_current_types(old)


def test_a_plugins_class_has_its_type_also_if_it_is_defined_beside_its_entry_point(
    tmp_path, monkeypatch
):
    dist = tmp_path / "lake-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Name: lake\nVersion: 1\n")
    entries = "[hygge.homes]\nbroken = lake.broken:Home\nlake = lake:Lake\nparquet = lake:Other\n"
    (dist / "entry_points.txt").write_text(entries)
    package = tmp_path / "lake"
    package.mkdir()
    (package / "__init__.py").write_text("from lake.inside import Lake, Other\n")
    (package / "inside.py").write_text(
        "from hygge import ParquetHome\nclass Lake(ParquetHome): ...\n"
        "class Other(ParquetHome): ...\nclass Unnamed(Lake): ...\n"
    )
    (package / "broken.py").write_text("import nowhere_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    inside = importlib.import_module("lake.inside")
    assert registry.type_of("home", inside.Lake) == "lake"
    assert registry.type_of("home", inside.Unnamed) == "lake.inside.Unnamed"
    # A plug-in cannot take a built-in word, so its class does not have it either.
    assert registry.find("home", "parquet") is ParquetHome
    assert registry.type_of("home", inside.Other) == "lake.inside.Other"


@pytest.fixture(autouse=True)
def _forget():
    registry.find.cache_clear()
    registry.kinds.cache_clear()
    yield
    registry.find.cache_clear()
    registry.kinds.cache_clear()
