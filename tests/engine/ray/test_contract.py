"""The Ray engine passes the conformance suite of engines."""

import pytest

from hygge.engine.ray.engine import RayEngine
from hygge.testing import EngineContract


@pytest.mark.ray_versions
@pytest.mark.usefixtures("ray_here")
class TestRayEngine(EngineContract):
    def engine(self):
        return RayEngine()
