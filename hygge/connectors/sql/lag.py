"""`lag`: how far below the watermark a run reads again.

A watermark is a number, or a date or timestamp as text, in the form that the database gave it.
`lowered` returns one of the same form, further down.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from hygge.connectors.sql.ask import Ask
from hygge.errors import ConfigError
from hygge.model import Watermark

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d|w)")
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:([T ])(\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(.*))?", re.DOTALL
)
_ZONE = re.compile(r"\s?(?:Z|UTC|[+-]\d\d(?::?\d\d)?(?::\d\d)?)?")


def lowered(ask: Ask, value: Watermark) -> Watermark:
    """Return the value of the cursor from which a run reads again, where `value` is the watermark.

    It is `value` itself without a lag. Raises ConfigError where the lag does not go with it.
    """
    lag = ask.lag
    if lag is None or value is None:
        return value
    if isinstance(value, int) and not isinstance(lag, str):
        return value - math.ceil(lag)
    if isinstance(value, float) and not isinstance(lag, str):
        return value - lag
    if isinstance(value, str) and isinstance(lag, str):
        moment = _MOMENT.fullmatch(value)
        if moment is not None and _ZONE.fullmatch(moment[5] or ""):
            return _earlier(moment, lag)
    if isinstance(value, str) and not isinstance(lag, str):
        try:
            return str(Decimal(value) - Decimal(str(lag)))
        except InvalidOperation:
            pass
    raise ConfigError(
        f"{ask.who}: lag is {lag!r}, and the cursor '{ask.cursor}' is at {value!r}",
        "a lag is a duration (`10m`) for dates and timestamps, and a number for numbers",
    )


def overlaps(ask: Ask, since: Watermark, upper: Watermark) -> bool:
    """Return whether the next run will read again below `since`, where `upper` is its watermark."""
    low = lowered(ask, upper)
    if ask.lag is None or since is None or low is None:
        return False
    if isinstance(low, str) and isinstance(since, str):
        ends = _MOMENT.fullmatch(low), _MOMENT.fullmatch(since)
        if all(ends):
            return low <= since
    return Decimal(str(low)) <= Decimal(str(since))


def _earlier(moment: re.Match[str], lag: str) -> str:
    """Return a date or timestamp that is earlier by `lag`, in the same form."""
    day, between, time, fraction, zone = moment.groups()
    match = DURATION.fullmatch(lag.strip())
    assert match is not None  # the settings check it
    length = timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    digits = (fraction or "").ljust(6, "0")
    whole = datetime.fromisoformat(f"{day}T{time or '00:00:00'}") + timedelta(
        microseconds=int(digits[:6])
    )
    try:
        earlier = whole - length
    except OverflowError:
        earlier = datetime.min
    if not between:
        return f"{earlier:%Y-%m-%d}".rjust(10, "0")
    text = earlier.isoformat(timespec="microseconds")
    clock = text[11:16] if time.count(":") == 1 else text[11:19]
    # As many digits as the value has: values of one form sort as text.
    rest = text[20:] + digits[6:]
    return f"{text[:10]}{between}{clock}{'.' + rest[: len(fraction)] if fraction else ''}{zone}"
