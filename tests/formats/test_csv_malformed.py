"""CSV that is not well-formed is an error with line and column, at every border of a block."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hygge.formats.csv_reader
from hygge import CsvHome
from hygge.errors import HyggeError, UnfitValue
from hygge.formats.csv_syntax import Check, Dialect, Malformed
from tests.formats.test_csv import read

FAULTS = {
    "text after a closing quote": ('id,said\n1,a\n3,"Apple"junk\n4,b\n',
        "line 3, column 'said': text stands after a closing quote: \"Apple\"junk", "quote: none"),
    "quotes that are not doubled": ('id,said\n2,"Choices  "contact us" email"\n',
        "line 2, column 'said': text stands after a closing quote", "twice"),
    "a backslash where none is an escape": ('id,said\n1,"she said \\"hi\\" to me"\n2,x\n',
        "line 2, column 'said': text stands after", r"escape: '\'"),
    "a row within its neighbour": ('id,size\n1,"5""\n2,"6"\n3,x\n',
        "line 2, column 'size': text stands after a closing quote, 1 line further down",
        "quote: none"),
    "a blank before a quote": ('id,said\n1, "a"\n',
        "line 2, column 'said': a quote stands within a value that is not quoted", "quote: none"),
    "inches": ('id,size,n\n1,5" pipe,2\n2,6" pipe,2\n',
        "line 2, column 'size': a quote stands within a value that is not quoted: 5\" pipe",
        "quote: none"),
    "an unclosed quote": ('id,said\n1,"a\n2,b\n',
        "line 2, column 'said': a quoted value is never closed", "cut off"),
    "an unclosed quote at the very end": ('id,said\n1,a\n2,"', "line 3, column 'said': a quoted",
        "cut off"),
    "an unclosed quote after newlines": ('id,said\n1,"a\nb"\n2,"c\nd""\ne',
        "line 4, column 'said': a quoted value is never closed", "cut off"),
    "an unclosed quote in the header": ('id,"said\n1,a\n2,b\n',
        "line 1, the header's column 2: a quoted value is never closed", "cut off"),
    "text after a quote in the header": ('id,"said"x\n1,a\n',
        "line 1, the header's column 2: text stands after a closing quote", "twice"),
    "a NUL byte": ("id,said\n1,a\x00b\n", "line 2, column 'said': a NUL byte", "utf-16"),
    "utf-16 without a byte order mark": ("id,said\n1,a\n".encode("utf-16-le"),
        "line 1, the header's column 1: a NUL byte", "utf-16-le"),
    "utf-32": ("id,said\n1,a\n".encode("utf-32"), "line 1: the bytes are not utf-8", "utf-32"),
    "mixed line ends": ("id,said\n1,a\rb\n2,c\n",
        "line 2, column 'said': a carriage return stands alone", "quotes"),
    "mixed line ends in one column": ("said\na\rb\nc\n", "line 2, column 'said': a carriage", ""),
    "mixed line ends after the header": ("said\ra\rb\nc\n", "column 'said': a carriage", ""),
    "a line with a value too many": ("id,said\n1,a\n2,b,c\n", "line 3: 3 columns were found", ""),
    "a line with a value too few": ("id,said,n\n1,a,2\n2,b\n", "line 3: 2 columns were found", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("columns", [None, ["id"]])
def test_a_text_that_is_not_well_formed_is_an_error_with_line_and_column(tmp_path, case, columns):
    content, message, hint = FAULTS[case]
    path = tmp_path / "in.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if columns and "one column" in case:
        columns = ["said"]
    with pytest.raises(HyggeError) as caught:
        read(path, columns, delimiter=",", header=True)
    assert f"{path}, {message.split(': ')[0].partition(', ')[0]}" in caught.value.message or (
        message.startswith("column")
    )
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_what_a_hint_says_makes_the_file_readable(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text('id,size\n1,5" pipe\n2,6"\n3,"x"\n')
    assert read(path, quote="none")["size"].to_pylist() == ['5" pipe', '6"', '"x"']
    path.write_bytes("id,said\n1,é\n".encode("utf-16-le"))
    assert read(path, encoding="utf-16-le")["said"].to_pylist() == ["é"]


def test_a_nul_within_quotes_is_a_character_as_any_other(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(b'id,said\n1,"a\x00b"\n')
    assert read(path)["said"].to_pylist() == ["a\x00b"]


def test_line_ends_that_a_windows_program_doubled_are_line_ends(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,said\r\r\n1,a\r\r\n2,b\r\r\n")
    assert read(path)["said"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize("block", [1024, 1025, 1031])
def test_a_fault_is_seen_wherever_the_border_of_a_block_falls(tmp_path, monkeypatch, block):
    monkeypatch.setattr(hygge.formats.csv_reader.CsvReader.__init__, "__defaults__", (block,))
    path = tmp_path / "in.csv"
    good = "".join(f'{n},"a\n{n}"\n' for n in range(80))
    for bad in ('7,"b"c\n', '7,b"c\n', '7,"b\nc""\n', "7,b\rc\n"):
        for more in range(0, 12):
            path.write_bytes(f"id,said\n{'1,' + 'x' * more}\n{good}{bad}{good}".encode())
            with pytest.raises(UnfitValue, match="line 163, column 'said': "):
                read(path, types={"id": "int64", "said": "string"})


@settings(max_examples=300, deadline=None)
@example("aa\r\r\n", [4])
@given(st.text('ab,"\n\r', max_size=24), st.lists(st.integers(0, 24), max_size=4))
def test_the_check_agrees_with_a_reader_of_one_character_at_a_time(text, borders):
    content = text.encode()
    for one_column in (False, True):
        whole = _checked([content], one_column)
        cuts = sorted({0, len(content), *(border for border in borders if border < len(content))})
        parts = [content[a:b] for a, b in pairwise(cuts)]
        assert (_checked(parts, one_column) is None) == (whole is None)
        if whole != "line ends":
            assert (whole is None) == _is_well_formed(text)


def _checked(parts: list[bytes], one_column: bool) -> str | None:
    check, carried = Check(Dialect(","), one_column), b""
    try:
        for part in parts:
            block = carried + part
            count = check.carry(block)
            carried = block[len(block) - count :]
            check.feed(block[: len(block) - count])
        check.finish(carried)
    except Malformed as fault:
        return fault.fault
    return None


def _is_well_formed(text: str) -> bool:
    state = "start"
    for sign in text:
        if state == "quoted":
            state = "closed" if sign == '"' else "quoted"
        elif sign in ",\n\r":
            state = "start"
        elif state == "closed":
            if sign != '"':
                return False
            state = "quoted"
        elif sign == '"':
            if state == "plain":
                return False
            state = "quoted"
        else:
            state = "plain"
    return state != "quoted"


def test_a_split_names_the_line_in_the_file(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id,said\n" + "1,a\n" * 500 + '2,"b"c\n' + "1,a\n" * 500)
    with pytest.raises(UnfitValue, match="line 502, column 'said': text stands after"):
        read(path, newlines_in_values=False, split_bytes=300, sample_bytes=1024)
    home = CsvHome(path=str(path), options={"quote": "none"})
    with home.open() as plan:
        assert json.dumps(plan.splits[0].where)
