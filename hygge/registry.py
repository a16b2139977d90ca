"""Finds connector classes by their `type:`; nothing imports a connector by name.

A type is a file name in `hygge/homes` or `hygge/stores` (`parquet`), the name of an entry point
in the groups `hygge.homes` / `hygge.stores` (an installed plug-in), or `module:Class` (one's own).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

from hygge.errors import ConfigError, one_of
from hygge.home import Home
from hygge.model import PROTOCOL
from hygge.settings import Connector
from hygge.store import Store

Side = Literal["home", "store"]
_ROOT: dict[Side, type[Connector]] = {"home": Home, "store": Store}


@cache
def kinds(side: Side) -> tuple[str, ...]:
    """Every `type:` that is installed, without loading any."""
    package = importlib.import_module(f"hygge.{side}s")
    built_in = [info.name for info in pkgutil.iter_modules(package.__path__)]
    plugged = [point.name for point in entry_points(group=f"hygge.{side}s")]
    return tuple(sorted({*built_in, *plugged}))


@cache
def find(side: Side, kind: str) -> Any:
    """The Home or Store class of a `type:`. Raises ConfigError with the nearest known one."""
    if ":" in kind:
        return _own(side, kind)
    package = importlib.import_module(f"hygge.{side}s")
    if any(info.name == kind for info in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"hygge.{side}s.{kind}")
        return _checked(side, kind, next(_defined_in(module, side)))
    for point in entry_points(group=f"hygge.{side}s", name=kind):
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
    """The kind of file connector that a path's ending names (`.csv.gz` → `csv`), or None."""
    name = path.rstrip("/").rsplit("/", 1)[-1].lower()
    for kind in kinds(side):
        if importlib.util.find_spec(f"hygge.{side}s.{kind}"):
            for suffix in getattr(find(side, kind), "suffixes", ()):
                if name.endswith(suffix):
                    return kind
    return None


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
