"""OpenLineage: what a server is told of flows; one that fails changes nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.cli.main import main
from hygge.config.flows import read_flows
from hygge.coordinator.lineage import dataset_of
from hygge.errors import ConfigError

pytest_plugins = ["tests.servers.chat"]

FLOWS = """
lineage: ${WHERE}
project: shop
flows:
  people:
    home: {path: in.parquet, columns: [id, {name: e_mail, as: mail}]}
    store: sqlite:///x.db#people
    mask: {mail: {keep_last: 1}}
    add: {source: "'app'"}
  gone: {home: gone.parquet, store: out}
  after: {home: in.parquet, store: out2, depends_on: [gone]}
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENLINEAGE_API_KEY", raising=False)
    pq.write_table(
        pa.table({"id": [1, 2, 3], "e_mail": ["a", "b", "c"], "n": [1, 2, 3]}), "in.parquet"
    )
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], code: int) -> str:
    capsys.readouterr()
    assert main(["flows.yml", "--inline", "--quiet"]) == code
    said = capsys.readouterr()
    return said.out + said.err


def told(chat: Any, flow: str) -> list[dict[str, Any]]:
    return [event for event in chat.heard if event["job"]["name"] == flow]


def test_a_server_is_told_of_data_sets_and_columns(here, chat, capsys, monkeypatch):
    monkeypatch.setenv("WHERE", f"http://127.0.0.1:{chat.server_port}")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "secret-key")
    Path("flows.yml").write_text(FLOWS)
    assert "lineage" not in run(capsys, 1)
    assert set(chat.asked) == {("/api/v1/lineage", "Bearer secret-key")}
    start, done = told(chat, "shop.people")
    assert (start["eventType"], done["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == done["run"]["runId"]
    assert start["job"]["namespace"] == "hygge"
    source = {"namespace": "file", "name": f"{here}/in.parquet"}
    store = {"namespace": "file", "name": f"{here}/x.db/people"}
    for event in (start, done):
        for each, (end,) in ((source, event["inputs"]), (store, event["outputs"])):
            assert {key: end[key] for key in each} == each
    (output,), (read,) = done["outputs"], done["inputs"]
    columns = output["facets"]["schema"]["fields"]
    assert [(c["name"], c["type"]) for c in columns] == [
        ("id", "int64"), ("mail", "string"), ("source", "string"),
    ]  # fmt: skip
    lineage = output["facets"]["columnLineage"]["fields"]
    found = {
        name: [(f["namespace"], f["name"], f["field"]) for f in each["inputFields"]]
        for name, each in lineage.items()
    }
    assert found == {
        "id": [(*source.values(), "id")], "mail": [(*source.values(), "e_mail")],
    }  # fmt: skip
    assert [c["name"] for c in read["facets"]["schema"]["fields"]] == ["id", "e_mail"]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 3
    start, failed = told(chat, "shop.gone")
    assert (start["eventType"], failed["eventType"]) == ("START", "FAIL")
    assert "gone.parquet" in failed["run"]["facets"]["errorMessage"]["message"]
    assert told(chat, "shop.after") == []


def test_each_table_of_many_is_told_of(here, chat, capsys):
    with sqlite3.connect("s.db") as database:
        database.executescript("create table a (id integer); create table b (id integer)")
    Path("flows.yml").write_text(f"""
lineage: http://127.0.0.1:{chat.server_port}/hook?x=1
connections: {{s: "sqlite:///s.db"}}
flows: {{all: {{home: {{connection: s, tables: ["*"]}}, store: "lake/{{table}}"}}}}
""")
    run(capsys, 0)
    assert {path for path, _ in chat.asked} == {"/hook?x=1"}
    for table in ("a", "b"):
        own = [each for each in chat.heard if each["job"]["name"].endswith(f".{table}")]
        assert [each["eventType"] for each in own] == ["START", "COMPLETE"]
    assert {event["inputs"][0]["name"] for event in chat.heard} == {
        f"{here}/s.db/a", f"{here}/s.db/b"
    }  # fmt: skip


@pytest.mark.parametrize("how", ["refused", "404"])
def test_a_server_that_fails_is_said_once_and_changes_nothing(here, chat, capsys, monkeypatch, how):
    chat.code = 404
    port = chat.server_port if how == "404" else 9
    Path("flows.yml").write_text(
        f"lineage: http://127.0.0.1:{port}/secret-path\n"
        "flows: {f: {home: in.parquet, store: o}}\n"
    )
    said = run(capsys, 0)
    assert said.count("warning: lineage: an event could not be sent to 127.0.0.1") == 1
    assert ("the answer has code 404" in said) == (how == "404")
    assert "secret" not in said
    assert "secret" not in repr(read_flows("flows.yml"))
    assert pq.read_table("o").num_rows == 3


def test_a_library_that_is_not_there_is_said(here, capsys, monkeypatch):
    Path("flows.yml").write_text(
        "lineage: http://127.0.0.1:9\nflows: {f: {home: in.parquet, store: o}}\n"
    )
    code = (
        "import sys; sys.modules['openlineage'] = None\n"
        "from hygge.cli.main import main; sys.exit(main(['flows.yml', '--inline', '--quiet']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the library for it is not here: pip install 'openlineage-python>=1.40,<2'" in ran.stderr


@pytest.mark.parametrize("url", ["marquez:5000", "7", "{url: x}", "'http://[secret'"])
def test_a_wrong_url_is_an_error_with_its_line(here, url):
    Path("flows.yml").write_text(f"flows: {{f: {{home: in.parquet, store: o}}}}\nlineage: {url}\n")
    with pytest.raises(ConfigError) as caught:
        read_flows("flows.yml")
    assert "flows.yml:2" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("end", "dataset"),
    [
        ("postgresql://app@h/shop#orders", ("postgres://h:5432", "shop.public.orders")),
        ("postgresql://h:5433/shop#own.orders", ("postgres://h:5433", "shop.own.orders")),
        ("mariadb://app@h/shop#orders", ("mysql://h:3306", "shop.orders")),
        ("mysql://h/shop#other.orders", ("mysql://h:3306", "other.orders")),
        ("postgresql://h/shop (big orders)", ("postgres://h:5432", "shop (big orders)")),
        ("s3://lake/raw/orders", ("s3://lake", "raw/orders")),
        ("/data/orders", ("file", "/data/orders")),
        ("an end of my own", ("hygge", "an end of my own")),
    ],
)
def test_data_sets_are_named_as_openlineage_names_them(end, dataset):
    assert dataset_of(end) == dataset
