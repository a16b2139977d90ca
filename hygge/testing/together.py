"""The types that one table brings through a connector unchanged, found once for a suite.

A table for each of fifty types is slow where a table costs a catalog or a server. So the first of
these tests moves one table with a column for each type; where every value of it survives, the tests
of its types have nothing more to do. Where anything does not, each type is moved alone, and its own
test says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from hygge.testing.values import difference, every_type, is_lossy

Move = Callable[[pa.Table], pa.Table | None]
"""Moves a table, and returns the rows that came."""
_KEPT: dict[type, frozenset[str]] = {}


def kept_together(suite: type, begin: Callable[[], tuple[Iterable[str], Move]]) -> frozenset[str]:
    """Return the names of the types that the table of all has brought through unchanged.

    `suite` is the class of the tests. `begin` is called once a suite, and returns what its
    connector declares as lossy, and how a table is moved. What is declared lossy is not among them.
    """
    if suite not in _KEPT:
        lossy, move = begin()
        arrays = _arrays(tuple(lossy))
        table = _wide_table(list(arrays.values()))
        try:
            problem = difference(move(table), table)
        except Exception as error:
            problem = repr(error)
        _KEPT[suite] = frozenset() if problem else frozenset(arrays)
    return _KEPT[suite]


def _arrays(lossy: tuple[str, ...]) -> dict[str, pa.Array]:
    found = every_type().items()
    return {name: array for name, array in found if not is_lossy(name, array.type, lossy)}


def _wide_table(arrays: list[pa.Array]) -> pa.Table:
    """Return a table that numbers its rows, with a column for each array; NULLs fill the rest."""
    rows = max(map(len, arrays), default=0)
    columns: dict[str, pa.Array] = {"n": pa.array(range(rows), pa.int64())}
    for at, array in enumerate(arrays):
        rest = pa.nulls(rows - len(array), array.type)
        columns[f"v{at}"] = pa.concat_arrays([array, rest])
    return pa.table(columns)
