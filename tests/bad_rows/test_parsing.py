"""Lines of CSV and JSONL that do not parse are set aside: all others come, each once."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pytest

from hygge import CsvHome, JsonlHome
from hygge.bad_rows import is_bad
from hygge.formats import csv_records, json_bad_rows
from hygge.formats.json_reader import JsonlFile

TYPES = {"id": "int64", "said": "string", "n": "int64"}
GOOD = [
    "{0},a,1", '{0},"a ""b"" c",2', '{0},"two\nlines, of one",3', "{0},\u00e4,4", "{0},,", "",
]  # fmt: skip
BAD = {
    '{0},5" pipe,1': "a quote stands within a value",
    '{0},"a"b,1': "text stands after a closing quote",
    "{0},a": "2 columns were found",
    "{0},a,1,2": "4 columns were found",
    "{0},a,many": "'many' is no int64",
    "{0},a,1.5": "'1.5' is no int64",
    "{0},\udcff,1": "not utf-8",
    "{0},a\x00b,1": "a NUL byte",
}


def sorted_out(home, limit: int = 10_000) -> tuple[list[dict], list[dict]]:
    """The rows and the bad rows that a home gives."""
    home.most_bad_rows = limit
    good: list[dict] = []
    bad: list[dict] = []
    with home.open() as plan:
        for split in plan.splits:
            for table in home.read(split):
                (bad if is_bad(table) else good).extend(table.to_pylist())
    return good, bad


def lines(bad: dict[str, str], count: int, seed: int) -> tuple[list[str], dict[int, str]]:
    """Records of both kinds, in any order, and id → what is wrong with it."""
    chance = random.Random(seed)
    written, wrong = [], {}
    for number in range(count):
        form = chance.choice([*GOOD, *GOOD, *bad])
        written.append(form.format(number))
        if form in bad:
            wrong[number] = bad[form]
    return written, wrong


@pytest.mark.parametrize("block", [64, 1024, 2**20])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_csv_record_comes_or_is_set_aside_with_its_own_text(tmp_path, monkeypatch, block, end):
    monkeypatch.setattr(csv_records, "_SMALL_BYTES", block)
    monkeypatch.setattr(csv_records, "_LARGE_BYTES", 4 * block)
    monkeypatch.setattr(csv_records, "_PIECE_BYTES", block // 4)
    written, wrong = lines(BAD, 400, block)
    path = tmp_path / "in.csv"
    text = "id,said,n\n" + "\n".join(written)
    path.write_bytes(text.replace("\n", end).encode(errors="surrogateescape"))
    good, bad = sorted_out(CsvHome(path=path, options={"types": TYPES}))
    ids = {n for n, line in enumerate(written) if line and n not in wrong}
    assert [row["id"] for row in good] == sorted(ids)
    assert {row["said"] for row in good} >= {'a "b" c', f"two{end}lines, of one", "\u00e4"}
    assert len(bad) == len(wrong)
    content = path.read_bytes()
    for row in bad:
        number = int(row["raw"].split(b",")[0])
        assert wrong[number] in row["reason"], row
        raw = (written[number] + end).encode(errors="surrogateescape")
        assert row["raw"] in (raw, raw[: -len(end)])  # the last line may have no end
        assert content.splitlines(keepends=True)[row["line"] - 1].startswith(f"{number},".encode())


@pytest.mark.parametrize("bad", ['{0},5" pipe,1', '{0},"a"b,1', "{0},\udcff,1"])
def test_many_bad_csv_records_do_not_make_each_other_dear(tmp_path, monkeypatch, bad):
    looked_at, checked = [], csv_records.Records._checked

    def noted(self, part, is_whole):
        looked_at.append(len(part))
        return checked(self, part, is_whole)

    monkeypatch.setattr(csv_records.Records, "_checked", noted)
    written = [(bad if n % 5 else "{0},a,1").format(n) for n in range(3_000)]
    path = tmp_path / "in.csv"
    path.write_bytes(("id,said,n\n" + "\n".join(written)).encode(errors="surrogateescape"))
    good, found = sorted_out(CsvHome(path=path, options={"types": TYPES}))
    assert (len(good), len(found)) == (600, 2_400)
    assert sum(looked_at) < len(written) * (csv_records._PIECE_BYTES + 1_000)


def test_ranges_of_a_csv_know_the_lines_of_their_file(tmp_path):
    written, wrong = lines({"{0},a": "2 columns", "{0},a,x": "no int64"}, 300, 1)
    written = [line.replace("\n", " ") or "0,,0" for line in written]
    path = tmp_path / "in.csv"
    path.write_text("\n".join(["id,said,n", *written]))
    options = {"types": TYPES, "split_bytes": 500, "newlines_in_values": False}
    good, bad = sorted_out(CsvHome(path=path, options=options))
    assert len(good) + len(bad) == 300
    assert [row["line"] - 2 for row in bad] == sorted(wrong)


def test_inferred_types_comments_escapes_and_chosen_columns_set_aside_as_well(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(
        b'id|said|n\n#x\n1|a\\|b%s|1.5\n# a " quote\n2|b|007\n3|c\\"d|2\n4|\xff|1\n5|x|3\n#end'
        % (b"." * 1000)  # as long as the shortest sample
    )
    options = {"comment": "#", "escape": "\\", "delimiter": "|", "sample_bytes": 24}
    home = CsvHome(path=path, columns=["n", "id"], options=options)
    good, bad = sorted_out(home)
    assert good == [{"n": 1.5, "id": 1}, {"n": 2.0, "id": 3}, {"n": 3.0, "id": 5}]
    assert [(row["line"], row["column"], row["value"]) for row in bad] == [
        (5, "n", "007"), (7, None, None),
    ]  # fmt: skip


@pytest.mark.parametrize("last", ["x1,2", "x1,2\n1,2\n"])
@pytest.mark.parametrize("second", ["", '1,"2"2\n'])
def test_the_sample_is_as_large_as_where_nothing_is_set_aside(tmp_path, monkeypatch, second, last):
    monkeypatch.setattr(csv_records, "_SMALL_BYTES", 64)
    path = tmp_path / "in.csv"
    path.write_text("a,b\n1,2\n" + second + "1,2\n" * 200 + last)
    good, bad = sorted_out(CsvHome(path=path, options={"sample_bytes": 1024}))
    assert {row["a"] for row in good} == {"1", "x1"}
    assert len(bad) == bool(second)


def test_one_column_takes_a_blank_line_as_null_also_beside_bad_ones(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("n\n1\n\nx\n3\n")
    good, bad = sorted_out(CsvHome(path=path, options={"types": {"n": "int64"}}))
    assert [row["n"] for row in good] == [1, None, 3]
    assert [(row["line"], row["raw"]) for row in bad] == [(4, b"x\n")]


@pytest.mark.parametrize(
    "content", ['id,said\n1,"a\n2,b\n', "id,said\n1,a\rb\n2,c\n"], ids=["open quote", "line ends"]
)
def test_what_may_take_other_rows_along_still_fails(tmp_path, content):
    path = tmp_path / "in.csv"
    path.write_bytes(content.encode())
    with pytest.raises(Exception, match="line 2, column 'said'"):
        sorted_out(CsvHome(path=path, options={"types": {"id": "int64", "said": "string"}}))


JSON_BAD = {
    '{{"id": {0}, "said": 5}}': "'5' is no string",
    '{{"id": {0}, "n": "x"}}': "is no int64",
    '{{"id": {0}, "more": 1}}': "field 'more'",
    '{{"id": {0}': "no JSON",
    '{{"id": {0}, "said": "\udcff"}}': "not utf-8",
    "[{0}]": "no JSON object",
}
JSON_GOOD = ['{{"id": {0}, "said": "a", "n": 1}}', '{{"id": {0}, "n": null}}', ""]


@pytest.mark.parametrize("part", [64, 1000, 256 * 1024])
@pytest.mark.parametrize("said", ["string", "json"], ids=["fast", "slow"])
def test_each_json_line_comes_or_is_set_aside_with_its_own_text(tmp_path, monkeypatch, part, said):
    monkeypatch.setattr(json_bad_rows, "_PART_BYTES", part)
    monkeypatch.setattr(json_bad_rows, "_SMALL_BYTES", 40)
    forms = dict(JSON_BAD)
    if said == "json":
        del forms['{{"id": {0}, "said": 5}}']
    chance = random.Random(part)
    chosen = [chance.choice([*JSON_GOOD, *JSON_GOOD, *forms]) for _ in range(300)]
    path = tmp_path / "in.jsonl"
    first = '{"id": -1, "said": "a", "n": 1}\n'
    text = first + "\n".join(form.format(n) for n, form in enumerate(chosen))
    path.write_bytes(text.encode(errors="surrogateescape"))
    types = {"id": "int64", "n": "int64"} | ({"said": "json"} if said == "json" else {})
    home = JsonlHome(path=path, options={"types": types, "sample_bytes": 20, "split_bytes": 4000})
    good, bad = sorted_out(home)
    wrong = {n for n, form in enumerate(chosen) if form in forms}
    ids = [n for n, form in enumerate(chosen) if form and n not in wrong]
    assert [row["id"] for row in good] == [-1, *ids]
    assert [row["line"] - 2 for row in bad] == sorted(wrong)
    for row in bad:
        form = chosen[row["line"] - 2]
        assert forms[form] in row["reason"], row
        line = form.format(row["line"] - 2).encode(errors="surrogateescape")
        assert row["raw"].rstrip(b"\n") == line


def test_a_bad_line_in_the_sample_does_not_end_the_plan(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    good, bad = sorted_out(JsonlHome(path=tmp_path / "in.jsonl"))
    assert ([row["a"] for row in good], [row["line"] for row in bad]) == ([1, 2], [2])
    (tmp_path / "in.csv").write_text('a,b\n1,x"y\n2,b\n')
    good, bad = sorted_out(CsvHome(path=tmp_path / "in.csv"))
    assert ([row["a"] for row in good], [row["line"] for row in bad]) == ([2], [2])
    assert pa.types.is_integer(pa.scalar(good[0]["a"]).type)


def test_the_form_of_a_bad_csv_record_says_how_to_read_it(tmp_path):
    (tmp_path / "in.csv").write_text("a;b\n1;x;\n2;b\n")
    _, bad = sorted_out(CsvHome(path=tmp_path / "in.csv"))
    form = json.loads(bad[0]["form"])
    assert (form["kind"], form["names"], form["dialect"]["delimiter"]) == ("csv", ["a", "b"], ";")


def test_jsonl_lines_of_every_kind_come_in_order_however_the_block_is_cut(tmp_path, monkeypatch):
    """Each line is a row or a bad row, once, with the number of its line."""
    monkeypatch.setattr(json_bad_rows, "_PART_BYTES", 300)
    monkeypatch.setattr(json_bad_rows, "BLOCK_BYTES", 5_000)
    monkeypatch.setattr(json_bad_rows, "_SMALL_BYTES", 100)
    monkeypatch.setattr(json_bad_rows, "_MOST_ROWS", 2)
    odd = {
        40: b"null", 41: b"{broken", 77: b'{"id": "x"}', 120: b'{"id": 1.5}', 199: b"\xff",
        200: b'{"id": 1}{"id": 2}', 260: b'{"id": 3, "b": 1}', 300: b"", 301: b"   ",
        333: b'{"id": 99999999999999999999}', 334: b'{"id": 9, "at": "2024-13-01"}',
        350: b'{"id": 1, "at": "' + b"x" * 6_000 + b'"}', 399: b'{"id": 5',
    }  # fmt: skip
    lines = [b'{"id": %d, "at": "2024-01-02"}' % n for n in range(400)]
    for number, line in odd.items():
        lines[number] = line
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    schema = pa.schema([("id", pa.int64()), ("at", pa.date32())])
    file = JsonlFile(str(path), "utf-8", frozenset(), 1_000, True)
    found = [*json_bad_rows.tables(file, {}, schema)]
    good = [n for table in found if not is_bad(table) for n in table["id"].to_pylist()]
    bad = [n for table in found if is_bad(table) for n in table["line"].to_pylist()]
    assert good == [n for n in range(400) if n not in odd]
    assert bad == [n + 1 for n in odd if n not in (300, 301)]
