"""How CSV gets its types: stated ones, a sample, and what does not fit behind the sample."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hygge.connectors.files.csv import CsvHome
from hygge.errors import UnfitValue
from hygge.formats import text_values


def read(path: object, **options: Any) -> pa.Table:
    home = CsvHome(path=str(path), options=options)
    with home.open(None) as plan:
        assert plan.columns is not None
        schema = pa.schema([(column.name, column.type) for column in plan.columns])
        tables = [table for split in plan.splits for table in home.read(split)]
    return pa.concat_tables([schema.empty_table(), *tables])


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def make(content: str, name: str = "a.csv") -> Path:
        path = tmp_path / name
        path.write_text(content)
        return path

    return make


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", "0"], pa.int64()),
        (["00501", "10001"], pa.string()),
        (["+49", "1"], pa.string()),
        (["9223372036854775807"], pa.int64()),
        (["9223372036854775808", "0"], pa.uint64()),
        (["9223372036854775808", "-1"], pa.decimal128(38, 0)),
        (["1" * 39], pa.string()),
        (["1.5", "2", "0.10", ".5"], pa.float64()),
        (["-0"], pa.float64()),
        (["nan", "1.5", "-inf"], pa.float64()),
        (["nan", "inf"], pa.string()),
        (["0.12345678901234567890"], pa.string()),
        (["1e400"], pa.string()),
        (["12E45", "13E1"], pa.string()),
        (["1e+300", "2.5e7"], pa.float64()),
        (["007.5"], pa.string()),
        (["true", "False"], pa.bool_()),
        (["true", "1"], pa.string()),
        (["2024-02-29"], pa.date32()),
        (["2023-02-29"], pa.string()),
        (["20240229"], pa.int64()),
        (["29.02.2024"], pa.string()),
        (["2024-02-29 10:00:00", "2024-02-29T10:00:00.5"], pa.timestamp("us")),
        (["2024-02-29T10:00:00Z", "2024-02-29T10:00:00+02:00"], pa.timestamp("us", "UTC")),
        (["2024-02-29T10:00:00.123456789"], pa.timestamp("ns")),
        (["2024-02-29T10:00:00Z", "2024-02-29T10:00:00"], pa.string()),
        (["", ""], pa.string()),
        (["1", "", "3"], pa.int64()),
        (["1", " 2"], pa.string()),
        (["0x10"], pa.string()),
    ],
)
def test_a_sample_infers_a_type_only_where_all_values_have_its_plain_form(file, values, kind):
    path = file("a,b\n" + "".join(f"{value},x\n" for value in values))
    table = read(path)
    assert table.schema.field("a").type == kind
    if kind == pa.string():
        assert [value or "" for value in table["a"].to_pylist()] == values


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("10001", "00501"), ("1", "x"), ("1", "1.5"), ("1", "+1"), ("1", "0x10"), ("1", "-0"),
        ("1.5", "0.12345678901234567890"), ("1.5", "1e999"), ("1.5", "007.5"), ("1.5", "+1.5"),
        ("true", "1"), ("2024-01-01", "2024-13-01"), ("9223372036854775808", "+1"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00"),
        ("2024-01-01T00:00:00", "2024-01-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_a_misfit_behind_the_sample_names_line_column_value_and_remedy(file, first, later):
    rows = [f'"multi\nline",{first}\n'] * 200
    path = file("note,value\n" + "".join(rows) + f"x,{later}\ny,{first}\n")
    with pytest.raises(UnfitValue) as caught:
        read(path, sample_bytes=1024)
    assert f"{path}, line 402, column 'value': {later!r} is no " in caught.value.message
    assert "types: {value: string}" in caught.value.hint
    kept = read(path, sample_bytes=1024, types={"value": "string"})
    assert kept["value"].to_pylist()[-2:] == [later, first]


def test_a_stated_type_that_does_not_fit_names_the_line(file):
    path = file("a,b\n1,1.50\n2,1.505\n")
    with pytest.raises(UnfitValue, match=r"line 3, column 'b': '1.505' is no decimal\(10,2\)"):
        read(path, types={"b": "decimal(10,2)"})
    with pytest.raises(UnfitValue, match="line 3, column 'b': '1e999' is no float64"):
        read(file("a,b\n1,inf\n2,1e999\n"), types={"b": "float64"})
    assert read(file("a\ninf\n-Infinity\n"), types={"a": "float64"})["a"].to_pylist() == [
        float("inf"), float("-inf")]  # fmt: skip


SOME = [
    "1",
    " 2 ",
    "x",
    "1,2,3",
    "1.2.3",
    "1.5",
    "",
    "x",
    None,
    "007",
    "many",
    "2024-02-29",
    "'",
    "inf",
]


@pytest.mark.parametrize("inferred", [False, True])
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.date32(), pa.time64("us"),
                                  pa.decimal128(9, 2)], ids=str)  # fmt: skip
def test_each_text_that_does_not_fit_is_found_also_where_its_plain_form_is_another(
    monkeypatch, kind, inferred
):
    monkeypatch.setattr(text_values, "_PIECE_ROWS", 5)

    def plain(texts):  # "1,2,3" is refused as "1.2.3", which is a number here: 123
        return pc.replace_substring(pc.replace_substring(texts, ".", ""), ",", ".")

    def fits(text):
        try:
            text_values.fit(plain(pa.array([text], pa.string())), kind, inferred)
        except text_values.Unfit:
            return False
        return True

    texts = pa.array(SOME * 3, pa.string())
    values, places = text_values.fit_around(texts, kind, inferred, plain)
    assert places == [at for at, text in enumerate(SOME * 3) if not fits(text)]
    assert places
    assert [at for at, value in enumerate(values.to_pylist()) if value is None] == sorted(
        [*places, *(at for at, text in enumerate(SOME * 3) if text is None)]
    )


def test_a_stated_type_is_taken_at_its_word(file):
    table = read(file("a,b,c\n007, 5 ,1\n"), types={"a": "int8", "b": "decimal(5,1)", "c": "bool"})
    assert table.to_pylist() == [{"a": 7, "b": Decimal("5.0"), "c": True}]


def test_types_come_from_the_first_file_with_rows(tmp_path, file):
    file("a\n", "1.csv")
    file("a\n5\n", "2.csv")
    assert read(tmp_path).schema.field("a").type == pa.int64()
