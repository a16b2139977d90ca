"""Cursors that no run can follow, each an error before rows move.

`check_end` refuses a watermark above which nothing can come. `check_forms` refuses a column of
texts that do not sort as what they mean. Its rows come from a query of the database (`forms_query`
makes it for most): each form of a text, and the lowest and highest text of that form. A form is the
text with each digit as 0; UUID_7 and UUID stand for uuids, None for texts that begin with no digit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from hygge.connectors.sql.ask import Ask
from hygge.errors import ConfigError, HomeError
from hygge.model import Watermark

MOST_FORMS = 100
"""Forms of one column that are looked at."""
UUID_7, UUID = "uuid 7", "uuid"
IS_UUID = "________-____-____-____-____________"
"""A pattern of LIKE."""
IS_UUID_7 = "______________7%"
"""A pattern of LIKE for the version of a uuid."""

_LAST_INTEGERS = (2**63 - 1, 2**64 - 1)
_NO_NUMBERS = {"infinity", "inf", "nan"}
_ZERO_DATE = re.compile(r"\d{4}-(00|\d\d-00)")
_MOMENT = re.compile(
    r"(0000([-/.])00\2(00)|00000000(?=[T ]))"
    r"([T t_]00(:?00(:?00([.,]0+)?)?)?( ?(Z|z|UTC|(?P<zone>[+-]00(:?00)?)))?)?"
)
_DAY_FIRST = re.compile(r"00?([-/.])00?\1(0000)([T ,].*)?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def check_end(ask: Ask, upper: Watermark | bytes, is_text: bool = False) -> None:
    """Raise HomeError if nothing can come above `upper`, ConfigError if it is bytes.

    `is_text`: the column holds texts, so that `NaN` or `infinity` is a word like others.
    """
    if isinstance(upper, bytes):
        raise ConfigError(f"{ask.who}: cursor '{ask.cursor}' holds blobs", "use another column")
    if isinstance(upper, float):
        is_end = math.isnan(upper) or upper == math.inf
    elif isinstance(upper, int):
        is_end = upper in _LAST_INTEGERS
    elif isinstance(upper, str):
        is_end = upper.startswith("9999-12-31") or (not is_text and _is_no_moment(upper))
    else:
        is_end = False
    if is_end:
        raise HomeError(
            f"{ask.who}: the highest value of cursor '{ask.cursor}' is {upper}; nothing can come "
            "above it, so that later runs would read no row",
            f'correct it in the source, or leave such rows out: where: "{_others(ask, upper)}"; '
            "a flow that kept it as its watermark in an earlier run needs another name",
        )


def _is_no_moment(text: str) -> bool:
    """Return whether a text stands for the end of a type, or for a date of MariaDB with a zero."""
    is_far = re.match(r"\d{5,}-\d\d-\d\d", text) is not None
    return is_far or text.lower() in _NO_NUMBERS or _ZERO_DATE.match(text) is not None


def _others(ask: Ask, upper: Watermark) -> str:
    """Return SQL of the rows with other values of the cursor."""
    if isinstance(upper, float) and ask.url.startswith("sqlite"):
        value = "9e999"
    elif isinstance(upper, int):
        value = str(upper)
    else:
        value = f"'{'infinity' if upper == math.inf else upper}'"
    return f"{ask.cursor} <> {value} OR {ask.cursor} IS NULL"


def forms_query(form: str, text: str, source: str, condition: str) -> str:
    """Return the SELECT of the forms of a text; `form` is SQL of the text with each digit as 0."""
    kind = (
        f"CASE WHEN v LIKE '{IS_UUID}' AND v LIKE '{IS_UUID_7}' THEN '{UUID_7}' "
        f"WHEN v LIKE '{IS_UUID}' THEN '{UUID}' WHEN f LIKE '0%' THEN f END"
    )
    return (
        f"SELECT {kind} AS k, MIN(v), MAX(v) FROM (SELECT {form} AS f, {text} AS v FROM {source} "
        f"WHERE {condition}) q GROUP BY {kind} LIMIT {MOST_FORMS}"
    )


def zeroed(text: str) -> str:
    """Return SQL of a text with each digit as 0."""
    for digit in "123456789":
        text = f"REPLACE({text}, '{digit}', '0')"
    return text


def check_forms(
    ask: Ask,
    forms: Sequence[Sequence[str | None]],
    since: Watermark,
    zones: Callable[[int], Sequence[str]],
) -> None:
    """Raise HomeError if the texts of the cursor do not sort as what they mean.

    `forms` are rows of form, lowest text and highest text. `zones(at)` returns the lowest and the
    highest of what the texts have from their character `at` on, which counts from 1.
    """
    examples = {form: str(low) for form, low, _ in forms}
    if isinstance(since, str):
        form = re.sub("[0-9]", "0", since)
        if _MOMENT.fullmatch(form):
            examples.setdefault(form, since)
    check_uuid(ask, examples.get(UUID))
    moments = [form for form in examples if form and _MOMENT.fullmatch(form)]
    numbers = [form for form in examples if form and not form.strip("0")]
    for day_first in filter(None, examples):
        if _DAY_FIRST.fullmatch(day_first):
            _refuse(ask, [examples[day_first]], "dates that begin with the day or the month")
    if moments and len(examples) > 1:
        first = moments[0]
        other = next(form for form in (*moments[1:], *examples) if form != first)
        _refuse(ask, [examples[first], examples[other]], f"moments in {len(examples)} forms")
    if len(numbers) > 1 and len(numbers) == len(examples):
        shown = [examples[form] for form in sorted(numbers, key=len)[:2]]
        _refuse(ask, shown, "numbers of different lengths")
    if moments and (zone := _MOMENT.fullmatch(moments[0] or "")) and zone["zone"]:
        low, high = zones(zone.start("zone") + 1)
        if low != high:
            _refuse(ask, [low, high], "moments of several time zones")


def check_uuid(ask: Ask, other: str | None) -> None:
    """Raise HomeError if `other`, a uuid that is not of version 7, is a uuid."""
    if other is not None and _UUID.fullmatch(other):
        raise HomeError(
            f"{ask.who}: cursor '{ask.cursor}' holds {other}, a uuid of version {other[14]}: only "
            "those of version 7 grow with time",
            "use a column that only grows, a timestamp for example; or `mode: replace` without a "
            "cursor",
        )


def _refuse(ask: Ask, values: Sequence[str], what: str) -> None:
    shown = " and ".join(map(repr, values))
    raise HomeError(
        f"{ask.who}: cursor '{ask.cursor}' holds {what} ({shown}), which do not sort as text",
        "write all of them in one form that sorts, 'YYYY-MM-DD HH:MM:SS' in one time zone for "
        "example; or use another cursor",
    )
