"""The names that `from hygge import …` gives, to people and to type checkers."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hygge

PUBLIC = {
    "ArrowHome", "ArrowStore", "Column", "Commit", "ConfigError", "Coordinator", "CsvHome",
    "CsvStore", "DeltaHome", "DeltaStore", "Flow", "FlowFailed", "Head", "Home", "HomeTraits",
    "HyggeError", "IcebergHome", "IcebergStore", "JsonlHome", "JsonlStore", "Limits", "NotOurs",
    "ParquetHome", "ParquetStore", "Plan", "RayDataHome", "Receipt", "Rejected", "Report", "Run",
    "SQLHome", "SQLStore", "Settings", "SourceChanged", "SourceMissing", "Split", "Store",
    "StoreTraits", "Summary", "Superseded", "Ticket", "Transient", "UnfitValue", "ray_dataset",
    "__version__",
}  # fmt: skip
"""Written down a second time, so that no name comes or goes unseen."""


def for_type_checkers() -> dict[str, str]:
    """The names that `hygge/__init__.py` imports for type checkers, with their modules."""
    tree = ast.parse(Path(hygge.__file__).read_text())
    branch = next(node for node in tree.body if isinstance(node, ast.If))
    found = {}
    for node in branch.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "`as` makes a name public for type checkers"
            found[alias.name] = node.module or ""
    return found


def test_the_public_names_are_these():
    assert set(hygge.__all__) == PUBLIC
    assert len(hygge.__all__) == len(PUBLIC)
    assert dir(hygge) == sorted(PUBLIC)


def test_type_checkers_find_the_same_names_at_the_same_places():
    imported = for_type_checkers()
    assert imported.keys() == PUBLIC - {"__version__"}
    for name, module in imported.items():
        assert getattr(hygge, name) is getattr(importlib.import_module(module), name)
        assert getattr(hygge, name).__module__ == module


def test_every_public_name_says_what_it_is():
    for name in PUBLIC - {"__version__"}:
        assert getattr(hygge, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hygge' has no attribute 'SqlHome'"):
        _ = hygge.SqlHome


def test_import_hygge_loads_nothing_else():
    code = "import sys, hygge; print([name for name in sys.modules if name.startswith('hygge')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['hygge']", done.stderr


def test_type_checkers_are_told_that_there_are_types():
    assert Path(hygge.__file__).with_name("py.typed").exists()
