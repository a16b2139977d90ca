"""The connectors for people: modes, guarantee, options with default and meaning.

All of it is printed from the classes and the models of their settings.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from hygge import registry
from hygge.config.connectors import is_of_files
from hygge.connectors.databases.known import DATABASES
from hygge.connectors.databases.store import SQLStore
from hygge.connectors.sql.database import Database
from hygge.errors import UsageError, one_of
from hygge.help_text import default_text, inner_model, meanings, type_text
from hygge.home import Home
from hygge.registry import Side
from hygge.report.grid import grid
from hygge.settings import Connector
from hygge.store import Store

_WIDTH = 96
_OF_SOME = ("consistency", "on_value", "create_types")
"""Options of SQLHome and SQLStore that only some databases heed."""
_TABLES = {
    "delta": "Delta Lake tables: folders with _delta_log",
    "iceberg": "tables of an Iceberg catalog",
}
"""Types that are neither a database nor files, with what they are."""


@dataclass(frozen=True)
class Setting:
    """One setting of an end, or an option inside it."""

    depth: int
    """0: a setting; 1: one of its options."""
    key: str
    kind: str
    """Its type as YAML has it; "" where it only holds options."""
    default: str
    """Its default as YAML has it; "" where there is none."""
    meaning: str


@dataclass(frozen=True)
class DescribedEnd:
    """A connector as home, or as store."""

    side: Side
    cls: str
    """The name of its class in Python."""
    traits: Sequence[tuple[str, str]]
    """What it declares: a word, and the text about it."""
    settings: Sequence[Setting]


@dataclass(frozen=True)
class Described:
    """Everything about one connector, in words for people."""

    title: str
    facts: Sequence[tuple[str, str]]
    ends: Sequence[DescribedEnd]


def connectors_text() -> str:
    """Return a line for each connector: databases, types of files, and plug-ins."""
    rows = [
        [
            database.backends[0], "reads, writes", ", ".join(SQLStore.traits.modes),
            SQLStore.traits.guarantee, f"{database.name}: {database.example or _url(database)}",
        ]
        for database in DATABASES
    ]  # fmt: skip
    rows.append(
        ["sql", "reads, writes", ", ".join(SQLStore.traits.modes), SQLStore.traits.guarantee,
         "any other database of SQLAlchemy, with its driver"]
    )  # fmt: skip
    for kind in sorted({*registry.kinds("home"), *registry.kinds("store")} - {"sql"}):
        classes = _classes(kind)
        store = classes.get("store")
        modes = guarantee = ""
        if store is not None and issubclass(store, Store):
            modes, guarantee = ", ".join(store.traits.modes), store.traits.guarantee
        does = ", ".join({"home": "reads", "store": "writes"}[side] for side in classes)
        suffixes = dict.fromkeys(
            suffix for side in classes if kind in registry.BUILT_IN[side]
            for suffix in registry.BUILT_IN[side][kind].suffixes
        )  # fmt: skip
        what = "  ".join(suffixes) or _TABLES.get(kind, "a plug-in")
        rows.append([kind, does, modes, guarantee, what])
    names = ["name", "does", "modes", "guarantee", ""]
    lines, _ = grid(names, rows, None, [False] * 5, _WIDTH)
    return "\n".join(
        [*lines, "", "`hygge connectors NAME` has the settings of one. Your own class is "
         "`type: my_module:MyHome`."]
    )  # fmt: skip


def connector_names() -> list[str]:
    """Return the name of each connector, as `connectors_text` lists them."""
    kinds = sorted({*registry.kinds("home"), *registry.kinds("store")} - {"sql"})
    return [*(database.backends[0] for database in DATABASES), "sql", *kinds]


def connector_text(name: str) -> str:
    """Return everything about one connector. Raises UsageError with the nearest known name."""
    about = describe_connector(name)
    lines = [f"{name}: {about.title}"]
    lines += [f"  {word:<9} {text}" for word, text in about.facts]
    for end in about.ends:
        lines += ["", f"as {end.side}  (in Python: {end.cls})"]
        for word, text in end.traits:
            lines += _wrapped(text, f"  {word:<9} ", "            ")
        if end.settings:
            lines.append("  settings:")
        for each in end.settings:
            indent = "    " * (each.depth + 1)
            kind = f"  {each.kind}" if each.kind else ""
            default = f", default {each.default}" if each.default else ""
            lines.append(f"{indent}{each.key}{kind}{default}")
            lines += _wrapped(each.meaning, f"{indent}    ", f"{indent}    ")
    return "\n".join(lines)


def describe_connector(name: str) -> Described:
    """Return everything about one connector. Raises UsageError with the nearest known name."""
    database = _database(name)
    if database is None and name not in {*registry.kinds("home"), *registry.kinds("store")}:
        known = [each.backends[0] for each in DATABASES]
        known += [*registry.kinds("home"), *registry.kinds("store")]
        raise UsageError(
            f"there is no connector '{name}'", one_of("connectors", name, dict.fromkeys(known))
        )
    kind = name if database is None else "sql"
    facts, ends = [], []
    if database is not None and database.example:
        facts.append(("url", database.example))
    if database is not None and (drivers := database.drivers or ()):
        facts.append(("drivers", f"{', '.join(drivers)}; another one goes through SQLAlchemy"))
    for side, cls in _classes(kind).items():
        model = getattr(cls, "Settings", None)
        settings = [] if model is None else list(_settings(model, database, is_of_files(cls)))
        ends.append(DescribedEnd(side, cls.__name__, list(_traits(cls, database)), settings))
    return Described(_title(kind, database), facts, ends)


def _database(name: str) -> Database | None:
    word = name.lower()
    for database in DATABASES:
        if word in (database.name.lower(), *database.backends, *database.aliases):
            return database
    return None


def _classes(kind: str) -> dict[Side, type[Connector]]:
    sides: tuple[Side, ...] = ("home", "store")
    return {side: registry.find(side, kind) for side in sides if kind in registry.kinds(side)}


def _title(kind: str, database: Database | None) -> str:
    if database is not None:
        return database.name
    if kind == "sql":
        return "a database, by the URL of its connection"
    if kind in _TABLES:
        return _TABLES[kind]
    if kind in registry.BUILT_IN["home"]:
        return f"files {' '.join(registry.BUILT_IN['home'][kind].suffixes)}"
    return "a plug-in"


def _url(database: Database) -> str:
    return f"{database.backends[0]}://"


def _traits(cls: type[Connector], database: Database | None) -> Iterator[tuple[str, str]]:
    """Yield the properties that a class declares; of a database, those of the database."""
    if issubclass(cls, Home):
        lossy = cls.traits.lossy if database is None else database.home_lossy
        if cls.traits.cursor:
            yield "cursor", "reads only what is new"
        if cls.traits.max_lanes:
            yield "lanes", f"{cls.traits.max_lanes} at most"
    elif issubclass(cls, Store):
        traits = cls.traits
        lossy = traits.lossy if database is None else database.store_lossy
        lanes = traits.max_lanes if database is None else database.max_lanes
        yield "modes", ", ".join(traits.modes)
        if traits.changes:
            yield "changes", "`merge` applies insert, update and delete of a column `_op`"
        yield "guarantee", f"{traits.guarantee}; new rows become visible: {traits.visibility}"
        if traits.sees:
            yield "sees", f"a reader sees {traits.sees}"
        if lanes:
            yield "lanes", f"{lanes} at most"
    else:
        return
    if lossy:
        yield "not exact", ", ".join(_types(lossy))


def _types(lossy: Sequence[str]) -> list[str]:
    """Return the Arrow types that are not exact as people read them."""
    zoned = [kind for kind in lossy if "tz=" in kind]
    plain = [f"{kind}]" if "[" in kind and "]" not in kind else kind for kind in lossy]
    plain = [kind.partition("(")[0] for kind in plain if "tz=" not in kind]
    zones = ["timestamps in another zone than UTC"] if zoned else []
    return list(dict.fromkeys(plain + zones))


def _kind_text(kind: Any) -> str:
    """Return the type of a setting as YAML has it: `error | utc`, `text`, `list of text`."""
    words: dict[Any, str] = {str: "text", bool: "true | false", int: "number", float: "number"}
    words[Any] = "anything"
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in words:
        return words[kind]
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        texts = [_kind_text(each) for each in arguments if each is not NoneType]
        return " | ".join(dict.fromkeys(texts))
    if origin is list:
        return f"list of {_kind_text(arguments[0])}"
    if origin in (dict, Mapping):
        return f"{{{_kind_text(arguments[0])}: {_kind_text(arguments[1])}}}"
    return type_text(kind)


def _settings(
    model: type[BaseModel], database: Database | None, of_files: bool = False, depth: int = 0
) -> Iterator[Setting]:
    """Yield the settings of a model, each followed by its options."""
    texts = meanings(model)
    for name, field in model.model_fields.items():
        if database is not None and name in _OF_SOME and name not in database.heeds:
            continue
        key, inner = field.alias or name, inner_model(field)
        if key == "connection" and of_files:
            meaning = "A name under `connections:`; a URL below it finds it by itself."
            yield Setting(depth, key, "text", "", meaning)
            continue
        kind = "" if inner else _kind_text(field.annotation)
        default = "" if field.is_required() or inner else default_text(name, field)
        default = "" if default in ("", "None", "{}", "[]") else _yaml(default)
        meaning = " ".join(inspect.cleandoc(texts.get(name, "")).split())
        yield Setting(depth, key, kind, default, meaning)
        if inner:
            yield from _settings(inner, database, depth=depth + 1)


def _yaml(default: str) -> str:
    """Return a default as YAML writes it."""
    words = {"True": "true", "False": "false"}
    text = default.replace("_", ",") if default[0].isdigit() else default.strip("'")
    return words.get(default, text)


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest)
