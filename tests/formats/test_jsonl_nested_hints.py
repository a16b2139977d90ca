"""JSON lines: the type that is proposed for a column takes what stands within its values."""

from __future__ import annotations

import json
import re

import pytest

from hygge import JsonlHome
from hygge.errors import UnfitValue


def read(path, **options):
    with (home := JsonlHome(path=path, options=options)).open() as plan:
        return [row["a"] for s in plan.splits for t in home.read(s) for row in t.to_pylist()]


@pytest.mark.parametrize(
    "values",
    [
        ["[1, 1.5, 12345678901234567890]"], ["[1e999]"], ['{"b": 12345678901234.123456}'],
        ["[{}]"], ['{"b": {}}'], ["[1]", '{"b": 2}'], ['[1, "x"]'], ['[{"x": 1}, {"x": "t"}]'],
        ["[[1], 2]"], ["[1]", "2"],
    ],
)  # fmt: skip
def test_the_type_that_is_proposed_for_nested_values_takes_them(values, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"a": {value}}}\n' for value in values))
    with pytest.raises(UnfitValue) as caught:
        read(path)
    (word,) = re.findall(r"types: \{a: (\w+)\}", caught.value.hint)
    as_numbers_stand = {"parse_float": str, "parse_int": str}
    kept = [json.loads(value, **as_numbers_stand) for value in read(path, types={"a": word})]
    assert kept == [json.loads(value, **as_numbers_stand) for value in values]
