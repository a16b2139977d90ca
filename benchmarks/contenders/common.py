"""What the file of a contender uses, in the environment of the contender: no suite, no hygge.

A file is called as `by_x.py TASK.json [STEP]`. The task says what to move, the step is:

    (none)     the measured one: calls the function that is named like the job, and prints the
               seconds that it took, or those that it returns
    prepare    before it, calls `prepare(task)`, which returns the command that is measured
               instead of the file
    figures    after it, calls `figures(task, printed)` with what was printed; it returns
               figures such as `move_s`, or `failed` with the reason

`Cannot` says why a contender does not do a job; the suite reports it.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Cannot(Exception):
    """A job that the contender does not do; the message says why."""


@dataclass
class Task:
    """What to move from where to where."""

    job: str
    source: str
    """A file, or the URL of a database."""
    table: str
    """The name of the table, in source and target."""
    truth: str
    """A Parquet file of the same rows, for those who need the schema."""
    out: str
    """An empty folder for files of the target."""
    work: str
    """An empty folder for everything else."""
    target: str
    """The URL of the target's database; tables go into the schema or database `target`."""
    ready: str
    """A file that the target's own client loads as it is."""
    setting: str
    """What the variant of the contender is called by."""
    programs: str
    """The folder of the server's own programs."""
    address: str
    """A Ray that stands, if the variant wants one."""
    more: dict[str, Any]
    """What one job alone needs."""

    @property
    def file(self) -> str:
        """One file in the output folder."""
        return str(Path(self.out) / f"{self.table}.{self.job.rpartition('_')[2]}")

    def schema(self) -> Any:
        """The columns of the rows; text is `string`, whatever the file has."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pq.read_schema(self.truth).remove_metadata()
        for number, field in enumerate(schema):
            if str(field.type) in ("string_view", "large_string"):
                schema = schema.set(number, field.with_type(pa.string()))
        return schema


def run(names: dict[str, Any]) -> None:
    task = Task(**json.loads(Path(sys.argv[1]).read_text()))
    step = sys.argv[2] if len(sys.argv) > 2 else ""
    try:
        if step == "prepare":
            print(json.dumps({"command": names["prepare"](task)}))
        elif step == "figures":
            print(json.dumps(names["figures"](task, sys.stdin.read())))
        else:
            began = time.monotonic()
            took = names[task.job](task)
            print(json.dumps({"move_s": took or time.monotonic() - began}))
    except Cannot as why:
        print(json.dumps({"cannot": str(why)}))
