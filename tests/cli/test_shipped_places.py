"""What would be lost with the folder that is shipped is refused before it is sent."""

from __future__ import annotations

import contextlib

import pytest

from hygge.config.shipped import check_places
from hygge.errors import ConfigError
from tests.cli.test_cluster_refusals import folder, refused

__all__ = ["folder"]  # a fixture


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flows: {a: {home: /x.csv, store: /y}}", "flows.yml:1: the state, .hygge, lies in the"),
        ("state: /s\nflows: {a: {home: /x.csv, store: y}}", "flows.yml:2: flow 'a': the store"),
    ],
)
def test_what_would_go_with_the_job_is_refused_before_anything_is_sent(folder, text, words):
    (folder / "flows.yml").write_text(text)
    said = refused(folder, "submit", "flows.yml", "--address", "http://127.0.0.1:1")
    assert words in said
    assert "working directory that was shipped" in said


LAKE = "connections: {{lake: {{type: iceberg, catalog: {{uri: {}, warehouse: {}}}}}}}"


@pytest.mark.parametrize(
    ("store", "connections", "is_lost"),
    [
        ("sqlite:///y.db#t", "", True),
        ("y.duckdb#t", "", True),
        ("{type: delta, path: lake/t}", "", True),
        ("lake#s.t", LAKE.format("'sqlite:///y.db'", "'s3://bucket/lake'"), True),
        ("lake#s.t", LAKE.format("'sqlite:////y.db'", "lake"), True),
        ("lake#s.t", LAKE.format("'sqlite:////y.db'", "/lake"), False),
        ("lake#s.t", LAKE.format("'http://catalog:8181'", "lake"), False),
    ],
)
def test_each_kind_of_store_in_the_folder_is_refused(tmp_path, store, connections, is_lost):
    store = store if store.startswith("{") else f"'{store}'"
    file = tmp_path / "flows.yml"
    file.write_text(f"state: /s\n{connections}\nflows: {{a: {{home: /x.csv, store: {store}}}}}")
    refused_here = pytest.raises(ConfigError, match="flow 'a': the store lies in the working")
    with refused_here if is_lost else contextlib.nullcontext():
        check_places(file)


@pytest.mark.parametrize("root", ["/data", "${ROOT:-.}"])
def test_what_depends_on_root_or_a_variable_of_the_cluster_is_left_to_it(folder, root):
    (folder / "flows.yml").write_text(
        f"root: {root}\nstate: s\nflows:\n  a: {{home: x.csv, store: y}}\n"
        "  b: {home: x.csv, store: '${OUT:-y}'}\n"
    )
    said = refused(folder, "submit", "flows.yml", "--address", "http://127.0.0.1:1")
    assert "there is no answer from http://127.0.0.1:1" in said


def test_modules_of_the_folder_are_not_imported_to_look_for_what_would_be_lost(folder):
    (folder / "mine.py").write_text("print('imported')\nopen('imported', 'w').close()\n")
    (folder / "flows.yml").write_text(
        "state: /s\nflows: {a: {home: {type: 'mine:Home'}, store: {type: 'mine:Store', path: y}}}"
    )
    said = refused(folder, "submit", "flows.yml", "--address", "http://127.0.0.1:1")
    assert "there is no answer from http://127.0.0.1:1" in said
    assert not (folder / "imported").exists()
