"""Completion in real shells: they are given a line, and asked what Tab would offer."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hygge.cli.completing import _with_command
from hygge.cli.main import main
from tests.missing import skipped_without
from tests.waiting import LIMIT_S

LINES = {
    "hygge pla": "plan",
    "hygge flo": "flows.yml",
    "hygge plan flo": "flows.yml",
    "hygge flows.yml --sel": "--select",
    "hygge run flows.yml --select or": "orders",
    "hygge flows.yml --select users,or": "users,orders",
    "hygge preview flows.yml --exclude us": "users",
    "hygge discover sh": "shop",
    "hygge connectors par": "parquet",
    "hygge completion fi": "fish",
    "hygge move data/in": "data/in.csv",
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with `hygge` on its PATH, and a folder with flows.yml."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/in.csv").write_text("a\n1\n")
    (tmp_path / "flows.yml").write_text(
        "connections: {shop: sqlite:///x.db}\nflows: {orders: {}, users: {}, broken: 1}\n"
    )
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    program = scripts / "hygge"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m hygge \"$@\"\n")
    program.chmod(0o755)
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(tmp_path), "TERM": "dumb"}


def shell(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        skipped_without(name, f"apt-get install {name}")
    return program


def asked(command: list[str], environ: dict[str, str], tmp_path: Path) -> dict[str, list[str]]:
    """Return what a shell offers for each line; its script prints `line>word word`."""
    ran = subprocess.run(
        command, env=environ, cwd=tmp_path, text=True, capture_output=True, timeout=LIMIT_S
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line.partition(">") for line in ran.stdout.splitlines() if ">" in line]
    return {line: words.split() for line, _, words in lines}


def test_bash(environ, tmp_path):
    script = "source <(hygge completion bash)\n"
    for line in LINES:
        script += (
            f"COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMPREPLY=()\n"
            f'_python_argcomplete hygge; echo "$COMP_LINE>${{COMPREPLY[*]}}"\n'
        )
    offered = asked([shell("bash"), "--norc", "-c", script], environ, tmp_path)
    assert {line: words for line, words in offered.items() if LINES[line] not in words} == {}
    assert offered["hygge pla"] == ["plan"]
    assert offered["hygge run flows.yml --select or"] == ["orders"]


def test_fish(environ, tmp_path):
    script = "hygge completion fish | source\n"
    for line in LINES:
        script += f"echo '{line}>'(complete -C '{line}' | string split -f1 \\t)\n"
    offered = asked([shell("fish"), "--no-config", "-c", script], environ, tmp_path)
    wrong = {line for line in LINES if LINES[line] not in str(offered.get(line))}
    assert not wrong, offered


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_tab_is_pressed(name, environ, tmp_path):
    """What a person sees: the word is completed on the terminal."""
    first = {
        "bash": ["--norc", "--noprofile", "-i"],
        "zsh": ["-f", "-i"],
    }[name]
    begin = {
        "bash": "source <(hygge completion bash)",
        "zsh": 'autoload -U compinit; compinit -D -u; eval "$(hygge completion zsh)"',
    }[name]
    program = shell(name)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(program, [program, *first], environ)
    try:
        seen(terminal, f"{begin}; echo rea''dy\n", "ready")
        seen(terminal, "hygge conn\t", "connectors")
        seen(terminal, "pos\t", "postgresql")
        seen(terminal, "\x15hygge flows.yml --select ord\t", "orders")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def seen(terminal: int, keys: str, wanted: str) -> None:
    """Type some keys, and wait until the shell has written what is wanted."""
    os.write(terminal, keys.encode())
    shown, end = "", time.monotonic() + LIMIT_S
    while wanted not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")


def test_a_line_without_a_command_is_one_of_run():
    assert _with_command("hygge flows.yml --s", 19)["COMP_LINE"] == "hygge run flows.yml --s"
    assert _with_command("hygge flo", 9) == {}
    assert _with_command("hygge plan flows.yml --s", 24) == {}
    assert _with_command("hygge ", 6) == {}
    assert _with_command("hygge --ver", 11) == {}


def test_a_shell_that_is_not_known(capsys):
    assert main(["completion", "powershell"]) == 2
    assert "bash" in capsys.readouterr().err
