# /// script
# dependencies = ["pyarrow==26.0.1"]
# [tool.bench]
# name = "pyarrow"
# ///
"""pyarrow: a stream of batches into one ParquetWriter, all defaults. CSV is told the types."""

import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from common import Task, run


def write(task, schema, batches):
    with pq.ParquetWriter(task.file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def parquet_to_parquet(task: Task):
    source = pq.ParquetFile(task.source)
    write(task, source.schema_arrow, source.iter_batches())


def csv_to_parquet(task: Task):
    schema = task.schema()
    types = {field.name: field.type for field in schema}
    options = pyarrow.csv.ConvertOptions(column_types=types)
    reader = pyarrow.csv.open_csv(task.source, convert_options=options)
    write(task, reader.schema, reader)


def jsonl_to_parquet(task: Task):
    reader = pyarrow.json.open_json(task.source)
    write(task, reader.schema, reader)


if __name__ == "__main__":
    run(globals())
