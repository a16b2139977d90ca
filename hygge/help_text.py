"""The text of `help(SQLHome)`: the settings and options of a connector, with meaning and default.

All of it comes from the pydantic models: names, types and defaults from their fields, meanings from
the docstrings under the fields. Docstrings are read from the source file, which takes time; so this
module is imported only when somebody asks for help.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hygge.errors import is_secret_name

_NAME = ("name: str | None = None", "    What reports and flows call it.")


def describe(doc: str | None, model: type[BaseModel]) -> str:
    """Return the docstring of a class, `doc`, followed by the settings of its `model`."""
    settings = textwrap.indent("\n".join((*_NAME, *_lines(model))), "    ")
    return "\n\n".join(filter(None, (inspect.cleandoc(doc or ""), f"Settings:\n\n{settings}")))


def signature(
    constructor: Callable[..., None], model: type[BaseModel], fills_in: bool
) -> inspect.Signature:
    """Return the signature of a class, with the fields of `model` in the place of `**settings`.

    `fills_in` says that the constructor may have a default for a field that the model requires; it
    is shown as `...`. A constructor without `**settings` names all its parameters itself.
    """
    written = inspect.signature(constructor)
    parameters = list(written.parameters.values())[1:]
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        fields: Mapping[str, FieldInfo] = getattr(model, "model_fields", {})
        takes_any = not fields or model.model_config.get("extra") == "allow"
        settings = parameters.pop()
        named = {parameter.name for parameter in parameters}
        of_required = _Text("...") if fills_in else inspect.Parameter.empty
        parameters += [
            inspect.Parameter(
                field.alias or name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(name, field, of_required),
                annotation=field.annotation,
            )
            for name, field in fields.items()
            if name not in named
        ]
        parameters += [settings] if takes_any else []
    return written.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the meaning of each field of `model`: its description, else its docstring.

    A field without either is left out. Docstrings are not known where the source of a class cannot
    be read, as of a class that was typed into a prompt.
    """
    texts: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            texts.update(_docstrings(cls))
    for name, field in model.model_fields.items():
        if field.description:
            texts[name] = field.description
    return {name: texts[name] for name in model.model_fields if name in texts}


def attribute_texts(cls: type) -> dict[str, str]:
    """Return the docstring below each attribute that a class declares."""
    return dict(_docstrings(cls))


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
    """Yield the lines for each field of a model: its meaning, and the fields of a model in it."""
    meaning = meanings(model)
    for name, field in model.model_fields.items():
        inner = inner_model(field)
        default = "" if field.is_required() else f" = {_value_text(_default(name, field, None))}"
        yield f"{field.alias or name}: {type_text(field.annotation)}{default}"
        text = meaning.get(name) or (inner.__doc__ if inner else None) or ""
        yield from (f"    {line}" for line in inspect.cleandoc(text).splitlines())
        if inner:
            yield from (f"    {line}" for line in _lines(inner))


def inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model that a field holds (`options`), or None."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def default_text(name: str, field: FieldInfo) -> str:
    """Return the default of a field as Python writes it, without a secret."""
    return _value_text(_default(name, field, None))


def _default(name: str, field: FieldInfo, of_required: Any) -> Any:
    """Return the default of a field; `...` for a secret, and for what only a function knows."""
    if field.is_required():
        return of_required
    if field.default_factory in (dict, list):
        return field.get_default(call_default_factory=True)
    is_secret = field.repr is False or is_secret_name(name)
    if field.default_factory is not None or (is_secret and field.default is not None):
        return _Text("...")
    if isinstance(field.default, BaseModel):
        return _Text(_value_text(field.default))
    return field.default


def _value_text(value: Any) -> str:
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}()"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return repr(value)


class _Text:
    """A default whose `repr` is a text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _docstrings(cls: type) -> Iterator[tuple[str, str]]:
    """Yield the fields of one class that have a docstring below them, with the docstring."""
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
