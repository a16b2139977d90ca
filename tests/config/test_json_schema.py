"""The JSON Schema of flows.yml: it takes what hygge takes, and finds keys that do not exist."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from hygge import registry
from hygge.cli.main import main
from hygge.config import specs
from hygge.config.connectors import keys_of, options_of
from hygge.config.json_schema import flows_schema
from tests import ROOT

SAMPLES = [
    *sorted((ROOT / "samples").glob("0*.yml")),
    *sorted((ROOT / "benchmarks").glob("*.yml")),
    *sorted((ROOT / "k8s").rglob("flows.yml")),
]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@functools.cache
def schema() -> Any:
    """The schema, made by the first test that asks: each worker would make it to collect them."""
    return flows_schema()


def problems(content: object) -> list[str]:
    return [each.message for each in jsonschema.Draft7Validator(schema()).iter_errors(content)]


def blocks() -> Iterator[Any]:
    """The YAML of the documents that is a whole file of flows."""
    for document in DOCUMENTS:
        for number, text in enumerate(
            re.findall(r"```ya?ml[^\n]*\n(.*?)```", document.read_text(), re.S)
        ):
            content = yaml.safe_load(text)
            if isinstance(content, dict) and isinstance(content.get("flows"), dict):
                yield pytest.param(content, id=f"{document.name}-{number}")


def test_it_is_a_schema():
    jsonschema.Draft7Validator.check_schema(schema())
    assert len(SAMPLES) >= 8


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_sample_fits(path):
    assert problems(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize("content", [*blocks()])
def test_every_flow_of_the_documents_fits(content):
    for flow in content["flows"].values():
        if isinstance(flow, dict):  # some documents show a part of a flow
            flow.setdefault("home", "x.csv")
            flow.setdefault("store", "out")
    assert problems(content) == []


def paths(content: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each key of a file stands that hygge gives a meaning."""
    named_by_people = ("connections", "flows", "types", "tags", "add", "mask", "tables", "files")
    if isinstance(content, dict):
        for key, value in content.items():
            if not at or at[-1] not in named_by_people:
                yield (*at, key)
            yield from paths(value, (*at, key))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_misspelt_key_is_found_wherever_it_stands(path):
    content = yaml.safe_load(path.read_text())
    for at in paths(content):
        if any(":" in str(end.get("type", "")) for end in ends_above(content, at)):
            continue  # a class of the user's has keys of its own
        wrong = copy.deepcopy(content)
        parent = wrong
        for step in at[:-1]:
            parent = parent[step]
        parent[f"{at[-1]}x"] = parent.pop(at[-1])
        assert problems(wrong), at


def ends_above(content: Any, at: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    for step in at:
        content = content[step]
        if isinstance(content, dict):
            yield content


@pytest.mark.parametrize(
    "flow",
    [
        {"mode": "apend"},
        {"lanes": "many"},
        {"home": {"path": "x.csv", "options": {"delimitr": ";"}}},
        {"home": {"type": "csv", "path": "x", "options": {"compression": "zstd", "splits": 3}}},
        {"home": {"type": "parqet", "path": "x"}},
        {"store": {"path": "x", "options": {"compression": 7}}},
        {"on_value": "sometimes"},
        {"mask": {"a": {"keep_first": 2}}},
        {"driver": {"cpu": 1}},
        {"home": 7},
    ],
)
def test_wrong_values_are_found(flow):
    assert problems({"flows": {"f": {"home": "a.csv", "store": "out", **flow}}})


@pytest.mark.parametrize(
    "flow",
    [
        {"mode": "${MODE:-append}", "lanes": "${LANES}", "retries": "${N}"},
        {"lanes": "auto", "memory_per_lane": "64 MiB", "stall_timeout": "10m", "key": "id"},
        {"home": {"type": "my_module:MyHome", "whatever": [1]}, "store": "s3://lake/x"},
        {"home": {"path": "x.csv", "columns": ["id", {"name": "a", "as": "b"}], "where": "a > 1"}},
        {"home": {"connection": "shop", "tables": ["*"], "exclude": ["tmp_*"], "views": True},
         "store": "out/{table}", "tables": {"a": {"key": ["id"], "mode": "merge", "lanes": 2}}},
        {"transform": "cleaning:people", "names": "snake", "add": {"a": "now", "b": 1}},
        {"on_value": {"a": "set_null"}, "tags": {"team": "x", "n": 1}},
    ],
)  # fmt: skip
def test_right_values_fit(flow):
    assert problems({"flows": {"f": {"home": "a.csv", "store": "out", **flow}}}) == []


def test_every_key_that_hygge_reads_is_in_it():
    assert set(schema()["properties"]) == set(specs.TOP_KEYS)
    assert set(schema()["definitions"]["flow"]["properties"]) == set(specs.FLOW_KEYS)
    assert set(schema()["properties"]["defaults"]["properties"]) == set(specs.DEFAULT_KEYS)
    for side in ("home", "store"):
        for kind in registry.BUILT_IN[side]:
            cls = registry.find(side, kind)
            known = schema()["definitions"][f"{kind}_{side}"]["properties"]
            hidden = {name for name, field in cls.Settings.model_fields.items() if field.alias}
            assert set(keys_of(cls) or ()) - hidden <= set(known), (side, kind)
            options = cls.Settings.model_fields["options"].annotation.model_fields
            hidden = {name for name, field in options.items() if field.alias}
            assert set(options_of(cls) or ()) - hidden == set(known["options"]["properties"])


def test_the_command_prints_it(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_meanings_stand_beside_the_keys():
    flow = schema()["definitions"]["flow"]["properties"]
    assert flow["retries"]["description"].startswith("Number of times")
    csv = schema()["definitions"]["csv_home"]["properties"]["options"]["properties"]
    assert all("description" in each for each in csv.values())
