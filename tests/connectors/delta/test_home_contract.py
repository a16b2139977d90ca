"""The contract of a Home, for Delta tables on a disk."""

from __future__ import annotations

from deltalake import DeltaTable, Schema, write_deltalake

from hygge import DeltaHome
from hygge.connectors.delta.types import Rules, stored_schema, stored_table
from hygge.testing import HomeContract

RULES = Rules(zones="utc")


class TestDeltaOnADisk(HomeContract):
    big_rows = 24_000

    def make(self, table, tmp_path):
        schema = stored_schema(table.schema, RULES)
        DeltaTable.create(str(tmp_path / "t"), Schema.from_arrow(schema))
        for start in range(0, table.num_rows, 1000):
            rows = stored_table(table.slice(start, 1000), schema, RULES)
            write_deltalake(str(tmp_path / "t"), rows, mode="append")
        options = {"split_bytes": 1, "batch_size": 500}
        return DeltaHome(path=tmp_path / "t", options=options)

    def change(self, home):
        DeltaTable(home.path).delete("n < 100")
