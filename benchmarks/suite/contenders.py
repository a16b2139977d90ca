"""The contenders: a file each in benchmarks/contenders/, with its settings and pinned packages.

A file begins with the block of PEP 723, from which its environment is made:

    # /// script
    # dependencies = ["polars==2.1.0"]
    # [tool.bench]
    # name = "polars"
    # ///

`here = true` under `tool.bench` takes this checkout's own environment. `variants` has names, each
with `setting` (given to the file), optionally `jobs` (a part of them) and `ray = true` (a Ray has
to stand); `once = true` says that the contender is too slow to be repeated, and `long` names the
jobs in which it is too slow for a quick run. The jobs of a contender
are the functions of its file that are named like a job; they are found without importing the file.
"""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "contenders"
BLOCK = re.compile(r"^# /// script\n((?:#.*\n)+?)# ///$", re.MULTILINE)


@dataclass(frozen=True)
class Contender:
    """One mover, as one line of the report."""

    name: str
    file: Path
    packages: tuple[str, ...]
    """Pinned; empty with `here`."""
    functions: frozenset[str]
    here: bool = False
    setting: str = ""
    only: frozenset[str] | None = None
    ray: bool = False
    once: bool = False
    long: frozenset[str] = frozenset()

    def does(self, job: str) -> bool:
        return job in self.functions and (self.only is None or job in self.only)


def read(file: Path) -> list[Contender]:
    """The contenders of a file: one, or one for each variant."""
    source = file.read_text()
    found = BLOCK.search(source)
    if found is None:
        raise ValueError(f"{file}: there is no block `# /// script`")
    lines = (line.removeprefix("#").removeprefix(" ") for line in found[1].splitlines())
    block = tomllib.loads("\n".join(lines))
    bench: dict[str, Any] = block["tool"]["bench"]
    functions = frozenset(
        node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
    )
    packages = tuple(block.get("dependencies", ()))
    if unpinned := [each for each in packages if "==" not in each]:
        raise ValueError(f"{file}: {unpinned} has no version: write ==")
    variants = bench.get("variants") or {bench["name"]: {}}
    return [
        Contender(
            name, file, packages, functions, bench.get("here", False),
            variant.get("setting", ""),
            frozenset(variant["jobs"]) if "jobs" in variant else None,
            variant.get("ray", False), variant.get("once", bench.get("once", False)),
            frozenset(variant.get("long", bench.get("long", ()))),
        )
        for name, variant in variants.items()
    ]  # fmt: skip


def all_contenders(folder: Path = FOLDER) -> list[Contender]:
    return [each for file in sorted(folder.glob("by_*.py")) for each in read(file)]
