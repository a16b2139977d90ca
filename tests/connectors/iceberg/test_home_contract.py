"""The contract of every Home, on an Iceberg table in a catalog of SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from hygge import Home, IcebergHome
from hygge.testing import HomeContract
from hygge.testing.staging import stage_run
from tests.connectors.iceberg import lakes


class TestIcebergHome(HomeContract):
    def make(self, table: pa.Table, tmp_path: Path) -> IcebergHome:
        self.folder = tmp_path
        store = lakes.store(tmp_path, options={"row_group_bytes": 1 << 20})
        cut = table.num_rows // 2
        stage_run(store, table.slice(0, cut), table.slice(cut), mode="append").commit()
        options: Any = {"batch_size": self.batch_rows, "split_bytes": 1}
        return IcebergHome(lakes.TABLE, catalog=lakes.settings(tmp_path), options=options)

    def change(self, home: Home) -> None:
        with lakes.table(self.folder) as table:
            table.delete("n < 100")

    def make_with_secret(self, secret: str, tmp_path: Path) -> IcebergHome:
        catalog = {"uri": "http://127.0.0.1:9", "credential": f"me:{secret}"}
        return IcebergHome(lakes.TABLE, catalog=catalog)
