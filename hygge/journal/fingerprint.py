"""What a flow moves, and where to: whether a run of yesterday is one of today's flow.

Left out is what changes how and not what: batches, lanes, memory; and every secret, since it is
written down. Fields of a connector's settings that its model hides (`repr=False`) count as secret;
where a connector's place says which database it means, that is taken instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from hygge.errors import without_password
from hygge.home import Home
from hygge.settings import Connector
from hygge.store import Store

_HOW = {"batch_size", "batch_bytes", "split_bytes", "splits", "file_bytes"}


def fingerprint(home: Home, store: Store, mode: str, key: Sequence[str]) -> dict[str, str]:
    """Dotted names and values, as text."""
    found = {"mode": mode, "key": ", ".join(key)}
    for side, end in (("home", home), ("store", store)):
        found.update({f"{side}.{name}": value for name, value in _of(end).items()})
    return found


def difference(then: dict[str, str], now: dict[str, str]) -> str | None:
    """The first thing that changed, in words, or None."""
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            return f"{name} was {then.get(name, 'not given')}, and is {now.get(name, 'not given')}"
    return None


def _of(end: Connector) -> dict[str, str]:
    found = {"type": f"{type(end).__module__}.{type(end).__qualname__}"}
    found["place"] = without_password(end.place() or end.describe())
    if isinstance(end.settings, BaseModel):
        found.update(_settings(end.settings))
    return found


def _settings(model: BaseModel) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, info in type(model).model_fields.items():
        value: Any = getattr(model, name)
        if info.repr is False or name in _HOW or value is None:
            continue
        if isinstance(value, BaseModel):
            found.update({f"{name}.{key}": each for key, each in _settings(value).items()})
        else:
            found[name] = without_password(json.dumps(value, default=str, sort_keys=True))
    return found
