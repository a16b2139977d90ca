"""`hygge` as a process of its own, forked from one that has imported what most commands import.

To import it takes a second of CPU, and a test runs several commands. For commands without Ray whose
own start is not what is tested.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.waiting import LIMIT_S

PLAIN = "import sys\nfrom hygge.cli.main import main\nsys.exit(main())"


def hygge(
    *words: str, cwd: Path, env: Mapping[str, str], code: str = PLAIN
) -> subprocess.CompletedProcess[str]:
    """Run `python -c code words` in a folder with these variables alone, and wait for its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        asked = {"words": words, "cwd": str(cwd), "env": dict(env), "code": code}
        process = _forking()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps({**asked, "out": str(out), "err": str(err)}) + "\n")
        process.stdin.flush()
        assert select.select([process.stdout], [], [], LIMIT_S)[0], f"it does not end: {words}"
        ended = int(process.stdout.readline())
        return subprocess.CompletedProcess(words, ended, out.read_text(), err.read_text())


@functools.cache
def _forking() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe
        pipe.close()
    process.wait()


def _run(asked: dict[str, Any]) -> None:
    """Become the command, and end with it."""
    code: object = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in ((1, asked["out"]), (2, asked["err"])):
            os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["env"])
        sys.argv, sys.path[0] = ["-c", *asked["words"]], ""
        exec(compile(asked["code"], "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def main() -> None:
    import pandas  # noqa: F401
    import pyarrow.dataset
    import pyarrow.parquet  # noqa: F401
    import sqlalchemy  # noqa: F401

    import hygge.cli.main
    import hygge.coordinator.coordinator
    import hygge.engine.inline  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
