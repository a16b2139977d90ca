"""Typed settings of connectors: a pydantic model each, errors in words with the nearest key."""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from types import FrameType
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from hygge.errors import ConfigError, nearest, one_of, without_password


class Settings(BaseModel):
    """Root of every connector's settings: unknown keys are refused, values never change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def read(cls, who: str, given: dict[str, Any]) -> Self:
        """A model from `given`, or one ConfigError that names every key that is wrong."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = [_in_words(cls, who, problem) for problem in error.errors()]
        message = "\n".join(text for text, _ in problems)
        hints = [hint for _, hint in problems if hint]
        raise ConfigError(message, "; ".join(dict.fromkeys(hints)) or None)


def _in_words(model: type[BaseModel], who: str, problem: Any) -> tuple[str, str | None]:
    place = [str(step) for step in problem["loc"]]
    key = ".".join(place)
    if problem["type"] == "extra_forbidden":
        known = _known_at(model, place[:-1])
        if place[-1] == "options" and not known:
            return f"{who} takes no settings, but was given 'options'", None
        return f"{who} does not know '{key}'", one_of("it knows", place[-1], known)
    if problem["type"] == "missing":
        return f"{who} needs '{key}'", f"add '{key}'"
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    field = model.model_fields.get(place[0]) if place else None
    secret = field is not None and field.repr is False
    value = "not shown" if secret else without_password(repr(problem.get("input")))
    value = value if len(value) < 80 else value[:77] + "..."
    where = f"{who}: '{key}'" if key else who
    expected = (problem.get("ctx") or {}).get("expected")
    word = problem.get("input")
    close = (
        nearest(word, str(expected).replace("'", "").replace(" or ", ", ").split(", "))
        if (expected and isinstance(word, str))
        else None
    )
    if problem["type"] == "value_error":
        return f"{where}: {said}", None
    return (
        f"{where} is {value}: {said[:1].lower()}{said[1:]}",
        f"did you mean '{close}'?" if close else None,
    )


def _known_at(model: type[BaseModel], place: list[str]) -> list[str]:
    for step in place:
        field = model.model_fields.get(step)
        said = field.annotation if field else None
        kinds = [each for each in (said, *get_args(said)) if isinstance(each, type)]
        inner = next((each for each in kinds if issubclass(each, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return [info.alias or name for name, info in model.model_fields.items()]


def built_in_two_steps(caller: FrameType) -> bool:
    """Whether a class comes from `types.new_class`, as when cloudpickle rebuilds it in a worker.

    It is empty at that moment and gets its methods, checked where it was defined, just after.
    """
    return caller.f_globals.get("__name__") == "types"


def import_all(modules: tuple[str, ...]) -> None:
    """Import what a connector `needs`; what is missing is said where it is used."""
    for each in modules:
        with suppress(ImportError):
            importlib.import_module(each)


class Connector:
    """What Homes and Stores share: a name, and settings read from keyword arguments.

    A subclass with settings declares a `Settings` model; then `self.settings` holds it. A subclass
    may as well write its own `__init__`; then its keyword arguments are its YAML keys.
    """

    Settings: ClassVar[type[Settings]] = Settings
    traits: ClassVar[Any] = None
    """HomeTraits or StoreTraits: what the class declares about itself."""

    imports: ClassVar[tuple[str, ...]] = ()
    """What a built-in one imports where it first uses it."""

    name: str | None = None
    settings: Any = None
    flow: str | None = None
    """The flow that it is part of, for names that people see (a database's list of sessions)."""

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        self.name = name
        self.settings = self.Settings.read(type(self).__name__, settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name or ''})"

    def describe(self) -> str:
        """Where this is, in a few words, without secrets: for plans, reports and errors."""
        return self.name or type(self).__name__

    def needs(self) -> tuple[str, ...]:
        """Modules that its process will import, which is done while the run is planned."""
        module = type(self).__module__
        return (module, *self.imports) if module.startswith("hygge.") else ()

    def place(self) -> str | None:
        """A string equal for two connectors that point at the same data, or None if unknown."""
        return None

    def on_disk(self) -> str | None:
        """The absolute path of the file or folder that this is, if it is one."""
        kind, _, path = (self.place() or "").partition(":")
        return path if kind == "file" and os.path.isabs(path) else None

    def holds(self, other: Connector) -> bool:
        """Whether what is written to `other` would be read from this one in the next run."""
        return self.place() is not None and self.place() == other.place()
