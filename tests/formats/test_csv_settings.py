"""The settings of the CSV home: each is exact, at every border, and refuses what contradicts it."""

from __future__ import annotations

import csv
import datetime as dt
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hygge.formats.csv_reader
from hygge import CsvHome
from hygge.errors import ConfigError, HyggeError, UnfitValue
from tests.formats.test_csv import read

SMALL = {"newlines_in_values": False}


@pytest.fixture
def file(tmp_path):
    def make(content: str | bytes, name: str = "in.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def everywhere(path: Path, monkeypatch: Any = None, **options: Any) -> list[dict]:
    """Read a file whole, split at every byte, and in blocks of every small size."""
    whole = read(path, **options).to_pylist()
    for size in range(1, 40):
        assert read(path, **options, **SMALL, split_bytes=size).to_pylist() == whole
    return whole


def test_an_escape_takes_the_next_character_for_itself(file):
    path = file('id,said\n1,"she said \\"hi\\" to me"\n2,"a\\\\"\n3,a\\,b\n4,"x""y"\n5,"\\\\""z"\n')
    assert [row["said"] for row in everywhere(path, escape="\\")] == [
        'she said "hi" to me', "a\\", "a,b", 'x"y', '\\"z',
    ]  # fmt: skip


def test_an_escaped_line_end_belongs_to_the_value(file):
    path = file('id,said\n1,"a\\\nb"\n2,c\\\nd\n3,e\n')
    assert read(path, escape="\\", types={"id": "int64"})["said"].to_pylist() == [
        "a\nb",
        "c\nd",
        "e",
    ]
    with pytest.raises(UnfitValue, match="line 2, column 'said'"):
        read(path, escape="\\", newlines_in_values=False)


def test_an_escape_before_another_character_is_not_guessed(file):
    with pytest.raises(UnfitValue, match=r"line 3, column 'path': \\ stands before 'n'") as caught:
        read(file('id,path\n1,x\n2,"C:\\new"\n'), escape="\\")
    assert "leave `escape` out" in caught.value.hint
    with pytest.raises(UnfitValue, match="the text ends after"):
        read(file("id,path\n1,x\\"), escape="\\")


def test_a_null_that_is_escaped_is_null(file):
    path = file('id,said\n\\N,\\N\n1,"a\\"b"\n\\N,\\\\N\n2,N\n3,\\N')
    rows = everywhere(path, escape="\\", null_values=["\\N"], types={"id": "int64"})
    assert rows == [{"id": None, "said": None}, {"id": 1, "said": 'a"b'},
                    {"id": None, "said": "\\N"}, {"id": 2, "said": "N"},
                    {"id": 3, "said": None}]  # fmt: skip
    with pytest.raises(UnfitValue, match="line 2, column 'said'"):
        read(file("id,said\n1,a\\N\n"), escape="\\", null_values=["\\N"])
    with pytest.raises(UnfitValue, match="line 2, column 'said'"):
        read(file('id,said\n1,"a,\\N,b"\n'), escape="\\", null_values=["\\N"])


def test_without_quotes_a_quote_is_a_character(file):
    path = file("id,size\n1,5\" pipe\n2,'6'\n3,\"\n")
    assert [row["size"] for row in everywhere(path, quote="none")] == ['5" pipe', "'6'", '"']
    path = file('id,said\n1,a\\,b "c"\n2,\\\\\n')
    assert [r["said"] for r in everywhere(path, quote="none", escape="\\")] == ['a,b "c"', "\\"]


def test_comments_are_left_out_wherever_they_stand(file):
    content = '# by x, "y\nid,said\n# it\'s "odd\n1,a\n#\n2,"b\n#c"\n3,#d\n4, #e\n#last'
    path = file(content)
    rows = read(path, comment="#").to_pylist()
    assert [row["said"] for row in rows] == ["a", "b\n#c", "#d", " #e"]
    path = file('# by x, "y\nid,said\n# it\'s "odd\n1,a\n#\n2,"b#"\n3,#d\n#last')
    assert len(everywhere(path, comment="#")) == 3
    assert everywhere(file("#x\r\nsaid\r\n#y\r\na\r\n#z\r\n\r\nb\r\n"), comment="#") == [
        {"said": "a"}, {"said": None}, {"said": "b"},
    ]  # fmt: skip
    path = file("# C:\\\nid,said\n# C:\\\n1,a\\,\n# \\x\n2,b\n")
    assert [r["said"] for r in everywhere(path, comment="#", escape="\\")] == ["a,", "b"]


def test_lines_are_counted_with_those_that_are_left_out(file):
    path = file('title\n\n# c\nid,said\n# c\n1,a\n#d\n2,"b"c\n')
    with pytest.raises(UnfitValue, match="line 8, column 'said': text stands"):
        read(path, comment="#", skip_lines=2)
    path = file("title\n\n# c\nid,said\n# c\n1,a\n#d\nx,c\n")
    for more in ({}, {**SMALL, "split_bytes": 5}):
        with pytest.raises(UnfitValue, match="line 8, column 'id': 'x' is no int64"):
            read(path, comment="#", skip_lines=2, types={"id": "int64"}, **more)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("header", [True, False])
def test_skipped_lines_are_no_rows(file, end, header):
    path = file(end.join(['Report "2024', "", *(["id;said"] if header else []), "1;a", "2;b", ""]))
    names = {} if header else {"header": False, "column_names": ["id", "said"]}
    rows = [{"id": 1, "said": "a"}, {"id": 2, "said": "b"}]
    assert everywhere(path, skip_lines=2, **names) == rows


def test_blocks_of_every_size_give_the_same(file, monkeypatch):
    rows = [(n, f'a\\"{"x" * (n % 7)},\\\\') for n in range(300)]
    text = "".join(f'{n},"{value}"\n# "c" \\\n\\N,\\N\n' for n, value in rows)
    path = file("id,said\n" + text)
    options = {"escape": "\\", "comment": "#", "null_values": ["\\N"],
               "types": {"id": "int64", "said": "string"}}  # fmt: skip
    expected = read(path, **options).to_pylist()
    assert expected[0] == {"id": 0, "said": 'a",\\'}
    assert len(expected) == 600
    for block in range(1024, 1044):
        monkeypatch.setattr(hygge.formats.csv_reader.CsvReader.__init__, "__defaults__", (block,))
        assert read(path, **options).to_pylist() == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.text("ab#,;\"'\\N\n", max_size=6), min_size=2, max_size=2), max_size=8),
    st.sampled_from(["\\", "|"]),
    st.booleans(),
)
def test_what_the_standard_library_escapes_comes_back(tmp_path_factory, rows, escape, quoted):
    out = io.StringIO()
    how = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(out, doublequote=False, escapechar=escape, quoting=how, lineterminator="\n")
    writer.writerow(["a", "b"])
    for row in rows:
        writer.writerow(row)
    path = tmp_path_factory.mktemp("e") / "in.csv"
    path.write_text(out.getvalue(), newline="")
    types = {"a": "string", "b": "string"}
    table = read(path, escape=escape, delimiter=",", quote='"', header=True, types=types)
    assert [[row["a"] or "", row["b"] or ""] for row in table.to_pylist()] == rows


def test_numbers_as_other_countries_write_them(file):
    path = file("id;price;n\n1;1.234,50;1.000\n2;-0,1;12\n3;7;1.234.567\n4;;\n")
    assert everywhere(path, decimal=",", thousands=".") == [
        {"id": 1, "price": 1234.5, "n": 1000}, {"id": 2, "price": -0.1, "n": 12},
        {"id": 3, "price": 7.0, "n": 1234567}, {"id": 4, "price": None, "n": None},
    ]  # fmt: skip
    types = {"price": "decimal(12,2)", "n": "int32"}
    table = read(path, decimal=",", thousands=".", types=types)
    assert table["price"].to_pylist() == [Decimal("1234.50"), Decimal("-0.10"), 7, None]
    table = read(file("a|b\n1'234.5|5 000,5\n"), thousands="'")
    assert table.to_pylist() == [{"a": 1234.5, "b": "5 000,5"}]
    table = read(file("a|b\n1'234.5|5 000,5\n"), thousands=" ", decimal=",")
    assert table.to_pylist() == [{"a": "1'234.5", "b": 5000.5}]


def test_a_number_in_another_form_is_none(file):
    path = file("id;price\n1;1,5\n2;1.5\n")
    assert read(path, decimal=",")["price"].to_pylist() == ["1,5", "1.5"]
    for value in ("1.5", "1.2345", "12.34,5", "1,5,5", "1e3x", "1.23"):
        path = file(f"id;price\n1;1,5\n2;{value}\n")
        with pytest.raises(UnfitValue, match=f"line 3, column 'price': '{value}' is no float64"):
            read(path, decimal=",", thousands=".", types={"price": "float64"})
    path = file("id;price\n" + "1;1,5\n" * 500 + "2;1.5\n")
    with pytest.raises(UnfitValue, match="line 502, column 'price': '1.5' is no float64"):
        read(path, decimal=",", sample_bytes=1024)


def test_dates_and_timestamps_in_a_stated_format(file):
    path = file("d,t,iso\n29.02.2024,29.02.2024 13:05,2024-01-02\n1.3.2024,1.3.2024 9:07,\n")
    rows = everywhere(path, date_format="%d.%m.%Y", timestamp_format="%d.%m.%Y %H:%M")
    assert rows == [
        {"d": dt.date(2024, 2, 29), "t": dt.datetime(2024, 2, 29, 13, 5),
         "iso": dt.date(2024, 1, 2)},
        {"d": dt.date(2024, 3, 1), "t": dt.datetime(2024, 3, 1, 9, 7), "iso": None},
    ]  # fmt: skip


@pytest.mark.parametrize(("form", "text", "value"), [
    ("%m/%d/%y %I:%M:%S %p", "3/4/69 12:00:01 am", dt.datetime(1969, 3, 4, 0, 0, 1)),
    ("%m/%d/%y %I:%M:%S %p", "3/4/68 12:00:01 PM", dt.datetime(2068, 3, 4, 12, 0, 1)),
    ("%m/%d/%y %I:%M:%S %p", "3/4/68 11:59:59 PM", dt.datetime(2068, 3, 4, 23, 59, 59)),
    ("%Y%m%d%H%M%S", "20240229235959", dt.datetime(2024, 2, 29, 23, 59, 59)),
    ("%d-%b-%Y %H:%M:%S.%f", "05-Sep-2024 01:02:03.4", dt.datetime(2024, 9, 5, 1, 2, 3, 400000)),
    ("%B %d, %Y at %H:%M", "december 31, 1999 at 23:59", dt.datetime(1999, 12, 31, 23, 59)),
    ("%d.%m.%Y %T %z", "01.02.2024 00:30:00 +0100",
     dt.datetime(2024, 1, 31, 23, 30, tzinfo=dt.UTC)),
])  # fmt: skip
def test_each_part_of_a_format(file, form, text, value):
    path = file(f'id;t\n1;"{text}"\n')
    assert read(path, timestamp_format=form)["t"].to_pylist() == [value]


@pytest.mark.parametrize("text", ["30.02.2024", "1.13.2024", "01.02.24", "01.02.2024x",
                                  "01/02/2024", "2024-02-30"])  # fmt: skip
def test_a_date_that_is_none_is_an_error_as_it_is_written(file, text):
    path = file(f"id;d\n1;01.02.2024\n2;{text}\n")
    with pytest.raises(UnfitValue, match=f"line 3, column 'd': '{text}' is no date"):
        read(path, date_format="%d.%m.%Y", types={"d": "date"})
    assert read(path, date_format="%d.%m.%Y")["d"].to_pylist() == ["01.02.2024", text]


def test_a_date_that_is_both_has_the_stated_form(file):
    path = file("id,d\n1,2024-05-01\n2,2024-31-01\n")
    table = read(path, date_format="%Y-%d-%m", types={"d": "date"})
    assert table["d"].to_pylist() == [dt.date(2024, 1, 5), dt.date(2024, 1, 31)]
    with pytest.raises(UnfitValue, match="'2024-01-31' is no date"):
        read(file("id,d\n1,2024-01-31\n"), date_format="%Y-%d-%m", types={"d": "date"})


CONTRADICTIONS = [
    ({"escape": ";", "delimiter": ";"}, "'delimiter' and 'escape' are both ';'"),
    ({"comment": "#", "delimiter": "#"}, "'delimiter' and 'comment' are both '#'"),
    ({"comment": "'", "quote": "'"}, "'quote' and 'comment' are both"),
    ({"delimiter": "'", "quote": "'"}, "'delimiter' and 'quote' are both"),
    ({"decimal": ",", "thousands": ","}, "'decimal' and 'thousands' are both ','"),
    ({"thousands": "."}, "'decimal' and 'thousands' are both '.'"),
    ({"decimal": ",", "delimiter": ",", "quote": "none"}, "nobody can tell them apart"),
    ({"decimal": ",,"}, "not one character"),
    ({"thousands": "0"}, "not one character"),
    ({"escape": "ab"}, "not one ASCII character"),
    ({"skip_lines": -1}, "skip_lines"),
    ({"comment": "#", "null_values": ["#N/A"]}, "would be left out"),
    ({"delimiter": ";", "null_values": ["a;b"]}, "never stand unquoted"),
    ({"date_format": "%d.%m"}, "needs one year"),
    ({"date_format": "%d.%m.%Y %H:%M"}, "timestamp_format"),
    ({"timestamp_format": "%d.%m.%Y"}, "needs one hour"),
    ({"timestamp_format": "%d.%m.%Y %I:%M"}, "%I with %p"),
    ({"date_format": "%d.%m.%Q"}, "%Q is not known; %Y"),
    ({"date_format": "dd.mm.yyyy"}, "needs one year, one month and %d"),
]


@pytest.mark.parametrize(("options", "message"), CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        CsvHome(path="a.csv", options=options)
    assert message in str(caught.value)


@pytest.mark.parametrize(("kind", "value", "option"), [
    ("float64", "1,5", "`decimal`"), ("int64", "1.000", "`thousands`"),
    ("date", "31.12.2024", "`date_format`"),
    ("timestamp", "31/12/2024 10:00", "`timestamp_format`"),
])  # fmt: skip
def test_a_value_in_another_form_names_the_option_for_it(file, kind, value, option):
    with pytest.raises(UnfitValue, match=f"line 2, column 'v': '{value}' is no {kind}") as caught:
        read(file(f"id;v\n1;{value}\n"), types={"v": kind})
    assert option in caught.value.hint


def test_an_escape_that_is_the_quote_means_doubled_quotes(file):
    path = file('id,said\n1,"a ""b"""\n')
    assert read(path, escape='"')["said"].to_pylist() == ['a "b"']
    assert read(path, escape='"', quote='"')["said"].to_pylist() == ['a "b"']


def test_the_hint_for_a_backslash_works_when_followed(file):
    path = file('id,said\n1,"she said \\"hi\\" to me"\n')
    with pytest.raises(HyggeError) as caught:
        read(path)
    assert r"`options: {escape: '\'}`" in caught.value.hint
    assert read(path, escape="\\")["said"].to_pylist() == ['she said "hi" to me']


@pytest.mark.parametrize(("last", "why"), [
    ("1e3", "'1e3' is no plain number"), ("00501", "'00501' is no plain number"),
    ("39.615278000000004", "'39.615278000000004' is a number that float64 does not give back"),
])  # fmt: skip
def test_the_plan_says_which_value_made_text_of_a_column_of_numbers(file, last, why):
    path = file("n\n" + "".join(f"{number}.5\n" for number in range(20)) + f"{last}\n")
    with CsvHome(path=path).open() as plan:
        (column,) = plan.columns
    assert (str(column.type), column.native) == ("string", f"text, inferred: {why}")
