"""Anything Arrow-shaped becomes a `pyarrow.Table`, with every value, or an error says why not.

What the libraries would do in silence is an error here: pandas' index without a name is left out
only where it numbers the rows, and polars' objects would become their addresses in memory.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge.batches import plain
from hygge.errors import HomeError, UnfitValue


def as_table(obj: Any, who: str = "the batch") -> pa.Table:
    """Return `obj` as a Table, zero-copy where possible.

    `obj` is a Table, RecordBatch, pandas or polars DataFrame, or anything with
    `__arrow_c_stream__`; `who` names it in errors. Dictionary and view columns become plain ones.
    Raises HomeError for anything else, and for two columns of one name; UnfitValue for a column of
    pandas or polars that Arrow has no type for.
    """
    library = type(obj).__module__.split(".")[0]
    if isinstance(obj, pa.Table):
        table = obj
    elif isinstance(obj, pa.RecordBatch):
        table = pa.Table.from_batches([obj])
    elif library == "pandas" and hasattr(obj, "columns"):
        table = _from_pandas(obj, who)
    elif library != "pandas" and (
        hasattr(obj, "__arrow_c_stream__") or hasattr(obj, "__arrow_c_array__")
    ):
        if library == "polars":
            _refuse_objects(obj, who)
        try:
            table = pa.table(obj)
        except pa.ArrowException as error:
            raise UnfitValue(
                f"{who} is a {type(obj).__name__} that Arrow cannot take: {error}",
                "give a table, with a type for each column that Arrow has",
            ) from error
    else:
        raise HomeError(
            f"{who} is a {type(obj).__name__}, which is not Arrow-shaped",
            "give a pandas or polars DataFrame, a pyarrow Table or RecordBatch, or anything "
            "with __arrow_c_stream__; pa.Table.from_pydict({...}) makes one of lists",
        )
    _refuse_repeated(table.column_names, who)
    return plain(table)


def _from_pandas(frame: Any, who: str) -> pa.Table:
    _refuse_repeated([str(name) for name in frame.columns], who)
    index = frame.index
    named = any(name is not None for name in index.names)  # people mean a column by that
    if not named and len(index) and index.dtype.kind not in "iu":
        raise HomeError(
            f"{who} has an index without a name, and it does not number the rows: its first value "
            f"is {str(index[0])!r}",
            "df.rename_axis('name') makes a column of it, df.reset_index(drop=True) leaves it out",
        )
    try:
        table = pa.Table.from_pandas(frame, preserve_index=named)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UnfitValue(
            f"{who}: pandas column holds values of mixed types: {error}",
            "give the column one type (df[col].astype('string'), for example) before yielding it",
        ) from error
    except (pa.ArrowException, TypeError) as error:  # complex numbers, sparse columns
        raise UnfitValue(
            f"{who}: Arrow has no type for a pandas column: {error}",
            "give the column another type (df[col].astype('string'), for example) before yielding "
            "it",
        ) from error
    return table.replace_schema_metadata(None)


def _refuse_objects(frame: Any, who: str) -> None:
    """Raise UnfitValue for objects of Python in polars: Arrow would get their addresses."""
    for name, kind in getattr(frame, "schema", {}).items():
        if kind.is_object():
            raise UnfitValue(
                f"{who}: polars column '{name}' holds objects of Python, which Arrow has no type "
                "for",
                "give the column another type before yielding it: "
                "pl.Series(map(str, df[col])), for example",
            )


def _refuse_repeated(names: list[str], who: str) -> None:
    if len(set(names)) == len(names):
        return
    raise HomeError(
        f"{who} has more than one column named "
        f"{sorted({name for name in names if names.count(name) > 1})}",
        "rename the columns so that each name stands once",
    )
