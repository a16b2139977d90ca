"""Settings of connectors, and the class that Homes and Stores have in common.

`Settings` is a pydantic model; each connector class has its own. A wrong key or value is one
ConfigError in plain words, with the nearest known key. `Connector` reads its settings from keyword
arguments, which are the YAML keys beside `type`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from hygge.errors import ConfigError, is_secret_name, nearest, one_of, without_password
from hygge.model import HomeTraits, Mode, StoreTraits

if TYPE_CHECKING:
    from inspect import Signature

    from pydantic_core import ErrorDetails

_LONGEST_VALUE = 80
"""Characters of a wrong value that an error shows."""


class Settings(BaseModel):
    """Root of every connector's settings. Unknown keys are refused; values never change later."""

    # `defer_build`: a command imports many models, and validates with few of them.
    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True
    )

    @classmethod
    def read(cls, who: str, given: dict[str, Any]) -> Self:
        """Build the model from `given`; `who` names the connector in errors.

        Raises one ConfigError that names every key that is wrong.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = [_explain(cls, who, problem) for problem in error.errors()]
        message = "\n".join(text for text, _ in problems)
        hints = [hint for _, hint in problems if hint]
        raise ConfigError(message, "; ".join(dict.fromkeys(hints)) or None)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the settings that were given, without secrets, for `repr` and `str`."""
        for name, value in super().__repr_args__():
            field = type(self).model_fields.get(name or "")
            if field is None or name in self.model_fields_set:
                shown = field.alias if field is not None and field.alias else name
                yield shown, _Shown(name or "", value)


class _Shown:
    """The value of a setting; its `repr` has no secret in it."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def __repr__(self) -> str:
        if is_secret_name(self.name) and self.value is not None:
            return "'***'"
        return without_password(repr(self.value))


def _explain(model: type[BaseModel], who: str, problem: ErrorDetails) -> tuple[str, str | None]:
    """Return the message and the hint for one problem that pydantic found."""
    path = [str(step) for step in problem["loc"]]
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        if path[-1] == "options" and not known:
            return f"{who} takes no settings, but was given 'options'", None
        return f"{who} does not know '{key}'", one_of("it knows", path[-1], known)
    if problem["type"] == "missing":
        return f"{who} needs '{key}'", f"add '{key}'"
    reason = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    where = f"{who}: '{key}'" if key else who
    if problem["type"] == "value_error":
        return f"{where}: {reason}", None
    close = _nearest_choice(problem)
    hint = f"did you mean '{close}'?" if close else None
    value = _shown_value(model, path, problem)
    if problem["type"] in ("list_type", "tuple_type") and isinstance(problem.get("input"), str):
        hint = f"a list of one: {path[-1]}: [{value}]"
    return f"{where} is {value}: {reason[:1].lower()}{reason[1:]}", hint


def _shown_value(model: type[BaseModel], path: list[str], problem: ErrorDetails) -> str:
    """Return the wrong value as text, without secrets and not too long."""
    field = model.model_fields.get(path[0]) if path else None
    if (field is not None and field.repr is False) or any(map(is_secret_name, path)):
        return "not shown"
    value = without_password(repr(problem.get("input")))
    return value if len(value) < _LONGEST_VALUE else value[: _LONGEST_VALUE - 3] + "..."


def _nearest_choice(problem: ErrorDetails) -> str | None:
    """Return the allowed value nearest to the wrong one, where there are fixed choices."""
    choices = (problem.get("ctx") or {}).get("expected")
    value = problem.get("input")
    if not choices or not isinstance(value, str):
        return None
    return nearest(value, str(choices).replace("'", "").replace(" or ", ", ").split(", "))


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys that `model` knows at `path`; [] where nothing is known there."""
    for step in path:
        field = model.model_fields.get(step)
        annotation = field.annotation if field else None
        kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def is_rebuilt_class(caller: FrameType) -> bool:
    """Return whether a class is made by `types.new_class`: cloudpickle rebuilds it in a worker.

    `caller` is the frame that called `__init_subclass__`. Such a class is empty at that moment and
    gets its methods, which were checked where it was defined, just after.
    """
    return caller.f_globals.get("__name__") == "types"


def import_all(modules: tuple[str, ...]) -> None:
    """Import the modules that a connector `needs`; one that is missing raises at its first use."""
    for module in modules:
        with suppress(ImportError):
            importlib.import_module(module)


class _Doc:
    """The docstring of a connector class, followed by its settings when somebody reads it."""

    def __init__(self, written: str | None) -> None:
        self.written = written

    def __get__(self, instance: object, cls: type[Connector]) -> str | None:
        if not getattr(cls.Settings, "model_fields", None):
            return self.written
        from hygge.help_text import describe

        return describe(self.written, cls.Settings)


class _Signature:
    """The signature of a connector class, with its settings in the place of `**settings`."""

    def __get__(self, instance: object, cls: type[Connector]) -> Signature:
        from hygge.help_text import signature

        return signature(cls.__init__, cls.Settings, cls.__init__ is not Connector.__init__)


class Connector:
    """Base of Home and Store: a name, and settings that are read from keyword arguments.

    A subclass with settings declares a `Settings` model; then `self.settings` holds an instance. A
    subclass may write its own `__init__` instead; then its keyword arguments are its YAML keys.
    """

    Settings: ClassVar[type[Settings]] = Settings
    """The model of the settings of this class."""
    traits: HomeTraits | StoreTraits
    """The properties that the class declares; an instance may declare less."""
    imports: ClassVar[tuple[str, ...]] = ()
    """Modules that a built-in class imports only where it first uses them."""

    name: str | None = None
    """Its name, for people; a table's or a folder's, where it was given by position."""
    # Any, so that `self.settings.url` is right in classes that outsiders write. A class whose
    # authors want its settings checked annotates it again: `settings: MySettings`.
    settings: Any = None
    """The instance of `Settings`; None in a class with an `__init__` of its own."""
    flow: str | None = None
    """Identity of the flow that it is part of, for names that people see: database sessions."""

    __signature__ = _Signature()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        doc = cls.__dict__.get("__doc__")
        cls.__doc__ = doc if isinstance(doc, _Doc) else _Doc(doc)  # type: ignore[assignment]  # reads as text

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        self.name = name
        self.settings = self.Settings.read(type(self).__name__, settings)

    def __repr__(self) -> str:
        given = [] if self.name is None else [repr(self.name)]
        if isinstance(self.settings, Settings):
            given += [f"{name}={value!r}" for name, value in self.settings.__repr_args__()]
        return f"{type(self).__name__}({', '.join(given)})"

    def describe(self) -> str:
        """Return where this is, in a few words, without secrets: for plans, reports and errors."""
        return self.name or type(self).__name__

    def needs(self) -> tuple[str, ...]:
        """Return the modules that its process will import; it may do so while a run is planned."""
        module = type(self).__module__
        return (module, *self.imports) if module.startswith("hygge.") else ()

    def check_packages(self) -> None:
        """Raise ConfigError where a package is not installed that this needs, whatever it holds."""

    def check_here(self, mode: Mode) -> None:
        """Raise what this machine alone can tell: a missing file or driver, a folder of others.

        `hygge check` calls it. It opens no connection and reads no rows.
        """

    def place(self) -> str | None:
        """Return a string that is equal for two connectors to the same data; None if unknown."""
        return None

    def on_disk(self) -> str | None:
        """Return the absolute path of the file or folder that this is; None if it is neither."""
        kind, _, path = (self.place() or "").partition(":")
        return path if kind == "file" and os.path.isabs(path) else None

    def seen_by_nodes(self) -> dict[str, str]:
        """Return what every node of a cluster must see: the end of its name → its path on a disk.

        The name begins with "the home" or "the store"; the end is "" for the data themselves.
        """
        path = self.on_disk()
        return {} if path is None else {"": path}

    def holds(self, other: Connector) -> bool:
        """Return whether the next run would read from here what was written to `other`."""
        return self.place() is not None and self.place() == other.place()
