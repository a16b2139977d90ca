"""The contract of every Store, on an Iceberg table in a catalog of SQLite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from hygge import IcebergStore, Store
from hygge.testing import StoreContract
from tests.connectors.iceberg import lakes


class TestIcebergStore(StoreContract):
    def make(self, tmp_path: Path) -> IcebergStore:
        self.folder = tmp_path
        return lakes.store(tmp_path)

    def rows(self, store: Store) -> pa.Table | None:
        return lakes.rows(self.folder)

    def plant_foreign(self, store: Store) -> Callable[[], bool]:
        foreign = pa.table({"n": pa.array([-1], pa.int64()), "text": ["foreign"]})
        with lakes.catalog(self.folder) as catalog:
            catalog.create_namespace("sales")
            catalog.create_table(lakes.TABLE, foreign.schema).append(foreign)

        def is_there() -> bool:
            seen = lakes.rows(self.folder)
            return seen is not None and "foreign" in seen.column("text").to_pylist()

        return is_there

    def make_with_secret(self, secret: str, tmp_path: Path) -> IcebergStore:
        catalog = {"uri": "http://127.0.0.1:9", "credential": f"me:{secret}"}
        return IcebergStore(lakes.TABLE, catalog=catalog)
