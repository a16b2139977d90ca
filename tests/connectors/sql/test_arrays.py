"""Arrow arrays of a driver's values, and the Homes that load no pandas for them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

import pyarrow as pa
import pytest

from hygge.connectors.sql import arrays

pytest_plugins = ["tests.servers.mariadb"]

VALUES = {
    "int64": [-(2**63), 0, 2**63 - 1],
    "int32": [-(2**31), 7, 2**31 - 1],
    "uint8": [0, 255],
    "float64": [0.1, -0.0, float("inf"), 5e-324],
    "string": ["", "a", "line\nend\0", "ASCII alone"],
    "binary": [b"", b"\0\xff", b"abc"],
}


@pytest.mark.parametrize("kind", VALUES)
def test_arrays_are_those_of_pyarrow_without_its_help(kind, monkeypatch):
    values, wanted = VALUES[kind], getattr(pa, kind)()
    more = [[*values, "naïve", "数据"]] if kind == "string" else []
    cases = [[], [None], values, [None, *values, None], [*values * 9, None], *more]
    expected = [pa.array(case, wanted) for case in cases]
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    monkeypatch.setattr(arrays, "pa", Forbidding())
    for case, array in zip(cases, expected, strict=True):
        made = arrays.array_of(case, wanted)
        made.validate(full=True)
        assert made.equals(array)
        assert made.type == wanted


class Forbidding:
    """pyarrow without `array`, which would load pandas."""

    def __getattr__(self, name):
        assert name != "array"
        return getattr(pa, name)


def test_values_of_another_class_are_left_to_pyarrow(monkeypatch):
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    assert arrays.array_of([1, 2.0], pa.float64()).to_pylist() == [1.0, 2.0]
    many = ["é"] * (arrays._MOST_ENCODED + 1)
    assert arrays.array_of(many, pa.string()).equals(pa.array(many))
    for values, kind in (
        ([2**63], pa.int64()), ([300], pa.uint8()), (["\ud800"], pa.string()), ([1], pa.string()),
        ([2**53 + 1], pa.float64()),
    ):  # fmt: skip
        with pytest.raises((pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError)):
            arrays.array_of(values, kind)


READING = """
import sys
from hygge import SQLHome
home = SQLHome(table=sys.argv[2], connection=sys.argv[1])
with home.open(None) as plan:
    print([batch.num_rows for split in plan.splits for batch in home.read(split)])
print("pandas" in sys.modules)
"""


def test_reading_sqlite_and_mariadb_loads_no_pandas(my, tmp_path):
    columns = "id int primary key, price double, name varchar(9), day date"
    rows = "(1, 0.5, 'a', '2024-02-03'), (2, NULL, NULL, NULL)"
    with closing(sqlite3.connect(tmp_path / "a.db")) as db, db:
        db.execute(f"CREATE TABLE t ({columns})")
        db.execute(f"INSERT INTO t VALUES {rows}")
    name = my.schema()
    my.ask(f"CREATE TABLE {name}.t ({columns})")
    my.ask(f"INSERT INTO {name}.t VALUES {rows}")
    for url, table in ((f"sqlite:///{tmp_path}/a.db", "t"), (my.url(name), "t")):
        command = [sys.executable, "-c", READING, url, table]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split("\n")[:2] == ["[2]", "False"], url
