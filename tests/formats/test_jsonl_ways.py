"""The fast way of JSON lines refuses, or reads the same as the slow way, which is exact."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge.bad_rows import is_bad
from hygge.errors import UnfitValue
from hygge.formats import json_bad_rows
from hygge.formats.json_reader import JsonlFile

INT, FLOAT, BIG = pa.int64(), pa.float64(), pa.decimal128(38, 0)
OBJECT = pa.struct([("x", INT)])
REFUSED = {
    "-0 where the sample had integers": (INT, "-0"),
    "-0 in a list": (pa.list_(INT), "[1, -0]"),
    "-0 in an object": (OBJECT, '{"x":-0}'),
    "a text of digits": (BIG, '"007"'),
    "a new field in an object": (OBJECT, '{"x":1,"y":2}'),
    "a new field in a list": (pa.list_(OBJECT), '[{"x":1,"y":2}]'),
    "a number of which float64 makes another": (FLOAT, "9007199254740993"),
    "an infinity out of a number": (FLOAT, "1e400"),
}


@pytest.mark.parametrize("left_out", [frozenset(), frozenset({"zz"})])
@pytest.mark.parametrize("case", REFUSED)
def test_what_no_inferred_type_holds_is_refused_whichever_way(tmp_path, case, left_out):
    kind, value = REFUSED[case]
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"a":null}}\n{{"a":{value}}}\n')
    file = JsonlFile(str(path), "utf-8", frozenset(), 1024, True, left_out)
    schema = pa.schema([("a", kind)])
    with pytest.raises(UnfitValue, match="line 2, column 'a'"):
        list(file.tables({}, schema))
    good, bad = list(json_bad_rows.tables(file, {}, schema))
    assert (good.to_pylist(), is_bad(bad)) == ([{"a": None}], True)
    assert bad["line"].to_pylist() == [2]
