"""Batches in shared memory: what comes out is what went in, and nobody loads pandas for it."""

import subprocess
import sys
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hygge.engine.ray import shared


def tables() -> dict[str, pa.Table]:
    texts = pa.array(["a", None, "", "bb", "a"])
    other = pa.array(["z", "a"]).dictionary_encode()
    columns = {
        "text": texts,
        "view": texts.cast(pa.string_view()),
        "runs": pc.run_end_encode(texts),
        "kind": texts.dictionary_encode(),
        "lists": pa.array([[1], [], None, [2, None], [3]], pa.list_(pa.int8())),
        "list_views": pa.array([[1], [], None, [2], [3]], pa.list_view(pa.int8())),
        "structs": pa.array([{"a": "x"}, None, {"a": None}, {"a": "y"}, {"a": "z"}]),
        "maps": pa.array([[("k", 1)], None, [], [], []], pa.map_(pa.string(), pa.int64())),
        "money": pa.array([Decimal("1.50"), None, None, None, None], pa.decimal128(15, 2)),
        "at": pa.array([datetime(2024, 2, 29)] * 5, pa.timestamp("us", "UTC")),
        "flags": pa.array([True, None, False, True, True]),
        "nothing": pa.nulls(5),
        "bytes": pa.array([b"\0", b"", None, b"x", b"y"], pa.large_binary()),
    }
    whole = pa.table(columns).replace_schema_metadata({"hygge.key": "text"})
    field = pa.field("kind", other.type, metadata={"a": "b"})
    dictionaries = pa.chunked_array([columns["kind"], other])
    return {
        "whole": whole,
        "slice": whole.slice(1, 3),
        "no rows": whole.slice(0, 0),
        "no columns": whole.select([]),
        "two dictionaries": pa.Table.from_arrays([dictionaries], schema=pa.schema([field])),
    }


def large_tables() -> dict[str, pa.Table]:
    """Return tables of which each column is larger than a few pages of memory."""
    rows = 100_000
    texts = pa.array([None if n % 7 == 0 else f"text {n % 50}" for n in range(rows)])
    columns = {
        "id": pa.array(range(rows)),
        "text": texts,
        "kind": texts.dictionary_encode(),
        "lists": pa.array([[n] * (n % 3) for n in range(rows)], pa.list_(pa.int64())),
    }
    whole = pa.table(columns).replace_schema_metadata({"hygge.key": "id"})
    return {
        "whole": whole,
        "part": whole.slice(90_000),
        "two parts": pa.concat_tables([whole, whole]),
    }


@pytest.mark.usefixtures("ray_here")
def test_a_batch_comes_out_of_shared_memory_as_it_went_in():
    for name, table in tables().items():
        found = shared.get(shared.put(table, 1 << 30))
        found.validate(full=True)
        assert found.schema.equals(table.schema, check_metadata=True), name
        assert found.num_rows == table.num_rows, name
        assert found.equals(table), name
    for name, table in large_tables().items():
        found = shared.get(shared.put(table, 1 << 30))
        found.validate(full=True)
        assert found.schema.equals(table.schema, check_metadata=True), name
        assert found.equals(table), name
        # What is mapped is the batch alone, however large the table that it is a part of.
        assert found.get_total_buffer_size() < 1.2 * table.nbytes, name
    huge = tables()["whole"].select(["text", "money"])
    assert shared.get(shared.put(huge, 1)).equals(huge)


def test_no_end_of_a_lane_loads_pandas_for_a_batch():
    code = (
        "import io, sys, pickle, pyarrow.csv\n"
        "from types import SimpleNamespace\n"
        "from hygge.engine.ray import actors, shared\n"
        "loads = SimpleNamespace(put=lambda it: pickle.dumps(it, protocol=5), get=pickle.loads)\n"
        "shared.ray = loads\n"
        "table = pyarrow.csv.read_csv(io.BytesIO(b'id,name\\n1,a\\n2,b\\n'))\n"
        "for each in (1, 100_000):\n"
        "    large = pyarrow.concat_tables([table] * each).combine_chunks()\n"
        "    assert shared.get(shared.put(large, 1 << 30)).equals(large)\n"
        "print({'pandas', 'pyarrow.compute'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
