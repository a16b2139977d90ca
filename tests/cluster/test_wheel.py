"""The wheel that `make dist` builds, installed apart from this folder, moves rows.

Where the dependencies come from is left as it is: they are not downloaded a second time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hygge
from tests import ROOT
from tests.waiting import LIMIT_S

FLOWS = "flows:\n  users: {home: users.csv, store: out}\n"


def run(*words: str | Path, cwd: Path, **environ: str) -> str:
    outside = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        words, cwd=cwd, env=outside | environ, text=True, capture_output=True, timeout=LIMIT_S
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "hygge", folder / "hygge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "samples", folder / "samples")  # beside it, and not part of it
    # What `make dist` runs, with this Python instead of that of .venv.
    (command,) = [
        line.strip() for line in (ROOT / "Makefile").read_text().splitlines() if "pip wheel" in line
    ]
    run("sh", "-c", command.replace("$(BIN)/python", sys.executable), cwd=folder)
    (built,) = (folder / "dist").iterdir()
    return built


def test_the_wheel_has_the_package_its_types_and_its_licence_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"hygge_data-{hygge.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    facts = f"hygge_data-{hygge.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"hygge", facts}
    package = (ROOT / "hygge").rglob("*.py")
    ours = {str(path.relative_to(ROOT)) for path in package} | {"hygge/py.typed"}
    assert {name for name in names if name.startswith("hygge/")} == ours
    assert f"{facts}/licenses/LICENSE" in names


def test_an_installed_wheel_moves_rows(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run(*install, "--target", site, wheel, cwd=tmp_path)
    (tmp_path / "users.csv").write_text("id\n1\n2\n3\n")
    (tmp_path / "flows.yml").write_text(FLOWS)
    of_site = {"PYTHONPATH": str(site)}
    where = run(
        sys.executable, "-c", "import hygge; print(hygge.__file__)", cwd=tmp_path, **of_site
    )
    assert Path(where.strip()).is_relative_to(site)
    script = site / "bin" / "hygge"
    assert run(script, "--version", cwd=tmp_path, **of_site) == f"hygge {hygge.__version__}\n"
    assert "3 rows read = staged = applied" in run(
        script, "flows.yml", "--inline", cwd=tmp_path, **of_site
    )
