"""What lanes take of their nodes, and how many there are; real bundles, and no flow."""

from __future__ import annotations

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
