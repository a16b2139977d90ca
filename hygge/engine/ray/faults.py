"""The faults of nodes in one move: which failures are the node's, and when the node is left.

A node is left at once where it is certain that no lane can run there (hygge cannot be imported, a
module is missing, a disk is full), or when lanes died there twice within ten minutes. The last node
where a lane may run is never left.
"""

from __future__ import annotations

import time

from hygge.engine.ray import left
from hygge.engine.ray.failures import find_raised, is_disk_full, is_ray_failure
from hygge.engine.ray.placement import list_nodes
from hygge.errors import HyggeError
from hygge.model import Limits

_FAULTS_WITHIN_S = 600.0
_MOST_WITHOUT_WORK = 8
"""Nodes that a move leaves before a lane of it is up: then the fault is not one of a node."""


class NodeFaults:
    """The faults of nodes in one move."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.faults: dict[str, list[float]] = {}
        """Node → when lanes of this move died there."""
        self.left_here: list[str] = []
        self.has_worked = False
        """Whether a lane of this move was up."""

    def note(
        self, node: str, error: BaseException, cause: BaseException, at_start: bool, why: str
    ) -> bool:
        """Count a failure of a lane on `node`; return whether the node is left.

        `at_start`: the lane was not up yet. `why`: what happened, for people.
        """
        if left.NODE_ID in self.limits.label_selector:
            return False  # the user has chosen the nodes
        if left.is_left(node):
            return True
        if not self._is_faulty(node, error, cause, at_start):
            return False
        if not self.has_worked and len(self.left_here) >= _MOST_WITHOUT_WORK:
            return False
        suitable = [found["NodeID"] for found in list_nodes(self.limits)]
        if node not in suitable or len(suitable) < 2:
            return False
        left.leave(node, why)
        self.left_here.append(node)
        return True

    def _is_faulty(
        self, node: str, error: BaseException, cause: BaseException, at_start: bool
    ) -> bool:
        is_not_loaded = at_start and isinstance(cause, HyggeError)  # a module that is not there
        if is_not_loaded or is_disk_full(cause) or find_raised(cause):
            return True
        if not is_ray_failure(error):
            return False
        now = time.monotonic()
        recent = [at for at in self.faults.get(node, ()) if now - at < _FAULTS_WITHIN_S]
        self.faults[node] = [*recent, now]
        return len(self.faults[node]) > 1

    def take_back(self) -> None:
        """Try again what this move has left: it failed all the same, so nodes are not its fault."""
        for node in self.left_here:
            left.take_back(node)
