"""The Ray engine passes the conformance suite of engines."""

import pytest

from hygge.engine.ray.engine import RayEngine
from hygge.testing import EngineContract
from tests.chaos import only_in_chaos


@pytest.mark.ray_versions
@pytest.mark.usefixtures("ray_here")
class TestRayEngine(EngineContract):
    def engine(self):
        return RayEngine()

    # Each starts two processes; an error goes the same way from both of them.
    @pytest.mark.parametrize(
        ("side", "kind"),
        [
            ("home", "unfit"),
            ("store", "foreign"),
            pytest.param("home", "foreign", marks=only_in_chaos),
            pytest.param("store", "unfit", marks=only_in_chaos),
        ],
    )
    def test_an_error_that_stays_stops_at_once_with_its_cause(self, side, kind, tmp_path):
        super().test_an_error_that_stays_stops_at_once_with_its_cause(side, kind, tmp_path)
