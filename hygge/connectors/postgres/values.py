"""Which values of Arrow a column of PostgreSQL cannot hold, and what becomes of them.

A text without NUL and in UTF-8, a decimal within its precision, a day or moment from 4713 BC to
the years 5874897 and 294276: all else is an error, or NULL (`on_value: set_null`). A column that is
to be text (`as_text`) is text from the first row on.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hygge.connectors.sql.goal import Goal
from hygge.errors import UnfitValue

_DAYS = (-2_440_588, 2_145_042_905)
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}
_LAST_MOMENT_US = 2**63 - 1
_TEXTS = (pa.string(), pa.large_string())


def fitted(goal: Goal, batch: pa.Table, schema: pa.Schema) -> pa.Table:
    """A batch in the columns of `schema`, made by `stored`; NULL where a value may be dropped.

    Moments beyond PostgreSQL's are looked for here, since they would become other ones; the server
    finds all other misfits.
    """
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        wish = goal.on_value(field.name)
        if wish == "as_text" and column.type not in _TEXTS:
            column = _as_text(goal, field.name, column)
        elif wish == "set_null" or pa.types.is_date(column.type) or is_moment(column.type):
            mask = unfit(column)
            if mask is not None and pc.any(mask).as_py():
                if wish != "set_null":
                    raise misfit(goal, field.name, column, mask)
                column = pc.if_else(mask, pa.scalar(None, column.type), column)
        columns.append(column)
    return pa.table(columns, schema=schema)


def is_moment(kind: Any) -> bool:
    """A timestamp of a unit that PostgreSQL has."""
    return bool(pa.types.is_timestamp(kind) and kind.unit in _PER_DAY)


def unfit(column: Any) -> Any:
    """True where a value cannot be held, or None where the type has no such values."""
    kind = column.type
    if kind in _TEXTS:
        mask = pc.match_substring(column, "\0")
        return pc.or_(mask, broken) if (broken := _broken(column)) is not None else mask
    if pa.types.is_decimal(kind):
        most = Decimal(10**kind.precision - 1).scaleb(-kind.scale, Context(prec=100))
        least = most.copy_negate()
        return pc.or_(
            pc.greater(column, pa.scalar(most, kind)), pc.less(column, pa.scalar(least, kind))
        )
    if pa.types.is_date32(kind):
        return _outside(column.cast(pa.int32()), *_DAYS)
    if pa.types.is_date64(kind):
        day = _PER_DAY["ms"]
        return _outside(column.cast(pa.int64()), _DAYS[0] * day, _DAYS[1] * day)
    if is_moment(kind):
        per_day = _PER_DAY[kind.unit]
        last = _LAST_MOMENT_US // (_PER_DAY["us"] // per_day)
        return _outside(column.cast(pa.int64()), _DAYS[0] * per_day, last)
    return None


def _outside(counts: Any, least: int, most: int) -> Any:
    ends = pc.min_max(counts).as_py()
    if ends["min"] is None or (ends["min"] >= least and ends["max"] <= most):
        return None
    return pc.or_(pc.less(counts, least), pc.greater(counts, most))


def _broken(column: Any) -> Any:
    """True where a text is not UTF-8, or None where none is broken."""
    try:
        column.validate(full=True)
        return None
    except pa.ArrowInvalid:
        return pa.array([_is_broken(each) for each in column], pa.bool_())


def _is_broken(value: Any) -> bool:
    try:
        value.as_py()
        return False
    except UnicodeDecodeError:
        return True


def first_misfit(goal: Goal, batch: pa.Table) -> UnfitValue | None:
    """What the server has refused, if it can be told; a batch is searched only for that."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        mask = unfit(column)
        if mask is not None and pc.any(mask).as_py():
            return misfit(goal, field.name, column, mask)
    return None


def misfit(goal: Goal, name: str, column: Any, mask: Any) -> UnfitValue:
    """The error that names the column and the first such value."""
    first = column.filter(pc.fill_null(mask, False))[0]
    kind, value = column.type, _shown(first)
    option = f"or NULL instead of it: options: {{on_value: {{{name}: set_null}}}}"
    if kind in _TEXTS:
        nul = "\0" in value
        what = "the character NUL" if nul else "bytes that are not UTF-8"
        return UnfitValue(
            f"{goal.who}: column '{name}' holds {what}, which a text of PostgreSQL cannot keep; "
            f"the first such value is {value!r}",
            f"take it out before, make the column binary, {option}",
        )
    where = (
        "which is outside of the years that PostgreSQL has"
        if not pa.types.is_decimal(kind)
        else "which is beyond the precision of the column"
    )
    return UnfitValue(
        f"{goal.who}: column '{name}' is {kind}, but holds {value}, {where}",
        f"leave such rows out, write text (options: {{on_value: {{{name}: as_text}}}}), {option}",
    )


def _shown(value: Any) -> str:
    try:
        text = str(value.as_py())
    except UnicodeDecodeError:
        text = repr(value.as_buffer().to_pybytes())
    except (ValueError, OverflowError):  # Python's years end at 9999
        text = str(value.value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _as_text(goal: Goal, name: str, column: Any) -> Any:
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise UnfitValue(
            f"{goal.who}: column '{name}' is {column.type}, which does not become text: {error}",
            "turn it into text before, or leave it out with `columns`",
        ) from error
