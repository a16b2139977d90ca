# /// script
# dependencies = []
# [tool.bench]
# name = "limit"
# here = true
# ///
"""What cannot be beaten: `cp` of a file, and the database's client with bytes that are ready.

What it reads from a database goes nowhere (the time of the wire alone): nothing is compared.
"""

import shlex

from common import Task, run


def prepare(task: Task):
    return ["/bin/bash", "-o", "pipefail", "-c", globals()[task.job](task)]


def psql(task, url, sql):
    words = [f"{task.programs}/psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]
    return shlex.join(words)


def parquet_to_parquet(task: Task):
    return shlex.join(["cp", task.source, task.file])


def pg_to_parquet(task: Task):
    sql = f"COPY (SELECT * FROM {task.table}) TO STDOUT (FORMAT csv)"
    return f"{psql(task, task.source, sql)} > /dev/null"


def parquet_to_pg(task: Task):
    """The table is there, empty."""
    sql = f"COPY target.{task.table} FROM STDIN (FORMAT binary)"
    return f"{psql(task, task.target, sql)} < {shlex.quote(task.ready)}"


def pg_to_pg(task: Task):
    out = psql(task, task.source, f"COPY {task.table} TO STDOUT (FORMAT binary)")
    into = psql(task, task.target, f"COPY target.{task.table} FROM STDIN (FORMAT binary)")
    return f"{out} | {into}"


def mariadb(task, sql):
    return shlex.join([*task.more["client"], sql])


def my_to_parquet(task: Task):
    return f"{mariadb(task, f'SELECT * FROM source.{task.table}')} > /dev/null"


def parquet_to_my(task: Task):
    """LOCAL, since everybody's rows come over the connection; the table is there, empty."""
    ends = r"FIELDS TERMINATED BY '\t' LINES TERMINATED BY '\n'"
    sql = f"LOAD DATA LOCAL INFILE '{task.ready}' INTO TABLE target.{task.table} {ends}"
    return mariadb(task, sql)


if __name__ == "__main__":
    run(globals())
