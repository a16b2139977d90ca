"""Memory is bounded for any size of table: measured from outside, on a private Ray of its own.

`memory_probe` says what is counted. The flows are small ones of the kinds that break a bound
soonest; `benchmarks/memory.py` has the same and others at full size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Home
from hygge.engine.reading import read_split
from hygge.model import MIB, Limits, Split
from tests.chaos import only_in_chaos
from tests.engine.ray.memory_probe import MB, Measured, moved

pytestmark = only_in_chaos

BUDGET = 128 * MIB
ROWS = 8_000_000
NAMES = [
    "narrow rows, slow store",
    "six times the rows",
    "rows of 50 MB",
    "one row group",
    "rows of 50 MB to Parquet",
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, Measured]:
    folder = tmp_path_factory.mktemp("memory")
    one_row_group(folder / "one.parquet")
    flows = [
        # First: what an object store gave back stays mapped, up to the budget, and is counted.
        {
            "name": "rows of 50 MB to Parquet",
            "home": ["Wide", {"rows": 8}],
            "store": ["ParquetStore", {"path": str(folder / "wide")}],
        },
        {
            "name": "narrow rows, slow store",
            "home": ["Narrow", {"rows": 12_000_000}],
            "store": ["Sink", {"delay_s": 0.15}],
        },
        {
            "name": "six times the rows",
            "home": ["Narrow", {"rows": 72_000_000}],
            "store": ["Sink", {"delay_s": 0.02}],
        },
        {
            "name": "rows of 50 MB",
            "home": ["Wide", {"rows": 10}],
            "store": ["Sink", {"delay_s": 0.15}],
        },
        {
            "name": "one row group",
            "home": ["ParquetHome", {"path": str(folder / "one.parquet")}],
            "store": ["ParquetStore", {"path": str(folder / "out")}],
        },
    ]
    return {each.name: each for each in moved([{**flow, "lanes": 1} for flow in flows])}


def one_row_group(path: Path) -> None:
    """320 MB in one row group, which its reader must not take whole."""
    rng = np.random.default_rng(1)
    table = pa.table({name: rng.random(ROWS) for name in "abcde"})
    pq.write_table(table, path, row_group_size=ROWS, use_dictionary=False, compression="none")
    assert pq.read_metadata(path).num_row_groups == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_processes_stay_under_300_mb_and_500_a_lane(measured, name):
    flow = measured[name]
    assert flow.held.looks > 5, "it was hardly looked at"
    assert flow.bytes > 200 * MB
    assert flow.held.most < flow.bound, str(flow.held)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_charged_stay_within_the_budget_of_the_lane(measured, name):
    assert 0 < measured[name].most_charged <= BUDGET


@pytest.mark.parametrize("name", NAMES)
def test_the_object_store_holds_little_more_than_was_charged_and_never_spills(measured, name):
    assert measured[name].spilled == 0
    assert measured[name].held.shared < BUDGET + 64 * MIB


def test_with_a_slow_store_the_budget_is_used(measured):
    assert measured["narrow rows, slow store"].most_charged > BUDGET / 2


def test_six_times_the_rows_take_no_more_memory(measured):
    once, six = measured["narrow rows, slow store"], measured["six times the rows"]
    assert six.rows == 6 * once.rows
    assert six.held.most < 1.1 * once.held.most


def test_a_batch_of_values_of_one_bit_has_no_more_than_a_million_rows():
    class Bits(Home):
        async def read_batches(self):
            yield pa.table({"yes": pa.repeat(pa.scalar(True), 2_500_000)})

    rows = [table.num_rows for table in read_split(Bits(), Split(0, ""), None, Limits())]
    assert rows == [1_000_000, 1_000_000, 500_000]


def test_a_home_makes_its_next_batch_when_the_one_before_is_gone():
    seen, held = [], []

    class Big(Home):
        def open(self, since=None):
            raise NotImplementedError

        def read(self, split):
            for _ in range(4):
                held.append(pa.total_allocated_bytes() - before)
                yield pa.table({"body": pa.repeat(pa.scalar(1.0), MB)})

    before = pa.total_allocated_bytes()
    for table in read_split(Big(), Split(0, ""), None, Limits()):
        seen.append(table.num_rows)
        del table
    assert seen == [MB] * 4
    assert max(held) < 8 * MB
