"""The conformance suites that ship: what hygge promises of a Home, a Store and an engine, as tests.

A connector's own test is a subclass and little else:

    from hygge.testing import HomeContract, StoreContract

    class TestMyStore(StoreContract):
        def make(self, tmp_path): return MyStore(path=str(tmp_path / "out"))
        def rows(self, store): return what_a_foreign_reader_sees(store.path)

Gaps are declared on the connector (`traits.lossy`, `traits.modes`, `traits.guarantee`) and read
from there: a type declared lossy becomes a strict xfail with its reason, never a skip.

Names are loaded when first used: workers import the connectors of `moving` without pytest.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hygge.testing.engines import EngineContract
    from hygge.testing.homes import HomeContract
    from hygge.testing.stores import StoreContract
    from hygge.testing.values import every_type, same

_WHERE = {
    "HomeContract": "hygge.testing.homes",
    "StoreContract": "hygge.testing.stores",
    "EngineContract": "hygge.testing.engines",
    "every_type": "hygge.testing.values",
    "same": "hygge.testing.values",
}
_PARTS = ("attempts", "engines", "homes", "probes", "staging", "stores")
__all__ = ["EngineContract", "HomeContract", "StoreContract", "every_type", "same"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'hygge.testing' has no attribute '{name}'")
    if name.endswith("Contract"):
        import pytest

        # Before their import: only then do assertions say what they compared.
        parts = [f"hygge.testing.{part}" for part in _PARTS]
        pytest.register_assert_rewrite(*(part for part in parts if part not in sys.modules))
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value
