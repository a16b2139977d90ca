"""A Parquet file into a new table `target.lineitem`, by ADBC's bulk ingest: give URL and FILE.

Prints the seconds, from the first open to the commit.
"""

import sys
import time

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.parquet as pq

began = time.time()
source = pq.ParquetFile(sys.argv[2])
rows = pa.RecordBatchReader.from_batches(source.schema_arrow, source.iter_batches())
with adbc.connect(sys.argv[1]) as connection, connection.cursor() as cursor:
    cursor.adbc_ingest("lineitem", rows, mode="create", db_schema_name="target")
    connection.commit()
print(time.time() - began)
