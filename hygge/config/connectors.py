"""From an EndSpec to its Home or Store, with every problem at its line.

The keys that a class takes are those of its `Settings` model, or the parameters of its own
`__init__`. Unknown keys are reported here and left out; then the connector is created with the
rest, so that one reading shows every mistake.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel

from hygge import registry
from hygge.config.environment import mask
from hygge.config.paths import folder_of, is_bucket_url
from hygge.config.problems import Problem, as_config_error, paragraph, suggest
from hygge.config.specs import FLOW_KEYS, EndSpec, FlowSpec, Side
from hygge.errors import ConfigError, raised_at
from hygge.home import Home
from hygge.settings import Connector
from hygge.store import Store


def build(flow: FlowSpec) -> tuple[Home, Store]:
    """Return the two connectors of a flow; raise ConfigError with file and line."""
    built: dict[Side, Connector] = {}
    errors: list[tuple[str, str | None]] = []
    folder = folder_of(flow.file)
    for end in (flow.home, flow.store):
        problems: list[Problem] = []
        try:
            cls = find_class(end.side, end.kind, end.line, folder)
            connector, problems = create(end, cls)
        except Problem as problem:
            problems = [problem]
        else:
            if connector is not None:
                built[end.side] = connector
        errors += [(paragraph(flow.file, found, flow.name), found.hint) for found in problems]
    if errors:
        raise as_config_error(errors)
    return cast(Home, built["home"]), cast(Store, built["store"])


def find_class(side: Side, kind: str, line: int, folder: str) -> type[Connector]:
    """Return the class of a `type:`; raise Problem where it cannot be found or imported.

    The module of `my_module:MyHome` is looked for in `folder` first.
    """
    module, colon, _ = kind.partition(":")
    if colon:
        look_in(folder)
    try:
        cls: type[Connector] = registry.find(side, kind)
    except ConfigError as error:
        raise Problem(line, error.message, error.hint) from error
    except Exception as error:  # the user's own module may raise anything
        where, text = "", str(error)
        if isinstance(error, SyntaxError):
            text = error.msg
            if error.filename:
                where = f" ({Path(error.filename).name}, line {error.lineno})"
        raise Problem(
            line,
            f"type '{kind}': importing {module} failed: {type(error).__name__}: {text}{where}",
            f"python -c 'import {module}' shows the whole of it" if colon else None,
        ) from error
    return cls


def look_in(folder: str) -> None:
    """Have modules looked for in the folder of the file of flows first."""
    real_folder = os.path.realpath(folder)
    if not is_bucket_url(folder) and real_folder not in sys.path:
        sys.path.insert(0, real_folder)


def is_of_files(cls: type[Connector]) -> bool:
    """Return whether a class reads or writes files: it knows endings, or a table is a folder."""
    return bool(getattr(cls, "suffixes", None) or getattr(cls, "is_folder", False))


def keys_of(cls: type[Connector]) -> frozenset[str] | None:
    """Return the YAML keys beside `type` that a class takes, or None if it takes any."""
    named, takes_more = _parameters(cls)
    if not takes_more:
        return frozenset(named)
    fields = _field_names(cls.Settings)
    own_init = cls.__init__ is not Connector.__init__
    if (own_init and not fields) or cls.Settings.model_config.get("extra") == "allow":
        return None
    return frozenset({*named, *fields})


def options_of(cls: type[Connector]) -> frozenset[str] | None:
    """Return the keys under `options` of a class's settings model; None without such a model."""
    field = cls.Settings.model_fields.get("options")
    if field is None:
        return None
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return _field_names(kind)
    return None


def create(spec: EndSpec, cls: type[Connector]) -> tuple[Connector | None, list[Problem]]:
    """Return the connector, or None and every problem of its settings."""
    settings = dict(spec.settings)
    if spec.name is not None:
        settings["name"] = spec.name
    problems = _take_unknown(spec, cls, settings)
    missing = _find_missing(spec, cls, settings)
    connector: Connector | None = None
    if not missing:
        try:
            connector = cls(**settings)
        except ConfigError as error:
            problems += _at_lines(error, spec, cls)
        except Exception as error:  # the user's own __init__ may raise anything
            message = f"{cls.__name__} cannot be made: {type(error).__name__}: {error}"
            message += f" ({raised_at(error)})"
            hint = f"mend {cls.__name__}.__init__, or what it is given here"
            problems.append(Problem(spec.line, mask(message, spec.hidden), hint))
    problems += missing
    return (None if problems else connector), problems


def _take_unknown(spec: EndSpec, cls: type[Connector], settings: dict[str, Any]) -> list[Problem]:
    """Remove from `settings` the keys that a class does not know, and return them as problems."""
    keys, options = keys_of(cls), options_of(cls)
    problems: list[Problem] = []
    if keys is not None:
        for key in [key for key in settings if key not in keys]:
            del settings[key]
            message, hint = _explain_unknown(key, spec, cls)
            problems.append(Problem(spec.lines.get(key, spec.line), message, hint))
    all_options = settings.get("options")
    if options is not None and isinstance(all_options, dict):
        settings["options"] = {key: value for key, value in all_options.items() if key in options}
        for key in [key for key in all_options if key not in options]:
            message = f"{cls.__name__} does not know 'options.{key}'"
            hint = suggest("its options", key, options)
            if keys and key in keys:
                hint = f"'{key}' stands beside `options`, not under it"
            problems.append(Problem(spec.lines.get(f"options.{key}", spec.line), message, hint))
    return problems


def _explain_unknown(key: str, spec: EndSpec, cls: type[Connector]) -> tuple[str, str]:
    """Return message and hint for a key that a class does not take."""
    if key == "max_bytes_per_second":
        return f"'{key}' is for homes: it spares the source", "write it under `home:`"
    if key in (options_of(cls) or ()):
        return f"{cls.__name__} takes '{key}' under `options`", f"options: {{{key}: …}}"
    if key in FLOW_KEYS and key not in ("home", "store"):
        return f"'{key}' belongs to the flow", f"write it beside `{spec.side}:`, not under it"
    known = ["type", *(keys_of(cls) or ())]
    if key == "cursor" and {"changes", "as_of"} <= set(known):  # a lake table has snapshots
        message = f"{cls.__name__} has no '{key}': its snapshots tell what is new"
        return message, "`changes: true`, with `mode: merge` and a `key`, reads what has changed"
    if spec.side == "home":
        known.append("max_bytes_per_second")
    return f"{cls.__name__} does not know '{key}'", suggest("it knows", key, known)


def _find_missing(
    spec: EndSpec, cls: type[Connector], settings: Mapping[str, object]
) -> list[Problem]:
    """Return a problem for each parameter of a class that has no default and is not given."""
    return [
        Problem(spec.line, f"{cls.__name__} needs '{key}'", f"write `{key}: …` beside `type`")
        for key, parameter in _parameters(cls)[0].items()
        if key not in settings and parameter.default is parameter.empty
    ]


def _at_lines(error: ConfigError, spec: EndSpec, cls: type[Connector]) -> list[Problem]:
    """Return a connector's ConfigError as problems at the lines of the keys that it names."""
    message = mask(error.message, spec.hidden)
    hint = mask(error.hint, spec.hidden) if error.hint else None
    messages = message.split("\n")
    if not all(text.startswith(cls.__name__) for text in messages):
        messages = [message]
    # Settings.read joins the hints of several problems; they can be told apart if none lacks one.
    hints: list[str | None] = [*(hint or "").split("; ")]
    if len(messages) == 1 or len(hints) != len(messages):
        hints = [*([None] * (len(messages) - 1)), hint]
    return [
        Problem(_line_of(text, spec), text, hint)
        for text, hint in zip(messages, hints, strict=True)
    ]


def _line_of(message: str, spec: EndSpec) -> int:
    """Return the line of the first key that a message quotes; else the line of the end."""
    for part in message.split("'")[1::2]:
        while part:
            if part in spec.lines:
                return spec.lines[part]
            part = part.rpartition(".")[0]
    return spec.line


def _parameters(cls: type[Connector]) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the named parameters of `cls(…)`, and whether it takes any others."""
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
