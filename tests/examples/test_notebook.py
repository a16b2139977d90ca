"""A real notebook kernel: a class from a cell, `await flow.start()` in the kernel's own loop."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from tests.waiting import LIMIT_S

CELLS = [
    "import pandas as pd\nfrom hygge import Flow, Home, ParquetStore",
    "STEP = 7\n"
    "class Sevens(Home):\n"
    "    async def read_batches(self):\n"
    "        for n in range(3):\n"
    "            yield pd.DataFrame({'n': [n * STEP]})",
    "report = await Flow(home=Sevens(), store=ParquetStore(path='sevens')).start()\n"
    "print(report.status, report.rows)",
    "import pyarrow.parquet as pq\nprint(pq.read_table('sevens')['n'].to_pylist())",
]

# In a process of its own: what the notebook's packages leave open is theirs.
RUN = """
import json, sys
import nbformat
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient

command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
manager = KernelManager(kernel_name="python3")
manager._kernel_spec = KernelSpec(argv=command, language="python", display_name="python")
cells = [nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)]
book = nbformat.v4.new_notebook(cells=cells)
PATIENT = {"timeout": 600, "startup_timeout": 600}
NotebookClient(book, km=manager, **PATIENT, resources={"metadata": {"path": "."}}).execute()
outputs = [out for cell in book.cells for out in cell["outputs"]]
print(json.dumps([out["text"].strip() for out in outputs if "text" in out]))
print(json.dumps([out["data"]["text/html"] for out in outputs if "data" in out]))
"""


def test_a_flow_runs_in_a_notebook_with_a_home_from_a_cell(tmp_path):
    folders = ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    environ = {**os.environ, **{name: str(tmp_path / name) for name in folders}}
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(CELLS), cwd=tmp_path, env=environ,
        capture_output=True, text=True, timeout=2 * LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    texts, (progress,) = map(json.loads, done.stdout.splitlines()[-2:])
    assert texts == ["done 3", "[0, 7, 14]"]
    assert "Sevens_to_sevens" in progress
    assert "done, 3 rows" in re.sub("<[^>]*>", "", progress)
    assert (tmp_path / "sevens").is_dir()
