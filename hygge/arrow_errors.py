"""Errors of Arrow, and of the memory that it asks for, as errors of hygge."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hygge.errors import HyggeError, UnfitValue, without_password

_MEMORY = "lower `memory_per_lane`, `batch_bytes` or `lanes`, then run it again"
_REMEDY = (
    "leave the column out with `columns`, state another type for it (`types`), or write to a store "
    "that has the type: parquet or arrow"
)
_WORDS = (
    (r"\bdictionary<values=(.*?), indices=\w+, ordered=[01]>", r"\1"),
    (r"\blarge_(string|binary|list)\b(?!_)|\b(string|binary|list)_view\b", r"\1\2"),
    (r"\blarge_(list)_view\b", r"\1"),
    (r"\b(list<|fixed_size_list<)(?:item|element): ", r"\1"),
    (r"\bdate32\[day\]|\bdate64\[ms\]", "date"),
    (r"\btime(?:32|64)\[\w+\]", "time"),
    (r"\btimestamp\[us, tz=UTC\]", "timestamp_tz"),
    (r"\btimestamp\[us\]", "timestamp"),
    (r"\bdecimal(?:128|256)\((\d+), (-?\d+)\)", r"decimal(\1,\2)"),
    (r"\bfixed_size_binary\[(\d+)\]", r"binary(\1)"),
    (r"\brun_end_encoded<run_ends: \w+, values: (.*)>", r"\1"),
    (r"\bmonth_day_nano_interval\b", "interval"),
    (r"\bhalffloat\b", "float16"),
    (r"\bfloat\b", "float32"),
    (r"\bdouble\b", "float64"),
)
"""Arrow's texts of types, and hygge's words for them; see `hygge/type_words.py`."""


@contextmanager
def in_words(
    who: str, side: type[HyggeError], unfit: type[HyggeError] = UnfitValue
) -> Iterator[None]:
    """Raise Arrow's errors as `unfit`, and missing memory as `side` (HomeError or StoreError).

    A commit is not refused by what comes after it was made: there `unfit` is StoreError. An error
    of the user's own class, which only passes through here, stays as it is.
    """
    try:
        yield
    except HyggeError:
        raise
    except Exception as error:
        if is_noted(error) or (translated := explained(error, who, side, unfit)) is None:
            raise
        raise translated from error


def is_noted(error: BaseException) -> bool:
    """Return whether an engine noted already whose error this is: another connector's."""
    return hasattr(error, "hygge_who")


def explained(
    error: BaseException, who: str, side: type[HyggeError], unfit: type[HyggeError] = UnfitValue
) -> HyggeError | None:
    """Return an error of Arrow as one of hygge; None for any other error."""
    if isinstance(error, MemoryError):
        return side(f"{who}: there is not enough memory", _MEMORY)
    if type(error).__module__.partition(".")[0] != "pyarrow":
        return None
    return unfit(f"{who}: {said(error)}", _REMEDY)


def said(error: BaseException) -> str:
    """Return the first sentence of an error of Arrow, with hygge's words for types."""
    text = without_password(error).strip() or "a value does not fit"
    text = re.sub(r"^\w*(?:Invalid|NotImplemented|TypeError|IOError|KeyError): ", "", text)
    first = text.splitlines()[0]
    for theirs, ours in _WORDS:
        first = re.sub(theirs, ours, first)
    return first
