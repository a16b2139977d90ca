"""The inline engine passes the conformance suite of engines, and loads only what it needs."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from hygge.engine.inline import InlineEngine
from hygge.testing import EngineContract


class TestInlineEngine(EngineContract):
    def engine(self):
        return InlineEngine()


def test_a_move_of_parquet_loads_neither_ray_nor_pandas(tmp_path):
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "users.parquet")
    (tmp_path / "flows.yml").write_text("flows: {a: {home: users.parquet, store: out}}")
    code = (
        "import sys; from hygge.cli.main import main; assert main(['flows.yml', '--inline']) == 0;"
        "sys.exit(repr({'ray', 'pandas', 'sqlalchemy'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr.rstrip().endswith("''"), done.stderr
    assert pq.read_table(tmp_path / "out").num_rows == 2
