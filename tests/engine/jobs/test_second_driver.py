"""A job whose driver died is submitted again, and does not repeat what its first try committed.

Both tries are started here as the Coordinator starts them. The first one is killed between the
outcome in its journal and its report, or between the commit and the outcome.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hygge.engine.jobs.instructions import FLOW_JOB, Instructions, digest
from hygge.report.text import REPORT_MARK
from tests.chaos import only_in_chaos
from tests.forked import PLAIN, hygge

KILLED = """
import os, signal, sys
from hygge.cli.main import main
from hygge.journal import FlowJournal

end = FlowJournal.end
def ended_and_killed(journal, run, how, **facts):
    if not os.environ.get("KILLED_BEFORE"):
        end(journal, run, how, **facts)
    if how == "committed":
        os.kill(os.getpid(), signal.SIGKILL)

FlowJournal.end = ended_and_killed
sys.exit(main())
"""
APPENDED = "SELECT count(*) FROM copied"


def tried(
    folder: Path, request: str, number: int, *words: str, killed: bool = False
) -> list[dict[str, Any]]:
    """Run one try and return its reports; none where it is killed."""
    ran = hygge(
        "flows.yml", "--inline", "--json", *words, cwd=folder, code=KILLED if killed else PLAIN,
        env={**os.environ, FLOW_JOB: Instructions(request, number).to_json()},
    )  # fmt: skip
    assert ran.returncode == (-signal.SIGKILL if killed else 0), ran.stdout + ran.stderr
    if killed:
        return []
    written = ran.stdout[ran.stdout.index(REPORT_MARK) :]
    reports: list[dict[str, Any]] = json.loads(written)["hygge_report"]["flows"]
    return reports


def rows(folder: Path, asked: str) -> int:
    with contextlib.closing(sqlite3.connect(folder / "to.db")) as store:
        return int(store.execute(asked).fetchone()[0])


@pytest.mark.parametrize("words", [(), pytest.param(("--fresh",), marks=only_in_chaos)])
def test_what_was_committed_without_an_outcome_is_not_appended_again(words, tmp_path, monkeypatch):
    (tmp_path / "users.csv").write_text("id\n1\n2\n3\n")
    (tmp_path / "flows.yml").write_text(
        "flows:\n  x: {home: users.csv, store: out, mode: append}\n"
    )
    monkeypatch.setenv("KILLED_BEFORE", "1")
    for number in (1, 2):  # the second dies likewise, when it has seen the first one's run through
        tried(tmp_path, "first", number, *words, killed=True)
        assert pq.read_table(tmp_path / "out").num_rows == 3
    (report,) = tried(tmp_path, "first", 3, *words)
    assert report["status"] == "done"
    assert sorted(pq.read_table(tmp_path / "out")["id"].to_pylist()) == [1, 2, 3]


@pytest.mark.parametrize("words", [(), pytest.param(("--fresh",), marks=only_in_chaos)])
def test_what_somebody_else_saw_through_meanwhile_is_not_appended_again(
    words, tmp_path, monkeypatch
):
    (tmp_path / "users.csv").write_text("id\n1\n2\n3\n")
    (tmp_path / "flows.yml").write_text(
        "flows:\n  x: {home: users.csv, store: out, mode: append}\n"
    )
    monkeypatch.setenv("KILLED_BEFORE", "1")
    tried(tmp_path, "first", 1, killed=True)
    (seen,) = tried(tmp_path, "another", 1)
    assert "run again to append once more" in seen["note"]
    (own,) = tried(tmp_path, "a third", 1)
    assert own["run"] != seen["run"]
    (report,) = tried(tmp_path, "first", 2, *words)
    assert (report["status"], report["run"]) == ("done", seen["run"])
    assert sorted(pq.read_table(tmp_path / "out")["id"].to_pylist()) == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("words", [(), pytest.param(("--fresh",), marks=only_in_chaos)])
def test_what_the_first_try_appended_is_not_appended_again(words, tmp_path):
    (tmp_path / "users.csv").write_text("id\n1\n2\n3\n")
    (tmp_path / "flows.yml").write_text(
        "flows:\n  x: {home: users.csv, store: 'sqlite:///to.db#copied', mode: append}\n"
    )
    tried(tmp_path, "first", 1, *words, killed=True)
    assert rows(tmp_path, APPENDED) == 3
    (report,) = tried(tmp_path, "first", 2, *words)
    assert rows(tmp_path, APPENDED) == 3
    assert (report["status"], report["rows"], report["applied"]) == ("done", 3, 3)
    assert "is committed; its driver died before it said so" in report["note"]
    tried(tmp_path, "another", 1, *words)
    assert rows(tmp_path, APPENDED) == 6, "who asks once more gets it once more"


def test_an_older_run_that_the_first_try_saw_through_is_its_answer(tmp_path):
    (tmp_path / "users.csv").write_text("id\n1\n2\n3\n")
    (tmp_path / "flows.yml").write_text(
        "flows:\n  x: {home: users.csv, store: 'sqlite:///to.db#copied', mode: append}\n"
    )
    tried(tmp_path, "old", 1, killed=True)
    (outcome,) = tmp_path.glob(".hygge/flows/*/runs/*/outcome.json")
    outcome.unlink()  # as if it had died a moment earlier
    tried(tmp_path, "first", 1, killed=True)
    (report,) = tried(tmp_path, "first", 2)
    assert report["status"] == "done"
    assert rows(tmp_path, APPENDED) == 3


def test_of_many_tables_those_that_were_committed_are_not_appended_again(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        for n in range(2):
            shop.execute(f"CREATE TABLE t{n} AS SELECT {n} AS n")
        shop.commit()
    (tmp_path / "flows.yml").write_text(
        'connections: {shop: "sqlite:///shop.db"}\n'
        "max_parallel_flows: 1\n"
        "flows:\n  many:\n    home: {connection: shop, tables: ['*']}\n"
        "    store: 'sqlite:///to.db#{table}_copied'\n    mode: append\n"
    )
    tried(tmp_path, "first", 1, "--fresh", killed=True)
    with pytest.raises(sqlite3.OperationalError):
        rows(tmp_path, "SELECT count(*) FROM t1_copied")
    reports = tried(tmp_path, "first", 2, "--fresh")
    assert [each["status"] for each in reports] == ["done", "done"]
    assert rows(tmp_path, "SELECT (SELECT count(*) FROM t0_copied) * 10 + count(*) "
                          "FROM t1_copied") == 11  # fmt: skip


def test_a_job_whose_environment_is_another_one_is_refused_and_no_value_is_told(tmp_path):
    (tmp_path / "users.csv").write_text("id\n1\n")
    (tmp_path / "flows.yml").write_text(
        "root: ${WHERE:-.}\nflows: {x: {home: '${SOURCE}', store: out}}\n"
    )
    here = {"WHERE": str(tmp_path / "there"), "SOURCE": "users.csv"}
    variables = {name: digest(name, text) for name, text in here.items()}
    told = Instructions(variables=variables).to_json()
    assert not any(text in told for text in here.values())

    def ran(**more: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "SOURCE": "users.csv", FLOW_JOB: told, **more}
        return hygge("flows.yml", "--inline", cwd=tmp_path, env=environ)

    refused = ran()
    assert refused.returncode in (1, 2)
    assert "error: WHERE: the environment of the flow's Ray job has another" in refused.stderr
    assert "jobs: one" in refused.stderr
    (tmp_path / "there").mkdir()
    (tmp_path / "users.csv").rename(tmp_path / "there" / "users.csv")
    assert ran(WHERE=here["WHERE"]).returncode == 0


def test_of_a_secret_a_job_is_told_only_whether_it_is_set() -> None:
    assert digest("SHOP_PASSWORD", "one") == digest("SHOP_PASSWORD", "two")
    assert digest("SHOP_PASSWORD", "one") != digest("SHOP_PASSWORD", "")
    assert digest("SHOP", "postgresql://a:one@db/x") == digest("SHOP", "postgresql://a:two@db/x")
    assert digest("SHOP", "postgresql://a:one@db/x") != digest("SHOP", "postgresql://a:one@db/y")
