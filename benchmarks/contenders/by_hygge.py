# /// script
# dependencies = []
# [tool.bench]
# name = "hygge"
# here = true
# [tool.bench.variants]
# "hygge on Ray" = {setting = ""}
# "hygge inline" = {setting = "--inline"}
# "hygge attached" = {setting = "--address", ray = true}
# [tool.bench.variants."hygge one lane"]
# setting = "one lane"
# jobs = ["parquet_to_parquet", "pg_to_parquet", "parquet_to_iceberg"]
# long = ["parquet_to_parquet", "pg_to_parquet", "parquet_to_iceberg"]
# ///
"""The command `hygge flows.yml`, as somebody types it: all defaults. CSV is told the types.

On a Ray of its own, in one process without Ray, and on a Ray that stands. `one lane` is for the
bars of memory. `move` is from the plan to the end of the commit, as its own report says.
"""

import json
import sys
from pathlib import Path

from common import Cannot, Task, run


def prepare(task: Task):
    flow = globals()[task.job](task)
    command = [sys.executable, "-m", "hygge"]
    if flow is None:
        return command + four_lines_command(task)
    if task.setting == "one lane":
        flow["lanes"] = 1
    ends = {"source": task.source, "target": task.target}
    connections = {name: url for name, url in ends.items() if "://" in url}
    if task.job == "parquet_to_iceberg":
        catalog = {"uri": f"sqlite:///{task.work}/catalog.db", "warehouse": task.out}
        connections["lake"] = {"type": "iceberg", "catalog": catalog}
    flows = {
        "root": task.work,
        "shared_paths": [task.work, task.out, str(Path(task.truth).parent)],
        "connections": connections,
        "flows": {"bench": flow},
    }
    path = Path(task.work, "flows.yml")
    path.write_text(json.dumps(flows))
    return [*command, str(path), "--json", "--quiet", *options(task)]


def options(task):
    return ["--inline"] if task.setting == "--inline" else []


def figures(task: Task, printed: str):
    """Raises what makes a run count as failed: no report, or a flow that is not done."""
    if task.job == "four_lines":
        return {}
    lines = [line for line in printed.splitlines() if line.startswith('{"hygge_report"')]
    if not lines:
        return {"failed": "hygge gave no report"}
    flows = json.loads(lines[-1])["hygge_report"]["flows"]
    for flow in flows:
        if flow["status"] != "done":
            return {"failed": f"{flow['status']}: {flow['error']}"}
    began, done = (pick(flow[at] for flow in flows)
                   for pick, at in ((min, "started_at"), (max, "done_at")))  # fmt: skip
    return {"move_s": done - began, "hygge_rows": sum(flow["rows"] for flow in flows)}


def needs(kind):
    from hygge import registry

    if kind not in registry.kinds("store"):
        raise Cannot(f"hygge has no store of type {kind} yet")
    return kind


def parquet_to_parquet(task: Task):
    return {"home": task.source, "store": task.out}


def csv_to_parquet(task: Task):
    kinds = {"date32[day]": "date", "double": "float64"}
    types = {field.name: kinds.get(str(field.type), str(field.type)) for field in task.schema()}
    types = {name: kind.replace("decimal128", "decimal") for name, kind in types.items()}
    home = {"path": task.source, "options": {"types": types}}
    return {"home": home, "store": {"type": "parquet", "path": task.out}}


def jsonl_to_parquet(task: Task):
    return {"home": task.source, "store": {"type": "parquet", "path": task.out}}


def table(task, connection, schema=""):
    return {"connection": connection, "table": schema + task.table}


def pg_to_parquet(task: Task):
    store = {"type": "parquet", "path": task.out}
    return {"home": table(task, "source", "public."), "store": store}


def parquet_to_pg(task: Task):
    return {"home": task.source, "store": table(task, "target", "target.")}


def pg_to_pg(task: Task):
    return {
        "home": table(task, "source", "public."),
        "store": table(task, "target", "target."),
    }


def my_to_parquet(task: Task):
    return {"home": table(task, "source"), "store": {"type": "parquet", "path": task.out}}


def parquet_to_my(task: Task):
    return {"home": task.source, "store": table(task, "target")}


def sqlite_to_parquet(task: Task):
    return {"home": table(task, "source"), "store": {"type": "parquet", "path": task.out}}


def pg_small_tables(task: Task):
    home = {"connection": "source", "tables": [f"{task.more['schema']}.*"]}
    return {"home": home, "store": task.out + "/{table}"}


def pg_incremental(task: Task):
    home = {**table(task, "source", "public."), "cursor": task.more["cursor"]}
    return {"home": home, "store": {"type": "parquet", "path": task.out}, "mode": "append"}


def parquet_to_delta(task: Task):
    return {"home": task.source, "store": {"type": needs("delta"), "path": task.out + "/delta"}}


def parquet_to_iceberg(task: Task):
    needs("iceberg")
    return {"home": task.source, "store": f"lake#bench.{task.table}"}


def parquet_to_duckdb(task: Task):
    from hygge.connectors.databases import known

    if "duckdb" not in Path(known.__file__).read_text():
        raise Cannot("hygge has no store for DuckDB yet")
    return {"home": task.source, "store": f"duckdb:///{task.file}#{task.table}"}


def four_lines(task: Task):
    """samples/01_users_to_lake.yml."""


def four_lines_command(task: Task):
    return [task.more["sample"], "--quiet", *options(task)]


if __name__ == "__main__":
    run(globals())
