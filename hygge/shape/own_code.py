"""The user's function of `transform`: what is stated of it, how it is found, what it takes."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, get_type_hints

from pydantic import ConfigDict, Field, field_validator

from hygge.errors import ConfigError, one_of, raised_at, without_password
from hygge.settings import Settings
from hygge.type_words import type_of

Form = Literal["pyarrow", "pandas", "polars"]
_made: dict[Any, Any] = {}
_making = threading.Lock()


class Transform(Settings):
    """A function of the user's that makes of each batch the rows that are moved."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    call: Any
    """`module:function`, or `module:Class`, which is made once a process; in Python the function
    itself."""
    columns: dict[str, str] | None = Field(default=None, alias="schema")
    """The columns that come out and their types, in the words of `types`. Default: what the
    function makes of a batch without rows."""

    @field_validator("call")
    @classmethod
    def _can_be_called(cls, call: Any) -> Any:
        _takes(_found(call), _name_of(call))
        return call

    @field_validator("columns")
    @classmethod
    def _known_words(cls, columns: dict[str, str] | None) -> dict[str, str] | None:
        for word in (columns or {}).values():
            type_of(word)
        if columns is not None and not columns:
            raise ValueError("'schema' is empty; leave it away, or name the columns that come out")
        return columns

    @property
    def name(self) -> str:
        """Its name, for messages."""
        return _name_of(self.call)

    @property
    def form(self) -> Form:
        """What it takes: a `pa.Table`, or a DataFrame of pandas or polars."""
        return _takes(_found(self.call), self.name)

    @property
    def file(self) -> str | None:
        """The file that it stands in."""
        module = sys.modules.get(getattr(_found(self.call), "__module__", None) or "")
        return getattr(module, "__file__", None)

    def made(self) -> Callable[[Any], Any]:
        """Return what is called with each batch; a class is made once a process."""
        found = _found(self.call)
        if not inspect.isclass(found):
            return found  # type: ignore[no-any-return]
        with _making:
            if found not in _made:
                _made[found] = found()
            return _made[found]  # type: ignore[no-any-return]

    def facts(self) -> str:
        """Return its name, its schema and the digest of its source text."""
        digest = hashlib.sha256(_source(_found(self.call)).encode()).hexdigest()[:16]
        stated = "" if self.columns is None else f", schema {self.columns}"
        return f"{self.name}, source text {digest}{stated}"


def _name_of(call: Any) -> str:
    if isinstance(call, str):
        return call
    named = call if hasattr(call, "__qualname__") else type(call)
    return f"{named.__module__}:{named.__qualname__}"


def _found(call: Any) -> Any:
    """Return the function or class; raise ConfigError where it cannot be found or imported."""
    if not isinstance(call, str):
        if not callable(call):
            raise ConfigError(
                f"'transform' is {call!r}, which cannot be called",
                "transform: module:function, or in Python the function itself",
            )
        return call
    module_name, colon, name = call.partition(":")
    if not (colon and module_name and name):
        raise ConfigError(
            f"'transform' is '{call}', not `module:function`",
            "write `cleaning:people` for the function `people` of cleaning.py beside flows.yml",
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name not in (module_name, module_name.split(".")[0]):
            raise ConfigError(
                f"'transform': importing {module_name} failed: {error}",
                f"install what {module_name} imports",
            ) from error
        raise ConfigError(
            f"'transform': there is no module {module_name}",
            f"put {module_name}.py beside flows.yml, or install the package",
        ) from error
    except Exception as error:  # the user's own module may raise anything
        raise ConfigError(
            f"'transform': importing {module_name} failed: {type(error).__name__}: "
            f"{without_password(error)} ({raised_at(error)})",
            f"python -c 'import {module_name}' shows the whole of it",
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        known = [n for n, each in vars(module).items() if callable(each) and n[:1] != "_"]
        raise ConfigError(
            f"'transform': {module_name} has no function {name}",
            one_of(f"of {module_name}", name, known),
        )
    return found


def _takes(found: Any, name: str) -> Form:
    """Return what the annotation of the first parameter says."""
    is_object = inspect.isclass(found) or not hasattr(found, "__code__")
    function = getattr(found, "__call__", found) if is_object else found  # noqa: B004
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ][1 if inspect.isclass(found) else 0 :]
    if not parameters:
        raise ConfigError(
            f"'transform': {name} takes no batch", "def people(batch: pa.Table) -> pa.Table"
        )
    kind: Any = parameters[0].annotation
    with suppress(Exception):  # a name that only a type checker imports
        kind = get_type_hints(function).get(parameters[0].name, kind)
    if kind in (inspect.Parameter.empty, Any):
        return "pyarrow"
    if isinstance(kind, str):
        short = {"pa": "pyarrow", "pd": "pandas", "pl": "polars"}
        package, _, last = kind.strip("'\"").partition(".")
        package = short.get(package, package)
    else:
        package = getattr(kind, "__module__", "").partition(".")[0]
        last = getattr(kind, "__name__", "")
    forms: dict[tuple[str, str], Form] = {
        ("pyarrow", "Table"): "pyarrow", ("pandas", "DataFrame"): "pandas",
        ("polars", "DataFrame"): "polars",
    }  # fmt: skip
    if (package, last) not in forms:
        raise ConfigError(
            f"'transform': {name} takes {kind}, which no batch is",
            "annotate it with pa.Table, pd.DataFrame or pl.DataFrame",
        )
    return forms[package, last]


def _source(found: Any) -> str:
    """Return the text of its module, where its helpers stand too; in a script, its own text."""
    named = found if hasattr(found, "__qualname__") else type(found)
    module = sys.modules.get(named.__module__)
    of = named if module is None or named.__module__ == "__main__" else module
    try:
        return inspect.getsource(of)
    except (OSError, TypeError):
        code = getattr(named, "__code__", None)
        return "" if code is None else f"{code.co_code!r} {code.co_consts!r} {code.co_names!r}"
