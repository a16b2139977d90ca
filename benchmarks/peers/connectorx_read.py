"""A table to one Parquet file, by ConnectorX: `connectorx_read.py URL FILE`; prints the seconds."""

import sys
import time

import connectorx as cx
import pyarrow.parquet as pq

began = time.time()
table = cx.read_sql(sys.argv[1], "SELECT * FROM lineitem", return_type="arrow")
pq.write_table(table, sys.argv[2])
print(time.time() - began)
