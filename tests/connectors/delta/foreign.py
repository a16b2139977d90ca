"""A Delta table as other engines write one: deletion vectors, column mapping. Made by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def make(path: Path, deleted: Sequence[int] = (), is_mapped: bool = False) -> None:
    """Write a table of the rows (1, a) … (4, d), without those of the numbers `deleted`."""
    names = ["col-1", "col-2"] if is_mapped else ["id", "v"]
    (path / "_delta_log").mkdir(parents=True)
    rows = pa.table([pa.array([1, 2, 3, 4], pa.int64()), ["a", "b", "c", "d"]], names=names)
    pq.write_table(rows, path / "f.parquet")
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {
            "delta.columnMapping.id": at, "delta.columnMapping.physicalName": names[at - 1],
        } if is_mapped else {}}
        for at, (name, kind) in enumerate([("id", "long"), ("v", "string")], 1)
    ]  # fmt: skip
    features = ["columnMapping"] * is_mapped + ["deletionVectors"] * bool(deleted)
    mapping = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"}
    add = {
        "path": "f.parquet", "size": (path / "f.parquet").stat().st_size, "partitionValues": {},
        "modificationTime": 0, "dataChange": True, "stats": json.dumps({"numRecords": 4}),
    }  # fmt: skip
    if deleted:
        add["deletionVector"] = _vector(deleted)
    entries = [
        {"protocol": {
            "minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": features, "writerFeatures": features,
        }},
        {"metaData": {
            "id": "made by hand", "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": [], "configuration": mapping if is_mapped else {},
            "createdTime": 0,
        }},
        {"add": add},
    ]  # fmt: skip
    log = path / "_delta_log" / f"{0:020d}.json"
    log.write_text("\n".join(map(json.dumps, entries)))


def _vector(rows: Sequence[int]) -> dict[str, object]:
    """A deletion vector that stands in the log itself: one roaring bitmap, as Z85."""
    header = struct.pack("<iiHHI", 12346, 1, 0, len(rows) - 1, 16)
    bitmap = header + b"".join(struct.pack("<H", row) for row in rows)
    data = struct.pack("<Iqi", 1681511377, 1, 0) + bitmap
    words = [data[at : at + 4].ljust(4, b"\0") for at in range(0, len(data), 4)]
    text = "".join(
        _Z85[int.from_bytes(word, "big") // 85**power % 85]
        for word in words
        for power in (4, 3, 2, 1, 0)
    )
    return {
        "storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data),
        "cardinality": len(rows),
    }  # fmt: skip
