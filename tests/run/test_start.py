"""A cursor that is added after a full load goes on from a value that a person states."""

from __future__ import annotations

import sqlite3

import pyarrow.dataset as ds
import pytest

from hygge.cli.main import main
from hygge.coordinator.coordinator import Coordinator
from hygge.errors import ConfigError

PLAIN = """
flows:
  f: {home: {connection: "sqlite:///source.db", table: t}, store: out/f, mode: append}
"""
CURSOR = PLAIN.replace("table: t", "table: t, cursor: at")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect("source.db", isolation_level=None)
    yield connection
    connection.close()


def run(text, start_from=None):
    with open("flows.yml", "w") as file:
        file.write(text)
    (report,) = Coordinator("flows.yml", engine="inline", start_from=start_from).run().flows
    return report


def ids():
    return sorted(ds.dataset("out/f").to_table()["id"].to_pylist())


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int", ["10", "20", "30"]),
        ("text", ["'2024-01-01 10:00:00'", "'2024-01-01 11:00:00'", "'2024-01-01 12:00:00'"]),
        ("real", ["1.5", "2.5", "3.5"]),
    ],
)
def test_a_flow_goes_on_from_the_value_that_is_stated(kind, values, source):
    low, high, new = values
    source.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, at {kind})")
    source.execute(f"INSERT INTO t VALUES (1, {low}), (2, {high})")
    run(PLAIN)
    source.execute(f"INSERT INTO t VALUES (3, {new})")
    report = run(CURSOR)
    assert "now the cursor is 'at': rows would come twice" in report.error
    assert "--from VALUE" in report.hint
    assert run(CURSOR, high.strip("'")).status == "done"
    assert ids() == [1, 2, 3]
    source.execute(f"INSERT INTO t VALUES (4, {new})")
    assert run(CURSOR).status == "done"
    assert ids() == [1, 2, 3, 4]
    report = run(CURSOR, high.strip("'"))
    assert "holds the watermark" in report.error
    assert "take --from out" in report.hint


def test_the_command_takes_the_value(source, capsys):
    source.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at int)")
    source.execute("INSERT INTO t VALUES (1, 10), (2, 20)")
    run(PLAIN)
    source.execute("INSERT INTO t VALUES (3, 30)")
    with open("flows.yml", "w") as file:
        file.write(CURSOR)
    assert main(["flows.yml", "--inline", "--from", "ten"]) == 1
    assert "--from says 'ten', and 'at' is a number" in capsys.readouterr().out
    assert main(["flows.yml", "--inline", "--from", "20"]) == 0
    assert ids() == [1, 2, 3]


def test_a_value_is_for_one_flow(source):
    with open("flows.yml", "w") as file:
        file.write(
            PLAIN + PLAIN.replace("flows:", "").replace("  f:", "  g:").replace("out/f", "out/g")
        )
    with pytest.raises(ConfigError, match="here are several flows"):
        Coordinator("flows.yml", start_from="1")
    Coordinator("flows.yml", start_from="1", select=["g"])
