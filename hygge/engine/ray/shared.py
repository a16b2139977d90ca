"""A batch in the node's shared memory, which the Store maps and does not copy.

Large columns that are nothing but themselves go there buffer by buffer. All other batches are made
one buffer first: many small ones, and parts of larger ones, which would be there as a whole.
Ray's own form of an Arrow table costs that copy, too. But Ray computes with pyarrow there, and
pyarrow loads pandas to compute: half a second of CPU, and 40 MB in the Home's process.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import ray

_LARGE_BYTES = 64 * 1024
"""A column has so many on average where its buffers go by themselves."""


def put(table: pa.Table, most_bytes: int) -> ray.ObjectRef[Any]:
    """Put a table into shared memory; one that is larger than `most_bytes` in Ray's own form.

    Such a table is a huge row, and here would be in this process twice for a moment.
    """
    if table.nbytes > most_bytes:
        return ray.put(table)
    if 0 < _LARGE_BYTES * table.num_columns <= table.nbytes:
        batches = table.to_batches()
        if len(batches) == 1 and batches[0].get_total_buffer_size() <= table.nbytes * 1.05:
            return ray.put(batches[0])
        del batches
    measured = pa.MockOutputStream()
    _write(table, measured)
    buffer = pa.allocate_buffer(measured.size())
    _write(table, pa.FixedSizeBufferWriter(buffer))
    return ray.put(buffer)


def get(ref: ray.ObjectRef[Any]) -> pa.Table:
    """Return the table that `put` put there; its columns lie in shared memory."""
    found = ray.get(ref)
    if isinstance(found, pa.RecordBatch):
        return pa.Table.from_batches([found])
    return found if isinstance(found, pa.Table) else pa.ipc.open_stream(found).read_all()


def _write(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
