"""The table of connectors: finds a class by its `type:`, and a type by the ending of a path.

A type is a word of the table below (`parquet`), the name of an entry point in the groups
`hygge.homes` / `hygge.stores` (an installed plug-in), or `module:Class` (the user's own class).
The table loads no module: a class is imported when `find` is asked for it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Literal

from hygge.errors import ConfigError, one_of
from hygge.home import Home
from hygge.model import PROTOCOL
from hygge.settings import Connector
from hygge.store import Store

Side = Literal["home", "store"]
_ROOT: dict[Side, type[Connector]] = {"home": Home, "store": Store}


@dataclass(frozen=True)
class BuiltIn:
    """A built-in class as `module:Class`, and the endings of its files' names."""

    at: str
    suffixes: tuple[str, ...] = ()


_CSV = (".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz", ".tsv.zst")
_JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst")
_PARQUET = (".parquet", ".pq", ".parq")
_ARROW = (".arrow", ".feather", ".ipc")
BUILT_IN: dict[Side, dict[str, BuiltIn]] = {
    "home": {
        "arrow": BuiltIn("hygge.connectors.files.arrow:ArrowHome", (*_ARROW, ".arrows")),
        "csv": BuiltIn("hygge.connectors.files.csv:CsvHome", _CSV),
        "delta": BuiltIn("hygge.connectors.delta.home:DeltaHome"),
        "iceberg": BuiltIn("hygge.connectors.iceberg.home:IcebergHome"),
        "jsonl": BuiltIn("hygge.connectors.files.jsonl:JsonlHome", _JSONL),
        "parquet": BuiltIn("hygge.connectors.files.parquet:ParquetHome", _PARQUET),
        "sql": BuiltIn("hygge.connectors.databases.home:SQLHome"),
    },
    "store": {
        "arrow": BuiltIn("hygge.connectors.files.arrow:ArrowStore", _ARROW),
        "csv": BuiltIn("hygge.connectors.files.csv:CsvStore", _CSV),
        "delta": BuiltIn("hygge.connectors.delta.store:DeltaStore"),
        "iceberg": BuiltIn("hygge.connectors.iceberg.store:IcebergStore"),
        "jsonl": BuiltIn("hygge.connectors.files.jsonl:JsonlStore", _JSONL),
        "parquet": BuiltIn("hygge.connectors.files.parquet:ParquetStore", _PARQUET),
        "sql": BuiltIn("hygge.connectors.databases.store:SQLStore"),
    },
}


@cache
def kinds(side: Side) -> tuple[str, ...]:
    """Return every `type:` that is installed, without loading any."""
    return tuple(sorted({*BUILT_IN[side], *(point.name for point in plug_ins(side))}))


def plug_ins(side: Side) -> tuple[EntryPoint, ...]:
    """Return the entry points of installed plug-ins, without loading any."""
    return tuple(entry_points(group=f"hygge.{side}s"))


@cache
def find(side: Side, kind: str) -> type[Connector]:
    """Return the Home or Store class of a `type:`.

    Raises ConfigError with the nearest known type, or with the reason why it cannot be imported.
    """
    if kind in BUILT_IN[side]:
        module, _, name = BUILT_IN[side][kind].at.partition(":")
        built_in: type[Connector] = getattr(importlib.import_module(module), name)
        return built_in
    if ":" in kind:
        return _own_class(side, kind)
    for point in plug_ins(side):
        if point.name != kind:
            continue
        try:
            return _checked(side, kind, point.load())
        except ImportError as error:
            raise ConfigError(
                f"the plug-in for type '{kind}' ({point.value}) cannot be imported: {error}",
                "reinstall the package that provides it",
            ) from error
    known = one_of(f"{side} types", kind, kinds(side))
    raise ConfigError(
        f"there is no {side} of type '{kind}'", f"{known}; your own class is `my_module:MyClass`"
    )


def by_suffix(side: Side, path: str) -> str | None:
    """Return the built-in type that a path's ending names (`.csv.gz` → `csv`), or None."""
    name = path.rstrip("/").rsplit("/", 1)[-1].lower()
    for kind, built_in in BUILT_IN[side].items():
        if name.endswith(built_in.suffixes):
            return kind
    return None


def suffixes(side: Side) -> list[str]:
    """Return every ending that names a built-in type."""
    return sorted(suffix for built_in in BUILT_IN[side].values() for suffix in built_in.suffixes)


def type_of(side: Side, cls: type[Connector]) -> str:
    """Return the `type:` of a built-in class or of a plug-in's; `module.Class` of any other.

    Journals keep it, so it must not change when a built-in class moves to another module.
    """
    at = f"{cls.__module__}:{cls.__qualname__}"
    for kind, built_in in BUILT_IN[side].items():
        if built_in.at == at:
            return kind
    package = at.partition(":")[0].partition(".")[0]
    for point in plug_ins(side):
        # To answer this, only plug-ins of the class's own package may be loaded.
        if point.module.partition(".")[0] == package:
            with suppress(Exception):  # another connector of that package cannot be imported
                if find(side, point.name) is cls:
                    return point.name
    return at.replace(":", ".")


def _own_class(side: Side, kind: str) -> type[Connector]:
    """Import the user's own class: `kind` is `module:Class`."""
    module_name, _, class_name = kind.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".")[0] and error.name != module_name:
            raise ConfigError(
                f"type '{kind}': importing {module_name} failed: {error}",
                f"install what {module_name} imports",
            ) from error
        raise ConfigError(
            f"type '{kind}': there is no module {module_name}",
            f"put {module_name}.py beside flows.yml, or install the package",
        ) from error
    cls = getattr(module, class_name, None)
    if cls is None:
        known = [defined.__name__ for defined in _defined_in(module, side)]
        raise ConfigError(
            f"type '{kind}': {module_name} has no class {class_name}",
            one_of(f"its {side}s", class_name, known),
        )
    return _checked(side, kind, cls)


def _defined_in(module: ModuleType, side: Side) -> Iterator[type[Connector]]:
    for value in vars(module).values():
        if (
            inspect.isclass(value)
            and issubclass(value, _ROOT[side])
            and value.__module__ == module.__name__
        ):
            yield value


def _checked(side: Side, kind: str, cls: object) -> type[Connector]:
    """Return `cls` if it is a connector of this side and of this version of the contract."""
    root = _ROOT[side]
    if not (inspect.isclass(cls) and issubclass(cls, root)):
        raise ConfigError(
            f"type '{kind}': {getattr(cls, '__name__', cls)} is not a {root.__name__}",
            f"derive it from hygge.{root.__name__}",
        )
    if cls.traits.protocol != PROTOCOL:
        raise ConfigError(
            f"type '{kind}' is built for version {cls.traits.protocol} of the contract, "
            f"this hygge speaks version {PROTOCOL}",
            "install matching versions of the plug-in and of hygge-data",
        )
    return cls
