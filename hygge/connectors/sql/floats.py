"""Floats that a database has no number for: NaN, -0.0, and in some the infinities."""

from __future__ import annotations

import pyarrow as pa


def first_odd(column: pa.ChunkedArray, *, infinities: bool) -> str | None:
    """Return the first such value of a column, as people write it; None: it has none."""
    import numpy as np
    import pyarrow.compute as pc

    if not pa.types.is_floating(column.type):
        return None
    values = pc.drop_null(column.cast(pa.float64())).to_numpy()
    is_odd = np.isnan(values) | ((values == 0) & np.signbit(values))
    if infinities:
        is_odd |= np.isinf(values)
    odd = values[is_odd]
    if not len(odd):
        return None
    return "NaN" if np.isnan(odd[0]) else str(float(odd[0]))
