"""Finds connector classes by their `type:`; nothing else imports a connector by name.

A type is a word of the table below (`parquet`), the name of an entry point in the groups
`hygge.homes` / `hygge.stores` (an installed plug-in), or `module:Class` (one's own). The table
loads no module: a class is imported when `find` is asked for it.
"""

from __future__ import annotations

import importlib
import inspect
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from hygge.errors import ConfigError, one_of
from hygge.home import Home
from hygge.model import PROTOCOL
from hygge.settings import Connector
from hygge.store import Store

Side = Literal["home", "store"]
_ROOT: dict[Side, type[Connector]] = {"home": Home, "store": Store}


@dataclass(frozen=True)
class BuiltIn:
    """Where a built-in class is (`module:Class`), and how names of its files end."""

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
        "jsonl": BuiltIn("hygge.connectors.files.jsonl:JsonlHome", _JSONL),
        "parquet": BuiltIn("hygge.connectors.files.parquet:ParquetHome", _PARQUET),
        "sql": BuiltIn("hygge.connectors.databases.home:SQLHome"),
    },
    "store": {
        "arrow": BuiltIn("hygge.connectors.files.arrow:ArrowStore", _ARROW),
        "csv": BuiltIn("hygge.connectors.files.csv:CsvStore", _CSV),
        "jsonl": BuiltIn("hygge.connectors.files.jsonl:JsonlStore", _JSONL),
        "parquet": BuiltIn("hygge.connectors.files.parquet:ParquetStore", _PARQUET),
        "sql": BuiltIn("hygge.connectors.databases.store:SQLStore"),
    },
}


@cache
def kinds(side: Side) -> tuple[str, ...]:
    """Every `type:` that is installed, without loading any."""
    return tuple(sorted({*BUILT_IN[side], *(point.name for point in plug_ins(side))}))


def plug_ins(side: Side) -> tuple[EntryPoint, ...]:
    """The entry points of installed plug-ins, without loading any."""
    return tuple(entry_points(group=f"hygge.{side}s"))


@cache
def find(side: Side, kind: str) -> Any:
    """The Home or Store class of a `type:`. Raises ConfigError with the nearest known one."""
    if kind in BUILT_IN[side]:
        module, _, name = BUILT_IN[side][kind].at.partition(":")
        return getattr(importlib.import_module(module), name)
    if ":" in kind:
        return _own(side, kind)
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
    """The built-in type that a path's ending names (`.csv.gz` → `csv`), or None."""
    name = path.rstrip("/").rsplit("/", 1)[-1].lower()
    for kind, built_in in BUILT_IN[side].items():
        if name.endswith(built_in.suffixes):
            return kind
    return None


def suffixes(side: Side) -> list[str]:
    """Every ending that names a type."""
    return sorted(suffix for each in BUILT_IN[side].values() for suffix in each.suffixes)


def type_of(side: Side, cls: type[Connector]) -> str:
    """The `type:` of a built-in class or of a plug-in's; of any other class `module.Class`.

    Journals keep it, so it must not change when a built-in class moves to another module.
    """
    at = f"{cls.__module__}:{cls.__qualname__}"
    for kind, built_in in BUILT_IN[side].items():
        if built_in.at == at:
            return kind
    package = at.partition(":")[0].partition(".")[0]
    for point in plug_ins(side):
        # Only a plug-in of the same package may be loaded for this question.
        if point.module.partition(".")[0] == package:
            with suppress(Exception):  # another connector of it that cannot be imported
                if find(side, point.name) is cls:
                    return point.name
    return at.replace(":", ".")


def _own(side: Side, kind: str) -> Any:
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
    found = getattr(module, class_name, None)
    if found is None:
        known = [each.__name__ for each in _defined_in(module, side)]
        raise ConfigError(
            f"type '{kind}': {module_name} has no class {class_name}",
            one_of(f"its {side}s", class_name, known),
        )
    return _checked(side, kind, found)


def _defined_in(module: Any, side: Side) -> Any:
    for value in vars(module).values():
        if (
            inspect.isclass(value)
            and issubclass(value, _ROOT[side])
            and value.__module__ == module.__name__
        ):
            yield value


def _checked(side: Side, kind: str, found: Any) -> Any:
    root = _ROOT[side]
    if not (inspect.isclass(found) and issubclass(found, root)):
        raise ConfigError(
            f"type '{kind}': {getattr(found, '__name__', found)} is not a {root.__name__}",
            f"derive it from hygge.{root.__name__}",
        )
    if found.traits.protocol != PROTOCOL:
        raise ConfigError(
            f"type '{kind}' is built for version {found.traits.protocol} of the contract, "
            f"this hygge speaks version {PROTOCOL}",
            "install matching versions of the plug-in and of hygge-data",
        )
    return found
