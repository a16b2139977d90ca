"""What a flow moves, and where to: whether a run of yesterday is one of today's flow.

Left out is what changes how and not what: batches, lanes, memory; and every secret, since it is
written down. Fields of a connector's settings that its model hides (`repr=False`) count as secret;
where a connector's place says which database it means, that is taken instead. A connector's type is
the word that `type:` has for it, so that its class may move to another module.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from hygge import registry
from hygge.errors import without_password
from hygge.home import Home
from hygge.registry import Side
from hygge.settings import Connector
from hygge.store import Store

_HOW = {"batch_size", "batch_bytes", "split_bytes", "splits", "file_bytes"}
_SIDES: tuple[Side, Side] = ("home", "store")
_TYPES_OF_0_1_0 = {
    "hygge.homes.arrow.ArrowHome": "arrow",
    "hygge.homes.csv.CsvHome": "csv",
    "hygge.homes.jsonl.JsonlHome": "jsonl",
    "hygge.homes.parquet.ParquetHome": "parquet",
    "hygge.homes.sql.SQLHome": "sql",
    "hygge.stores.arrow.ArrowStore": "arrow",
    "hygge.stores.csv.CsvStore": "csv",
    "hygge.stores.jsonl.JsonlStore": "jsonl",
    "hygge.stores.parquet.ParquetStore": "parquet",
    "hygge.stores.sql.SQLStore": "sql",
}
"""What version 0.1.0 wrote as types: where its classes were. This stays when modules move."""


def fingerprint(home: Home, store: Store, mode: str, key: Sequence[str]) -> dict[str, str]:
    """Dotted names and values, as text."""
    found = {"mode": mode, "key": ", ".join(key)}
    for side, end in zip(_SIDES, (home, store), strict=True):
        found.update({f"{side}.{name}": value for name, value in _of(side, end).items()})
    return found


def as_of_today(then: dict[str, str]) -> dict[str, str]:
    """A fingerprint that was written down, with the types as they are written now."""
    types = {f"{side}.type": side for side in _SIDES}
    return {
        name: _type_of_today(types[name], value) if name in types else value
        for name, value in then.items()
    }


def difference(then: dict[str, str], now: dict[str, str]) -> str | None:
    """The first thing that changed, in words, or None."""
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            return f"{name} was {then.get(name, 'not given')}, and is {now.get(name, 'not given')}"
    return None


def _type_of_today(side: Side, then: str) -> str:
    if then in _TYPES_OF_0_1_0:
        return _TYPES_OF_0_1_0[then]
    if "." in then:  # a class of a plug-in, of which 0.1.0 wrote the module as well
        for point in registry.plug_ins(side):
            if f"{point.module}.{point.attr}" == then:
                return point.name
    return then


def _of(side: Side, end: Connector) -> dict[str, str]:
    found = {"type": registry.type_of(side, type(end))}
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
