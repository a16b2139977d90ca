"""The cases of the drills on three hosts: what is broken, when, and what the run must say of it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.crash.hosts_world import HOSTS, SPLITS, World
from tests.waiting import until

import local  # isort: skip  # cluster/local.py
from hosts import Host  # isort: skip

import psutil  # isort: skip  # Ray's own, which is on the path by now

CUT_S = 100.0
"""Longer than Ray takes a silent node for alive: about 65 s."""
WITHOUT_HYGGE = """
import sys
class WithoutHygge:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hygge":
            raise ModuleNotFoundError("No module named 'hygge'", name="hygge")
sys.meta_path.insert(0, WithoutHygge())
"""
"""A sitecustomize.py."""


@dataclass(frozen=True)
class Case:
    """What is done to a run, to whom, and whether it must be submitted again for it."""

    title: str
    strike: Callable[[World], object]
    """Called when a third of the splits is sealed."""
    consistency: str = "snapshot"
    head_dies: bool = False
    before: Callable[[World], object] | None = None
    """Called before the run is submitted."""
    leaves: str = ""
    """The reason for which the run must leave the node that was lost, as its output says it."""
    lanes: int = HOSTS
    driver: str = ""
    """What the driver of the flow takes of its node; empty: it is on the head."""
    says: tuple[str, ...] = ()
    """What the output must say; `{lost}` is the address of the host that was lost."""
    retries: int = 3


def nothing(world: World) -> None:
    """Nobody dies."""


def last(world: World) -> Host:
    """A host that is not the head, which the case may break."""
    host = world.ray.nodes[-1][0]
    world.lost.append(host)
    return host


def cut_a_node(world: World) -> None:
    world.ray.network.cut(last(world))


def kill_a_node(world: World) -> None:
    last(world).die()


def fill_a_disk(world: World) -> None:
    world.ray.network.fill_disk(last(world))


def find_driver() -> psutil.Process:
    """The process of the flow's own job; not the shell that Ray starts it by."""
    for process in local.descendants():
        with contextlib.suppress(psutil.Error):  # some end while one looks
            words = process.cmdline()
            if "hygge" in words and "--select" in words and "python" in words[0]:
                return process
    raise AssertionError("there is no driver of a flow")


def kill_the_driver(world: World) -> None:
    find_driver().send_signal(signal.SIGKILL)


def kill_the_drivers_node(world: World) -> None:
    def network(pid: int) -> str:
        return os.readlink(f"/proc/{pid}/ns/net")

    inside = network(find_driver().pid)
    (host,) = [host for host, _ in world.ray.nodes if network(host.pid) == inside]
    assert host is not world.ray.head, "the driver is on the head"
    world.lost.append(host)
    host.die()


def add_a_node(world: World) -> None:
    """The rows come slowly meanwhile: on a busy machine a node takes longer than the run."""
    world.slow_down(10)
    world.lost.append(world.add())
    world.slow_down(4)


def give_the_driver_a_full_node(world: World) -> None:
    """Only one node has what the driver takes, and a full disk; another comes when one has died."""
    world.lost.append(world.add(resources={"chosen": 1}))
    world.ray.network.fill_disk(world.lost[-1])

    def died() -> bool:
        return any("its driver died" in log.read_text() for log in world.folder.glob("else*.log"))

    def add_another() -> None:
        until(died, "a driver that dies")
        world.lost.insert(0, world.add(resources={"chosen": 1}))
        threading.Event().wait()  # a host dies with the thread that made it

    threading.Thread(target=add_another, daemon=True).start()


def kill_the_head(world: World) -> None:
    world.ray.head.die()


def add_a_node_without_hygge(world: World) -> None:
    """A node whose Python cannot import hygge, as one of a wrong image."""
    broken = world.folder / "without-hygge"
    broken.mkdir(exist_ok=True)
    (broken / "sitecustomize.py").write_text(WITHOUT_HYGGE)
    world.lost.append(world.add(settings={"PYTHONPATH": str(broken)}))


CASES = {
    "whole": Case("nobody dies", nothing),
    "cut": Case(f"a node is cut off for {CUT_S:.0f} s", cut_a_node),
    "node": Case("a node is killed", kill_a_node),
    "late": Case(
        "a node joins when the run is under way",
        add_a_node,
        lanes=HOSTS + 1,
        says=(f"{SPLITS} splits over {HOSTS + 1} lanes",),
    ),
    "driver": Case("the flow's driver is killed", kill_the_driver, "split"),
    "place": Case(
        "the node of the flow's driver is killed",
        kill_the_drivers_node,
        "split",
        driver="{resources: {drivers: 1}}",
    ),
    "bare": Case(
        "a node has no hygge",
        nothing,
        before=add_a_node_without_hygge,
        leaves="hygge cannot be imported there: ModuleNotFoundError",
    ),
    "full": Case(
        "a node's disk is full",
        nothing,
        before=fill_a_disk,
        leaves="the disk with Ray's session folder is full",
    ),
    "elsewhere": Case(
        "the node of the flow's driver has a full disk",
        nothing,
        before=give_the_driver_a_full_node,
        driver="{resources: {chosen: 1}}",
        says=("not on node {lost}",),
        retries=20,
    ),
    "fills": Case("a node's disk fills up", fill_a_disk, leaves="disk is full while writing"),
    "head": Case("the head is killed", kill_the_head, "split", head_dies=True),
}
