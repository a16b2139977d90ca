"""The contract of a Store, for Delta tables on a disk; the foreign reader is deltalake's own."""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from hygge import DeltaStore
from hygge.testing import StoreContract


def shown(path) -> pa.Table | None:
    """What a reader that knows nothing of hygge sees."""
    if not DeltaTable.is_deltatable(str(path)):
        return None
    return pa.table(DeltaTable(str(path)).scan().read_all())


class TestDeltaOnADisk(StoreContract):
    def make(self, tmp_path):
        return DeltaStore(path=tmp_path / "users")

    def rows(self, store):
        return shown(store.path)

    def plant_foreign(self, store):
        theirs = pa.table({"n": pa.array([7], pa.int64()), "text": ["theirs"]})
        write_deltalake(store.path, theirs)

        def still_there() -> bool:
            return any(row["text"] == "theirs" for row in shown(store.path).to_pylist())

        return still_there
