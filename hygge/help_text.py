"""The text of `help(SQLHome)`: the settings and options of a connector, with meaning and default.

The models say it all: fields, types and defaults, and under each field a docstring with its
meaning. The docstrings are read from the source of the model, when somebody asks for help; so this
module is loaded only then.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_NAME = ("name: str | None = None", "    What reports and flows call it.")


def describe(doc: str | None, model: type[BaseModel]) -> str:
    """Return the docstring of a class, `doc`, followed by the settings of its `model`."""
    settings = textwrap.indent("\n".join((*_NAME, *_lines(model))), "    ")
    return "\n\n".join(filter(None, (inspect.cleandoc(doc or ""), f"Settings:\n\n{settings}")))


def parameters(model: type[BaseModel], fills_in: bool) -> list[inspect.Parameter]:
    """Return the settings of `model` as parameters of a signature.

    `fills_in` says that the constructor has a default for what the model requires; the signature
    shows such a default as `...`.
    """
    of_required = _Text("...") if fills_in else inspect.Parameter.empty
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field, of_required),
            annotation=field.annotation,
        )
        for name, field in model.model_fields.items()
    ]


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the fields of `model` with their meanings: their descriptions, else their docstrings.

    A field without either is left out, and so is every docstring of a class whose source cannot be
    read (one that was typed into a prompt).
    """
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            found.update(_docstrings(cls))
    for name, field in model.model_fields.items():
        if field.description:
            found[name] = field.description
    return {name: found[name] for name in model.model_fields if name in found}


def type_text(kind: Any) -> str:
    """Return a type as people write it: `str | None`, `Literal['error', 'utc']`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is NoneType:
        return "None"
    if origin in (Union, UnionType):
        return " | ".join(type_text(each) for each in arguments)
    if origin is Literal:
        return f"Literal[{', '.join(repr(each) for each in arguments)}]"
    name = getattr(origin or kind, "__name__", None) or str(kind)
    if not arguments:
        return name
    return f"{name}[{', '.join(type_text(each) for each in arguments)}]"


def _lines(model: type[BaseModel]) -> Iterator[str]:
    """The fields of a model, each with its meaning below it, and with the fields of its own."""
    meaning = meanings(model)
    for name, field in model.model_fields.items():
        inner = _inner_model(field)
        default = "" if field.is_required() else f" = {_value_text(_default(field, None))}"
        yield f"{name}: {type_text(field.annotation)}{default}"
        text = meaning.get(name) or (inner.__doc__ if inner else None) or ""
        yield from (f"    {line}" for line in inspect.cleandoc(text).splitlines())
        if inner:
            yield from (f"    {line}" for line in _lines(inner))


def _inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a field holds (`options`), or None."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _default(field: FieldInfo, of_required: Any) -> Any:
    if field.is_required():
        return of_required
    default = field.get_default(call_default_factory=True)
    return _Text(_value_text(default)) if isinstance(default, BaseModel) else default


def _value_text(value: Any) -> str:
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}()"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return repr(value)


class _Text:
    """A default that is shown by a text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _docstrings(cls: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The docstrings right below the fields in the source of one class."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for statement, below in pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            yield statement.target.id, inspect.cleandoc(below.value.value)
