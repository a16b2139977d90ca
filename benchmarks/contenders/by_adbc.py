# /// script
# dependencies = [
#     "adbc-driver-postgresql==1.13.0", "adbc-driver-manager==1.13.0", "pyarrow==26.0.1",
# ]
# [tool.bench]
# name = "ADBC"
# ///
"""ADBC's PostgreSQL driver: bulk ingest of a stream of batches; reading into one ParquetWriter."""

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.parquet as pq
from common import Task, run


def parquet_to_pg(task: Task):
    source = pq.ParquetFile(task.source)
    rows = pa.RecordBatchReader.from_batches(source.schema_arrow, source.iter_batches())
    with adbc.connect(task.target) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(task.table, rows, mode="create", db_schema_name="target")
        connection.commit()


def pg_to_parquet(task: Task):
    with adbc.connect(task.source) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {task.table}")
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(task.file, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)


def pg_to_pg(task: Task):
    with adbc.connect(task.source) as source, source.cursor() as reading:
        reading.execute(f"SELECT * FROM {task.table}")
        with adbc.connect(task.target) as target, target.cursor() as cursor:
            rows = reading.fetch_record_batch()
            cursor.adbc_ingest(task.table, rows, mode="create", db_schema_name="target")
            target.commit()


if __name__ == "__main__":
    run(globals())
