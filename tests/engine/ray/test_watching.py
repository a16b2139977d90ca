"""A stall is reported with who waits for whom, then ends the flow; no process is left."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pytest

from hygge import Flow, FlowFailed
from hygge.engine.ray import engine
from hygge.model import Column, Limits, Plan, Split
from hygge.run.watch import Silent
from tests.chaos import only_in_chaos
from tests.engine.ends import Careful, Counted, OnceSaid
from tests.waiting import LIMIT_S, is_gone, join, said_by, until


class Heard(Silent):
    def __init__(self):
        self.words, self.waits = [], []

    def said(self, flow, text):
        self.words.append(text)

    def moved(self, flow, seen):
        self.waits.append(seen.waits_for)


class OneHangs(Counted):
    """The first of two splits hangs; the second gives its rows at once."""

    def open(self, since=None):
        return nullcontext(Plan((Column("n", pa.int64()),), (Split(0, "1"), Split(1, "1"))))

    def read(self, split):
        if split.index == 0:
            time.sleep(3600)
        yield pa.table({"n": [1]})


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("end", [pytest.param("home", marks=only_in_chaos), "store"])
def test_an_end_that_hangs_is_named_then_fails_the_flow_and_leaves_no_process(
    end, tmp_path, monkeypatch
):
    from hygge.engine.ray import watching

    monkeypatch.setattr(watching, "SAY_STALL_AFTER_S", 1.0)
    pids, hangs, limits = tmp_path / "pids", tmp_path / "pids" / "hangs", Limits()
    pids.mkdir()
    hang = {end: {"act": "hang", "flag": str(hangs)}}
    home = Counted(pids=str(pids), **hang.get("home", {}))
    store = Careful(path=tmp_path / "out", pids=str(pids), **hang.get("store", {}))
    flow = Flow(home, store, name="f", limits=limits)
    who = {"home": "the home Counted", "store": f"the store {tmp_path}/out"}[end]
    heard = OnceSaid(limits, f"waiting for {who}", lambda heard: hangs.exists())
    with pytest.raises(FlowFailed) as caught:
        flow.run(heard)
    assert heard.words[-1].startswith("nothing moved for")
    assert heard.words[-1].endswith(f"waiting for {who}")
    assert re.fullmatch(rf"nothing moved for \d+ s: waiting for {who}", caught.value.report.error)
    assert "stall_timeout" in caught.value.report.hint
    assert sorted(os.listdir(tmp_path)) == ["pids"]
    workers = [int(file.name.split("-")[1]) for file in pids.glob("*-*")]
    assert len(workers) == 2
    until(lambda: all(map(is_gone, workers)), f"one of {workers} is left running")


@pytest.mark.usefixtures("ray_here")
def test_a_lane_without_work_is_not_who_is_waited_for(tmp_path, monkeypatch):
    from hygge.engine.ray import watching

    monkeypatch.setattr(watching, "SAY_STALL_AFTER_S", 1.0)
    limits = Limits(lanes=2)
    flow = Flow(OneHangs(), Careful(path=tmp_path / "out"), name="f", limits=limits)
    waits = "waiting for the home OneHangs"
    heard = OnceSaid(limits, waits, lambda heard: heard.seen.splits_done == 1)
    with pytest.raises(FlowFailed, match=waits):
        flow.run(heard)


@pytest.mark.usefixtures("ray_here")
def test_lanes_that_find_no_cpu_are_said_as_that_and_begin_when_there_is_one(tmp_path, monkeypatch):
    import ray

    from hygge.engine.ray import watching

    monkeypatch.setattr(watching, "SAY_STALL_AFTER_S", 4.0)
    monkeypatch.setattr(engine, "_FIRST_LANE_S", 0.1)
    from hygge.engine.ray import lanes

    while lanes._idle:
        lanes.shut_down_lane(lanes._idle.pop())
    began = tmp_path / "busy"

    def keep_busy() -> None:
        began.touch()
        time.sleep(3600)

    every = ray.cluster_resources()["CPU"]
    busy = ray.remote(keep_busy).options(num_cpus=every, max_retries=0).remote()
    until(began.exists, "the CPUs are not taken")
    heard, reports = Heard(), []
    limits = Limits(stall_timeout_s=0.5)
    flow = Flow(Counted(), Careful(path=tmp_path / "out"), name="f", limits=limits)
    running = threading.Thread(target=lambda: reports.append(flow.run(heard)))
    running.start()
    waits = "waiting for 1 CPU; 0 of 1 lanes run"
    stall = rf"nothing moved for \d+ s: {waits}"  # beyond its stall_timeout
    until(lambda: any(re.match(stall, said) for said in heard.words), lambda: str(heard.words))
    assert waits in heard.words
    object.__setattr__(limits, "stall_timeout_s", LIMIT_S)  # the lane may take its time to stand
    ray.cancel(busy, force=True)
    join(running)
    assert reports[0].rows == 400


def test_two_runs_of_one_flow_at_once_the_second_says_who_and_exits_1(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\nimport pandas as pd\nfrom hygge import Home\n"
        "class Slow(Home):\n"
        "    async def read_batches(self):\n"
        "        open('reading', 'w').close()\n"
        "        while not __import__('os').path.exists('go'):\n"
        "            yield pd.DataFrame({'n': [1]})\n"
        "            time.sleep(0.05)\n"
    )
    (tmp_path / "flows.yml").write_text(
        "flows:\n  slow: {home: {type: 'slow:Slow'}, store: out/slow}\n"
    )
    command = [sys.executable, "-m", "hygge", "flows.yml", "--inline"]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    until(Path(tmp_path, "reading").exists, "the first does not read")
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S)
    Path(tmp_path, "go").touch()
    said, _ = said_by(first)
    assert first.returncode == 0, said
    assert second.returncode == 1
    who = f"process {first.pid} on {socket.gethostname()}, since 20"
    assert f"flow 'slow' is being run by {who}" in second.stdout + second.stderr
    assert "hint: wait for it or end it, then run again" in second.stdout + second.stderr
