# /// script
# dependencies = ["sling-linux-amd64==1.4.11"]
# [tool.bench]
# name = "Sling 1.4.11"
# once = true
# ///
"""Sling: one `sling run`, all defaults. From 1.5 on it downloads its program."""

import sys
from pathlib import Path

from common import Task, run


def prepare(task: Task):
    end = globals()[task.job](task)
    program = next(Path(sys.prefix).rglob("sling_linux_amd64/bin/sling-linux-amd64"))
    program.chmod(0o755)
    told = [f"HOME={task.work}", f"SLING_HOME_DIR={task.work}", "SLING_ANALYTICS=false"]
    return ["/usr/bin/env", *told, str(program), "run", *end]


def url(text):
    return text + ("&" if "?" in text else "?") + "sslmode=disable"


def pg_to_parquet(task: Task):
    source = ["--src-conn", url(task.source), "--src-stream", f"public.{task.table}"]
    return [*source, "--tgt-object", f"file://{task.file}"]


def parquet_to_pg(task: Task):
    target = ["--tgt-conn", url(task.target), "--tgt-object", f"target.{task.table}"]
    return ["--src-stream", f"file://{task.source}", *target]


def pg_to_pg(task: Task):
    source = ["--src-conn", url(task.source), "--src-stream", f"public.{task.table}"]
    return [*source, "--tgt-conn", url(task.target), "--tgt-object", f"target.{task.table}"]


if __name__ == "__main__":
    run(globals())
