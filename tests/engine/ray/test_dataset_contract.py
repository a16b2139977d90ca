"""A Dataset keeps the promises of every Home."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge import RayDataHome
from hygge.testing import HomeContract
from tests.chaos import only_in_chaos

pytestmark = [
    only_in_chaos,  # each Dataset takes Ray Data a second; test_datasets.py is the quicker one
    pytest.mark.usefixtures("ray_here"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray Data warns of itself
]


class TestRayDataHome(HomeContract):
    def make(self, table, tmp_path):
        import ray

        size = -(-table.num_rows // 4) or 1
        blocks = [table.slice(at, size) for at in range(0, max(1, table.num_rows), size)]
        return RayDataHome(ray.data.from_arrow(blocks))

    def test_it_travels_to_a_worker(self, tmp_path):
        import ray

        home = self.make(pa.table({"n": range(1_500)}), tmp_path)
        with home.open() as plan:
            reading = ray.remote(lambda home, split: pa.concat_tables(home.read(split)))
            tables = ray.get([reading.remote(home, split) for split in plan.splits])
        assert pa.concat_tables(tables)["n"].to_pylist() == list(range(1_500))
