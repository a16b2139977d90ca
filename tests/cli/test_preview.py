"""`hygge preview`: the first rows as they would arrive, and nothing is written."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.cli.main import main
from hygge.report.grid import cell_texts, grid, text_width
from tests.shape.moving import FORMATS, flows, write


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Return what `hygge preview flows.yml …` prints; it changes no file, and makes none."""
    before = everything()
    assert main(["preview", "flows.yml", *words]) == code
    said = capsys.readouterr()
    assert everything() == before
    assert os.listdir(os.environ["HYGGE_STATE"]) == []
    return said.out + said.err


def everything() -> dict[str, bytes]:
    """Return all files and what is in them, without what Python compiles of a user's module."""
    found = [path for path in Path().rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path): path.read_bytes() for path in found}


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_have_gone_through_the_shape_and_have_types(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HYGGE_MASK_KEY", "k" * 32)
    home = write(kind, tmp_path) | {"columns": ["id", {"name": "e_mail", "as": "mail"}, "ssn"]}
    flows(tmp_path, home, mask={"ssn": {"keep_last": 1}}, add={"source": "'shop'"})
    said = shown(capsys, "--rows", "2")
    assert "people: the first 2 rows of " in said
    lines = [line.split() for line in said.splitlines()]
    assert lines[1] == ["id", "mail", "ssn", "source"]
    assert lines[3] == ["1", "a@x.org", "**1", "shop"]
    assert lines[4] == ["2", "NULL", "**2", "shop"]
    assert len(lines) == 5
    answer = json.loads(shown(capsys, "--json"))
    assert [column["name"] for column in answer["columns"]] == ["id", "mail", "ssn", "source"]
    assert answer["columns"][0]["type"] == "int64"
    assert answer["rows"][2] == {"id": 3, "mail": "c@x.org", "ssn": "**3", "source": "shop"}
    assert answer["has_more"] is False


def test_a_transform_and_where_leave_what_a_run_would_move(tmp_path, capsys, monkeypatch):
    Path("older_for_preview.py").write_text(
        "import pyarrow as pa\n"
        "def older(table: pa.Table) -> pa.Table:\n"
        "    ages = [age.as_py() + 1 for age in table['age']]\n"
        "    return table.append_column('next', pa.array(ages, pa.int64()))\n"
    )
    home = write("parquet", tmp_path) | {"where": "age > 30"}
    flows(tmp_path, home, transform="older_for_preview:older")
    assert json.loads(shown(capsys, "--json"))["rows"] == [
        {"id": 2, "e_mail": None, "age": 40, "ssn": "s-2", "next": 41}
    ]


def test_a_cursor_shows_what_the_next_run_would_add(tmp_path, capsys, monkeypatch):
    home = write("sqlite", tmp_path) | {"cursor": "id"}
    flows(tmp_path, home, mode="append")
    assert main(["flows.yml", "--inline"]) == 0
    with sqlite3.connect("shop.db") as database:
        database.execute("INSERT INTO people VALUES (9, 'i@x.org', 1, 's-9')")
    monkeypatch.setenv("HYGGE_STATE", "state")  # as before, what it holds is not looked at
    Path("state").mkdir()
    capsys.readouterr()
    assert "the one row of sqlite:///" in shown(capsys)


def test_tables_of_many_and_flows_that_are_selected(tmp_path, capsys):
    with sqlite3.connect("shop.db") as database:
        for name in ("a", "b", "c", "d", "e"):
            database.execute(f"CREATE TABLE {name} (id INTEGER)")
    Path("flows.yml").write_text(
        'connections: {shop: "sqlite:///shop.db"}\n'
        'flows:\n  shop: {home: {connection: shop, tables: ["*"]}, store: "out/{table}"}\n'
    )
    said = shown(capsys)
    assert "shop.main.a: no row of sqlite:///shop.db#a\n     id\n  int64" in said
    assert "and 2 tables of shop more: --select shop.main.d" in said
    assert "shop.main.e" not in said
    assert shown(capsys, "--select", "shop.main.e").startswith("shop.main.e: no row")


def test_rows_that_would_be_set_aside_are_counted(tmp_path, capsys):
    Path("in.csv").write_text("id,n\n1,1\n2,x\n3,3\n")
    home = {"path": "in.csv", "options": {"types": {"id": "int64", "n": "int64"}}}
    flows(tmp_path, home, on_bad_row="set_aside", max_bad_share=1.0)
    said = shown(capsys)
    assert "1 row before the end of these cannot be moved: a run sets them aside" in said
    flows(tmp_path, home)
    assert "column 'n'" in shown(capsys, code=1)


def test_mistakes_are_said(tmp_path, capsys):
    flows(tmp_path, {"path": "nope.parquet"})
    assert "error: people: " in shown(capsys, code=1)
    assert "from 1 on" in shown(capsys, "--rows", "none", code=2)
    assert "did you mean 'people'?" in shown(capsys, "--select", "pepole", code=2)
    assert "did you mean '--rows'?" in shown(capsys, "--row", "3", code=2)
    flows(tmp_path, {"connection": "postgresql://nobody@127.0.0.1:9/x", "table": "t"})
    assert "127.0.0.1" in shown(capsys, code=1)
    assert main(["preview", "flowz.yml"]) == 2
    assert "did you mean `hygge flows.yml`?" in capsys.readouterr().err


def test_a_home_that_another_flow_makes_is_not_there_yet(tmp_path, capsys):
    pq.write_table(pa.table({"id": [1]}), "in.parquet")
    Path("flows.yml").write_text(
        "flows:\n  one: {home: in.parquet, store: mid}\n"
        "  two: {home: mid, store: out, depends_on: [one]}\n"
    )
    assert "two: 'one' writes its home" in shown(capsys)


def test_a_wide_table_is_cut_to_the_terminal(tmp_path, capsys, monkeypatch):
    columns = {f"column_{n}": [f"a rather long text of column {n}"] for n in range(30)}
    pq.write_table(pa.table(columns), "in.parquet")
    flows(tmp_path, {"path": "in.parquet"})
    monkeypatch.setenv("COLUMNS", "60")
    said = shown(capsys)
    table = said.splitlines()[1:4]
    assert all(len(line) <= 60 for line in table)
    assert table[0].split()[:2] == ["column_0", "column_1"]
    assert table[2].split("  ")[1].endswith("…")
    assert "columns more, for which there is no room: column_" in said
    monkeypatch.delenv("COLUMNS")
    assert "a rather long text of column 29" in shown(capsys)  # a pipe has no width
    assert max(map(len, shown(capsys, "--width", "60").splitlines()[1:4])) <= 60


def test_values_are_shown_as_they_are():
    def texts(values, kind):
        return cell_texts(pa.chunked_array([pa.array(values, kind)]))

    assert texts(["", None, "NULL", "a\nb\x1b[31m"], pa.string()) == [
        "''", "NULL", "'NULL'", "a\\nb\\x1b[31m"
    ]  # fmt: skip
    assert texts([Decimal("0.00000001")], pa.decimal128(9, 8)) == ["0.00000001"]
    assert texts([date(9999, 12, 31)], pa.date32()) == ["9999-12-31"]
    assert texts([b"\x00\xff"], pa.binary()) == ["0x00ff"]
    assert texts([True, None], pa.bool_()) == ["true", "NULL"]
    assert texts([[1, 2]], pa.list_(pa.int64())) == ["[1, 2]"]
    assert texts([float("nan")], pa.float64()) == ["nan"]
    assert texts([10**9], pa.date32())[0].startswith("2739")


def test_wide_letters_take_two_columns():
    assert text_width("東京") == 4
    lines, number = grid(["city", "n"], [["東京都東京都東京都", "1"]], 14, [False, True])
    assert number == 2
    assert all(text_width(line) <= 14 for line in lines)
