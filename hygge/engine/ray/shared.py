"""A batch in the node's shared memory: one buffer, which the Store maps and does not copy.

Ray's own form of an Arrow table costs the same copy. But Ray computes with pyarrow there, and
pyarrow loads pandas to compute: half a second of CPU, and 40 MB in the Home's process.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import ray


def put(table: pa.Table, most_bytes: int) -> ray.ObjectRef[Any]:
    """Put a table into shared memory; one that is larger than `most_bytes` in Ray's own form.

    Such a table is a huge row, and here would be in this process twice for a moment.
    """
    if table.nbytes > most_bytes:
        return ray.put(table)
    measured = pa.MockOutputStream()
    _write(table, measured)
    buffer = pa.allocate_buffer(measured.size())
    _write(table, pa.FixedSizeBufferWriter(buffer))
    return ray.put(buffer)


def get(ref: ray.ObjectRef[Any]) -> pa.Table:
    """Return the table that `put` put there; its columns lie in shared memory."""
    found = ray.get(ref)
    return found if isinstance(found, pa.Table) else pa.ipc.open_stream(found).read_all()


def _write(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
