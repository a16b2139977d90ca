# /// script
# dependencies = ["deltalake==1.6.6", "pyarrow==26.0.1"]
# [tool.bench]
# name = "deltalake"
# ///
"""deltalake's own `write_deltalake` of a stream of batches, all defaults."""

import pyarrow as pa
import pyarrow.parquet as pq
from common import Task, run
from deltalake import write_deltalake


def parquet_to_delta(task: Task):
    source = pq.ParquetFile(task.source)
    rows = pa.RecordBatchReader.from_batches(source.schema_arrow, source.iter_batches())
    write_deltalake(task.out + "/delta", rows)


if __name__ == "__main__":
    run(globals())
