"""A batch of pandas or polars is taken with every value, or refused in words that help."""

from __future__ import annotations

import pandas as pd
import polars as pl
import pytest

from hygge.dataframes import as_table
from hygge.errors import HyggeError

FRAME = pd.DataFrame({"a": [1, 2, 3]})
ROWS = [{"a": 2}, {"a": 3}]


@pytest.mark.parametrize(
    "frame",
    [
        FRAME[FRAME["a"] > 1],
        pd.concat([FRAME[1:2], FRAME[2:]]),
        pd.DataFrame({"a": [2, 3]}, index=["x", "y"]).reset_index(drop=True),
    ],
)
def test_an_index_that_numbers_the_rows_is_left_out(frame):
    assert as_table(frame).to_pylist() == ROWS


@pytest.mark.parametrize("index", [["x", "y"], pd.date_range("2024-01-01", periods=2), [0.5, 1.5]])
def test_an_index_without_a_name_that_says_something_is_refused(index):
    frame = pd.DataFrame({"a": [2, 3]}, index=index)
    with pytest.raises(HyggeError, match=f"its first value is '{frame.index[0]}'") as caught:
        as_table(frame, "batch 1")
    assert "df.rename_axis('name') makes a column of it" in caught.value.hint
    named = frame.rename_axis("name")
    assert as_table(named)["name"].to_pylist() == frame.index.tolist()
    assert as_table(frame[:0]).num_rows == 0


OBJECTS = pl.Series("a", [object(), object()], dtype=pl.Object)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (pl.DataFrame([OBJECTS]), "polars column 'a' holds objects of Python"),
        (pl.DataFrame({"a": [1]}, {"a": pl.Int128}), "a DataFrame that Arrow cannot take"),
        (pd.DataFrame({"a": [1 + 2j]}), "no type for a pandas column"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), "no type for a pandas column"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"more than one column named \['a'\]"),
        (pd.Series([1], name="a"), "is a Series, which is not Arrow-shaped"),
        (pl.Series("a", [1]), "a Series that Arrow cannot take"),
    ],
)
def test_what_arrow_has_no_form_for_is_refused_by_its_name(batch, message):
    with pytest.raises(HyggeError, match=message):
        as_table(batch)
    texts = pl.DataFrame([pl.Series("a", map(str, OBJECTS))])
    assert as_table(texts).schema.field("a").type == "large_string"
