"""Every Arrow value survives SQLite: written by SQLStore and read by SQLHome."""

from __future__ import annotations

import math
import sqlite3
from decimal import Decimal

import pyarrow as pa
import pytest

from hygge.connectors.databases.home import SQLHome
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.sqlite.types import arrow_for, declared_for
from hygge.connectors.sqlite.values import decode
from hygge.errors import UnfitValue
from hygge.model import Run, Ticket
from hygge.testing.values import difference, every_type, is_lossy, table_of
from hygge.type_words import value_text

FAR = {
    "far dates": pa.array([2**31 - 1, -(2**31), 3_000_000, 0, -719_163, None], pa.date32()),
    "far moments": pa.array([2**63 - 1, 1 - 2**63, 253_402_300_800_000_000, 0], pa.timestamp("us")),
    "far moments in Berlin": pa.array(
        [2**63 - 1, 1 - 2**63, 0, None], pa.timestamp("us", "Europe/Berlin")
    ),
    "far seconds": pa.array([2**60, -(2**60), 0], pa.timestamp("s")),
    "far nanoseconds": pa.array([2**63 - 1, 1 - 2**63, 0], pa.timestamp("ns")),
    "nothing but NULL": pa.nulls(3),
    "decimal128(5, -2)": pa.array([Decimal("12300"), Decimal("-100"), None], pa.decimal128(5, -2)),
    "decimal256(20, 2)": pa.array([Decimal("1.10"), None], pa.decimal256(20, 2)),
}


def round_trip(url: str, name: str, table: pa.Table) -> pa.Table:
    store, run = SQLStore(name, connection=url), Run(f"run-{name}", "flow")
    store.prepare(run, table.schema)
    receipt = store.stage(Ticket(run.id, 0), table.schema, iter([table]))
    store.commit(run, store.head("flow"), [receipt], None)
    store.discard(run)
    home = SQLHome(name, connection=url)
    with home.open() as plan:
        return pa.concat_tables([piece for split in plan.splits for piece in home.read(split)])


def test_every_type_comes_back_as_it_was_or_is_declared_lossy(tmp_path):
    url = f"sqlite:///{tmp_path}/all.db"
    lossy = SQLStore("t", connection=url).traits.lossy
    for number, (name, array) in enumerate({**every_type(), **FAR}.items()):
        table = table_of(array)
        if is_lossy(name, array.type, lossy):
            with pytest.raises(UnfitValue, match="column 'v'"):
                SQLStore("t", connection=url).prepare(Run("r", "flow"), table.schema)
            continue
        back = round_trip(url, f"t{number}", table)
        assert difference(back, table) is None, name
        if "large" not in name:
            assert back.schema == table.schema, name


def test_nan_null_minus_zero_and_infinity_are_five_values(tmp_path):
    url = f"sqlite:///{tmp_path}/f.db"
    back = round_trip(
        url, "f", pa.table({"x": pa.array([math.nan, None, -0.0, 0.0, math.inf, -math.inf])})
    )
    values = back.column("x").to_pylist()
    assert math.isnan(values[0])
    assert values[1] is None
    assert [math.copysign(1, value) for value in values[2:4]] == [-1, 1]
    assert values[4:] == [math.inf, -math.inf]
    with sqlite3.connect(tmp_path / "f.db") as foreign:
        assert foreign.execute("SELECT count(*) FROM f WHERE x IS NULL").fetchone() == (1,)
        assert foreign.execute("SELECT sum(x) FROM f WHERE abs(x) < 1").fetchone()[0] == 0
    foreign.close()


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "NaN"), (-0.0, "-0.0")])
def test_a_table_of_somebody_else_takes_no_marks_for_numbers(value, shown, tmp_path):
    url, table = f"sqlite:///{tmp_path}/f.db", pa.table({"x": [1.5, None, 0.0, value]})
    with sqlite3.connect(tmp_path / "f.db") as foreign:
        foreign.execute("CREATE TABLE own (x REAL)")
    foreign.close()
    run, store = Run("r", "f", "append"), SQLStore("own", connection=url)
    store.prepare(run, table.schema)
    with pytest.raises(
        UnfitValue, match=f"column 'x' holds {shown}, which SQLite has no"
    ) as caught:
        store.stage(Ticket("r", 0), table.schema, iter([table]))
    assert caught.value.column == "x"
    receipt = store.stage(Ticket("r", 0, 0, 1), table.schema, iter([table.slice(0, 3)]))
    store.commit(run, None, [receipt], None)
    with sqlite3.connect(tmp_path / "f.db") as foreign:
        assert foreign.execute("SELECT max(x), count(x) FROM own").fetchone() == (1.5, 2)
    foreign.close()


def test_plain_columns_look_natural_to_a_foreign_reader(tmp_path):
    plain = [pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.bool_(), pa.date32(),
             pa.timestamp("us")]  # fmt: skip
    words = ["INTEGER", "REAL", "TEXT", "BLOB", "BOOLEAN", "DATE", "TIMESTAMP"]
    assert [declared_for(kind, "c") for kind in plain] == words
    table = pa.table({"at": pa.array([1_700_000_000_000_001], pa.timestamp("us"))})
    round_trip(f"sqlite:///{tmp_path}/n.db", "n", table)
    with sqlite3.connect(tmp_path / "n.db") as foreign:
        assert foreign.execute("SELECT at FROM n").fetchone() == ("2023-11-14 22:13:20.000001",)
    foreign.close()


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("NUMERIC(10, 2)", pa.decimal128(10, 2)),
        ("VARCHAR(20)", pa.string()),
        ("DOUBLE PRECISION", pa.float64()),
        ("UNSIGNED BIG INT", pa.int64()),
        ("INT8", pa.int64()),
        ("bigint(20) unsigned", pa.int64()),
        ("DATETIME", pa.timestamp("us")),
        ("TIMESTAMP WITH TIME ZONE", pa.timestamp("us", "UTC")),
        ("NUMERIC", None),
        ("", None),
    ],
)
def test_a_foreign_declared_type_means_what_people_mean_by_it(declared, kind):
    assert arrow_for(declared) == kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1.5, pa.int64()),
        (b"x", pa.string()),
        ("x", pa.binary()),
        ("007x", pa.int64()),
        (2, pa.bool_()),
        ("1.234", pa.decimal128(5, 2)),
        (-1, pa.uint8()),
        (0.1, pa.float32()),
        (2**53 + 1, pa.float64()),
        ("2024-02-30", pa.date32()),
        ("2024-01-01 00:00:00Z", pa.timestamp("us")),
        ("2024-01-01 00:00:00", pa.timestamp("us", "UTC")),
        ("2024-01-01 00:00:00.1234567", pa.timestamp("us")),
        ("9999-01-01 00:00:00", pa.timestamp("ns")),
        (1_700_000_000, pa.timestamp("us")),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_remedy(value, kind):
    with pytest.raises(UnfitValue) as caught:
        decode([None, value], kind, "shop.db#orders", "price")
    assert "shop.db#orders: column 'price'" in caught.value.message
    assert value_text(value) in caught.value.message
    assert "types: {price: string}" in caught.value.hint


def test_a_type_that_the_user_stated_turns_numbers_into_text():
    values = [0.1, 3, "x", b"y", None]
    assert decode(values, pa.string(), "t", "c", asked=True).to_pylist() == [
        "0.1", "3", "x", "y", None,
    ]  # fmt: skip
