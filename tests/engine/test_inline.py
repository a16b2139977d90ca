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


def test_samples_load_neither_ray_nor_pandas_nor_what_databases_need(tmp_path):
    """Not either where rows are set aside: pandas alone would cost more than a hundred of them."""
    for each in ("01_users_to_lake.yml", "data/users.parquet"):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        shutil.copy(SAMPLES / each, tmp_path / each)
    heavy = ("asyncio", "pandas", "pyarrow.compute", "pyarrow.dataset", "ray", "sqlalchemy",
             "hygge.connectors.databases.home", "hygge.connectors.postgres.home")  # fmt: skip
    code = (
        "import gc, sys; from hygge.cli.main import main; "
        "assert main(['01_users_to_lake.yml', '--inline']) == 0; assert gc.isenabled(); "
        f"print({{*{heavy!r}}} & set(sys.modules) or '', file=sys.stderr); "
        "assert main(['bad.yml', '--inline']) == 0; "
        "sys.exit(repr({'pandas', 'pyarrow.dataset'} & set(sys.modules) or ''))"
    )
    flows = []
    for kind, content in {
        "csv": ["id,n", "1,2", "2", "x,3", *["3,4"] * 3_000],
        "jsonl": ['{"id": "x"}', *['{"id": 3}'] * 3_001, '{"id"'],
    }.items():
        (tmp_path / f"in.{kind}").write_text("\n".join(content))
        home = f"{{path: in.{kind}, options: {{types: {{id: int64}}}}}}"
        flows.append(f"  {kind}: {{home: {home}, store: out/{kind}, on_bad_row: set_aside}}\n")
    (tmp_path / "bad.yml").write_text(f"flows:\n{''.join(flows)}")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr.rstrip().endswith("''"), done.stderr
    assert "{'" not in done.stderr
    assert [pq.read_table(tmp_path / "out" / kind).num_rows for kind in ("csv", "jsonl")] == [
        3_001, 3_001
    ]  # fmt: skip
    assert pq.read_table(tmp_path / "out/lake/users").num_rows == 5000
