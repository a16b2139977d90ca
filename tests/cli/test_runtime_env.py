"""Nodes without hygge: `ray job submit` with `py_modules`, and `hygge submit --runtime-env`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hygge.engine.jobs.runtime_env import read_runtime_env
from hygge.errors import UsageError
from tests import ROOT
from tests.chaos import only_in_chaos
from tests.servers.standing import OUTSIDE, Standing
from tests.waiting import LIMIT_S

pytestmark = only_in_chaos

NOBODY = {name: text for name, text in OUTSIDE.items() if name != "PYTHONPATH"}
FLOWS = """
state: {disk}/state
defaults: {{lanes: 1, memory_per_lane: 32 MiB, batch_bytes: 4 MiB}}
flows:
  users: {{home: users.csv, store: "{disk}/out"}}
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """A Ray whose Python has all that hygge needs, and not hygge."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "others.pth").write_text("\n".join(others))
    python = folder / "bin" / "python"
    ray = folder / "bin" / "ray"
    ray.write_text(
        f"#!{python}\nimport sys\nfrom ray.scripts.scripts import main\nsys.exit(main())\n"
    )
    ray.chmod(0o755)
    ran = subprocess.run(
        [python, "-c", "import ray, hygge"], cwd=folder, env=NOBODY, text=True, capture_output=True
    )
    assert "No module named 'hygge'" in ran.stderr
    # An empty PYTHONPATH: that of the tests would lead to hygge.
    size = ["--loopback", "--cpus", "3", "--store-mib", "160", "--for", "3600"]
    standing = Standing("1", *size, environment={"PYTHONPATH": ""}, python=python)
    yield standing
    standing.end()


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    (tmp_path / "laptop").mkdir()
    (tmp_path / "laptop" / "users.csv").write_text("id\n1\n2\n3\n")
    (tmp_path / "laptop" / "flows.yml").write_text(FLOWS.format(disk=tmp_path))
    return tmp_path / "laptop"


@only_in_chaos
def test_ray_job_submit_brings_hygge_to_nodes_without_it(bare: Standing, laptop: Path) -> None:
    ran = subprocess.run(
        [Path(sys.executable).with_name("ray"), "job", "submit", "--working-dir", ".",
         "--runtime-env-json", f'{{"py_modules": ["{ROOT / "hygge"}"]}}',
         "--", "python", "-m", "hygge", "flows.yml"],
        cwd=laptop, env=bare.environ, text=True, capture_output=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 rows read = staged = applied" in ran.stdout
    assert pq.read_table(laptop.parent / "out").num_rows == 3


def test_hygge_submit_brings_itself_and_what_its_file_names(bare: Standing, laptop: Path) -> None:
    (laptop / "env.yml").write_text(
        f"py_modules: ['{ROOT / 'hygge'}', ../shop]\nenv_vars: {{PLACE: {laptop.parent}/out}}\n"
    )
    (laptop.parent / "shop").mkdir()
    (laptop.parent / "shop" / "__init__.py").write_text("from hygge import CsvHome as Shop\n")
    text = (laptop / "flows.yml").read_text().replace(f'"{laptop.parent}/out"', '"${PLACE:-}"')
    text = text.replace("home: users.csv", "home: {type: 'shop:Shop', path: users.csv}")
    (laptop / "flows.yml").write_text(text)
    outside = bare.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "hygge", "submit", "flows.yml", "--runtime-env", "env.yml"],
        cwd=laptop, env=outside, text=True, capture_output=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 rows read = staged = applied" in ran.stdout
    assert pq.read_table(laptop.parent / "out").num_rows == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read as a runtime_env: "),
        ("pip: [", "cannot be read as a runtime_env: "),
        ("[pip]", "holds no mapping"),
        ("working_dir: .", "'working_dir' is not yours to set"),
        ("env_vars: [A]", "env_vars is no mapping"),
        ("env_vars: {SHOP_PASSWORD: hunter2}", "SHOP_PASSWORD would be shown"),
        ("py_modules: [../none]", "py_modules: there is no "),
    ],
)
def test_a_file_that_cannot_be_submitted_is_refused(text, said, tmp_path: Path) -> None:
    file = tmp_path / "env.yml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=said) as raised:
        read_runtime_env(str(file))
    assert "hunter2" not in str(raised.value)


def test_paths_start_at_the_file_and_urls_and_all_else_stay(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    file = tmp_path / "env.yml"
    file.write_text("py_modules: [more, s3://bucket/hygge.zip]\npip: [polars]\n")
    assert read_runtime_env(str(file)) == {
        "py_modules": [str(tmp_path / "more"), "s3://bucket/hygge.zip"],
        "pip": ["polars"],
    }
