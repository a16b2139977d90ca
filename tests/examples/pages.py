"""Follow a page of the documents as a reader does: its blocks, from the top, in one folder.

    ```yaml title="flows.yml"     a file is written; so for csv, jsonl, python
    ```sql title="shop.db"        statements are run in that SQLite file
    ```console                    each `$ command` is run; what stands below it is what it prints
    ```python                     is run as a script

Times, sizes and the ids of runs differ from run to run: `comparable` leaves them out. A line `…` in
an output stands for any lines. `hygge` runs in this process, without Ray; its progress is left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from hygge.cli.main import main

_BLOCK = re.compile(
    r"^( *)```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^ *```$", re.DOTALL | re.MULTILINE
)
_VARIES = [
    (r"\d[\d.,]* ?(?:s|ms|min|B|kB|MB|GB|KiB|MiB)\b(?:/s)?", "N"),
    (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?(?:\.\d+)?Z?", "TIME"),
    (r"\b\d{8}T\d{6}-\w+\b", "RUN"),
    (r"[ \t]+", " "),
]
_STARTS_RAY = ("run",)


def follow(page: Path, folder: Path) -> int:
    """Follow `page` in `folder`; return how many commands were run. Raises AssertionError."""
    commands = 0
    for match in _BLOCK.finditer(page.read_text()):
        indent, kind, title, text = match.groups()
        text = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        if kind == "console":
            commands += _type_in(text, folder)
        elif kind == "sql" and title:
            with closing(sqlite3.connect(folder / title)) as database, database:
                database.executescript(text)
        elif title:
            (folder / title).parent.mkdir(parents=True, exist_ok=True)
            (folder / title).write_text(text)
        elif kind == "python":
            _run([sys.executable, "-c", text], folder)
    return commands


def _type_in(text: str, folder: Path) -> int:
    parts = re.split(r"^\$ (.*)\n?", text, flags=re.MULTILINE)[1:]
    for command, expected in zip(parts[::2], parts[1::2], strict=True):
        said = _hygge(command, folder) if command.startswith("hygge ") else _shell(command, folder)
        said = said.replace(f"{folder}/", "")
        assert is_like(expected, said), f"$ {command}\n{said}\n-- the page has\n{expected}"
    return len(parts) // 2


def _hygge(command: str, folder: Path) -> str:
    words = shlex.split(command, comments=True)[1:]
    if words[0] in _STARTS_RAY or words[0].endswith(".yml"):
        words.append("--inline")
    said, beside = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(beside),
    ):
        main(words)
    return said.getvalue() or beside.getvalue()


def _shell(command: str, folder: Path) -> str:
    return _run(["bash", "-euc", command], folder)


def _run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def comparable(text: str) -> list[str]:
    """Return the lines of an output without what differs from run to run."""
    for pattern, word in _VARIES:
        text = re.sub(pattern, word, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def is_like(expected: str, said: str) -> bool:
    """Whether what a command said is what the page shows, where `…` stands for any lines."""
    parts = [re.escape("\n".join(part)) for part in _parts(comparable(expected))]
    return re.fullmatch("(?s:.*)".join(parts), "\n".join(comparable(said))) is not None


def _parts(lines: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for line in lines:
        if line == "…":
            parts.append([])
        else:
            parts[-1].append(line)
    return parts
