# /// script
# dependencies = [
#     "duckdb==1.5.5", "duckdb-extensions==1.5.5", "duckdb-extension-postgres-scanner==1.5.5",
#     "duckdb-extension-mysql-scanner==1.5.5", "duckdb-extension-sqlite-scanner==1.5.5",
# ]
# [tool.bench]
# name = "DuckDB 1.5 extension"
# long = ["parquet_to_my"]
# ///
"""DuckDB with its extensions for databases, whose newest on PyPI are of 1.5.5; all defaults."""

from urllib.parse import urlsplit

import duckdb
from common import Task, run
from duckdb_extensions import import_extension


def connect(extension):
    import_extension(extension)
    db = duckdb.connect()
    db.execute(f"LOAD {extension}; SET preserve_insertion_order = false")
    return db


def with_mysql(task, url, name):
    db, url = connect("mysql_scanner"), urlsplit(url)
    words = f"host={url.hostname} port={url.port} user={url.username} password={url.password}"
    db.execute(f"ATTACH '{words} database={url.path[1:]}' AS {name} (TYPE mysql)")
    return db


def with_postgres(url):
    db = connect("postgres_scanner")
    db.execute(f"ATTACH '{url}' AS pg (TYPE postgres)")
    return db


def pg_to_parquet(task: Task):
    db = with_postgres(task.source)
    db.execute(f"COPY (FROM pg.public.{task.table}) TO '{task.file}' (FORMAT parquet)")


def parquet_to_pg(task: Task):
    db = with_postgres(task.target)
    db.execute(f"CREATE TABLE pg.target.{task.table} AS FROM read_parquet('{task.source}')")


def pg_to_pg(task: Task):
    db = with_postgres(task.source)
    db.execute(f"CREATE TABLE pg.target.{task.table} AS FROM pg.public.{task.table}")


def my_to_parquet(task: Task):
    db = with_mysql(task, task.source, "my")
    db.execute(f"COPY (FROM my.{task.table}) TO '{task.file}' (FORMAT parquet)")


def parquet_to_my(task: Task):
    db = with_mysql(task, task.target, "my")
    db.execute(f"CREATE TABLE my.{task.table} AS FROM read_parquet('{task.source}')")


def sqlite_to_parquet(task: Task):
    db = connect("sqlite_scanner")
    path = task.source.removeprefix("sqlite:///")
    db.execute(f"COPY (FROM sqlite_scan('{path}', '{task.table}')) TO '{task.file}'")


if __name__ == "__main__":
    run(globals())
