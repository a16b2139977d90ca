"""A run that fails for its bad rows does not first make objects of all of them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hygge import bad_rows
from hygge.bad_rows import ARROW, BadRows, sift
from hygge.errors import TooManyBadRows, UnfitValue
from hygge.model import Ticket

TABLE = pa.table({"id": range(20_000), "text": ["x" * 100] * 20_000})


class Check:
    """Refuses every row but the first ten."""

    seen = 0

    def __call__(self, table: pa.Table) -> None:
        self.seen += table.num_rows == 1
        if pc.max(table["id"]).as_py() >= 10:
            raise UnfitValue("it is refused").at("id")


def test_above_the_limit_it_looks_no_further():
    check = Check()
    good, bad = sift(TABLE, check, ARROW, most_rows=100)
    assert (good["id"][0].as_py(), bad.num_rows) == (0, 1_000)
    assert check.seen < 1_100
    with pytest.raises(TooManyBadRows, match="1,000 rows cannot be moved"):
        BadRows("f", Ticket("run", 0), 100).sift(TABLE, Check())


def test_what_a_split_may_set_aside_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(bad_rows, "_MOST_BYTES", 1 << 20)
    check = Check()
    with pytest.raises(TooManyBadRows):
        BadRows("f", Ticket("run", 0), 1_000_000).sift(TABLE, check)
    assert check.seen < 5_000
    errors = dict.fromkeys(range(20_000), UnfitValue("it is refused"))
    with pytest.raises(TooManyBadRows):
        BadRows("f", Ticket("run", 0), 1_000_000).take(TABLE, errors)


def test_below_the_limit_every_row_is_set_aside_in_order():
    rows = BadRows("f", Ticket("run", 0), 20_000)
    good = rows.sift(TABLE.slice(0, 3_000), Check())
    assert (good["id"].to_pylist(), rows.rows) == ([*range(10)], 2_990)
