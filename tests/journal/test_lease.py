"""Leases: one process drives a flow; a dead one is followed, a living one is not disturbed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from hygge import FlowFailed
from hygge.errors import HyggeError, JournalError, Stopped
from hygge.journal import Lease, interrupt_all, lease
from hygge.places.folder import Folder
from tests.run.test_recovery import ALL, Source
from tests.waiting import LIMIT_S, is_gone, until


@pytest.fixture
def place(tmp_path):
    return Folder(str(tmp_path / "state"))


@pytest.fixture
def quick(monkeypatch):
    """Beats and looks as fast as tests want them; who lives may take its time to beat."""
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    monkeypatch.setattr(lease, "TTL_S", LIMIT_S)
    monkeypatch.setattr(lease, "_LOOK_S", 0.02)


@pytest.fixture
def nobody_waits(monkeypatch):
    """To look whether a holder beats fails; nobody has to where it is known to be gone."""

    def waits(*_):
        raise AssertionError("it is waited for")

    monkeypatch.setattr(Lease, "_observe", waits)


def a_lease(place):
    return Lease(place, "f", threading.Event())


def entry(place) -> dict:
    (key,) = place.keys("flows/f/lease")
    return json.loads(place.get(key))


@contextmanager
def elsewhere(monkeypatch):
    """As another machine would see it: it cannot ask whether the process is alive."""
    with monkeypatch.context() as patch:
        patch.setattr(lease, "_process", lambda pid: {"machine": "other", "started": 1})
        yield


CHILD = """
import sys, threading
from hygge.places.folder import Folder
from hygge.journal import Lease
with Lease(Folder(sys.argv[1]), "f", threading.Event()) as held:
    print(held.epoch, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(place):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, place.path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout.readline().strip().isdigit()
        yield child
    finally:
        child.kill()
        child.communicate()


def test_each_driver_gets_an_epoch_of_its_own(place):
    epochs = []
    for _ in range(3):
        with a_lease(place) as held:
            epochs.append(held.epoch)
    assert epochs == [1, 2, 3]
    assert len(place.keys("flows/f/lease")) == 1


@pytest.mark.usefixtures("quick")
def test_the_error_of_a_second_driver_says_who_drives_the_flow_and_since_when(place):
    with a_lease(place) as first, pytest.raises(JournalError) as caught, a_lease(place):
        pass
    assert f"process {os.getpid()} on {socket.gethostname()}" in caught.value.message
    assert first.since in caught.value.message
    assert "run again" in caught.value.hint
    with a_lease(place) as after:
        assert after.epoch == 2


@pytest.mark.usefixtures("quick")
def test_the_error_of_a_second_driver_names_the_ray_job_of_the_first(place, monkeypatch):
    config = {"metadata": {"job_submission_id": "hygge-1-shop"}}
    with monkeypatch.context() as in_job:
        in_job.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(config))
        held = a_lease(place)
        with (
            held,
            pytest.raises(JournalError, match=r"Ray job hygge-1-shop: `hygge status hygge-1"),
        ):
            a_lease(place).__enter__()


@pytest.mark.usefixtures("nobody_waits")
def test_a_killed_process_of_this_machine_is_followed_at_once(place):
    with another_process(place) as child:
        os.kill(child.pid, signal.SIGKILL)
        # Not waited for yet: a process that only its parent still knows is gone as well.
        until(lambda: is_gone(child.pid), "it does not die")
        with a_lease(place) as held:
            assert held.epoch == 2


def test_a_process_id_that_came_back_is_another_process(place):
    with another_process(place):
        (key,) = place.keys("flows/f/lease")
        facts = json.loads(place.get(key))
        del facts["sum"]
        kind, flow = facts.pop("kind"), facts.pop("flow")
        del facts["hygge"]
        place.put(key, lease.encode(kind, flow, {**facts, "started": facts["started"] - 1}))
        with a_lease(place) as held:
            assert held.epoch == 2


@pytest.mark.usefixtures("quick")
def test_a_holder_elsewhere_whose_beat_stands_still_is_followed_after_a_while(place, monkeypatch):
    with another_process(place) as child:
        os.kill(child.pid, signal.SIGSTOP)
        monkeypatch.setattr(lease, "TTL_S", 0.6)
        with elsewhere(monkeypatch):
            began = time.monotonic()
            with a_lease(place) as held:
                assert held.epoch == 2
                assert time.monotonic() - began >= lease.TTL_S


@pytest.mark.usefixtures("quick")
def test_a_holder_elsewhere_that_beats_is_refused(place, monkeypatch):
    with a_lease(place), elsewhere(monkeypatch), pytest.raises(JournalError), a_lease(place):
        pass


@pytest.mark.usefixtures("quick")
def test_a_later_try_waits_for_an_earlier_one_that_beats_still(place, quick):
    with a_lease(place) as first:

        def beat_and_end():
            until(lambda: first.beat > 2, "it does not beat")
            first.free()

        beating = threading.Thread(target=beat_and_end)
        beating.start()
        with Lease(place, "f", threading.Event(), patience_s=LIMIT_S) as second:
            assert second.epoch == first.epoch + 1
            assert first.beat > 2
        beating.join()
        with (
            a_lease(place),
            pytest.raises(JournalError, match="is being run"),
            Lease(place, "f", threading.Event(), patience_s=0.1),
        ):
            pass


def test_a_holder_that_was_taken_for_dead_stops_itself(place, monkeypatch):
    stop = threading.Event()
    with Lease(place, "f", stop) as first:
        monkeypatch.setattr(lease, "_is_gone", lambda held: True)
        with a_lease(place) as second:
            assert stop.wait(LIMIT_S)
            assert second.epoch == 2
        assert f"process {os.getpid()} on " in first.lost
    assert entry(place)["freed"] is True  # the second's; the first did not touch it


@pytest.mark.usefixtures("quick")
def test_of_many_that_follow_a_dead_holder_each_has_an_epoch_of_its_own(place, monkeypatch):
    monkeypatch.setattr(lease, "_is_gone", lambda held: True)
    epochs, together = [], threading.Barrier(8)

    def take():
        together.wait()
        with a_lease(place) as held:
            epochs.append(held.epoch)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(epochs)) == len(epochs) == 8


@pytest.mark.usefixtures("quick")
def test_a_driver_that_waits_for_a_holder_can_be_stopped(place, monkeypatch):
    with another_process(place) as child:
        os.kill(child.pid, signal.SIGSTOP)
        stop = threading.Event()
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(Stopped), Lease(place, "f", stop):
            pass


def test_a_process_that_ends_in_a_hurry_frees_what_it_holds(place):
    held = a_lease(place).__enter__()
    interrupt_all()
    assert entry(place)["freed"] is True
    held.free()
    with a_lease(place) as after:
        assert after.epoch == 2


@pytest.mark.usefixtures("nobody_waits")
def test_what_this_process_could_not_free_is_followed_at_once(place, monkeypatch):
    def full(key, content):
        raise HyggeError("the disk is full")

    held = a_lease(place).__enter__()
    with monkeypatch.context() as patch:
        patch.setattr(place, "put", full)
        held.free()
    with a_lease(place) as after:
        assert after.epoch == 2


@pytest.mark.usefixtures("quick")
def test_a_flow_that_runs_already_fails_the_second_and_not_the_first(tmp_path):
    source = Source(tmp_path)
    flow, refused = source.flow(), []
    reading = flow.home.read

    def read(split):
        if split.index == 2:
            with pytest.raises(FlowFailed) as caught:
                source.flow().run()
            refused.append(str(caught.value))
        return reading(split)

    flow.home.read = read
    assert flow.run().status == "done"
    assert f"is being run by process {os.getpid()}" in refused[0]
    assert source.rows() == ALL


@pytest.mark.usefixtures("quick")
def test_a_driver_that_was_taken_for_dead_does_no_harm_and_says_who_took_over(
    tmp_path, monkeypatch
):
    source = Source(tmp_path)
    flow = source.flow()
    reading = flow.home.read

    def read(split):
        if split.index == 2:
            (own,) = lease._held
            monkeypatch.setattr(lease, "_is_gone", lambda held: True)
            source.flow().run()
            source.write("f5", 50)
            source.flow().run()
            until(lambda: own.lost, "it does not see who took over")
        return reading(split)

    flow.home.read = read
    everybody = threading.Event()
    with pytest.raises(FlowFailed, match="which took this one for dead"):
        flow.run(stop=everybody)
    assert source.rows() == list(range(60))
    assert not everybody.is_set(), "the other flows of the file were stopped as well"


def test_a_flow_is_stopped_by_the_stop_of_all(tmp_path):
    source, everybody = Source(tmp_path), threading.Event()
    flow = source.flow()
    reading = flow.home.read

    def read(split):
        everybody.set()
        return reading(split)

    flow.home.read = read
    with pytest.raises(FlowFailed) as caught:
        flow.run(stop=everybody)
    assert caught.value.report.status == "stopped"
