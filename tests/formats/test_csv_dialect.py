"""The delimiter, the quote and the header of a CSV are found, or the error says what to state."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hygge import CsvHome
from hygge.errors import HyggeError
from tests.formats.test_csv import read

ROWS = [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}]
FOUND = {
    "comma": ("id,name\n1,Ann\n2,Bob\n", "delimiter ','"),
    "semicolon": ("id;name\n1;Ann\n2;Bob\n", "delimiter ';'"),
    "bar": ("id|name\n1|Ann\n2|Bob\n", "delimiter '|'"),
    "tab": ("id\tname\n1\tAnn\n2\tBob\n", "delimiter tab"),
    "carriage returns": ("id;name\r1;Ann\r2;Bob\r", "delimiter ';'"),
    "quoted": ('"id";"name"\n"1";"Ann"\n2;Bob\n', "delimiter ';'"),
    "other quote": ("id;name\n1;'Ann'\n2;'Bob'\n", "quote '"),
    "other quote, everywhere": ("'id','name'\n'1','Ann'\n'2','Bob'\n", "quote '"),
    "blank lines": ("\nid;name\n\n1;Ann\n\n2;Bob\n", "delimiter ';'"),
    "no end": ("id;name\n1;Ann\n2;Bob", "delimiter ';'"),
}


def found(path: object, **options: object) -> str:
    with CsvHome(path=str(path), options=options).open() as plan:
        return plan.found


@pytest.fixture
def file(tmp_path):
    def make(content: str | bytes, name: str = "in.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


@pytest.mark.parametrize("case", FOUND)
@pytest.mark.parametrize("name", ["in.csv", "in.tsv"])
def test_a_dialect_is_found_and_said(file, case, name):
    content, words = FOUND[case]
    path = file(content, name)
    assert read(path).to_pylist() == ROWS
    assert read(path, newlines_in_values=False, split_bytes=9).to_pylist() == ROWS
    assert words in found(path)
    assert "the first line names the columns" in found(path)


@pytest.mark.parametrize(("content", "values"), [
    ("id;text\n1;a,b\n2;c,d,e\n", ["a,b", "c,d,e"]),
    ("id;text\n1;1,5\n2;2,5\n", ["1,5", "2,5"]),
    ('id,text\n1,"a;b;c"\n2,"c;d"\n', ["a;b;c", "c;d"]),
    ("id;text\n1;'a;b'\n2;'it''s'\n", ["a;b", "it's"]),
    ("id,text\n1,'s-Hertogenbosch\n2,'t Hooft\n", ["'s-Hertogenbosch", "'t Hooft"]),
    ("id;text\n1;\"it's\"\n2;'b'\n", ["it's", "'b'"]),
    ('id|text\n1|"a\nb|c"\n2|"c"\n', ["a\nb|c", "c"]),
])  # fmt: skip
def test_what_stands_in_values_does_not_mislead(file, content, values):
    assert read(file(content))["text"].to_pylist() == values


@pytest.mark.parametrize(("content", "values"), [
    ("text\na\nb\n", ["a", "b"]),
    ("text\n10:00\n11:00\n", ["10:00", "11:00"]),
    ("text\nhello, world\na; b; c\nx\n", ["hello, world", "a; b; c", "x"]),
    ("text\nhello, you, there\nx\nSmith, John\n", ["hello, you, there", "x", "Smith, John"]),
    ("text\n7\n\n9\n", [7, None, 9]),
    ('text\n"a,b"\n"c;d"\n', ["a,b", "c;d"]),
])  # fmt: skip
def test_a_file_of_one_column_is_one_column(file, content, values):
    path = file(content)
    assert read(path)["text"].to_pylist() == values
    assert found(path).startswith("one column")


@pytest.mark.parametrize("content", [
    "full name\nAnn Lee\nBob Ray\n", "event time\n2026-01-01 10:00:00\n2026-01-01 11:00:00\n",
])  # fmt: skip
def test_texts_and_moments_with_blanks_are_one_column(file, content):
    assert read(file(content)).num_columns == 1


DOUBT = {
    "two delimiters": ("a;b,c\n1;2,3\n4;5,6\n", "may be delimited by ',' or by ';'", "delimiter"),
    "a blank": ("id name\n1 Ann\n", "or be delimited by ' '", 'delimiter: " "'),
    "a rare delimiter": ("id:name\n1:Ann\n", "or be delimited by ':'", 'delimiter: ":"'),
    "Hive's delimiter": ("id\x01name\n1\x01Ann\n", r"delimited by '\x01'", r'"\x01"'),
    "a title": ("Report of 2024\nid,name\n1,Ann\n2,Bob\n",
        "the first line has no ','", "skip_lines: 1"),
    "a title, and a ragged line": ("Report\nid,name\n1,Ann\n2,Bob\n3,C\n4,D,x\n5,E\n",
        "the first line has no ','", "skip_lines: 1"),
    "two lines of a title": ("Report\n2024\n" + "id;name;n\n1;Ann;2\n" * 5, "no ';'",
        "skip_lines: 2"),
    "Excel's delimiter": ("sep=;\r\nid;name\r\n1;Ann\r\n", "Excel is told", "skip_lines: 1"),
    "a row as header": ("1,Ann,2024-01-01\n2,Bob,2024-01-02\n", "may be a row", "header: false"),
    "a row as header, with an odd value": ("1,Ann,unknown\n2,Bob,2024-01-02\n3,C,2024-01-03\n",
        "may be a row", "header: true"),
    "a number as header": ("1\n2\n3\n", "may be a row", "column_names"),
    "a value as header": ("open\nclosed\nopen\nopen\n", "may be a row", "header: false"),
    "a single line of values": ("1,2024-01-01\n", "may be a row", "header: false"),
}  # fmt: skip


@pytest.mark.parametrize("case", DOUBT)
def test_where_there_is_doubt_the_error_says_what_to_state(file, case):
    content, message, hint = DOUBT[case]
    path = file(content)
    with pytest.raises(HyggeError, match=str(path)) as caught:
        read(path)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_what_is_stated_is_not_doubted(file):
    path = file("a;b,c\n1;2,3\n4;5,6\n")
    assert read(path, delimiter=",").column_names == ["a;b", "c"]
    assert read(path, delimiter=";").column_names == ["a", "b,c"]
    path = file("1,Ann\n2,Bob\n")
    assert read(path, header=True).column_names == ["1", "Ann"]
    assert read(path, header=False, column_names=["id", "name"]).to_pylist() == ROWS
    path = file("1;Ann\n2;Bob\n")
    assert read(path, header=False, column_names=["id", "name"]).to_pylist() == ROWS
    assert read(path, header=False, column_names=["all"])["all"].to_pylist() == ["1;Ann", "2;Bob"]
    options = {"delimiter": ";", "quote": '"', "header": False, "column_names": ["a", "b"]}
    assert found(path, **options) == ""


def test_a_hint_that_is_followed_helps(file):
    assert read(file("sep=;\r\nid;name\r\n1;Ann\r\n2;Bob\r\n"), skip_lines=1).to_pylist() == ROWS
    assert read(file("Report\nid,name\n1,Ann\n2,Bob\n"), skip_lines=1).to_pylist() == ROWS
    path = file("id\tname\r\n1\tAnn\r\n2\tBob\r\n".encode("utf-16"))
    with pytest.raises(HyggeError) as caught:
        read(path)
    assert "encoding: utf-16" in caught.value.hint
    assert read(path, encoding="utf-16").to_pylist() == ROWS
    path = file("name\nAnn, A.\nBob, B.\n")
    with pytest.raises(HyggeError, match="the first line has no ','"):
        read(path)
    assert read(path, delimiter="\t")["name"].to_pylist() == ["Ann, A.", "Bob, B."]


def test_a_name_that_the_options_know_is_a_name(file):
    path = file("country,2023,2024\nDE,5,6\n")
    with pytest.raises(HyggeError, match="may be a row"):
        read(path)
    assert read(path, types={"2023": "int32"})["2023"].to_pylist() == [5]
    assert read(path, ["country"])["country"].to_pylist() == ["DE"]


def test_a_ragged_line_in_the_sample_does_not_make_one_column(file):
    with pytest.raises(HyggeError, match="line 3: 3 columns were found, 2 are expected"):
        read(file("id;name\n1;Ann\n2;Bob;x\n3;C\n"))
    with pytest.raises(HyggeError, match="line 2: 1 columns were found, 2 are expected"):
        read(file("a,b\n1\n"))


def test_all_files_of_a_home_are_read_in_one_way(tmp_path, file):
    file("", "0.csv") and file("id;name\n", "1.csv")
    (tmp_path / "0.csv").unlink()
    file("id;name\n1;Ann\n", "2.csv")
    file("name;id\nBob;2\n", "3.csv")
    assert read(tmp_path).to_pylist() == ROWS
    file("id,name\n3,C\n", "4.csv")
    with pytest.raises(HyggeError, match="4.csv has the columns id,name; ") as caught:
        read(tmp_path)
    assert "delimiter ';'" in caught.value.hint


def test_the_sample_may_end_within_a_value(tmp_path, monkeypatch):
    monkeypatch.setattr("hygge.formats.csv_dialect.SAMPLE_BYTES", 100)
    path = tmp_path / "in.csv"
    path.write_text("id;text\n" + "".join(f'{n};"a\n,b|{n}"\n' for n in range(200)))
    assert read(path).num_rows == 200
    assert "delimiter ';'" in found(path)


def test_plan_says_it_and_the_report_says_it_once(tmp_path, file):
    file("id;name\n1;Ann\n", "in.csv")
    (tmp_path / "f.yml").write_text("flows: {f: {home: in.csv, store: out.jsonl}}\n")
    run = lambda *words: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "hygge", *words], cwd=tmp_path, check=True, capture_output=True,
        text=True, env={**os.environ, "HYGGE_STATE": str(tmp_path / "state")},
    ).stdout  # fmt: skip
    assert "found   delimiter ';', quote \", the first line names" in run("plan", "f.yml")
    assert run("run", "f.yml", "--inline").count("delimiter ';'") == 1
    assert (tmp_path / "out.jsonl").read_text() == '{"id": 1, "name": "Ann"}\n'
