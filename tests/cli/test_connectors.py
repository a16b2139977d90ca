"""`hygge connectors`: everything is printed from the classes and the models of their settings."""

from __future__ import annotations

import pytest

from hygge import registry
from hygge.cli.main import main
from hygge.config.connectors import options_of
from hygge.connectors.databases.known import DATABASES


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["connectors", *words]) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


def test_all_of_them(capsys):
    text = said(capsys)
    names = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert {each.backends[0] for each in DATABASES} <= set(names)
    assert {*registry.BUILT_IN["home"], *registry.BUILT_IN["store"]} <= set(names)
    assert "replace, append, merge  exactly once" in text


def test_which_apply_changes(capsys):
    for kind in ("sqlite", "duckdb", "delta", "iceberg"):
        assert "delete of a column `_op`" in said(capsys, kind)
    assert "_op" not in said(capsys, "parquet").partition("as store ")[2]


@pytest.mark.parametrize("kind", sorted(registry.BUILT_IN["home"]))
def test_every_option_of_one_with_default_and_meaning(kind, capsys):
    text = said(capsys, kind)
    for side in ("home", "store"):
        cls = registry.find(side, kind)
        part = text.partition(f"as {side} ")[2].partition("\nas ")[0]
        fields = cls.Settings.model_fields["options"].annotation.model_fields
        keys = {field.alias or name for name, field in fields.items()}
        assert keys <= (options_of(cls) or set())
        lines = part.splitlines()
        for key in keys:
            at = next(n for n, line in enumerate(lines) if line.split()[:1] == [key])
            assert lines[at + 1].startswith(" " * 12), key  # its meaning


def test_lakes_are_no_plug_ins_and_their_types_those_of_yaml(capsys):
    assert "plug-in" not in said(capsys)
    assert "delta: Delta Lake tables" in said(capsys, "delta")
    text = said(capsys, "iceberg")
    assert "iceberg: tables of an Iceberg catalog" in text
    assert "catalog  {text: anything}" in text


def test_a_database_has_what_it_heeds(capsys):
    text = said(capsys, "postgres")
    assert text == said(capsys, "PostgreSQL").replace("PostgreSQL:", "postgres:", 1)
    assert "postgresql://user@host/db" in text
    assert "create_types" in text
    assert "modes     replace, append, merge" in text
    assert "create_types" not in said(capsys, "mariadb")
    assert "consistency" not in said(capsys, "sqlite")


def test_a_name_that_is_misspelt(capsys):
    assert "did you mean 'parquet'?" in said(capsys, "parqet", code=2)
