"""`transform`: the user's function makes the rows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from hygge import ConfigError, Coordinator, Flow
from hygge.cli.main import main
from hygge.connectors.files.parquet import ParquetHome, ParquetStore
from tests.shape.moving import flows, lake, moved, run, write

PANDAS = """import pandas as pd
def people(batch: pd.DataFrame) -> pd.DataFrame:
    return batch[batch["id"] > 1].assign(twice=batch["id"] * 2)[["id", "age", "twice"]]
"""
POLARS = """from __future__ import annotations
import polars as pl
def people(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.filter(pl.col("id") > 1).select("id", "age", twice=pl.col("id") * 2)
"""
ARROW = """import pyarrow as pa
import pyarrow.compute as pc
class people:
    made = 0
    def __init__(self):
        people.made += 1
        assert people.made == 1
        self.by = 2
    def __call__(self, batch: pa.Table) -> pa.Table:
        batch = batch.filter(pc.greater(batch["id"], 1)).select(["id", "age"])
        return batch.append_column("twice", pc.multiply(batch["id"], self.by))
"""
TWICE = [{"id": 2, "age": 40, "twice": 4}, {"id": 3, "age": None, "twice": 6}]


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """Write a module beside flows.yml; its name is of this test alone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    number = iter(range(9))

    def write_module(text: str) -> str:
        name = f"own_{abs(hash(request.node.nodeid))}_{next(number)}"
        Path(tmp_path / f"{name}.py").write_text(text)
        return name

    return write_module


@pytest.mark.parametrize("text", [PANDAS, POLARS, ARROW], ids=["pandas", "polars", "class"])
def test_a_function_makes_the_rows(text, tmp_path, module, capsys):
    call = f"{module(text)}:people"
    path = flows(tmp_path, write("parquet", tmp_path), transform=call)
    report = run(path)
    assert report.status == "done", (report.error, report.hint)
    assert lake(path).to_pylist() == TWICE
    assert report.filtered == 1
    assert lake(path).schema.field("age").type == pa.int64()
    assert main(["plan", str(path)]) == 0
    assert f"{call} makes the rows" in capsys.readouterr().out


def test_it_runs_on_ray_behind_the_other_steps(tmp_path, module, ray_here):
    name = module(PANDAS.replace('"age"', '"source"'))
    path = flows(
        tmp_path, write("csv", tmp_path), add={"source": "'x'"}, transform=f"{name}:people"
    )
    assert moved(path, "ray") == [{"id": n, "source": "x", "twice": 2 * n} for n in (2, 3)]


def test_rows_are_multiplied_and_a_schema_is_stated(tmp_path, module):
    text = """import pyarrow as pa
def people(batch):
    assert batch.num_rows, "it is not asked"
    return pa.table({"n": pa.array(batch["id"].to_pylist() * 2, pa.int8())})
"""
    transform = {"call": f"{module(text)}:people", "schema": {"n": "int64"}}
    path = flows(tmp_path, write("parquet", tmp_path), transform=transform)
    assert moved(path) == [{"n": n} for n in (1, 2, 3, 1, 2, 3)]
    assert lake(path).schema.field("n").type == pa.int64()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("1 / len(batch)", r"raised ZeroDivisionError: .*own_\w+\.py:2\)"),
        ("return batch.drop_columns(['id'])", "gives no column 'id', which is the key"),
        ("pass", "returned nothing"),
        ("return {1: 2}", "not Arrow-shaped"),
        ("return batch if len(batch) == 0 else batch.select(['id'])", "gave the columns id, and"),
        ("return batch.append_column('x', [[None] * len(batch)])", "gives no type for x"),
        (
            "return batch.set_column(0, 'id', [['x'] * len(batch)]) if len(batch) else batch",
            "gave column 'id' as string, and it is int64",
        ),
    ],
)
def test_what_a_function_does_wrong_is_said(body, said, tmp_path, module):
    name = module(f"def people(batch):\n    {body}\n")
    store = {"connection": f"sqlite:///{tmp_path}/out.db", "table": "t"}
    report = run(flows(tmp_path, write("parquet", tmp_path), store, mode="merge", key=["id"],
                       transform=f"{name}:people"))  # fmt: skip
    assert report.status == "failed"
    assert re.search(said, report.error), report.error


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("people", "not `module:function`"),
        ("no_such_module:people", "there is no module no_such_module"),
        ("{}:other", "has no function other"),
        ("{}:wrong", "takes <class 'int'>, which no batch is"),
    ],
)
def test_what_cannot_be_found_is_an_error_of_the_file(call, said, tmp_path, module):
    name = module("def people(batch): ...\ndef wrong(batch: int): ...\n")
    path = flows(tmp_path, write("parquet", tmp_path), transform=call.format(name))
    with pytest.raises(ConfigError, match=said) as caught:
        Coordinator(path)
    assert "line " in str(caught.value) or "flows.yml:" in str(caught.value)


def test_its_source_text_is_part_of_what_a_run_is_known_by(tmp_path, module):
    write("parquet", tmp_path)
    monkey = [module(PANDAS), module(PANDAS.replace("> 1", "> 2"))]
    sys.path.insert(0, str(tmp_path))
    facts = []
    for name in monkey:
        home = ParquetHome(path=str(tmp_path / "people.parquet"))
        flow = Flow(home, ParquetStore(path=str(tmp_path / "lake")), engine="inline",
                    shape={"transform": f"{name}:people"})  # fmt: skip
        facts.append(flow.shape.facts()["shape.transform"].partition(", ")[2])
    assert facts[0] != facts[1]
    assert facts[0].startswith("source text ")


def test_in_python_the_function_itself_is_given(tmp_path):
    write("parquet", tmp_path)

    def people(batch: pa.Table) -> pa.Table:
        return batch.select(["id"]).slice(1)

    home = ParquetHome(path=str(tmp_path / "people.parquet"))
    flow = Flow(home, ParquetStore(path=str(tmp_path / "lake")), engine="inline",
                state=str(tmp_path / "state"), shape={"transform": people})  # fmt: skip
    assert flow.run().status == "done"
    assert lake(tmp_path / "flows.yml").to_pylist() == [{"id": 2}, {"id": 3}]


def test_a_function_sees_each_row_once_where_bad_rows_are_set_aside(tmp_path, module):
    text = """seen = set()
def people(batch):
    ids = set(batch["id"].to_pylist())
    assert not seen & ids, "twice"
    seen.update(ids)
    return batch
"""
    home = {**write("parquet", tmp_path), "columns": ["id"]}
    path = flows(tmp_path, home, transform=f"{module(text)}:people", on_bad_row="set_aside")
    assert moved(path) == [{"id": 1}, {"id": 2}, {"id": 3}]
