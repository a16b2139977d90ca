"""`schema: union` of CSV and JSONL, whose types come from a sample of each file."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from hygge.connectors.files.csv import CsvHome
from hygge.connectors.files.jsonl import JsonlHome
from hygge.errors import ConfigError, HomeError, HyggeError, UnfitValue

HOMES = {"csv": CsvHome, "jsonl": JsonlHome}
FORMATS = sorted(HOMES)


def write(kind: str, folder: Path, *files: list[dict]) -> Path:
    """Write each list of rows as a file; the first row has all columns of its file."""
    folder.mkdir()
    for at, rows in enumerate(files):
        lines = [json.dumps(row) for row in rows]
        if kind == "csv":
            lines = [",".join(rows[0])]
            lines += [",".join("" if v is None else f"{v}" for v in row.values()) for row in rows]
        (folder / f"{at}.{kind}").write_text("\n".join(lines) + "\n")
    return folder


def read(kind: str, folder: Path, **settings) -> tuple[dict[str, pa.DataType], list[dict]]:
    home = HOMES[kind]("t", path=str(folder), schema="union", **settings)
    with home.open() as plan:
        types = {column.name: column.type for column in plan.columns}
        batches = [table for split in plan.splits for table in home.read(split)]
    assert all(batch.column_names == list(types) for batch in batches)
    return types, [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_order_of_the_files_decides_nothing(kind, tmp_path):
    files = [
        [{"n": None, "m": "x"}],
        [{"n": 7, "m": "y"}],
        [{"n": 2.5, "m": "z"}],
        [{"other": "a", "more": 1}],
    ]
    for at, order in enumerate(itertools.permutations(files)):
        types, rows = read(kind, write(kind, tmp_path / f"{at}", *order))
        assert types["n"] == pa.float64()
        found = [(row["n"], row["m"], row["other"], row["more"]) for row in rows]
        assert sorted(found, key=str) == sorted(
            [
                (None, "x", None, None),
                (7.0, "y", None, None),
                (2.5, "z", None, None),
                (None, None, "a", 1),
            ],
            key=str,
        )


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (1, "x", "int64 in .*0.*, and string in .*1"),
        (1, "2024-01-31", "int64 in .*0.*, and date in .*1"),
        (2**63, -1, "uint64 in .*0.*, and int64 in .*1"),
        (True, 1, "bool in .*0.*, and int64 in .*1"),
    ],
)
def test_types_that_do_not_go_together_name_both_files(kind, one, other, said, tmp_path):
    folder = write(kind, tmp_path / "t", [{"n": one, "i": 1}], [{"n": other, "i": 2}])
    with pytest.raises(HomeError, match=said) as caught:
        read(kind, folder)
    assert "types: {n: string}" in caught.value.hint
    _, rows = read(kind, folder, columns=["i"])
    assert rows == [{"i": 1}, {"i": 2}]
    types, _ = read(kind, folder, options={"types": {"n": "string"}})
    assert types["n"] == pa.string()


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_numbers_that_float64_does_not_give_back_are_an_error_with_the_line(kind, tmp_path):
    folder = write(kind, tmp_path / "t", [{"n": 1, "i": 1}, {"n": 2**53 + 1, "i": 1}], [{"n": 0.5}])
    with pytest.raises(UnfitValue, match=rf"0\.{kind}, line {2 + (kind == 'csv')}, column 'n'"):
        read(kind, folder)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_value_behind_the_sample_that_does_not_fit_names_file_line_and_column(kind, tmp_path):
    rows = [{"n": 1, "i": 1}] * 400
    folder = write(kind, tmp_path / "t", [{"n": 0, "i": 0}], [*rows, {"n": "x", "i": 1}])
    with pytest.raises(UnfitValue, match=rf"1\.{kind}, line {401 + (kind == 'csv')}, column 'n'"):
        read(kind, folder, options={"sample_bytes": 1024})


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_with_none_of_the_chosen_columns_gives_its_rows(kind, tmp_path):
    folder = write(kind, tmp_path / "t", [{"a": 1, "b": 2}], [{"b": 3}, {"b": 4}])
    assert read(kind, folder, columns=["a"])[1] == [{"a": 1}, {"a": None}, {"a": None}]


def test_a_column_of_nothing_is_text_and_a_stated_one_must_be_in_one_file(tmp_path):
    folder = write("csv", tmp_path / "t", [{"a": None, "b": 1}], [{"a": None, "c": 1}])
    assert read("csv", folder)[0]["a"] == pa.string()
    assert read("csv", folder, options={"types": {"c": "int8"}})[0]["c"] == pa.int8()
    with pytest.raises(ConfigError, match=r"'types' names column 'd', which no file of .* has"):
        read("csv", folder, options={"types": {"d": "int8"}})


def test_objects_have_the_fields_of_all_files(tmp_path):
    files = [
        [{"o": {"x": 1, "l": []}}],
        [{"o": {"y": "a", "x": None}}, {"o": None}],
        [{"o": {"l": [{"z": 0.5}], "x": 2.5}}],
        [{"p": {"q": None}}],
    ]
    found = set()
    for at, order in enumerate(itertools.permutations(files)):
        types, rows = read("jsonl", write("jsonl", tmp_path / f"{at}", *order))
        inner = {types["o"].field(i).name: types["o"].field(i).type for i in range(3)}
        found.add(str(sorted(inner.items())))
        assert {"x": 2.5, "y": None, "l": [{"z": 0.5}]} in [row["o"] for row in rows]
        assert types["p"] == pa.struct([("q", pa.string())])
    assert len(found) == 1
    folder = write("jsonl", tmp_path / "t", [{"o": {"x": 1}}], [{"o": {"x": "a"}}])
    with pytest.raises(HomeError, match="column 'o' is struct"):
        read("jsonl", folder)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("a;b\n1;2\n", "1.csv is written with delimiter ';'"),
        ("3,4\n5,6\n", "the first line may be a row as well as the names"),
    ],
)
def test_a_csv_that_is_written_otherwise_is_no_other_columns(tmp_path, other, said):
    folder = write("csv", tmp_path / "t", [{"a": 1, "b": 2}])
    (folder / "1.csv").write_text(other)
    with pytest.raises(HyggeError, match=said):
        read("csv", folder)


def test_splits_of_a_csv_with_a_delimiter_that_was_found(tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "0.csv").write_text("a;b\n" + "1;x\n" * 50)
    (folder / "1.csv").write_text("b;c\n" + "y;2\n" * 50)
    (folder / "2.csv").write_text("b\nz\n")
    settings = {"split_bytes": 64, "newlines_in_values": False}
    types, rows = read("csv", folder, options=settings)
    assert list(types) == ["a", "b", "c"]
    assert rows.count({"a": 1, "b": "x", "c": None}) == 50
    assert rows.count({"a": None, "b": "y", "c": 2}) == 50
    assert rows[-1] == {"a": None, "b": "z", "c": None}
    assert len(rows) == 101


def test_bad_rows_of_files_with_other_columns_are_moved_after_the_mend(tmp_path, capsys):
    folder = write("csv", tmp_path / "in", [{"a": 1, "b": 2}], [{"b": 3, "c": 4}])
    with (folder / "1.csv").open("a") as file:
        file.write("x,5\n")
    flows = tmp_path / "flows.yml"
    text = (
        "flows:\n  f:\n    home: {path: in, schema: union, options: {types: {b: int64}}}\n"
        "    store: out\n    mode: append\n    on_bad_row: set_aside\n    max_bad_share: 100%\n"
    )
    flows.write_text(text)
    (report,) = Coordinator(flows, engine="inline").run().flows
    assert (report.status, report.set_aside, report.applied) == ("done", 1, 2), report.error
    flows.write_text(text.replace("types: {b: int64}", "types: {b: int64}, null_values: [x]"))
    assert main(["bad", str(flows), "--replay", report.run]) == 0, capsys.readouterr().err
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert {"a": None, "b": None, "c": 5} in rows
    assert len(rows) == 3


def test_a_whole_number_that_float64_does_not_hold_is_refused_in_one_file_of_json(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"n": 0.5}\n' * 200 + f'{{"n": {2**53 + 1}}}\n')
    home = JsonlHome("a", path=str(tmp_path / "a.jsonl"), options={"sample_bytes": 100})
    with home.open() as plan, pytest.raises(UnfitValue, match="line 201, column 'n'"):
        list(home.read(plan.splits[0]))
