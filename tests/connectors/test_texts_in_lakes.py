"""A lake table takes no text that is not UTF-8, which its readers could not read."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hygge import DeltaStore
from hygge.errors import UnfitValue
from hygge.testing.staging import stage_run
from tests.connectors.iceberg import lakes


@pytest.mark.parametrize("value", [b"\xff\xfe", b"\xed\xa0\x80"])  # half of a surrogate pair
@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_text_that_is_not_utf8_is_refused(tmp_path, kind, is_nested, value):
    data = pa.array([b"ok", value])
    texts = pa.Array.from_buffers(pa.string(), 2, data.buffers())
    if is_nested:
        texts = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), texts)
    store = DeltaStore(path=tmp_path / "t") if kind == "delta" else lakes.store(tmp_path)
    with pytest.raises(UnfitValue, match=f"'v' holds 0x{value.hex()}, which is no UTF-8 text"):
        stage_run(store, pa.table({"v": texts}))
