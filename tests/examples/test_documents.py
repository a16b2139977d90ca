"""What the documents name exists, and the steps of docs/architecture.md happen in that order."""

from __future__ import annotations

import ast
import re
import shutil
import sys
import threading
import tomllib
from functools import cache
from pathlib import Path
from types import FrameType

import pytest

import hygge
from hygge import registry
from hygge.coordinator.coordinator import Coordinator
from tests import ROOT

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "cluster", "k8s")),
]
TOP = "hygge|tests|samples|examples|docs|cluster|k8s|benchmarks"
MADE_BY_COMMANDS = {
    "benchmarks/.venvs", "benchmarks/data", "benchmarks/results",
    "samples/out", "samples/out/lake/users",
}  # fmt: skip
NO_MODULES = {"hygge.homes", "hygge.stores", "hygge.homes.parquet.ParquetHome"}
"""Groups of entry points, and a name that version 0.1.0 wrote into journals."""


def code(document: Path) -> set[str]:
    """The text between single backticks, without the blocks of code."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", prose))


@cache
def names_in(module: Path) -> frozenset[str]:
    """Functions, classes, their methods and attributes, as `Class.method`."""
    return frozenset(_named(ast.parse(module.read_text()).body))


def _named(body: list[ast.stmt], prefix: str = "") -> set[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(prefix + node.name)
            if prefix:  # attributes that a method sets
                names |= {prefix + found for found in re.findall(r"self\.(\w+)", ast.unparse(node))}
        elif isinstance(node, ast.ClassDef):
            names.add(prefix + node.name)
            names |= _named(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            names |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return names


def modules() -> list[Path]:
    return sorted((ROOT / "hygge").rglob("*.py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_and_links_of_a_document_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)}
    local = {link for link in links if link and "://" not in link}
    assert [link for link in sorted(local) if not (document.parent / link).exists()] == []
    paths = re.findall(rf"(?<![\w/.:-])((?:{TOP})/[\w./*-]*\w)", text)
    there = {path for path in paths if any(ROOT.glob(path))}
    assert sorted(set(paths) - there - MADE_BY_COMMANDS) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_classes_of_a_document_exist(document: Path) -> None:
    spans = code(document)
    at = [span.split("::") for span in sorted(spans) if re.match(rf"({TOP})/.*::", span)]
    assert [f"{file}::{name}" for file, name in at if name not in names_in(ROOT / file)] == []
    dotted = {span for span in spans if re.fullmatch(r"hygge(\.\w+)+", span)} - NO_MODULES
    assert [name for name in sorted(dotted) if not _is_dotted(name)] == []
    everywhere = set().union(*(names_in(module) for module in modules()))
    methods = {span.partition("(")[0] for span in spans if re.match(r"[A-Z]\w+\.\w+(\(|$)", span)}
    ours = {name for name in methods if name.partition(".")[0] in everywhere}
    assert [name for name in sorted(ours) if name not in everywhere] == []


def _is_dotted(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        rest = ".".join(parts[count:])
        module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if module.exists():
            return not rest or rest in names_in(module) or rest in hygge.__all__
    return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_without_their_folder_exist(document: Path) -> None:
    files = {span for span in code(document) if re.fullmatch(r"[\w/]+\.(py|yml|md)", span)}
    yours = {"flows.yml", "my_module.py"}
    known = _our_files()
    lost = [file for file in files - yours if not any(path.endswith(f"/{file}") for path in known)]
    assert sorted(lost) == []


@cache
def _our_files() -> list[str]:
    """Return the path of each file of the project, `/hygge/flow.py`; no folder like `.venv`."""
    tops = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    below = [path for top in tops for path in (top.rglob("*.*") if top.is_dir() else [top])]
    ours = [path.relative_to(ROOT) for path in below]
    return [f"/{path}" for path in ours if not any(part.startswith(".") for part in path.parts)]


def test_the_steps_of_the_architecture_happen_in_this_order(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    steps = page.partition("## One flow")[2].partition("## The floors")[0]
    named = list(dict.fromkeys(re.findall(r"`(hygge/[\w/]+\.py::[\w.]+)`", steps)))
    shutil.copytree(ROOT / "samples" / "data", tmp_path / "data")
    shutil.copy(ROOT / "samples" / "09_nightly.yml", tmp_path)
    first_calls: dict[str, int] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(ROOT / "hygge"):
            name = f"{file.relative_to(ROOT)}::{frame.f_code.co_qualname}"
            first_calls.setdefault(name, len(first_calls))

    registry.find.cache_clear()  # an earlier test of this process may have asked
    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        summary = Coordinator(tmp_path / "09_nightly.yml", engine="inline").run()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    assert summary.ok
    called = [name for name in named if name in first_calls]
    assert called == sorted(called, key=lambda name: first_calls[name])
    elsewhere = ("hygge/cli/", "hygge/engine/", "hygge/report/", "hygge/connectors/postgres/")
    never = [name for name in named if name not in called and not name.startswith(elsewhere)]
    assert never == []


def test_the_floors_of_the_architecture_are_those_of_import_linter() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text().partition("## The floors")[2]
    rows = re.findall(r"^\| (`hygge/[^|]+) \|", page.partition("\n## ")[0], re.MULTILINE)
    shown = [set(re.findall(r"hygge/(\w+)", row)) for row in rows]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    floors = next(each for each in contracts["contracts"] if each["containers"] == ["hygge"])
    # A layer in brackets need not exist.
    layers = [set(re.findall(r"\w+", re.sub(r"\(\w+\)", "", layer))) for layer in floors["layers"]]
    assert shown == [layer for layer in layers if layer]
