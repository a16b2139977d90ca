"""Conformance suites: the tests that every Home, Store and engine of hygge must pass.

The test of a connector is a subclass of a suite, run by pytest:

    from hygge.testing import HomeContract, StoreContract

    class TestMyStore(StoreContract):
        def make(self, tmp_path): return MyStore(path=str(tmp_path / "out"))
        def rows(self, store): return what_a_foreign_reader_sees(store.path)

`make` returns the connector to test; `rows` reads the Store's target with another library. What a
connector cannot do it declares in its traits (`lossy`, `modes`, `guarantee`), and the suites read
them there. A type that is declared lossy becomes a strict xfail with its reason, never a skip.

`every_type()` gives the values that the suites move, and `same` compares two tables exactly.

Names are loaded when they are first used, because workers import `connectors` without pytest.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hygge.testing.engines import EngineContract
    from hygge.testing.homes import HomeContract
    from hygge.testing.stores import StoreContract
    from hygge.testing.values import every_type, same

_MODULES = {
    "HomeContract": "hygge.testing.homes",
    "StoreContract": "hygge.testing.stores",
    "EngineContract": "hygge.testing.engines",
    "every_type": "hygge.testing.values",
    "same": "hygge.testing.values",
}
_PARTS = ("attempts", "changes", "engines", "homes", "probes", "staging", "stores")
__all__ = ["EngineContract", "HomeContract", "StoreContract", "every_type", "same"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'hygge.testing' has no attribute '{name}'")
    if name.endswith("Contract"):
        import pytest

        # Before the suites are imported: only then does a failed assertion show both values.
        parts = [f"hygge.testing.{part}" for part in _PARTS]
        pytest.register_assert_rewrite(*(part for part in parts if part not in sys.modules))
    value: object = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
