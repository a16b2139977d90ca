"""hygge moves data: a Home is where it lives, a Store is where it settles, a Flow moves it.

The module of a name is imported when the name is first used, so that `import hygge` is quick. The
imports for type checkers name the same classes; without them each name would be `Any`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hygge.connectors.databases.home import SQLHome as SQLHome
    from hygge.connectors.databases.store import SQLStore as SQLStore
    from hygge.connectors.delta.home import DeltaHome as DeltaHome
    from hygge.connectors.delta.store import DeltaStore as DeltaStore
    from hygge.connectors.files.arrow import ArrowHome as ArrowHome
    from hygge.connectors.files.arrow import ArrowStore as ArrowStore
    from hygge.connectors.files.csv import CsvHome as CsvHome
    from hygge.connectors.files.csv import CsvStore as CsvStore
    from hygge.connectors.files.jsonl import JsonlHome as JsonlHome
    from hygge.connectors.files.jsonl import JsonlStore as JsonlStore
    from hygge.connectors.files.parquet import ParquetHome as ParquetHome
    from hygge.connectors.files.parquet import ParquetStore as ParquetStore
    from hygge.connectors.iceberg.home import IcebergHome as IcebergHome
    from hygge.connectors.iceberg.store import IcebergStore as IcebergStore
    from hygge.coordinator.coordinator import Coordinator as Coordinator
    from hygge.engine.ray.datasets import RayDataHome as RayDataHome
    from hygge.engine.ray.datasets import ray_dataset as ray_dataset
    from hygge.errors import ConfigError as ConfigError
    from hygge.errors import FlowFailed as FlowFailed
    from hygge.errors import HyggeError as HyggeError
    from hygge.errors import NotOurs as NotOurs
    from hygge.errors import Rejected as Rejected
    from hygge.errors import SourceChanged as SourceChanged
    from hygge.errors import SourceMissing as SourceMissing
    from hygge.errors import Superseded as Superseded
    from hygge.errors import Transient as Transient
    from hygge.errors import UnfitValue as UnfitValue
    from hygge.home import Home as Home
    from hygge.model import Column as Column
    from hygge.model import Commit as Commit
    from hygge.model import Head as Head
    from hygge.model import HomeTraits as HomeTraits
    from hygge.model import Limits as Limits
    from hygge.model import Plan as Plan
    from hygge.model import Receipt as Receipt
    from hygge.model import Report as Report
    from hygge.model import Run as Run
    from hygge.model import Split as Split
    from hygge.model import StoreTraits as StoreTraits
    from hygge.model import Summary as Summary
    from hygge.model import Ticket as Ticket
    from hygge.run.flow import Flow as Flow
    from hygge.settings import Settings as Settings
    from hygge.store import Store as Store
else:  # hidden from type checkers: with `__getattr__`, they accept every name
    import importlib

    _MODULES = {
        "Home": "hygge.home",
        "Store": "hygge.store",
        "Flow": "hygge.run.flow",
        "Coordinator": "hygge.coordinator.coordinator",
        "Settings": "hygge.settings",
        "Limits": "hygge.model",
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
        "DeltaHome": "hygge.connectors.delta.home",
        "DeltaStore": "hygge.connectors.delta.store",
        "IcebergHome": "hygge.connectors.iceberg.home",
        "IcebergStore": "hygge.connectors.iceberg.store",
        "RayDataHome": "hygge.engine.ray.datasets",
        "ray_dataset": "hygge.engine.ray.datasets",
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
        "Summary": "hygge.model",
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

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module 'hygge' has no attribute '{name}'")
        value = getattr(importlib.import_module(_MODULES[name]), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
