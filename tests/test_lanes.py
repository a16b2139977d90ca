"""What lanes take of their nodes, and how many there are; real bundles, and no flow."""

from __future__ import annotations

import threading
import time

from hygge.engine import lanes
from hygge.engine.placement import parts


def _in_ray(amount: float) -> int:
    """As Ray counts it: in ten-thousandths."""
    return int(amount * 10_000 + 0.5)


def test_the_actors_of_a_lane_never_take_more_than_its_bundle():
    for thousandths in range(10, 4001):
        cpus = thousandths / 1000
        end, inbox = parts(cpus)
        assert 2 * _in_ray(end) + _in_ray(inbox) <= _in_ray(cpus), cpus
        assert 0 < inbox <= end, cpus


def test_a_ray_is_not_left_while_an_idle_lane_of_it_is_put_down():
    """Any call to a Ray that has been left ends the process, with code 1 and without a word."""
    order: list[str] = []
    begun = threading.Event()

    class Leaving:
        kept_s, left, is_watched = 0.0, 0.0, True

        def down(self) -> None:
            begun.set()
            time.sleep(0.3)
            order.append("down")

    lane = Leaving()
    lanes._idle.append(lane)
    timer = threading.Thread(target=lanes._down_if_idle, args=[lane])
    timer.start()
    begun.wait(10)
    lanes.forget_idle()  # which `disconnect` does before it leaves
    order.append("left")
    timer.join()
    assert order == ["down", "left"]
