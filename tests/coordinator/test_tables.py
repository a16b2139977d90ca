"""Many tables in one flow, in SQLite: which are taken, where each is written, what each reports."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from hygge.config.checks import Places
from hygge.config.flows import read_flows
from hygge.connectors.sql.listing import Table
from hygge.coordinator.members import flow_name, path_word
from hygge.coordinator.tables import open_tables
from hygge.errors import ConfigError, HyggeError, SourceMissing
from hygge.model import Limits, Report, Summary
from hygge.report.progress import Combined
from hygge.report.text import report_text
from hygge.run.watch import Progress, Silent
from tests.coordinator.many import filled, run
from tests.waiting import until

pytest_plugins = ["tests.coordinator.many"]

HARD = [
    "a/b", "..", "a.b", "main.x", 'quo"te', "späße", "Big", "_own", "x-0123abcd", "a b", "t" * 90,
]  # fmt: skip


def names(path: Path) -> list[str]:
    with open_tables(read_flows(path).flows[0], "shop", Places(), len) as members:
        return [each.name for each in members]


def refused(path: Path) -> HyggeError:
    with (
        pytest.raises(HyggeError) as caught,
        open_tables(read_flows(path).flows[0], "shop", Places(), len),
    ):
        pass
    return caught.value


# Which tables.


def test_shadow_tables_of_a_virtual_table_are_left_out_and_said(flows, tmp_path, capsys):
    filled(tmp_path / "shop.db", "notes_idx")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("CREATE VIRTUAL TABLE docs USING fts5(body)")
        shop.execute("CREATE TABLE docs_old (id INTEGER)")
        shop.execute("INSERT INTO docs VALUES ('a b')")
        shop.commit()
    path = flows('tables: ["*"]', "store: lake/{table}\n")
    assert names(path) == ["shop.main.docs", "shop.main.docs_old", "shop.main.notes_idx"]
    assert main(["plan", str(path), "--select", "shop.main.docs"]) == 0
    assert "docs_config, docs_content, docs_data" in " ".join(capsys.readouterr().out.split())
    assert run(path).ok
    assert ds.dataset(tmp_path / "lake" / "docs").to_table().to_pylist() == [{"body": "a b"}]


def test_patterns_take_tables_and_leave_views_and_hygges_own(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders", "order_lines", "users", "_hygge_heads", view=True)
    path = flows('tables: ["*"], exclude: [order_*]', 'store: "lake/{table}"\n')
    assert names(path) == ["shop.main.orders", "shop.main.users"]
    path = flows('tables: ["main.order*", users]', 'store: "lake/{table}"\n')
    assert names(path) == ["shop.main.order_lines", "shop.main.orders", "shop.main.users"]
    path = flows('tables: ["*"], views: true', 'store: "lake/{table}"\n')
    assert "shop.main.seen" in names(path)


@pytest.mark.parametrize(
    ("home", "said", "hint"),
    [
        ("tables: [ordres]", "no table like 'main.ordres'", "did you mean 'main.orders'"),
        ('tables: ["*", "usr*"]', "no table like 'main.usr*'", "main.users"),
        ('tables: ["public.*"]', "no schema 'public'", "schemas: main"),
        ("tables: [seen]", "names views only, such as main.seen", "views: true"),
        ('tables: ["*"], exclude: [secrtes]', "no table like 'main.secrtes'", "'main.secrets'"),
        ('tables: ["*"], exclude: ["*"]', "`exclude` leaves no table", "exclude"),
    ],
)
def test_a_pattern_that_takes_nothing_is_an_error_with_the_nearest(
    flows, tmp_path, home, said, hint
):
    filled(tmp_path / "shop.db", "orders", "users", "secrets", view=True)
    error = refused(flows(home, 'store: "lake/{table}"\n'))
    assert isinstance(error, SourceMissing)
    assert said in error.message
    assert hint in (error.hint or "")


def test_a_table_that_says_something_and_is_not_taken_is_named_with_its_line(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders", "users")
    rest = 'store: "lake/{table}"\ntables:\n  users: {lanes: 2}\n  ordres: {lanes: 2}\n'
    error = refused(flows('tables: ["*"]', rest))
    assert isinstance(error, ConfigError)
    assert "flows.yml:8: flow 'shop': no pattern takes the table 'ordres'" in error.message
    assert "did you mean 'main.orders'" in error.hint


# Where they come to.


def test_every_table_arrives_in_a_place_of_its_own_whatever_its_name(flows, tmp_path):
    filled(tmp_path / "shop.db", "plain", *HARD)
    path = flows('tables: ["*"]', 'store: "lake/{schema}/{table}"\n')
    summary = run(path)
    assert summary.ok, [each.error for each in summary.flows]
    found = {}
    for folder in (tmp_path / "lake" / "main").iterdir():
        rows = ds.dataset(folder).to_table().to_pylist()
        found[rows[0]["v"]] = (folder.name, len(rows))
    assert set(found) == {"plain", *HARD}
    assert {count for _, count in found.values()} == {2}
    assert found["plain"][0] == "plain"
    assert found["Big"][0] == "Big"  # SQLite does not tell Big from big
    assert sorted(os.listdir(tmp_path / "lake")) == ["main"]
    assert len({each.flow for each in summary.flows}) == len(HARD) + 1


def test_words_of_a_path_are_safe_and_of_one_table_only():
    strange = ["users", "Users", "USERS", "a/b", "a\\b", "..", ".", "", "ä", "a\u0308", "con:",
               "_x", "-x", "a-", "%2e", "*", "x" * 300, "x" * 299, "x-0123abcd"]  # fmt: skip
    words = [path_word(each) for each in strange]
    assert len({word.lower() for word in words}) == len(strange)
    for word in words:
        assert set(word) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
        assert word[0] not in "._-"
        assert len(word) < 100
    assert path_word("users") == "users"
    # A hash that a table has as its name takes nobody's place.
    assert path_word(path_word("Users")) != path_word("Users")


def test_names_of_flows_are_short_and_of_one_table_only():
    tables = [("a.b", "c"), ("a", "b.c"), ("a", "b-c"), ("a", "x" * 63), ("a" * 63, "x" * 63),
              ("a" * 63, "x" * 62 + "y"), ("a", "b c"), ("a", "b/c"), ("ä", "ö")]  # fmt: skip
    found = [flow_name("shop", Table(schema, name)) for schema, name in tables]
    assert len(set(found)) == len(tables)
    assert all(len(each) <= 100 for each in found)
    assert found[2] == "shop.a.b-c"
    assert found[-1] == "shop.ä.ö"


def test_a_database_gets_the_names_as_they_are(flows, tmp_path):
    filled(tmp_path / "shop.db", "plain", *HARD)
    path = flows('tables: ["*"]', 'store: "sqlite:///copy.db#{table} of {schema}"\n')
    summary = run(path)
    assert summary.ok, [each.error for each in summary.flows]
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        found = {name for (name,) in copy.execute("SELECT name FROM sqlite_master")}
    assert {f"{name} of main" for name in ("plain", *HARD)} <= found


def test_a_table_is_not_written_onto_itself(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders")
    path = flows('tables: ["*"]', 'store: "sqlite:///shop.db#{table}"\n')
    with pytest.raises(ConfigError, match="same place"):
        read_flows(path)


def test_a_table_does_not_come_to_where_another_flow_writes(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders", "users")
    more = '  mine: {home: "shop#orders", store: lake/orders}\n'
    summary = run(flows('tables: ["*"]', 'store: "lake/{table}"\n', more))
    assert [each.status for each in summary.flows] == ["failed", "done"]
    assert "'mine' and 'shop.main.orders' would come to one place" in summary.flows[0].error


# How they run.


def test_one_that_fails_stops_no_other_and_each_is_a_flow_of_its_own(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders", "users", "zoo")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("CREATE TABLE bad (day DATE)")
        shop.execute("INSERT INTO bad VALUES ('never')")
        shop.commit()
    more = '  after: {home: "shop#orders", store: after.csv, depends_on: [shop]}\n'
    more += '  other: {home: "shop#orders", store: other.csv}\n'
    path = flows('tables: ["*"]', 'store: "lake/{table}"\n', more)
    summary = run(path)
    assert {each.flow: each.status for each in summary.flows} == {
        "shop.main.bad": "failed", "shop.main.orders": "done", "shop.main.users": "done",
        "shop.main.zoo": "done", "after": "skipped", "other": "done",
    }  # fmt: skip
    assert {each.of for each in summary.flows} == {"shop", ""}
    assert summary.flows[-2].note.startswith("it depends on shop")
    assert not (tmp_path / "lake" / "bad").exists()
    kept = sorted(os.listdir(tmp_path / ".hygge" / "flows"))
    assert kept == ["other", *(f"shop.main.{name}" for name in ("bad", "orders", "users", "zoo"))]
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("UPDATE bad SET day = '2024-02-29'")
        shop.commit()
    again = run(path, "shop.main.bad")
    assert [each.flow for each in again.flows] == ["shop.main.bad"]
    assert pq.read_table(tmp_path / "lake" / "bad").num_rows == 1


def test_a_flow_whose_tables_cannot_be_found_fails_alone(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders")
    more = '  other: {home: "shop#orders", store: other.csv}\n'
    summary = run(flows("tables: [ordres]", 'store: "lake/{table}"\n', more))
    assert [each.status for each in summary.flows] == ["failed", "done"]
    assert "no table like" in summary.flows[0].error
    assert "main.orders" in summary.flows[0].hint


def test_what_one_table_says_holds_for_it_alone(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders", "users")
    rest = """\
        store: "lake/{table}"
        tables:
          users: {mode: append, columns: [v], where: v IS NOT NULL}
    """
    path = flows('tables: ["*"]', rest)
    for _ in range(2):
        assert run(path).ok
    assert ds.dataset(tmp_path / "lake" / "users").to_table().to_pydict() == {"v": ["users"] * 2}
    assert ds.dataset(tmp_path / "lake" / "orders").to_table().num_rows == 2


def test_after_a_stop_every_table_has_a_report(flows, tmp_path):
    filled(tmp_path / "shop.db", *(f"t{n}" for n in range(6)))
    stop = threading.Event()

    class Stopping(Silent):
        def moved(self, flow, seen):
            if seen.splits_done == 2:
                stop.set()

    path = flows('tables: ["*"]', 'store: "lake/{table}"\n')
    coordinator = Coordinator(path, engine="inline", max_parallel_flows=1)
    summary = coordinator.run(Stopping(), stop)
    assert [each.flow for each in summary.flows] == [f"shop.main.t{n}" for n in range(6)]
    statuses = [each.status for each in summary.flows]
    assert statuses[:2] == ["done", "done"]
    assert set(statuses[2:]) == {"stopped"}
    assert run(path).ok


def test_on_ray_tables_hand_their_lanes_on(flows, tmp_path, monkeypatch, ray_here):
    import ray

    from hygge.engine.ray import lanes

    cpus = int(ray.cluster_resources()["CPU"])
    most = [0]
    while lanes._idle:  # those of a test before this one
        lanes.shut_down_lane(lanes._idle.pop())
    until(lambda: not lanes._alive, "lanes that a test before this one left stay")

    class Counted(lanes.Lane):
        def __init__(self, *given):
            super().__init__(*given)
            most[0] = max(most[0], len(lanes._alive) + 1)

    monkeypatch.setattr(lanes, "Lane", Counted)
    filled(tmp_path / "shop.db", *(f"t{n}" for n in range(cpus + 10)))
    path = flows('tables: ["*"]', 'store: "lake/{table}"\n')
    summary = Coordinator(path, max_parallel_flows=cpus + 3).run()
    assert summary.ok, [each.error for each in summary.flows]
    assert {each.rows for each in summary.flows} == {2}
    assert 0 < most[0] <= cpus


def test_on_a_cluster_a_flow_asks_for_a_lane_that_makes_it_grow(ray_here):
    import ray

    from hygge.engine.ray import lanes

    stop = threading.Event()
    ask = partial(lanes.wait_for_lane, "f", Limits(), stop)
    held = [ask(0) for _ in range(int(ray.cluster_resources()["CPU"]))]
    try:
        assert not any(lane.waits_for_cpu for lane in held)
        waiting = ask(0.3)
        assert waiting.waits_for_cpu
        assert lanes.take_idle_lane(Limits()) is None
        held.append(waiting)
        stop.set()
        assert ask(float("inf")) is None
    finally:
        for lane in held:
            lanes.shut_down_lane(lane)


def test_selecting_a_table_that_is_not_there_names_the_nearest(flows, tmp_path):
    filled(tmp_path / "shop.db", "orders", "users")
    path = flows('tables: ["*"]', 'store: "lake/{table}"\n')
    (report,) = run(path, "shop.main.ordres").flows
    assert report.status == "failed"
    assert "flow 'shop': it has no table 'main.ordres'" in report.error
    assert "did you mean 'main.orders'" in report.hint
    assert [each.flow for each in run(path, "shop.main.users").flows] == ["shop.main.users"]


def test_check_asks_no_database_and_plan_shows_a_line_a_table(flows, tmp_path, capsys):
    path = flows('tables: ["*"]', 'store: "lake/{table}"\n')
    (tmp_path / "shop.db").touch()  # a database without tables, in which no pattern matches one
    assert main(["check", str(path)]) == 0
    (tmp_path / "shop.db").unlink()
    filled(tmp_path / "shop.db", *(f"t{n}" for n in range(5)))
    capsys.readouterr()
    assert main(["plan", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("shop: 5 tables, each read by itself")
    assert [line.split(":")[0] for line in lines[1:]] == [f"  shop.main.t{n}" for n in range(5)]
    assert main(["plan", str(path), "--select", "shop.main.t3"]) == 0
    assert "a reader of the store sees" in capsys.readouterr().out
    assert not (tmp_path / "lake").exists()


# What people see.


def test_a_report_of_200_tables_is_short_and_tells_of_each_that_failed():
    flows = [Report(f"shop.public.t{n:03}", "done", rows=5, rows_read=5, applied=5, of="shop")
             for n in range(200)]  # fmt: skip
    flows[7] = Report("shop.public.t007", "failed", error="it broke", hint="mend it", of="shop")
    text = report_text(Summary((*flows, Report("after", "done")), 9.0))
    lines = text.splitlines()
    assert len(lines) < 12
    assert "199 of 200 tables  995 rows read = staged = applied" in lines[0]
    assert lines[1].startswith("shop.public.t007")
    assert "error: shop.public.t007: it broke" in text
    assert lines[-1] == "201 flows: 200 done, 1 failed in 9.0 s"


def test_many_errors_and_notes_do_not_bury_the_report():
    flows = [Report(f"shop.t{n:03}", "failed", error="no server", hint="start it", of="shop")
             for n in range(200)]  # fmt: skip
    assert "and 180 more failed" in report_text(Summary(tuple(flows)))
    flows = [Report(f"shop.t{n:03}", "done", note="the same", of="shop") for n in range(200)]
    text = report_text(Summary(tuple(flows)))
    assert text.count("the same") == 1
    assert "note: shop: 200 tables, such as shop.t000: the same" in text


def test_progress_of_many_tables_is_one_sum():
    class Kept(Silent):
        seen = Progress()

        def moved(self, flow, seen):
            assert flow == "shop"
            self.seen = seen

    watch = Kept()
    together = Combined(watch, "shop", 3)
    assert watch.seen == Progress(splits=3, of="tables")
    together.moved("shop.a", Progress(waits_for="the engine"))
    assert watch.seen.waits_for == "the engine"
    together.moved("shop.a", Progress(10, 100, lanes=1))
    together.moved("shop.b", Progress(5, 50, lanes=1))
    together.ended(Report("shop.a", "done", rows=12, bytes=120))
    assert watch.seen == Progress(17, 170, 1, 3, 1, of="tables")
