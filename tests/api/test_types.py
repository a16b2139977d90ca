"""What a type checker makes of the public names: right uses pass, wrong ones are refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

USES = Path(__file__).with_name("uses.py")
# These are not read: what hygge's names take and give does not hang on them, and they are large.
CONFIGURATION = """
[mypy]
strict = true
[mypy-ray.*,grpc.*,pyarrow.*,pandas.*,pymysql.*,pyiceberg.*,requests.*,sqlglot.*,obstore.*,rich.*,duckdb.*,deltalake.*]
ignore_missing_imports = true
follow_imports = skip
"""


def test_mypy_accepts_right_uses_and_refuses_wrong_ones(tmp_path):
    # A copy elsewhere, so that hygge is the installed package and not a part of what is checked.
    shutil.copy(USES, tmp_path / "uses.py")
    (tmp_path / "mypy.ini").write_text(CONFIGURATION)
    command = [sys.executable, "-m", "mypy", "--hide-error-context"]
    command += ["--no-color-output", "--no-error-summary", "--no-pretty", "--cache-dir=cache"]
    done = subprocess.run([*command, "uses.py"], cwd=tmp_path, capture_output=True, text=True)
    wanted = {
        number: line.partition("# error: ")[2]
        for number, line in enumerate(USES.read_text().splitlines(), 1)
        if "# error: " in line
    }
    found: dict[int, str] = {}
    for number, text in re.findall(r"^uses\.py:(\d+): error: (.*)$", done.stdout, re.MULTILINE):
        found[int(number)] = f"{found.get(int(number), '')}{text}\n"
    assert (done.returncode, done.stderr) == (1, "")
    assert {n: found[n] for n in found.keys() - wanted.keys()} == {}, "right uses that are refused"
    assert {n: wanted[n] for n in wanted.keys() - found.keys()} == {}, (
        "wrong uses that are accepted"
    )
    for number, words in wanted.items():
        assert words in found[number], f"line {number}"
