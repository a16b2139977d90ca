"""From an EndSpec to the Home or Store itself, and what goes wrong on the way, line by line.

A class says what it takes by its `Settings` model, or by the parameters of its own `__init__`.
What it does not know is found here, all of it, before it is built with the rest; so one reading
shows every mistake.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from hygge import registry
from hygge.config.environment import masked
from hygge.config.paths import folder_of, on_objects
from hygge.config.problems import Wrong, as_error, meant, paragraph
from hygge.config.specs import FLOW_KEYS, EndSpec, FlowSpec, Side
from hygge.errors import ConfigError, raised_at
from hygge.home import Home
from hygge.settings import Connector
from hygge.store import Store


def build(flow: FlowSpec) -> tuple[Home, Store]:
    """The two connectors of a flow; what is wrong with them is a ConfigError with file and line."""
    built: list[Any] = []
    errors: list[tuple[str, str | None]] = []
    folder = folder_of(flow.file)
    for end in (flow.home, flow.store):
        wrongs: list[Wrong] = []
        try:
            made, wrongs = connect(end, find(end.side, end.kind, end.line, folder))
            built.append(made)
        except Wrong as wrong:
            wrongs = [wrong]
        errors += [(paragraph(flow.file, wrong, flow.name), wrong.hint) for wrong in wrongs]
    if errors:
        raise as_error(errors)
    home, store = built
    return home, store


def find(side: Side, kind: str, line: int, folder: str) -> type[Connector]:
    """The class of a `type:`; the file's folder is where `my_module:MyHome` is looked for first."""
    module, colon, _ = kind.partition(":")
    if colon and not on_objects(folder) and (here := os.path.realpath(folder)) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: type[Connector] = registry.find(side, kind)
    except ConfigError as error:
        raise Wrong(line, error.message, error.hint) from error
    except Exception as error:  # somebody else's module: anything may happen in it
        where = (
            f" ({Path(error.filename).name}, line {error.lineno})"
            if (isinstance(error, SyntaxError) and error.filename)
            else ""
        )
        said = error.msg if isinstance(error, SyntaxError) else error
        raise Wrong(
            line,
            f"type '{kind}': importing {module} failed: {type(error).__name__}: {said}{where}",
            f"python -c 'import {module}' shows the whole of it" if colon else None,
        ) from error
    return found


def is_of_files(cls: type[Connector]) -> bool:
    return bool(getattr(cls, "suffixes", None))


def keys_of(cls: type[Connector]) -> frozenset[str] | None:
    """The YAML keys beside `type` that a class takes, or None if it takes any."""
    named, takes_more = _parameters(cls)
    if not takes_more:
        return frozenset(named)
    fields = _field_names(cls.Settings)
    own_init = cls.__init__ is not Connector.__init__
    if (own_init and not fields) or cls.Settings.model_config.get("extra") == "allow":
        return None
    return frozenset({*named, *fields})


def options_of(cls: type[Connector]) -> frozenset[str] | None:
    """The keys under `options` that a class's settings model knows; None without such a model."""
    field = cls.Settings.model_fields.get("options")
    if field is None:
        return None
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return _field_names(kind)
    return None


def connect(spec: EndSpec, cls: type[Connector]) -> tuple[Connector | None, list[Wrong]]:
    """The connector, or all that is wrong with its settings."""
    given = {**({} if spec.name is None else {"name": spec.name}), **spec.settings}
    wrongs = _unknown(spec, cls, given)
    missing = _missing(spec, cls, given)
    made: Connector | None = None
    if not missing:
        try:
            made = cls(**given)
        except ConfigError as error:
            wrongs += _in_lines(error, spec, cls)
        except Exception as error:  # a class's own __init__: anything may happen in it
            text = f"{cls.__name__} cannot be made: {type(error).__name__}: {error}"
            text += f" ({raised_at(error)})"
            hint = f"mend {cls.__name__}.__init__, or what it is given here"
            wrongs.append(Wrong(spec.line, masked(text, spec.hidden), hint))
    wrongs += missing
    return (None if wrongs else made), wrongs


def _unknown(spec: EndSpec, cls: type[Connector], given: dict[str, Any]) -> list[Wrong]:
    """What the class does not know, taken out of `given`, so that the rest can be tried."""
    keys, options = keys_of(cls), options_of(cls)
    wrongs: list[Wrong] = []
    for key in [key for key in given if keys is not None and key not in keys]:
        assert keys is not None
        del given[key]
        wrongs.append(Wrong(spec.lines.get(key, spec.line), *_stranger(key, spec, cls)))
    inner = given.get("options")
    if options is not None and isinstance(inner, dict):
        given["options"] = {key: value for key, value in inner.items() if key in options}
        for key in [key for key in inner if key not in options]:
            text = f"{cls.__name__} does not know 'options.{key}'"
            hint = meant("its options", key, options)
            if keys and key in keys:
                hint = f"'{key}' stands beside `options`, not under it"
            wrongs.append(Wrong(spec.lines.get(f"options.{key}", spec.line), text, hint))
    return wrongs


def _stranger(key: str, spec: EndSpec, cls: type[Connector]) -> tuple[str, str]:
    """(what is wrong, hint) for a key that a class does not take."""
    if key == "max_bytes_per_second":
        return f"'{key}' is for homes: it spares the source", "write it under `home:`"
    if key in (options_of(cls) or ()):
        return f"{cls.__name__} takes '{key}' under `options`", f"options: {{{key}: …}}"
    if key in FLOW_KEYS and key not in ("home", "store"):
        return f"'{key}' belongs to the flow", f"write it beside `{spec.side}:`, not under it"
    known = ["type", *(keys_of(cls) or ())]
    known += ["max_bytes_per_second"] if spec.side == "home" else []
    return f"{cls.__name__} does not know '{key}'", meant("it knows", key, known)


def _missing(spec: EndSpec, cls: type[Connector], given: Mapping[str, Any]) -> list[Wrong]:
    """Parameters of a class's own `__init__` that have no default and were not given."""
    return [
        Wrong(spec.line, f"{cls.__name__} needs '{key}'", f"write `{key}: …` beside `type`")
        for key, parameter in _parameters(cls)[0].items()
        if key not in given and parameter.default is parameter.empty
    ]


def _in_lines(error: ConfigError, spec: EndSpec, cls: type[Connector]) -> list[Wrong]:
    """A connector's ConfigError as problems at the lines of the keys that it names."""
    message, hint = masked(error.message, spec.hidden), error.hint
    hint = masked(hint, spec.hidden) if hint else None
    texts = message.split("\n")
    if not all(text.startswith(cls.__name__) for text in texts):
        texts = [message]
    # Settings.read joins the hints of several problems; they can be told apart if none lacks one.
    hints: list[str | None] = [*(hint or "").split("; ")]
    if len(texts) == 1 or len(hints) != len(texts):
        hints = [*([None] * (len(texts) - 1)), hint]
    return [
        Wrong(_line_of(text, spec), text, each) for text, each in zip(texts, hints, strict=True)
    ]


def _line_of(text: str, spec: EndSpec) -> int:
    for part in text.split("'")[1::2]:
        while part:
            if part in spec.lines:
                return spec.lines[part]
            part = part.rpartition(".")[0]
    return spec.line


def _parameters(cls: type[Connector]) -> tuple[dict[str, inspect.Parameter], bool]:
    """The named parameters of `cls(…)`, and whether it takes any others."""
    named: dict[str, inspect.Parameter] = {}
    takes_more = False
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_more = True
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            named[parameter.name] = parameter
    return named, takes_more


def _field_names(model: type[BaseModel]) -> frozenset[str]:
    aliases = (info.alias for info in model.model_fields.values() if info.alias)
    return frozenset({*model.model_fields, *aliases})
