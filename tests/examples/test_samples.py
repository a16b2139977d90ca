"""Every file in samples/ and examples/ runs, as it stands and when it is copied elsewhere."""

from __future__ import annotations

import gzip
import json
import runpy
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from hygge import Coordinator
from tests import ROOT

pytestmark = pytest.mark.usefixtures("ray_here")
SAMPLES = sorted((ROOT / "samples").glob("*.yml"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=shutil.ignore_patterns("out"))
    return tmp_path / "samples"


def count(path: Path) -> int:
    return ds.dataset(path).count_rows()


@pytest.mark.parametrize("name", [path.name for path in SAMPLES])
def test_a_sample_runs_twice_with_the_same_outcome(name, samples):
    for engine in ("inline", "ray"):
        summary = Coordinator(samples / name, engine=engine).run()
        assert summary.ok, [report.error for report in summary.flows]
    out = samples / "out"
    if name.startswith("01"):
        source = pq.read_table(samples / "data" / "users.parquet")
        assert ds.dataset(out / "lake" / "users").to_table().sort_by("id").equals(source)
    elif name.startswith("02"):
        orders = ds.dataset(out / "lake" / "orders").to_table()
        assert orders.num_rows == 800
        assert str(orders.schema.field("total").type) == "decimal128(12, 2)"
        assert str(orders.schema.field("zip").type) == "string"
        assert {None, ""} <= set(orders["note"].to_pylist())
    elif name.startswith("03"):
        assert count(out / "lake" / "customers") == 400
        with closing(sqlite3.connect(samples / "data" / "shop.db")) as shop:
            big = shop.execute("SELECT count(*) FROM sales WHERE amount >= 500").fetchone()
        with closing(sqlite3.connect(out / "warehouse.db")) as warehouse:
            assert warehouse.execute("SELECT count(*) FROM big_sales").fetchone() == big
        lines = (out / "sales_by_city.jsonl").read_text().splitlines()
        assert len(lines) == 1200
        assert set(json.loads(lines[0])) == {"city", "amount"}
    elif name.startswith("04"):
        with gzip.open(out / "users.csv.gz", "rt") as file:
            assert sum(1 for _ in file) == 5001
        assert count(out / "history") == 10_000  # append adds
    elif name.startswith("05"):
        assert count(out / "squares") == 10_000
    elif name.startswith("06"):
        assert count(out / "shop" / "main" / "customers") == 400
        with closing(sqlite3.connect(samples / "data" / "shop.db")) as shop:
            big = shop.execute("SELECT count(*) FROM sales WHERE amount >= 500").fetchone()
        sales = ds.dataset(out / "shop" / "main" / "sales").to_table()
        assert (sales.num_rows,) == big
        assert sales.column_names == ["id", "amount", "sold_at"]
    elif name.startswith("07"):
        totals = ds.dataset(out / "inbox" / "eu" / "orders_2024").to_table()["total"].to_pylist()
        assert [str(total) for total in totals] == ["10.50", "7.25", "99.00"]
        zips = ds.dataset(out / "inbox" / "eu" / "customers").to_table()["zip"].to_pylist()
        assert zips == ["01067", "00100"]
        assert count(out / "inbox" / "us" / "customers") == 2
    elif name.startswith("08"):
        assert count(out / "migrated" / "main" / "customers") == 400
        assert count(out / "migrated" / "main" / "sales") == 1200
    elif name.startswith("09"):
        assert count(out / "nightly" / "sales") == 1200  # the second night found nothing new
    elif name.startswith("10"):
        chosen = ds.dataset(out / "for_analysts").to_table()
        assert chosen.column_names == [
            "id", "name", "born", "city", "balance", "moved_at", "source",
        ]  # fmt: skip
        assert chosen["balance"].null_count == chosen.num_rows > 0
        assert chosen["city"].null_count == 0
        assert all(text[:-1] == "*" * (len(text) - 1) for text in chosen["name"].to_pylist())
    elif name.startswith("11"):
        assert sorted(ds.dataset(out / "payments").to_table()["id"].to_pylist()) == [
            1, 2, 4, 5, 7, 8,
        ]  # fmt: skip
        for bad in (samples / ".hygge" / "bad" / "payments").glob("*.parquet"):
            assert pq.read_table(bad)["column"].to_pylist() == ["paid_on", "amount"]
    elif name.startswith("13"):
        assert pa.table(DeltaTable(str(out / "delta" / "users")).scan().read_all()).num_rows == 5000
        assert count(out / "users_of_delta") == 5000
    elif name == "12_duckdb.yml":
        with duckdb.connect(out / "warehouse.duckdb", read_only=True) as warehouse:
            assert warehouse.execute("SELECT count(*) FROM sales").fetchall() == [(1200,)]
        assert count(out / "from_duckdb" / "sales") == 1200
    elif name.startswith("14"):
        assert count(out / "customers_of_the_lake") == 400
        assert len(list((out / "tables/shop/customers/metadata").glob("*.metadata.json"))) == 2
    else:
        pytest.fail(f"say here what {name} leaves behind")


def test_a_sample_runs_elsewhere_with_nothing_but_its_paths_edited(tmp_path, samples):
    text = (samples / "01_users_to_lake.yml").read_text()
    edited = text.replace("data/users.parquet", str(samples / "data" / "users.parquet"))
    edited = edited.replace("out/lake/users", "my lake/users")
    assert edited.count("\n") == 4, "the sample is to stay four lines long"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.yml").write_text(edited)
    assert Coordinator(tmp_path / "elsewhere" / "mine.yml", engine="inline").run().ok
    assert count(tmp_path / "elsewhere" / "my lake" / "users") == 5000


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data warns of itself
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    expected = {
        "by_hand.py": "batches of [10000, 10000, 5000]\n25,001 rows are there",
        "one_flow.py": "customers_to_customers: 400 rows, done",
        "own_ends.py": "6 rows, delivered at least once",
        "results_into_store.py": "10,000 rows in 4 splits, done\n(10000, 479772)",
        "train_from_database.py": "20,000 rows; price = 3.0 * rooms + 5.0",
        "whole_file.py": "users_to_lake: 5,000 rows, done",
    }[path.name]
    assert expected in said
