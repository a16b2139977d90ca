"""A table to Parquet files, by dlt: give URL, FOLDER (its own, and new) and BACKEND."""

import os
import sys
from pathlib import Path

import dlt
from dlt.sources.sql_database import sql_table

url, folder, backend = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
os.environ.update(RUNTIME__DLTHUB_TELEMETRY="false", DLT_DATA_DIR=str(folder / "own"))

given = {"connectorx": {"backend_kwargs": {"return_type": "arrow"}}}.get(backend, {})
table = sql_table(url, "lineitem", backend=backend, chunk_size=100_000, **given)
made = dlt.pipeline(
    "bench",
    pipelines_dir=str(folder / "own"),
    destination=dlt.destinations.filesystem(str(folder / "out")),
    dataset_name="bench",
)
made.run(table, loader_file_format="parquet")
