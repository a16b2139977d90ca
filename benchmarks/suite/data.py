"""The data that is moved, made once in benchmarks/data/, the same on every machine.

Each set is a Parquet file, the *truth*: what every target is compared with. Files of other formats
are made from it by DuckDB; servers are loaded from it by `load.py`.

    lineitem    TPC-H, 16 columns: integers, decimals, dates, short and long text
    wide        mixed types with NULL, NaN, infinity, '' and text that is not ASCII
    nested      rows of JSON lines: a list and an object in each
    plain       integers, floats and text, as SQLite has them
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"
ROWS_AT_1 = 1_000_000
"""Of each set but lineitem, at scale 1; in proportion at others."""

WIDE = """
SELECT i::BIGINT AS id,
  (i % 65536 - 32768)::SMALLINT AS small,
  CASE WHEN i % 13 > 0 THEN ((hash(i) % 4294967296)::BIGINT - 2147483648)::INTEGER END AS number,
  CASE i % 101 WHEN 0 THEN 'nan'::DOUBLE WHEN 1 THEN 'inf'::DOUBLE WHEN 2 THEN '-inf'::DOUBLE
    WHEN 3 THEN NULL ELSE i::DOUBLE / 7 END AS ratio,
  CASE WHEN i % 17 > 0 THEN
    (hash(i + 1) % 100000000 || '.' || lpad((i % 10000)::VARCHAR, 4, '0'))::DECIMAL(18, 4)
  END AS money,
  CASE i % 7 WHEN 0 THEN '' WHEN 1 THEN NULL WHEN 2 THEN 'naïve, "quoted" ' || i
    WHEN 3 THEN '数据 ' || i WHEN 4 THEN 'tab' || chr(9) || i ELSE 'word ' || i % 1000 END AS word,
  CASE WHEN i % 5 > 0 THEN i % 2 = 0 END AS ok,
  DATE '1900-01-01' + (i % 80000)::INTEGER AS day,
  CASE WHEN i % 11 > 0 THEN
    make_timestamptz(1600000000000000 + i * 86399999999 % 4000000000000000) END AS moment,
  format('{:08x}-0000-4000-8000-{:012x}', i % 4294967296, i) AS uid,
  format('{{"n": {}, "tags": ["a", "é"]}}', i) AS doc
FROM range({rows}) AS t(i)
"""
NESTED = """
SELECT i::BIGINT AS id, 'name of ' || hash(i) % 100000 AS name,
  (hash(i) % 100000)::DOUBLE / 4 AS price,
  ['t' || i % 10, 'u' || i % 100] AS tags,
  {'city': 'city ' || i % 500, 'zip': 'Z' || lpad((i % 100000)::VARCHAR, 5, '0'),
    'floor': i % 40} AS address,
  'a comment that is as long as many are, number ' || i AS comment
FROM range({rows}) AS t(i)
"""
PLAIN = """
SELECT i::BIGINT AS id, (hash(i) % 50)::BIGINT AS quantity,
  (hash(i + 1) % 1000000)::DOUBLE / 4 AS price,
  'name of ' || hash(i) % 100000 AS name, 'comment ' || hash(i + 2) AS comment
FROM range({rows}) AS t(i)
"""
MADE = {"wide": WIDE, "nested": NESTED, "plain": PLAIN}


def lineitem(scale: str) -> Path:
    """The generated table, from the cache if it is there."""
    path = DATA / f"sf{scale}" / "lineitem.parquet"
    if not path.exists():
        beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        tool = shutil.which("tpchgen-cli", path=beside)
        if tool is None:
            raise SystemExit("tpchgen-cli is missing: pip install -r benchmarks/requirements.txt")
        fresh = path.parent.with_name(f"generated-{scale}")
        options = ["-s", scale, "--tables=lineitem", "--compression=SNAPPY"]
        subprocess.run([tool, "parquet", *options, f"--output-dir={fresh}"], check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        _as_text(fresh / path.name, path)
        shutil.rmtree(fresh)
    return path


def _as_text(source: Path, path: Path) -> None:
    """The same row groups with plain text: tpchgen says `string_view`, which some cannot read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, fresh = pq.ParquetFile(source), path.with_suffix(".part")
    schema = pa.schema(
        field.with_type(pa.string()) if str(field.type) == "string_view" else field
        for field in file.schema_arrow
    )
    with pq.ParquetWriter(fresh, schema, store_schema=False) as writer:
        for group in range(file.num_row_groups):
            writer.write_table(file.read_row_group(group).cast(schema))
    fresh.rename(path)


def truth(name: str, scale: str) -> Path:
    """The Parquet file of a data set."""
    if name == "lineitem":
        return lineitem(scale)
    path = DATA / f"sf{scale}" / f"{name}.parquet"
    if not path.exists():
        select = MADE[name].replace("{rows}", str(max(1000, round(ROWS_AT_1 * float(scale)))))
        _copy(f"({select})", path)
    return path


def source(name: str, kind: str, scale: str) -> Path:
    """A data set as a file of `parquet`, `csv`, `jsonl` or `sqlite`."""
    made_from = truth(name, scale)
    path = made_from.with_suffix(f".{kind}")
    if path.exists():
        return path
    if kind == "sqlite":
        _sqlite(made_from, path)
    else:
        _copy(f"'{made_from}'", path)
    return path


def six_times(name: str, scale: str) -> Path:
    """A folder with six names of one file: six times the rows without six times the disk."""
    made_from = truth(name, scale)
    folder = made_from.parent / f"{name}-six-times"
    folder.mkdir(exist_ok=True)
    for number in range(6):
        link = folder / f"{number}.parquet"
        if not link.exists():
            link.hardlink_to(made_from)
    return folder


def _copy(rows: str, path: Path) -> None:
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    words = {".csv": "FORMAT csv, HEADER", ".jsonl": "FORMAT json", ".parquet": "FORMAT parquet"}
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(f"COPY (FROM {rows}) TO '{fresh}' ({words[path.suffix]})")
    fresh.rename(path)


def _sqlite(made_from: Path, path: Path) -> None:
    import contextlib
    import sqlite3

    import pyarrow.parquet as pq

    fresh = path.with_suffix(".part")
    fresh.unlink(missing_ok=True)
    file = pq.ParquetFile(made_from)
    words = {"int64": "INTEGER", "double": "REAL", "string": "TEXT"}
    columns = ", ".join(f"{field.name} {words[str(field.type)]}" for field in file.schema_arrow)
    marks = ", ".join("?" * len(file.schema_arrow))
    with contextlib.closing(sqlite3.connect(fresh)) as db, db:
        db.execute(f"CREATE TABLE {made_from.stem} ({columns})")
        for batch in file.iter_batches(100_000):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            db.executemany(f"INSERT INTO {made_from.stem} VALUES ({marks})", rows)
    fresh.rename(path)
