"""Runs of one program side by side, forked from one process: what it imports, it imports once.

python -m tests.crash.side_by_side PROGRAM < a JSON list of the words of each run
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.waiting import LIMIT_S


def run_each(program: str, runs: Sequence[Sequence[object]]) -> list[str]:
    """Return what `python -m program` printed with the words of each run; all must end with 0."""
    command = [sys.executable, "-m", "tests.crash.side_by_side", program]
    asked = json.dumps([list(map(str, words)) for words in runs])
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout)
    return said


def _begin(program: str, words: list[str], out: Path) -> int:
    """Fork a process that runs the program and prints into a file; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(os.open(out, os.O_CREAT | os.O_WRONLY), 1)
        sys.argv = [program, *words]
        del sys.modules[program]  # which runpy would warn of
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        sys.stdout.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main(program: str) -> int:
    importlib.import_module(program)
    runs = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder, str(at)) for at in range(len(runs))]
        children = [_begin(program, *each) for each in zip(runs, outs, strict=True)]
        failed = [status for child in children if (status := os.waitpid(child, 0)[1])]
        json.dump([out.read_text() for out in outs], sys.stdout)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
