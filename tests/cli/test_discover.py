"""`hygge discover`: what there is, and a flows.yml that `plan` accepts."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from hygge.cli.main import main
from hygge.config.hidden import Hidden
from hygge.model import Report, Summary
from hygge.report.text import report_text
from tests.cli.commands import plan_of_yaml


def make_shop(path: str = "shop.db") -> None:
    with sqlite3.connect(path) as database:
        database.executescript(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, total DECIMAL(9,2), note TEXT,"
            "  created_at TIMESTAMP, updated_at TIMESTAMP);"
            "INSERT INTO orders VALUES (1, 1.5, 'x', '2026-01-01 00:00:00', '2026-01-01 00:00:00');"
            'CREATE TABLE "odd [name]" (a TEXT, b TEXT, PRIMARY KEY (b, a));'
            "CREATE TABLE tmp_1 (id INTEGER);"
            "CREATE VIEW seen AS SELECT * FROM orders;"
        )


def test_tables_of_sqlite(said):
    make_shop()
    for what in ("shop.db", "sqlite:///shop.db"):
        lines = said("discover", what).splitlines()
        assert lines[0].endswith("shop.db: 3 tables")
        assert lines[3].split()[:2] == ["orders", "1"]
        assert lines[3].split()[4:] == ["id", "updated_at,", "id,", "created_at"]
        assert "b, a" in lines[2]
        assert "and 1 view: --views" in lines[-1]
    answer = json.loads(said("discover", "shop.db", "--json", "--exclude", "tmp_*", "--views"))
    assert [table["name"] for table in answer["tables"]] == ["odd [name]", "orders", "seen"]
    assert answer["tables"][1]["rows"] == 1
    assert answer["tables"][1]["is_exact"] is True
    planned = plan_of_yaml(said, "shop.db", "--exclude", "tmp_*")
    assert "shop.main.orders: replace" in planned
    assert "tmp_1" not in planned


def test_the_cursor_that_it_proposes_works(said):
    make_shop()
    text = said("discover", "shop.db", "--pattern", "orders", "--yaml")
    text = text.replace("    # tables:", "    tables:").replace("    #   ", "      ")
    Path("made.yml").write_text(text)
    assert "cursor  updated_at up to" in said("plan", "made.yml")


def test_a_name_with_a_line_break_stays_in_its_line(said):
    name = "new\nflows: {x: 1} [${HOME}] #"
    with sqlite3.connect("odd.db") as database:
        database.execute(
            f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, "updated_at\n: x" TIMESTAMP)'
        )
        database.execute(f"""INSERT INTO "{name}" VALUES (1, '2026-01-01 00:00:00')""")
    assert r"new\nflows" in said("discover", "odd.db")
    text = said("discover", "odd.db", "--yaml")
    assert [line for line in text.splitlines() if line.startswith("    #   ")] == [
        text.splitlines()[-1]
    ]
    text = text.replace("    # tables:", "    tables:").replace("    #   ", "      ")
    Path("made.yml").write_text(text)
    planned = said("plan", "made.yml")
    assert r"cursor  updated_at\n: x up to" in planned
    assert "  updated_at\\n: x  timestamp" in planned
    assert r"main.new_flows_x_1_HOME_-" in planned
    text = report_text(Summary((Report("odd.a\nb", "done"), Report("odd.c\nd", "failed"))))
    assert (r"odd.a\nb" in text, r"odd.c\nd" in text) == (True, True)


def test_a_connection_of_a_file(said, monkeypatch):
    make_shop()
    monkeypatch.setenv("WHERE", "shop.db")
    Path("flows.yml").write_text(
        'connections: {shop: "sqlite:///${WHERE}", lake: "s3://lake"}\nflows: {wrong: {home: 1}}\n'
    )
    assert "3 tables" in said("discover", "shop")
    assert "sqlite:///${WHERE}" in said("discover", "shop", "--yaml")
    plan_of_yaml(said, "shop", "--pattern", "main.*")
    os.rename("flows.yml", "other.yml")
    assert "3 tables" in said("discover", "shop", "--file", "other.yml")
    hint = said("discover", "shopp", "--file", "other.yml", code=2)
    assert "did you mean 'shop'?" in hint
    assert "connections of other.yml: shop, lake" in hint


def test_files_of_a_folder(said):
    Path("data/parts").mkdir(parents=True)
    Path("data/year=2025/month=1").mkdir(parents=True)
    table = pa.table({"id": [1, 2, 3], "v": ["a", "b", "c"]})
    for at in range(3):
        pq.write_table(table, f"data/parts/{at}.parquet")
    pc.write_csv(table, "data/one.csv")
    pc.write_csv(table.rename_columns(["x", "y"]), "data/two.csv")
    feather.write_feather(table, "data/f.arrow")
    Path("data/lines.jsonl").write_text('{"n": 1}\n' * 5)
    Path("data/.hidden.csv").write_text("a\n1\n")
    Path("data/events/.hoodie").mkdir(parents=True)
    Path("data/events/.hoodie/hoodie.properties").write_text("x")
    pq.write_table(table, "data/events/x.parquet")
    text = said("discover", "data")
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}
    assert rows["parts"][:1] == ["9"]
    assert rows["parts"][3:] == ["3", "parquet", "id,", "v"]
    assert rows["one.csv"][:2] == ["about", "3"]
    assert rows["two.csv"][:2] == ["about", "3"]
    assert rows["f.arrow"][0] == "3"
    assert rows["lines.jsonl"][:2] == ["about", "5"]
    assert "events is a Hudi table: hygge does not read such tables" in text
    assert "hidden" not in text
    planned = plan_of_yaml(said, "data")
    assert "parts: replace" in planned
    assert "events" not in planned
    answer = json.loads(said("discover", "data", "--json", "--pattern", "*.csv,parts"))
    assert [each["name"] for each in answer["files"]] == ["one.csv", "parts", "two.csv"]
    assert "1 data set in 1 file" in said("discover", "data/one.csv")


def test_hive_partitions_and_files_beside_folders(said):
    for year in (2025, 2026):
        Path(f"data/sales/year={year}").mkdir(parents=True)
        pq.write_table(pa.table({"id": [1]}), f"data/sales/year={year}/a.parquet")
    pq.write_table(pa.table({"id": [1]}), "data/a.parquet")
    pq.write_table(pa.table({"id": [1]}), "data/b.parquet")
    answer = json.loads(said("discover", "data", "--json"))
    found = {each["name"]: (each["rows"], each["columns"]) for each in answer["files"]}
    assert found == {"data/*.parquet": (2, ["id"]), "sales": (2, ["id", "year"])}
    plan_of_yaml(said, "data")


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_a_folder_that_hygge_wrote_is_one_data_set(mode, said):
    pq.write_table(pa.table({"id": [1]}), "in.parquet")
    Path("flows.yml").write_text(
        f"flows: {{f: {{home: in.parquet, store: lake/f, mode: {mode}}}}}\n"
    )
    for _ in range(2):
        assert main(["flows.yml", "--inline"]) == 0
    said("check", "flows.yml")
    rows = 2 if mode == "append" else 1
    for what in ("lake", "lake/f"):
        (found,) = json.loads(said("discover", what, "--json"))["files"]
        assert (found["name"], found["rows"]) == ("f", rows)
    plan_of_yaml(said, "lake")


def test_what_is_not_there_is_said(said):
    Path("empty").mkdir()
    assert "no file of a known type is there" in said("discover", "empty")
    assert "nothing that a flow could move" in said("discover", "empty", "--yaml", code=1)
    assert "there is no SQLite database" in said("discover", "sqlite:///nope.db", code=1)
    assert "did you mean 'empty'?" in said("discover", "emty", code=2)
    assert "127.0.0.1" in said("discover", "postgresql://a:geheim@127.0.0.1:9/x", code=1)
    make_shop()
    assert "did you mean" in said("discover", "shop.db", "--pattern", "ordres", code=1)
    assert "did you mean '--pattern'?" in said("discover", "shop.db", "--patern", "x", code=2)


def test_no_password_is_printed(said, capsys):
    hidden = Hidden()
    url = "postgresql://app:p%40ss@db/shop?sslmode=require&sslpassword=geheim"
    text, variables = hidden.url(url, "shop"), hidden.variables
    assert text == (
        "postgresql://app:${SHOP_PASSWORD}@db/shop?sslmode=require&sslpassword=${SHOP_SSLPASSWORD}"
    )
    assert variables == {"SHOP_PASSWORD": "p%40ss", "SHOP_SSLPASSWORD": "geheim"}
    assert main(["discover", "mysql://a:geheim@127.0.0.1:9/x"]) == 1
    assert "geheim" not in capsys.readouterr().err
