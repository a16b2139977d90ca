import pytest

from hygge.engine.ray import supervision
from hygge.testing import EngineContract


@pytest.mark.usefixtures("ray_here")
class TestRayEngine(EngineContract):
    def engine(self):
        return supervision.engine()
