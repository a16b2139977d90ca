import pytest

from hygge.engine import on_ray
from hygge.testing import EngineContract


@pytest.mark.usefixtures("ray_here")
class TestRayEngine(EngineContract):
    def engine(self):
        return on_ray.engine()
