"""What a writer of CSV may be relied on for; `test_csv.py` has what readers need as well."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hygge.connectors.files.csv import CsvStore
from hygge.errors import ConfigError, UnfitValue
from tests.formats.test_csv import read, same, write


def test_a_table_without_a_header_is_written_and_joined(tmp_path):
    table = pa.table({"a": [1, 2], "b": ["x", ""]})
    store = CsvStore(path=str(tmp_path / "all.csv"), options={"header": False, "delimiter": "|"})
    parts = [str(tmp_path / "1.csv"), str(tmp_path / "2.csv")]
    for part in parts:
        writer = store.open_writer(part, table.schema)
        writer.write(table)
        writer.close()
    store.join(parts, store.path, table.schema)
    found = read(store.path, header=False, column_names=["a", "b"], delimiter="|")
    assert same(found, pa.concat_tables([table, table]))


def test_a_suffix_that_contradicts_the_compression_is_refused():
    with pytest.raises(ConfigError, match="ends as compression gzip does"):
        CsvStore(path="a.csv.gz", options={"compression": "zstd"})
    assert CsvStore(path="folder", options={"compression": "zstd"}).suffix() == ".csv.zst"
    assert CsvStore(path="a.tsv.gz").suffix() == ".tsv.gz"


def test_a_type_that_csv_cannot_hold_is_named(tmp_path):
    schema = pa.schema([("a", pa.int64()), ("tags", pa.list_(pa.string()))])
    with pytest.raises(UnfitValue, match="column 'tags' is list"):
        CsvStore(path=str(tmp_path / "a.csv")).check_schema(schema)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            st.none() | st.floats(),
            st.none() | st.integers(-(2**63), 2**63 - 1),
        ),
        max_size=30,
    )
)
def test_any_table_comes_back(tmp_path_factory, rows):
    schema = pa.schema([("t", pa.string()), ("f", pa.float64()), ("i", pa.int64())])
    columns = [[row[n] for row in rows] for n in range(3)]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    path = write(tmp_path_factory.mktemp("any") / "a.csv", table)
    assert same(read(path, types={"t": "string", "f": "float64", "i": "int64"}), table)
