"""Arrow arrays of values of Python and of numpy, made without `pa.array`.

pyarrow loads pandas for `pa.array` and `pa.scalar`, which takes half a second: more than all else
that a few bad rows cost.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def texts(values: Sequence[str | bytes | None], kind: pa.DataType | None = None) -> pa.Array:
    """Return an array of texts (`kind`: string, the default, or binary), of 2 GiB at most.

    A lone surrogate, which no text in UTF-8 has, becomes `?`.
    """
    encoded = [v.encode(errors="replace") if isinstance(v, str) else v or b"" for v in values]
    offsets = array("i", accumulate(map(len, encoded), initial=0))
    data = [validity(values), pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(kind or pa.string(), len(values), data)


def integers(values: Sequence[int | None]) -> pa.Array:
    """Return an array of int64."""
    numbers = pa.py_buffer(array("q", [value or 0 for value in values]).tobytes())
    return pa.Array.from_buffers(pa.int64(), len(values), [validity(values), numbers])


def booleans(values: NDArray[np.bool_]) -> pa.Array:
    """Return an array of booleans."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def validity(values: Sequence[object]) -> pa.Buffer | None:
    """Return a bit for each value, whether it is not None; None where all of them are values."""
    import numpy as np

    if None not in values:
        return None
    return _bits(np.fromiter((value is not None for value in values), np.bool_, len(values)))


def _bits(values: NDArray[np.bool_]) -> pa.Buffer:
    import numpy as np

    return pa.py_buffer(np.packbits(values, bitorder="little"))
