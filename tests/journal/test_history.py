"""What runs leave for people: `hygge history`, `hygge show`, and `hygge status` on a laptop."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.cli.main import main
from hygge.journal import history
from hygge.model import Report, Ticket
from hygge.places.folder import Folder
from hygge.places.place import place_at
from hygge.run.recorder import Recorder
from hygge.run.watch import Progress, Silent
from tests.servers.s3 import SECRET, s3  # noqa: F401  # fixtures

FLOWS = """
project: shop
state: STATE
flows:
  orders: {home: orders.parquet, store: out/orders}
  users: {home: users.parquet, store: out/users}
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYGGE_STATE", raising=False)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    pq.write_table(pa.table({"id": range(30)}), "orders.parquet", row_group_size=10)
    Path("flows.yml").write_text(FLOWS.replace("STATE", "mine"))
    return tmp_path


def hygge(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(list(words)) == code
    said = capsys.readouterr()
    return said.out + (said.err if code == 2 else "")


def records(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict]:
    lines = hygge(capsys, "history", "flows.yml", "--json", *words).splitlines()
    return [json.loads(line) for line in lines]


def test_runs_are_listed_with_how_they_ended_the_newest_first(here, capsys):
    hygge(capsys, "flows.yml", "--inline", "--quiet", code=1)  # users.parquet is missing
    hygge(capsys, "flows.yml", "--inline", "--quiet", "--select", "orders")
    lines = hygge(capsys, "history", "flows.yml").splitlines()
    assert lines[1].split()[2:4] == ["shop.orders", "done"]
    assert re.search(r"shop.users +failed .*users.parquet", "\n".join(lines))
    assert len(lines) == 4
    assert [each["rows"] for each in records(capsys, "--flow", "orders")] == [30, 30]
    assert len(records(capsys, "--limit", "1")) == 1
    assert [each["status"] for each in records(capsys, "--select", "users")] == ["failed"]
    assert "--limit" in hygge(capsys, "history", "flows.yml", "--limit", "some", code=2)
    assert "did you mean 'orders'" in hygge(
        capsys, "history", "flows.yml", "--flow", "order", code=2
    )


def test_a_run_is_shown_with_its_splits_and_versions(here, capsys):
    hygge(capsys, "flows.yml", "--inline", "--quiet", "--select", "orders")
    (record,) = records(capsys)
    shown = hygge(capsys, "show", record["id"][:-3])
    for part in ("done after", "30 rows · ", "shop.orders", "pyarrow ", "receipts of 1 split"):
        assert part in shown
    told = json.loads(hygge(capsys, "show", record["run"], "flows.yml", "--json"))
    assert sum(split["rows"] for split in told["splits"]) == 30
    assert told["attempts"][0]["versions"]["hygge"]
    assert "no run 'nothing'" in hygge(capsys, "show", "nothing", code=2)


def test_status_without_a_cluster_shows_the_last_runs_of_this_folder(here, capsys):
    assert "nothing has run yet" in hygge(capsys, "status")
    for _ in range(2):
        hygge(capsys, "flows.yml", "--inline", "--quiet", "--select", "orders")
    assert hygge(capsys, "status").count("shop.orders") == 1


def test_a_run_whose_driver_died_is_listed_from_its_journal(here, capsys):
    hygge(capsys, "flows.yml", "--inline", "--quiet", "--select", "orders")
    place = place_at("mine")
    place.remove("history")
    (record,) = records(capsys)
    assert (record["status"], record["rows"]) == ("done", 30)
    (outcome,) = Path("mine").rglob("outcome.json")
    outcome.unlink()
    (record,) = records(capsys)
    assert record["status"] == history.OPEN
    assert "its driver died" in hygge(capsys, "show", record["id"])


def test_a_run_that_goes_on_says_after_what(here, capsys):
    hygge(capsys, "flows.yml", "--inline", "--quiet", "--select", "orders")
    (record,) = records(capsys)
    earlier = {**record, "status": "failed", "started_at": record["started_at"] - 60}
    for name in ("id", "flow", "resumed_from"):
        del earlier[name]
    history.keep(Folder("mine"), "shop.orders", earlier)
    assert "goes on after: failed" in hygge(capsys, "history", "flows.yml")
    assert "attempt 1 of 2: failed" in hygge(capsys, "show", record["id"])


def test_all_of_it_when_the_state_lies_in_a_bucket(s3, here, capsys):  # noqa: F811
    Path("flows.yml").write_text(FLOWS.replace("STATE", s3))
    hygge(capsys, "flows.yml", "--inline", "--quiet", "--select", "orders")
    (record,) = records(capsys)
    assert "receipts of 1 split" in hygge(capsys, "show", record["id"])
    assert "shop.orders" in hygge(capsys, "status")
    assert SECRET not in json.dumps(record)


def test_what_is_kept_of_a_run_is_bounded(tmp_path):
    recorder = Recorder(Silent())
    recorder._every_s = 0.0  # as if each were half a second later
    for n in range(10_000):
        recorder.moved("f", Progress(n, n * 8, lanes=1, waits_for=f"thing {n % 500}"))
        recorder.said("f", "x" * 10_000)
        recorder.attempts.began(n % 100, Ticket("r", n, 0, 0))
        recorder.attempts.ended(Ticket("r", n, 0, 0), "staged" if n % 9 else "failed", 1)
    facts = recorder.facts(Report("f", "done", rows=10_000))
    assert len(facts["over_time"]["points"]) <= 61
    assert facts["over_time"]["points"][-1][1] == 10_000
    assert facts["messages_left_out"] == 9_950
    bars = facts["split_attempts"]["bars"]
    assert len(bars) <= 400
    assert sum(bar[3] + bar[4] for bar in bars) == 3_200, "of the first 32 lanes, every attempt"
    assert len(json.dumps(facts)) < 60_000
    place = Folder(str(tmp_path))
    for n in range(history.KEPT + 5):
        history.keep(place, "f", {"started_at": float(n), "run": f"r{n}", "status": "done"})
    kept = history.records(place, "f")
    assert (len(kept), kept[0]["run"], kept[-1]["run"]) == (100, "r104", "r5")


def test_the_rates_begin_when_the_engine_is_ready():
    recorder = Recorder(Silent())
    recorder.moved("f", Progress(waits_for="the engine"))
    recorder.said("f", "waiting for the engine")
    recorder._start -= 60.0  # as if a minute had passed
    recorder.moved("f", Progress(waits_for="its plan"))
    recorder.restart_clock()
    recorder._start -= 30.0  # the plan takes half of that
    recorder.began("f", 1)
    recorder._start -= 1.0
    facts = recorder.facts(Report("f", "done", rows=7))
    assert facts["waited_s"]["the engine"] >= 60
    points = facts["over_time"]["points"]
    assert points[0] == [0.0, 0, 0, 0, 0]
    assert [int(point[0]) for point in points] == [0, 30, 31]
    assert [point[1] for point in points] == [0, 0, 7], "nothing moves while the plan is made"
    assert facts["messages"] == [[0.0, "waiting for the engine"]]


def test_a_record_that_cannot_be_written_changes_no_run(tmp_path):
    (tmp_path / "state").write_text("a file")
    Recorder(Silent()).keep(str(tmp_path / "state"), "f", Report("f", "done"))
