"""What only the Ray engine has: processes, Inboxes, stalls. `test_contract` has the rest."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from hygge import Flow, FlowFailed
from hygge.engine.ray.calls import Reservation
from hygge.model import MIB, Limits
from hygge.run.watch import Silent
from tests.chaos import only_in_chaos
from tests.engine.ends import Careful, Counted, OnceSaid
from tests.waiting import LIMIT_S

pytestmark = pytest.mark.usefixtures("ray_here")


def numbers(path: Path) -> list[int]:
    table = ds.dataset(path, format="arrow", exclude_invalid_files=False).to_table(columns=["n"])
    return sorted(table.column("n").to_pylist())


def flow(home: Counted, store: Careful, **limits: object) -> Flow:
    return Flow(home, store, name="counted", limits=Limits(**limits))  # type: ignore[arg-type]


def test_home_inbox_and_store_are_different_processes(tmp_path):
    pids = tmp_path / "pids"
    pids.mkdir()
    store = Careful(path=tmp_path / "out", pids=str(pids))
    report = flow(Counted(splits=7, pids=str(pids)), store).run()
    assert numbers(tmp_path / "out") == list(range(7 * 400))
    assert (report.rows, report.splits, report.retries) == (2800, 7, 0)
    home, store = sorted(pids.iterdir())
    assert home.name.startswith("home-")
    assert store.name.startswith("store-")
    assert home.name.split("-")[1] != store.name.split("-")[1]


def test_a_dead_inbox_costs_no_row(tmp_path, monkeypatch):
    import ray

    from hygge.engine.ray.lane import Lane

    killed, gate = [], tmp_path / "gate"
    start = Lane.start

    def start_and_kill(self, split, ticket):
        attempt = start(self, split, ticket)
        if not killed:
            killed.append(ticket)
            ray.kill(self.inbox.actor)
            gate.touch()  # no split was read to its end before
        return attempt

    monkeypatch.setattr(Lane, "start", start_and_kill)
    home = Counted(splits=2, gate=str(gate))
    report = flow(home, Careful(path=tmp_path / "out"), lanes=1).run()
    assert killed
    assert numbers(tmp_path / "out") == list(range(800))
    assert report.retries >= 1


@pytest.mark.parametrize("end", ["home", pytest.param("store", marks=only_in_chaos)])
def test_an_error_that_no_retry_mends_stops_at_once_with_its_cause(tmp_path, end):
    home = Counted(act="permanent" if end == "home" else "")
    store = Careful(path=tmp_path / "out", act="permanent" if end == "store" else "")
    with pytest.raises(FlowFailed, match="ValueError: the value is wrong") as caught:
        flow(home, store).run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.report.status == "failed"
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == [], "staging is left behind"


def test_with_a_slow_store_the_home_waits_and_the_bytes_stay_bounded(tmp_path):
    from hygge.engine.ray import lanes, watching
    from hygge.engine.ray.lane import Lane

    seen, gate = [], tmp_path / "gate"
    refresh, request = watching.refresh_stats, Lane.request_stats

    def keep(lanes):
        refresh(lanes)
        seen.extend(lane.stats for lane in lanes)

    def until_the_home_waits(lane):
        request(lane)
        if lane.stats.waiting == "home":
            gate.touch()

    home = Counted(batches=40, rows=1000, width=1024)
    store = Careful(path=tmp_path / "out", gate=str(gate))
    patch = pytest.MonkeyPatch()
    patch.setattr(watching, "refresh_stats", keep)
    patch.setattr(Lane, "request_stats", until_the_home_waits)
    patch.setattr(lanes, "_LAST_S", LIMIT_S)
    try:
        report = flow(home, store, memory_per_lane=3 * MIB, batch_bytes=2 * MIB).run()
    finally:
        patch.undo()
    assert report.rows == 40_000
    assert report.wait_home_s > 0
    assert 0 < seen[0].most_charged <= 3 * MIB
    assert seen[0].charged == 0
    assert seen[0].bytes_out == report.bytes > 39 * MIB


def test_the_data_does_not_pass_through_the_inbox(tmp_path):
    from hygge.engine.ray import watching

    shared = []
    refresh = watching.refresh_stats

    def measure(lanes):
        import ray

        for lane in lanes:
            call = lane.inbox.actor.__ray_call__
            pid = ray.get(call.remote(lambda actor: __import__("os").getpid()))
            status = Path(f"/proc/{pid}/status").read_text()
            shared.append(int(status.split("RssShmem:")[1].split()[0]) * 1024)
        refresh(lanes)

    patch = pytest.MonkeyPatch()
    patch.setattr(watching, "refresh_stats", measure)
    try:
        report = flow(
            Counted(batches=50, rows=2000, width=1024), Careful(path=tmp_path / "out")
        ).run()
    finally:
        patch.undo()
    assert report.bytes > 98 * MIB
    assert shared[0] < report.bytes / 100


def test_a_stall_names_who_is_waited_for(tmp_path, monkeypatch):
    from hygge.engine.ray import watching

    monkeypatch.setattr(watching, "SAY_STALL_AFTER_S", 0.5)
    flag = tmp_path / "flag"
    moving = flow(Counted(act="hang", flag=str(flag)), Careful(path=tmp_path / "out"))
    waits = "waiting for the home Counted"
    heard = OnceSaid(moving.limits, waits, lambda heard: flag.exists())
    with pytest.raises(FlowFailed, match=f"nothing moved for .* {waits}"):
        moving.run(heard)


def test_what_cannot_travel_is_refused_in_a_sentence(tmp_path):
    home = Counted()
    home.lock = threading.Lock()
    with pytest.raises(FlowFailed, match="Counted cannot travel to another process") as caught:
        flow(home, Careful(path=tmp_path / "out")).run()
    assert "not in __init__" in caught.value.hint


def test_a_budget_beyond_the_object_store_is_refused(tmp_path):
    with pytest.raises(FlowFailed, match="60 % of Ray's object"):
        flow(Counted(), Careful(path=tmp_path / "out"), memory_per_lane=1 << 40).run()


@pytest.mark.parametrize(
    ("limits", "needs"),
    [
        ({"cpus_per_lane": 64.0}, "64 CPUs"),
        ({"resources": {"fast_disk": 1.0}}, "1 CPU and 1 fast_disk"),
        ({"label_selector": {"region": "eu"}, "lanes": 2}, "1 CPU on nodes with region=eu"),
    ],
)
def test_what_no_node_of_a_private_ray_has_is_refused_at_once(tmp_path, limits, needs):
    said = rf"a lane needs {needs}, and hygge's own Ray on this machine has \d+ CPUs? and .* memory"
    with pytest.raises(FlowFailed, match=said) as refused:
        flow(Counted(), Careful(path=tmp_path / "out"), **limits).run()
    assert "cpus_per_lane" in refused.value.report.hint


def test_rows_that_are_read_again_are_seen_once(tmp_path):
    class Heard(Silent):
        def said(self, flow, text):
            again.append(text)

        def moved(self, flow, seen):
            rows.append(seen.rows)
            if again and seen.rows:
                gate.touch()

    rows: list[int] = []
    again: list[str] = []
    gate = tmp_path / "gate"
    store = Careful(
        path=tmp_path / "out", act="transient", flag=str(tmp_path / "f"), gate=str(gate)
    )
    report = flow(Counted(), store).run(Heard())
    assert (report.rows, report.retries) == (400, 1)
    assert 0 < rows[-1] <= max(rows) <= 400


def test_lanes_that_the_memory_of_others_held_back_are_added_when_those_end(tmp_path, monkeypatch):
    import ray

    from hygge.engine.ray import supervision

    if ray.cluster_resources()["CPU"] < 2:
        pytest.skip("one CPU is one lane")
    monkeypatch.setattr(supervision, "_GROW_EVERY_S", 0.2)
    others = int(ray.cluster_resources()["object_store_memory"] * 0.6) - 8 * MIB
    Reservation.total += others

    class Heard(Silent):
        def moved(self, flow, seen):
            lanes.append(seen.lanes)
            if seen.splits_done and Reservation.total > others:
                Reservation.total -= others
            if seen.lanes == 2:
                gate.touch()

    lanes: list[int] = []
    small = {"memory_per_lane": 8 * MIB, "batch_bytes": MIB}
    gate = tmp_path / "gate"  # before which one split is all that is moved
    store = Careful(path=tmp_path / "out", gate=str(gate), gate_from=1)
    report = flow(Counted(splits=10), store, lanes=2, **small).run(Heard())
    assert (report.rows, report.lanes, Reservation.total) == (4000, 2, 0)
    assert next(n for n in lanes if n) == 1


@pytest.mark.parametrize(
    ("by", "lanes", "limits"),
    [
        ("CPUs", 2, lambda cpus, store: {"lanes": 17, "cpus_per_lane": cpus / 2}),
        pytest.param(
            "max_connections", 1, lambda cpus, store: {"lanes": 2, "most_lanes": 1},
            marks=only_in_chaos,
        ),
        pytest.param(
            "Ray's object store", 1,
            lambda cpus, store: {"lanes": 2, "memory_per_lane": store // 2},
            marks=only_in_chaos,
        ),
        ("the store", 1, lambda cpus, store: {"lanes": 2}),
        ("", 1, lambda cpus, store: {"lanes": 1}),
    ],
)  # fmt: skip
def test_the_report_says_the_lanes_that_ran_and_what_bounded_them(
    tmp_path, monkeypatch, by, lanes, limits
):
    import ray

    from hygge.model import StoreTraits, Summary
    from hygge.report.text import report_text

    if (cpus := ray.cluster_resources()["CPU"]) < 2:
        pytest.skip("one CPU is one lane")

    class Heard(Silent):
        def moved(self, flow, seen):
            if seen.lanes == lanes:
                gate.touch()

    if by == "the store":
        monkeypatch.setattr(Careful, "traits", StoreTraits(max_lanes=1))
    gate = tmp_path / "gate"  # before which no split is staged, so that each lane gets one
    store = Careful(path=tmp_path / "out", gate=str(gate))
    asked = {"memory_per_lane": 8 * MIB, "batch_bytes": MIB}
    asked |= limits(cpus, int(ray.cluster_resources()["object_store_memory"]))
    report = flow(Counted(splits=17), store, **asked).run(Heard())
    assert (report.rows, report.lanes, report.lanes_bound) == (17 * 400, lanes, by)
    said = report_text(Summary((report,)))
    bound = f" (bounded by {by})" if by else ""
    assert f"17 splits over {lanes} lane{'s'[: lanes != 1]}{bound}  → " in said


def test_lanes_that_wait_for_a_larger_cluster_are_bounded_by_that_of_today(tmp_path):
    import ray

    from hygge.engine.ray.placement import bound_by_nodes, lane_bounds

    cpus = int(ray.cluster_resources()["CPU"])
    asked = Limits(lanes=cpus + 11)
    assert [bound.by for bound in lane_bounds(asked, grows=True)] == [""]
    assert bound_by_nodes(asked, cpus) == "CPUs"
    assert bound_by_nodes(asked, cpus - 1) == "", "they were not needed"


def test_lanes_follow_splits_and_what_the_store_allows(tmp_path, monkeypatch):
    import ray

    from hygge.engine.ray import placement
    from hygge.model import Run, Split, StoreTraits
    from hygge.run.engines import MoveRequest

    def lanes(
        splits: int, asked: int | None, most: int | None, grows: bool = True, share: float = 1.0
    ) -> int:
        store = Careful(path=tmp_path / "out")
        monkeypatch.setattr(Careful, "traits", StoreTraits(max_lanes=most))
        splits_ = tuple(Split(i, "") for i in range(splits))
        limits = Limits(asked, store_share=share)
        move = MoveRequest("f", Run("r", "f"), Counted(), store, pa.schema([]), splits_, limits)
        return placement.count_lanes(move, grows=grows).lanes

    assert lanes(1, None, None) == 1
    assert lanes(8, 3, None) == 3
    assert lanes(8000, 8000, None, grows=False) == ray.cluster_resources()["CPU"]
    assert lanes(8, 3, 1) == 1
    assert lanes(8, 3, None, share=1e-6) == 1, "jobs side by side share the object stores"


@pytest.mark.parametrize("end", [pytest.param("home", marks=only_in_chaos), "store"])
def test_a_process_that_dies_each_time_is_said_each_time_and_ends_the_flow(tmp_path, end, capfd):
    class Heard(Silent):
        def said(self, flow, text):
            words.append(text)

    words: list[str] = []
    home = Counted(act="die" if end == "home" else "")
    store = Careful(path=tmp_path / "out", act="die" if end == "store" else "")
    died = rf"lane 0 on node [\d.]+: the {end}'s process died"
    ended = f"split 0 failed 2 times; the last time in {died}"
    with pytest.raises(FlowFailed, match=ended) as told:
        flow(home, store, retries=1).run(Heard())
    (said,) = words
    assert re.fullmatch(rf"split 0 is tried again \(2 of 2 tries\): {died}", said)
    assert "memory ran out" in told.value.report.hint
    assert capfd.readouterr() == ("", ""), "Ray tells people of it, too"
    assert list(tmp_path.iterdir()) == []
