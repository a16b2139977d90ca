"""The JSON Schema of flows.yml, for editors and CI: made from the models of the settings.

Editors read it where the first line of a file says `# yaml-language-server: $schema=…`. It finds
keys that do not exist and values of a wrong kind while one types; `hygge check` finds the rest.
Draft 07 is what the editors know. Wherever a number, a switch or a word of a list stands, `${VAR}`
may stand too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from hygge import registry
from hygge.config import specs, tables
from hygge.help_text import attribute_texts, inner_model, meanings
from hygge.model import Limits, Mode
from hygge.places.access import Access
from hygge.registry import Side
from hygge.shape.settings import Choice, Shape

Schema = dict[str, Any]

_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
_TEXT: Schema = {"type": "string"}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_COUNT: Schema = {"anyOf": [{"type": "integer", "minimum": 0}, _VARIABLE]}
_AMOUNT: Schema = {"type": ["number", "string"]}
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_AMOUNTS: Schema = {"type": "object", "additionalProperties": _AMOUNT}
_TAGS: Schema = {"type": "object", "additionalProperties": _SCALAR}
_TOP: dict[str, tuple[str, Schema]] = {
    "project": (
        "A name before the names of all flows, where several files share a state.",
        _SCALAR,
    ),
    "root": ("The folder that relative paths begin at. Default: that of this file.", _TEXT),
    "max_parallel_flows": ("How many flows run side by side. Default: 4.", _COUNT),
    "state": ("Where the journal of the runs is, a folder or a URL. Default: .hygge.", _TEXT),
    "shared_paths": ("Folders that every node of the cluster mounts.", _TEXTS),
    "tags": ("Texts for the metadata of the Ray jobs.", _TAGS),
    "lineage": ("The URL of a server that is sent OpenLineage events.", _TEXT),
}
_FLOW: dict[str, tuple[str, Schema]] = {
    "key": ("The columns by which `merge` finds a row. Default: the table's primary key.", _TEXTS),
    "depends_on": ("Flows that run before this one.", _TEXTS),
    "tags": ("Texts for the metadata of its Ray job.", _TAGS),
    "lanes": ("", {"anyOf": [{"const": "auto"}, *_COUNT["anyOf"]]}),
    "retries": ("", _COUNT),
    "max_bad_rows": ("", _COUNT),
    "resources": ("", _AMOUNTS),
    "label_selector": ("", _TAGS),
    "driver": (
        "",
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {"cpus": _AMOUNT, "memory": _AMOUNT, "resources": _AMOUNTS},
        },
    ),
}
_HOOK: Schema = {
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["url"],
            "properties": {"url": _TEXT, "form": {"enum": ["json", "slack"]}},
        },
    ]
}
_HOOKS: Schema = {"anyOf": [*_HOOK["anyOf"], {"type": "array", "items": _HOOK}]}
_FLOW |= {
    "on_success": ("What is called with the report when the flow is done.", _HOOKS),
    "on_failure": ("What is called with the report when the flow has failed.", _HOOKS),
}
_HOME: dict[str, tuple[str, Schema]] = {
    "tables": ("Patterns of the tables to move, each as a flow of its own.", _TEXTS),
    "files": ("A pattern of files to move, each as a flow of its own.", _TEXT),
    "rename": (
        "New names of tables, or files, in the store, by their names in the source.",
        {"type": "object", "additionalProperties": _TEXT},
    ),
    "names": (
        "How the names of tables, or files, are written.",
        {"anyOf": [{"enum": ["as_is", "snake"]}, _VARIABLE]},
    ),
    "views": ("Whether `tables` takes views as well. Default: false.", _SCALAR),
    "exclude": ("Columns that are not moved; beside `tables`, patterns of tables.", _TEXTS),
    "max_bytes_per_second": ("Arrow bytes that may be read in a second, over all lanes.", _AMOUNT),
}
_ROOT = "#/definitions/"


def flows_schema() -> Schema:
    """Return the JSON Schema of flows.yml, of draft 07."""
    definitions: Schema = {}
    for side in ("home", "store"):
        definitions.update(_ends(side))
    home, store = ({"anyOf": [_TEXT, {"$ref": f"{_ROOT}{side}"}]} for side in ("home", "store"))
    flow = _flow_properties()
    any_home = definitions["any_home"]["properties"]
    definitions["flow"] = _object(
        {"home": _said("Where the rows come from: a path, a URL, `connection#table`.", home),
         "store": _said("Where the rows go: a path, a URL, `connection#table`.", store),
         "tables": _said("Settings of single tables of `tables` in the home, or of patterns.",
                         _members("tables", any_home, flow)),
         "files": _said("Settings of single files of `files` in the home, or of patterns.",
                        _members("files", any_home, flow)),
         **flow}
    )  # fmt: skip
    definitions["flow"]["required"] = ["home", "store"]
    defaults = {key: flow[key] for key in specs.DEFAULT_KEYS if key in flow}
    for side in ("home", "store"):
        defaults[side] = {"$ref": f"{_ROOT}{side}"}
    flows = {
        "type": "object", "minProperties": 1, "additionalProperties": {"$ref": f"{_ROOT}flow"},
    }  # fmt: skip
    top = {key: _said(text, schema) for key, (text, schema) in _TOP.items()}
    top |= {
        "connections": _said("Databases, object stores and catalogs, by name.", _connections()),
        "jobs": _said("Which flows are Ray jobs of their own.", _words(get_args(specs.Jobs))),
        "defaults": _said("What every flow has that does not say it itself.", _object(defaults)),
        "flows": _said("The flows by their names.", flows),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "flows.yml of hygge",
        **_object(top),
        "required": ["flows"],
        "definitions": definitions,
    }


def _members(
    family: specs.FamilyKind, any_home: Mapping[str, Schema], flow: Mapping[str, Schema]
) -> Schema:
    """Return the settings of single tables, or files, of a family."""
    of_one = _shape_keys(("columns", "exclude", "where"))
    for key in tables.HOME_KEYS[family]:
        of_one.setdefault(key, any_home.get(key, {}))
    of_one["types"] = {"type": "object", "additionalProperties": _TEXT}
    of_one |= {key: flow[key] for key in tables.FLOW_KEYS}
    return {"type": "object", "additionalProperties": _object(of_one)}


def _ends(side: Side) -> Schema:
    """Return the definitions of one side: one for each type, one for any, and the choice."""
    built_in = list(registry.BUILT_IN[side])
    kinds: dict[str, Schema] = {}
    for kind in built_in:
        properties = _properties(registry.find(side, kind).Settings)
        if "connection" in properties or "catalog" in properties:
            text = "A URL, or a name under `connections`."
            properties["connection"] = _said(text, _TEXT)
        if side == "home":
            properties |= {key: _said(text, schema) for key, (text, schema) in _HOME.items()}
            properties |= _shape_keys(("columns", "where"))
        properties["name"] = _said("A name for reports.", _TEXT)
        known = {"anyOf": [{"enum": list(registry.kinds(side))}, *_OWN_TYPES]}
        properties["type"] = _said("The type; a path tells it by its ending.", known)
        kinds[kind] = _object(properties)
    definitions = {f"{kind}_{side}": schema for kind, schema in kinds.items()}
    merged = _merged([schema["properties"] for schema in kinds.values()])
    definitions[f"any_{side}"] = _object(merged)
    choice: Schema = {"$ref": f"{_ROOT}any_{side}"}
    for kind in built_in:
        choice = {
            "if": {"required": ["type"], "properties": {"type": {"const": kind}}},
            "then": {"$ref": f"{_ROOT}{kind}_{side}"},
            "else": choice,
        }
    others = {"anyOf": [{"enum": sorted({*registry.kinds(side)} - {*built_in})}, *_OWN_TYPES]}
    definitions[side] = {
        "type": "object",
        "if": {"required": ["type"], "properties": {"type": others}},
        "then": {},  # a class of the user's has keys of its own
        "else": choice,
    }
    return definitions


_OWN_TYPES: list[Schema] = [{"type": "string", "pattern": ":"}, _VARIABLE]


def _flow_properties() -> dict[str, Schema]:
    """Return the keys of a flow beside its ends and `tables`."""
    texts = attribute_texts(Limits)
    properties = {"mode": _said("What becomes of the rows in the store.", _words(get_args(Mode)))}
    for key in (*specs.LIMIT_KEYS, *_FLOW):
        text, schema = _FLOW.get(key, ("", _AMOUNT))
        properties[key] = _said(text or texts.get(key) or texts.get(f"{key}_s", ""), schema)
    properties["on_bad_row"] = _said(texts["on_bad_row"], _words(("fail", "set_aside")))
    for key, words in specs.END_OPTIONS.items():
        properties[key] = _words(words)
    by_column = {"type": "object", "additionalProperties": _words(specs.END_OPTIONS["on_value"])}
    properties["on_value"] = {"anyOf": [properties["on_value"], by_column]}
    properties |= _shape_keys(("mask", "add", "names", "flatten", "transform"))
    transform = properties["transform"]
    properties["transform"] = {**transform, "anyOf": [_TEXT, *transform["anyOf"]]}
    return properties


def _shape_keys(keys: Sequence[str]) -> dict[str, Schema]:
    """Return keys of a flow's shape; `columns` may have names as well."""
    properties = _properties(Shape)
    chosen = {key: properties[key] for key in keys}
    if "columns" in chosen:
        choice = {"anyOf": [_TEXT, _object(_properties(Choice))]}
        text = properties["columns"].get("description", "")
        chosen["columns"] = _said(text, {"type": "array", "items": choice})
    return chosen


def _connections() -> Schema:
    properties = {key: schema for key, schema in _properties(Access).items()}
    properties |= {
        "url": _said("The URL of a database, or s3://, gs://, az://.", _TEXT),
        "type": _said("Of a catalog of tables: iceberg.", _words(["iceberg"])),
        "catalog": _said("How the catalog is reached, by pyiceberg's keys.", {"type": "object"}),
        "max_connections": _said("How many connections may be open at once.", _COUNT),
        "connect_timeout": _AMOUNT,
        "statement_timeout": _AMOUNT,
    }
    one = _object(properties)
    return {"type": "object", "additionalProperties": {"anyOf": [_TEXT, one]}}


def _properties(model: type[BaseModel]) -> dict[str, Schema]:
    """Return the JSON Schema of each setting of a model, with its meaning."""
    whole = model.model_json_schema()
    texts = meanings(model)
    properties: dict[str, Schema] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key not in whole["properties"]:
            continue
        inner = inner_model(field)
        if key == "options" and inner is not None:
            schema = _object(_properties(inner))
        else:
            schema = _lenient(whole["properties"][key], whole.get("$defs", {}))
        properties[key] = _said(texts.get(name, ""), schema)
    return properties


def _lenient(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema of pydantic's without references, in which a variable may stand."""
    if isinstance(schema, list):
        return [_lenient(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _lenient(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    kept = {key: value for key, value in schema.items() if key not in ("title", "default")}
    if kept.get("type") in ("integer", "number", "boolean") or "enum" in kept or "const" in kept:
        return {"anyOf": [kept, _VARIABLE]}
    names = kept.get("properties")
    kept = {key: _lenient(value, definitions) for key, value in kept.items() if key != "properties"}
    if names is not None:
        kept["properties"] = {key: _lenient(each, definitions) for key, each in names.items()}
    return kept


def _merged(all_properties: Sequence[Mapping[str, Schema]]) -> dict[str, Schema]:
    """Return the keys of several types: what stands at a key fits one of them."""
    by_key: dict[str, list[Schema]] = {}
    for properties in all_properties:
        for key, schema in properties.items():
            if schema not in by_key.setdefault(key, []):
                by_key[key].append(schema)
    merged: dict[str, Schema] = {}
    for key, schemas in by_key.items():
        if len(schemas) == 1:
            merged[key] = schemas[0]
        elif all(each.get("type") == "object" and "properties" in each for each in schemas):
            inner = _merged([each["properties"] for each in schemas])
            merged[key] = _said(schemas[0].get("description", ""), _object(inner))
        else:
            bare = [{k: v for k, v in each.items() if k != "description"} for each in schemas]
            only = [each for at, each in enumerate(bare) if each not in bare[:at]]
            schema = only[0] if len(only) == 1 else {"anyOf": only}
            merged[key] = _said(schemas[0].get("description", ""), schema)
    return merged


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def _words(words: Sequence[str | bool]) -> Schema:
    return {"anyOf": [{"enum": list(words)}, _VARIABLE]}


def _said(text: str, schema: Schema) -> Schema:
    """Return a schema with a description."""
    return {"description": " ".join(inspect.cleandoc(text).split()), **schema} if text else schema
