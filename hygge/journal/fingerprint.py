"""The fingerprint of a flow: what it moves and where to, as text.

A run that died is resumed only if the flow has the same fingerprint today. Settings that change how
rows move and not which (batches, lanes, memory) are left out, and so is every secret, because the
journal is a file. Fields that a connector's model hides (`repr=False`) count as secret; the
connector's place says which database it means. A connector's type is the word that `type:` has for
it, so that its class may move to another module.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hygge import registry
from hygge.errors import is_secret_name, without_password
from hygge.home import Home
from hygge.registry import Side
from hygge.settings import Connector
from hygge.shape.settings import Shape
from hygge.store import Store

_LEFT_OUT = {"batch_size", "batch_bytes", "split_bytes", "splits", "file_bytes"}
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
"""The types that version 0.1.0 wrote: where its classes stood. Never change them."""


_DEFAULTS_THEN = {"home.options.quote": '"\\""', "home.options.header": "true"}
"""Defaults of earlier versions that are None today: found in the file."""


def fingerprint(
    home: Home, store: Store, mode: str, key: Sequence[str], shape: Shape | None = None
) -> dict[str, str]:
    """Return the fingerprint of a flow: dotted names and their values."""
    values = {"mode": mode, "key": ", ".join(key)}
    if shape is not None:
        values.update(shape.facts())
    for side, end in zip(_SIDES, (home, store), strict=True):
        values.update({f"{side}.{name}": value for name, value in _of_end(side, end).items()})
    return values


def default_fingerprint(home: Home, store: Store) -> dict[str, str]:
    """Return the defaults of the settings of both ends, by the names of the fingerprint."""
    values = {}
    for side, end in zip(_SIDES, (home, store), strict=True):
        if isinstance(end.settings, BaseModel):
            defaults = _of_defaults(type(end.settings))
            values.update({f"{side}.{name}": value for name, value in defaults.items()})
    return values


def with_current_types(then: dict[str, str]) -> dict[str, str]:
    """Return a fingerprint from the journal with types as today's version writes them."""
    values = {
        name: value for name, value in then.items() if not is_secret_name(name.rpartition(".")[2])
    }
    for side in _SIDES:
        name = f"{side}.type"
        if name in values:
            values[name] = _current_type(side, values[name])
    return values


def difference(
    then: dict[str, str], now: dict[str, str], defaults: dict[str, str] | None = None
) -> str | None:
    """Return the first difference of two fingerprints, for people, or None.

    A setting that is missing on one side, since another version of hygge did not know it, has its
    default there. Version 0.1.0 states `cursor_ties: skip` where the user stated nothing.
    """
    unset = dict(defaults or {})
    for name, usual in _DEFAULTS_THEN.items():
        if then.get(name) == usual and name not in now:
            unset[name] = usual
    if now.get("mode") != "merge":
        unset["home.options.cursor_ties"] = '"skip"'
    for name in sorted({*then, *now}):
        if then.get(name, unset.get(name)) != now.get(name, unset.get(name)):
            return f"{name} was {then.get(name, 'not given')}, and is {now.get(name, 'not given')}"
    return None


def _current_type(side: Side, then: str) -> str:
    if then in _TYPES_OF_0_1_0:
        return _TYPES_OF_0_1_0[then]
    if "." in then:  # a class of a plug-in; 0.1.0 wrote its module as well
        for point in registry.plug_ins(side):
            if f"{point.module}.{point.attr}" == then:
                return point.name
    return then


def _of_end(side: Side, end: Connector) -> dict[str, str]:
    values = {"type": registry.type_of(side, type(end))}
    values["place"] = without_password(end.place() or end.describe())
    if isinstance(end.settings, BaseModel):
        values.update(_of_settings(end.settings))
    return values


def _of_settings(model: BaseModel) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, field in type(model).model_fields.items():
        values.update(_of_field(field.alias or name, field, getattr(model, name)))
    return values


def _of_defaults(model: type[BaseModel]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
            values.update(_of_field(field.alias or name, field, default))
    return values


def _of_field(name: str, field: FieldInfo, value: object) -> dict[str, str]:
    if field.repr is False or is_secret_name(name) or name in _LEFT_OUT or value is None:
        return {}
    if isinstance(value, BaseModel):
        return {f"{name}.{key}": text for key, text in _of_settings(value).items()}
    return {name: without_password(json.dumps(value, default=str, sort_keys=True))}
