"""What two equal counts and equal columns hide, and what cannot be compared: `hygge verify`."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.coordinator.verify.forms import common_form
from hygge.coordinator.verify.hashes import column_hashes
from tests.verify.commands import BY_CURSOR, HOME, STORE, flows, run, verify
from tests.verify.ends import execute

SWAP = (
    "update t set total = case id when 3 then 6.0 when 4 then 4.5 end where id in (3, 4)"  # 4.5, 6
)


@pytest.mark.parametrize("how", ["mode: replace", "mode: merge, key: id"])
def test_values_that_moved_to_other_rows_are_found(here, capsys, how):
    flows(f"{{f: {{home: {HOME}, store: {STORE}, {how}}}}}")
    run()
    execute(Path("store.db"), SWAP)
    said = verify(capsys, code=1)
    assert "f: different; 20 rows in the source, 20 in the store" in said
    assert {"    changed: id 3 in total", "    changed: id 4 in total"} <= set(said.splitlines())
    assert "columns differ" not in said


def test_values_that_moved_are_found_without_a_key(here, capsys):
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), "in.parquet")
    flows(f"{{f: {{home: in.parquet, store: {STORE}}}}}")
    run()
    execute(Path("store.db"), "update t set a = 3 - a")
    assert "keys: 2 lost, 2 only in the store" in verify(capsys, code=1)


def test_a_row_that_the_home_sets_aside_hides_no_lost_row(here, capsys):
    Path("in.csv").write_text("id,n\n1,5\n2,x\n3,7\n4,8\n")
    flows(f"""
  f:
    home: {{path: in.csv, options: {{types: {{n: int64}}}}}}
    store: {STORE}
    on_bad_row: set_aside
    max_bad_share: 50%
""")
    run()
    execute(Path("store.db"), "delete from t where id = 3")
    said = verify(capsys, code=1)
    assert "lost: id 3" in said


@pytest.mark.parametrize(
    ("end", "kind", "first", "later"),
    [
        ("sqlite:///home.db", "text collate nocase", "'a', 'B'", "'C'"),
        ("duckdb:///home.duckdb", "uuid",
         "'01890000-0000-7000-8000-000000000001', '01890000-0000-7000-8000-000000000002'",
         "'01890000-0000-7000-8000-000000000003'"),
    ],
)  # fmt: skip
def test_a_cursor_that_only_the_database_orders_is_compared_where_nothing_is_newer(
    here, capsys, end, kind, first, later
):
    def insert(*statements):
        if end.startswith("duckdb"):
            with duckdb.connect("home.duckdb") as database:
                for each in statements:
                    database.execute(each)
        else:
            execute(Path("home.db"), *statements)

    values = ", ".join(f"({value}, 1)" for value in first.split(", "))
    insert(f"create table w (word {kind}, n integer)", f"insert into w values {values}")
    home = f"{{connection: '{end}', table: w, cursor: word}}"
    flows(f"{{f: {{home: {home}, store: out, mode: append}}}}")
    run()
    assert "f: same; 2 rows in the source, 2 in the store" in verify(capsys)
    insert(f"insert into w values ({later}, 3)")
    for words in ((), ("--sample", "2")):
        said = verify(capsys, *words, code=3)
        assert "only the database knows which texts of 'word' are newer" in said
    run()
    assert "f: same; 3 rows" in verify(capsys, "--sample", "9")


def test_a_key_that_a_merge_store_has_twice_is_wrong_wherever_the_source_is(here, capsys):
    flows(f"{{f: {{home: {BY_CURSOR}, store: {STORE}, mode: merge, key: id}}}}")
    run()
    execute(
        Path("store.db"), "create table u as select * from t", "drop table t",
        "alter table u rename to t", "insert into t select * from t where id = 3",
    )  # fmt: skip
    execute(Path("home.db"), "delete from t where id = 3")
    assert "doubled: id 3 is there 2 times" in verify(capsys, code=1)


def test_an_append_keeps_the_versions_of_a_row(here, capsys):
    flows(f"{{f: {{home: {BY_CURSOR}, store: {STORE}, mode: append}}}}")
    run()
    execute(Path("home.db"), "update t set seen = 99, total = 1 where id = 3")
    run()
    said = verify(capsys)
    assert "f: same; 20 rows in the source, 21 in the store" in said
    assert "1 row is only in the store" in said


def test_a_sample_of_rows_without_a_unique_key_calls_none_doubled(here, capsys):
    pq.write_table(pa.table({"a": [1, 1, 2], "b": [5, 6, 7]}), "in.parquet")
    flows(f"{{f: {{home: in.parquet, store: {STORE}, key: a}}, g: {{home: in.parquet, store: o}}}}")
    run()
    said = verify(capsys, "--sample", "1")
    assert "f: same; 1 row in the source" in said
    assert "a sample of 1 row\n" in said
    execute(Path("store.db"), "update t set b = 0 where b = 5")
    assert "f: different" in verify(capsys, "--sample", "1", code=1)


def test_a_column_that_cannot_be_compared_is_said_and_is_not_the_same(here, capsys):
    flows(f"{{f: {{home: {HOME}, store: {STORE}}}}}")
    run()
    execute(Path("store.db"), "alter table t drop column email")
    said = verify(capsys, code=3)
    assert "f: not compared; 20 rows in the source, 20 in the store, 3 columns compared" in said
    assert "the store has lost email, which the run had written" in said
    execute(Path("store.db"), "alter table t drop column total", "alter table t add total date")
    said = verify(capsys, code=3)
    assert "'total' is decimal(10,2) in the source and date in the store" in said
    execute(Path("store.db"), "delete from t where id = 3")
    assert "f: different" in verify(capsys, code=1)


def test_one_of_something_is_said_in_the_singular(here, capsys):
    pq.write_table(pa.table({"id": [1]}), "in.parquet")
    flows("{f: {home: in.parquet, store: out}}")
    run()
    assert "f: same; 1 row in the source, 1 in the store, 1 column compared" in verify(capsys)


def test_numbers_of_other_types_are_compared_exactly():
    def same(here: pa.Array, there: pa.Array) -> list[bool]:
        form = common_form(here.type, there.type)
        assert form is not None
        sides = [column_hashes(pa.chunked_array([side]), form) for side in (here, there)]
        return list(sides[0] == sides[1])

    floats = pa.array([2.0**53, 2.0**53, 0.5, -0.0, math.nan, math.inf, 2.0**62, None])
    integers = pa.array([2**53 + 1, 2**53, 0, 0, 0, 2**63 - 1, 2**62, None])
    assert same(integers, floats) == [False, True, False, True, False, False, True, True]
    high = pa.array([2**63, 2**64 - 1, 7], pa.uint64())
    assert same(high, pa.array([2.0**63, 2.0**64, 7.0])) == [True, False, True]
    decimals = pa.array([Decimal(n) / 100 for n in range(1000)], pa.decimal128(12, 2))
    assert all(same(decimals, pa.array([n / 100 for n in range(1000)])))
