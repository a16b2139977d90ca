"""The place of the journal of a file of flows, and what a run leaves there."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Coordinator, Flow, ParquetHome, ParquetStore
from hygge.config.flows import read_flows

TEXT = "flows: {a: {home: users.parquet, store: out, resume_within: 90m}}\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    pq.write_table(pa.table({"n": [1, 2, 3]}), tmp_path / "users.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "lies"),
    [
        ("", "{here}/.hygge"),
        ("state: jobs/state\n", "{here}/jobs/state"),
        ("state: /var/lib/hygge\n", "/var/lib/hygge"),
        ("state: file:///var/lib/hygge\n", "/var/lib/hygge"),
        ("state: ${WHERE}/a\n", "s3://bucket/a"),
        ("root: below\n", "{here}/below/.hygge"),
    ],
)
def test_the_state_lies_below_the_root_or_where_it_is_said(here, given, lies):
    (here / "below").mkdir()
    pq.write_table(pa.table({"n": [1]}), here / "below" / "users.parquet")
    (here / "flows.yml").write_text(given + TEXT)
    file = read_flows(here / "flows.yml", {"WHERE": "s3://bucket"})
    assert file.state == lies.format(here=here)
    assert file.flows[0].limits.resume_within_s == 5400


def test_flows_of_one_file_share_a_state_and_not_a_journal(here):
    text = "flows: {a: {home: users.parquet, store: a}, b: {home: users.parquet, store: b}}"
    (here / "flows.yml").write_text(text + "\nproject: shop\n")
    assert Coordinator("flows.yml", engine="inline").run().ok
    assert sorted(os.listdir(here / ".hygge" / "flows")) == ["shop.a", "shop.b"]


def test_a_flow_in_python_keeps_its_state_where_it_is_told(here, monkeypatch):
    def run(**more):
        flow = Flow(ParquetHome("users.parquet"), ParquetStore(path="out"), engine="inline", **more)
        return flow.run()

    run(state=Path("mine"))
    assert os.listdir(here / "mine" / "flows") == ["users.parquet_to_out"]
    monkeypatch.setenv("HYGGE_STATE", str(here / "of the environment"))
    run()
    assert os.listdir(here / "of the environment" / "flows") == ["users.parquet_to_out"]
    monkeypatch.delenv("HYGGE_STATE")
    run()
    assert os.listdir(here / ".hygge" / "flows") == ["users.parquet_to_out"]
