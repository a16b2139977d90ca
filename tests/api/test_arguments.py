"""Keyword arguments of the built-in connectors agree with the models that read them.

Each class states its keyword arguments twice: as a pydantic model, which reads them, and as a
TypedDict, which type checkers and editors understand. Neither can change alone.
"""

from __future__ import annotations

import collections.abc
import os
import sys
import typing
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hygge import ConfigError, registry
from hygge.connectors.files.parquet import ParquetOptions

CONNECTORS = [
    registry.find(side, kind) for side in ("home", "store") for kind in registry.kinds(side)
]


class Connectable:
    """In the place of what a `connection` may be, which only type checkers know."""


NAMES = {"Connectable": Connectable}
CONVERTED = {
    ("SQLHome", "connection"): {Connectable, NoneType},
    ("SQLStore", "connection"): {Connectable, NoneType},
    **{(cls.__name__, "path"): {str, NoneType, os.PathLike[str]} for cls in CONNECTORS},
}
"""What a constructor takes for a setting beyond what its model reads, since it converts it."""


def dict_of(model: type[BaseModel]) -> Any:
    """The TypedDict that stands beside a model."""
    return getattr(sys.modules[model.__module__], f"{model.__name__}Dict")


def arguments_of(cls: type) -> Any:
    """The TypedDict of the keyword arguments of a class."""
    hint = get_type_hints(cls.__init__, localns=NAMES)["settings"]
    assert get_origin(hint) is typing.Unpack
    return get_args(hint)[0]


def by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the names that people write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def parts(kind: Any) -> set[Any]:
    """The members of a union; of any other type that itself."""
    return set(get_args(kind)) if get_origin(kind) in (Union, UnionType) else {kind}


def read_from(kind: Any) -> set[Any]:
    """All types from which a model reads a field of this type."""
    found: set[Any] = set()
    for part in parts(kind):
        origin, arguments = get_origin(part), get_args(part)
        if origin is list:
            found |= {part, tuple[arguments[0], ...]}
        elif origin is dict:
            found.add(collections.abc.Mapping[arguments])
        elif isinstance(part, type) and origin is None and issubclass(part, BaseModel):
            found |= {part, dict_of(part)}
        else:
            found.add(part)
    return found


def models() -> list[type[BaseModel]]:
    """Every model that a setting of a connector holds."""
    found: dict[type[BaseModel], None] = {}
    for cls in CONNECTORS:
        for field in cls.Settings.model_fields.values():
            for part in parts(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    found[part] = None
    return list(found)


@pytest.mark.parametrize("cls", CONNECTORS, ids=lambda cls: cls.__name__)
def test_the_keyword_arguments_of_a_connector_are_the_fields_of_its_settings(cls):
    hints = get_type_hints(arguments_of(cls), localns=NAMES)
    fields = by_key(cls.Settings)
    assert sorted(hints) == sorted(fields)
    for name, hint in hints.items():
        expected = CONVERTED.get((cls.__name__, name)) or read_from(fields[name].annotation)
        assert parts(hint) == expected, name


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_a_dict_of_options_has_the_fields_of_its_model(model):
    hints = get_type_hints(dict_of(model))
    fields = by_key(model)
    assert sorted(hints) == sorted(fields)
    for name, hint in hints.items():
        assert parts(hint) == read_from(fields[name].annotation), name
    assert dict_of(model).__required_keys__ == frozenset()


def test_every_model_of_options_is_compared():
    names = {model.__name__ for model in models()}
    assert names >= {"Access", "CsvOptions", "ParquetOptions", "SQLHomeOptions", "SQLStoreOptions"}


def test_what_a_comparison_would_overlook_differs():
    assert read_from(list[str]) != {list[str]}
    assert read_from(Literal["a", "b"]) != {Literal["a"]}
    assert read_from(ParquetOptions | None) == {ParquetOptions, dict_of(ParquetOptions), NoneType}


@pytest.mark.parametrize("cls", CONNECTORS, ids=lambda cls: cls.__name__)
def test_an_unknown_keyword_argument_is_a_config_error_with_the_nearest_key(cls, tmp_path):
    keys = ("path", "catalog", "connection")
    known = next(key for key in keys if key in cls.Settings.model_fields)
    given = {known: f"sqlite:///{tmp_path}/x.db"} if known == "connection" else {}
    with pytest.raises(ConfigError, match=f"{cls.__name__} does not know '{known}s'") as caught:
        cls("users", **given, **{f"{known}s": "x"})
    assert f"did you mean '{known}'?" in (caught.value.hint or "")


def test_options_may_be_a_dict_or_a_model():
    from hygge import ParquetStore

    said = ParquetStore("u", options={"compression": "zstd"})
    built = ParquetStore("u", options=ParquetOptions(compression="zstd"))
    assert said.settings == built.settings
