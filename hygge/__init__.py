"""hygge moves data: a Home is where it lives, a Store is where it settles, a Flow moves it.

The module of a name is imported when the name is first used, so that `import hygge` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "Home": "hygge.home",
    "Store": "hygge.store",
    "Flow": "hygge.run.flow",
    "Coordinator": "hygge.coordinator.coordinator",
    "Settings": "hygge.settings",
    "ParquetHome": "hygge.connectors.files.parquet",
    "CsvHome": "hygge.connectors.files.csv",
    "JsonlHome": "hygge.connectors.files.jsonl",
    "ArrowHome": "hygge.connectors.files.arrow",
    "SQLHome": "hygge.connectors.databases.home",
    "ParquetStore": "hygge.connectors.files.parquet",
    "CsvStore": "hygge.connectors.files.csv",
    "JsonlStore": "hygge.connectors.files.jsonl",
    "ArrowStore": "hygge.connectors.files.arrow",
    "SQLStore": "hygge.connectors.databases.store",
    "HomeTraits": "hygge.model",
    "StoreTraits": "hygge.model",
    "Plan": "hygge.model",
    "Column": "hygge.model",
    "Split": "hygge.model",
    "Ticket": "hygge.model",
    "Receipt": "hygge.model",
    "Head": "hygge.model",
    "Run": "hygge.model",
    "Commit": "hygge.model",
    "Report": "hygge.model",
    "HyggeError": "hygge.errors",
    "ConfigError": "hygge.errors",
    "FlowFailed": "hygge.errors",
    "SourceMissing": "hygge.errors",
    "SourceChanged": "hygge.errors",
    "UnfitValue": "hygge.errors",
    "NotOurs": "hygge.errors",
    "Rejected": "hygge.errors",
    "Superseded": "hygge.errors",
    "Transient": "hygge.errors",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hygge' has no attribute '{name}'")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
