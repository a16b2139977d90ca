"""A Python environment for each contender's file, in benchmarks/.venvs/, made once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from .contenders import Contender


class NotInstalled(Exception):
    """The packages of a contender cannot be installed; the message has pip's last words."""


FOLDER = Path(__file__).parent.parent / ".venvs"
INSTALL_S = 1200
_failed: dict[Path, NotInstalled] = {}


def environment(contender: Contender) -> Path:
    """The Python of the contender, made if it is not there or its packages have changed.

    Raises NotInstalled.
    """
    if contender.here:
        return Path(sys.executable)
    if contender.file in _failed:
        raise _failed[contender.file]
    folder = FOLDER / contender.file.stem.removeprefix("by_")
    python, installed = folder / "bin" / "python", folder / "installed.json"
    wanted = json.dumps([sys.version, *contender.packages])
    if installed.exists():
        if installed.read_text() == wanted:
            return python
        shutil.rmtree(folder)
    print(f"  an environment for {contender.file.stem}: {' '.join(contender.packages)}",
          file=sys.stderr, flush=True)  # fmt: skip
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *contender.packages])
    except NotInstalled as error:
        shutil.rmtree(folder, ignore_errors=True)
        _failed[contender.file] = error  # not tried again in this run
        raise
    installed.write_text(wanted)
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"pip was not done after {INSTALL_S} s") from error
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise NotInstalled(next((line for line in lines if "ERROR" in line), lines[-1])[:300])
