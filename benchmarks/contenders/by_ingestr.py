# /// script
# dependencies = ["ingestr==0.15.9"]
# [tool.bench]
# name = "ingestr 0.15.9"
# once = true
# ///
"""ingestr: one `ingestr ingest`, all defaults. From 1.0 on it downloads its program."""

import sys
from pathlib import Path

from common import Task, run


def prepare(task: Task):
    end = globals()[task.job](task)
    program = Path(sys.prefix, "bin", "ingestr")
    told = ["DISABLE_TELEMETRY=true", "RUNTIME__DLTHUB_TELEMETRY=false", f"HOME={task.work}"]
    return ["/usr/bin/env", *told, str(program), "ingest", "--yes", *end]


def pg_to_pg(task: Task):
    return [
        "--source-uri", task.source, "--source-table", f"public.{task.table}",
        "--dest-uri", task.target, "--dest-table", f"target.{task.table}",
    ]  # fmt: skip


if __name__ == "__main__":
    run(globals())
