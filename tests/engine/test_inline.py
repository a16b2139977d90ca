"""The inline engine passes the conformance suite of engines, and loads only what it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from hygge.engine.inline import InlineEngine
from hygge.testing import EngineContract

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


class TestInlineEngine(EngineContract):
    def engine(self):
        return InlineEngine()


def test_the_first_sample_loads_neither_ray_nor_pandas_nor_what_databases_need(tmp_path):
    for each in ("01_users_to_lake.yml", "data/users.parquet"):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        shutil.copy(SAMPLES / each, tmp_path / each)
    heavy = ("asyncio", "pandas", "pyarrow.compute", "pyarrow.dataset", "ray", "sqlalchemy",
             "hygge.connectors.databases.home", "hygge.connectors.postgres.home")  # fmt: skip
    code = (
        "import gc, sys; from hygge.cli.main import main; "
        "assert main(['01_users_to_lake.yml', '--inline']) == 0; assert gc.isenabled(); "
        f"sys.exit(repr({{*{heavy!r}}} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr.rstrip().endswith("''"), done.stderr
    assert pq.read_table(tmp_path / "out/lake/users").num_rows == 5000
