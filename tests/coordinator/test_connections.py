"""Jobs of flows that run at the same time: what they divide, and where they must not meet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hygge import Coordinator
from hygge.config.flows import FlowSpec, read_flows
from hygge.coordinator.connections import count_at_once, tables_at_once
from hygge.engine.jobs.instructions import FLOW_JOB, Instructions
from hygge.model import Summary

Written = Callable[[str], Path]


@pytest.fixture
def flows(tmp_path: Path) -> Written:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        for name in ("orders", "users"):
            shop.execute(f"CREATE TABLE {name} AS SELECT 1 AS n")
        shop.commit()

    def writing(text: str) -> Path:
        head = 'connections: {a: "sqlite:///shop.db", b: "sqlite:///./shop.db"}\nflows:\n'
        (tmp_path / "flows.yml").write_text(head + text)
        return tmp_path / "flows.yml"

    return writing


def many(name: str, connection: str, store: str, tables: str = "'*'") -> str:
    home = f"{{connection: {connection}, tables: [{tables}]}}"
    return f"  {name}: {{home: {home}, store: '{store}', mode: append}}\n"


def alone(file: Path, name: str) -> Summary:
    """As in a job of its own."""
    return Coordinator(file, select=[name], engine="inline").run()


def test_a_job_of_one_flow_knows_where_the_others_write(flows):
    file = flows(many("all", "a", "lake/{table}") + "  mine: {home: a#users, store: lake/users}\n")
    summary = alone(file, "all")
    assert [each.status for each in summary.flows] == ["failed"]
    assert "'mine' and 'all.main.users' would come to one place" in summary.flows[0].error


def test_tables_of_two_flows_that_come_to_one_place_are_refused_also_in_jobs_of_their_own(flows):
    file = flows(many("one", "a", "lake/{table}") + many("two", "b", "lake/{table}"))
    assert {each.status for each in alone(file, "one").flows} == {"done"}
    (report,) = alone(file, "two").flows
    assert report.status == "failed"
    assert "'one.main.orders' and 'two.main.orders' would come to one place" in report.error
    file = flows(
        many("one", "a", "lake/{table}", "orders") + many("two", "b", "lake/{table}", "users")
    )
    assert {each.status for each in alone(file, "two").flows} == {"done"}


def test_the_jobs_of_many_tables_divide_what_may_run_at_once(flows, monkeypatch):
    file = flows("".join(many(f"f{n}", "a", f"lake{n}/{{table}}") for n in range(3)))
    read = read_flows(file).flows
    assert tables_at_once(read, 4) == 1
    assert tables_at_once(read[:2], 4) == 2
    assert tables_at_once(read[:1], 4) == 4
    monkeypatch.setenv(FLOW_JOB, Instructions(parallel=2).to_json())
    assert Coordinator(file, engine="inline").parallel == 2


def test_of_flows_that_wait_for_each_other_one_runs_at_once(flows):
    text = (
        "  a: {home: a#users, store: out/a}\n  b: {home: a#users, store: out/b, depends_on: [a]}\n"
    )
    chain: tuple[FlowSpec, ...] = read_flows(flows(text)).flows
    assert count_at_once(chain, 4) == 1
    more = read_flows(flows(text + "  c: {home: a#users, store: out/c}\n")).flows
    assert count_at_once(more, 4) == 2
    assert count_at_once(more, 1) == 1
    assert count_at_once((), 4) == 1
