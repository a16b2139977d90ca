"""A split of one batch is read and staged by one process of its lane, with the same promises."""

from __future__ import annotations

import pytest

from hygge import FlowFailed
from hygge.model import MIB
from tests.engine.ends import Careful, Counted, OnceSaid
from tests.engine.ray.test_supervision import flow, numbers

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.mark.parametrize(("size", "processes"), [(MIB, 1), (None, 2), (32 * MIB, 2)])
def test_one_process_does_it_where_the_plan_says_that_it_is_small(tmp_path, size, processes):
    pids = tmp_path / "pids"
    pids.mkdir()
    home = Counted(size=size, pids=str(pids))
    report = flow(home, Careful(path=tmp_path / "out", pids=str(pids))).run()
    assert numbers(tmp_path / "out") == list(range(400))
    assert (report.rows_read, report.rows, report.splits, report.lanes) == (400, 400, 1, 1)
    assert len({each.name.partition("-")[2] for each in pids.iterdir()}) == processes


@pytest.mark.parametrize("end", ["home", "store"])
@pytest.mark.parametrize("what", ["die", "transient"])
def test_what_a_retry_mends_is_tried_again_and_no_row_comes_twice(tmp_path, end, what):
    acts = {end: {"act": what, "flag": str(tmp_path / "flag")}}
    home = Counted(size=MIB, **acts.get("home", {}))
    watch = OnceSaid(flow(home, Careful(path=tmp_path / "out")).limits, "never")
    report = flow(home, Careful(path=tmp_path / "out", **acts.get("store", {}))).run(watch)
    assert numbers(tmp_path / "out") == list(range(400))
    assert (report.rows, report.retries) == (400, 1)
    why = "one of its processes died" if what == "die" else "the line was cut"
    assert any(why in text for text in watch.words)


@pytest.mark.parametrize("end", ["home", "store"])
def test_an_error_that_no_retry_mends_is_raised_with_its_cause(tmp_path, end):
    home = Counted(size=MIB, act="permanent" if end == "home" else "")
    store = Careful(path=tmp_path / "out", act="permanent" if end == "store" else "")
    with pytest.raises(FlowFailed, match="ValueError: the value is wrong") as caught:
        flow(home, store).run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert list(tmp_path.iterdir()) == [], "staging is left behind"


def test_a_stall_names_the_end_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr("hygge.engine.ray.watching._SHOW_WAIT_AFTER_S", 0.0)
    home = Counted(size=MIB, batches=4, act="hang")
    moving = flow(home, Careful(path=tmp_path / "out"), stall_timeout_s=3600)
    watch = OnceSaid(moving.limits, "never")
    seen = []

    def moved(name, progress):
        seen.append(progress)
        if progress.rows == 200 and "home" in progress.waits_for:
            object.__setattr__(moving.limits, "stall_timeout_s", 0.0)

    watch.moved = moved
    with pytest.raises(FlowFailed, match=r"waiting for the home Counted"):
        moving.run(watch)
    assert seen[-1].rows == 200
