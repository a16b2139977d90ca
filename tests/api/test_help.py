"""`help(SQLHome)` says every setting and option, with its meaning and its default."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from typing import get_args

import pytest
from pydantic import BaseModel, ConfigDict, Field

import hygge
from hygge import registry
from hygge.help_text import meanings, type_text

CONNECTORS = [
    registry.find(side, kind) for side in ("home", "store") for kind in registry.kinds(side)
]


def fields_of(model: type[BaseModel], indent: int = 0):
    """(the indent, the model, the field's name) of all fields, also of models in it."""
    for name, field in model.model_fields.items():
        yield indent, model, name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from fields_of(kind, indent + 4)


def words(text: str) -> str:
    return " ".join(text.replace(" |  ", " ").split())


@pytest.mark.parametrize("cls", CONNECTORS, ids=lambda cls: cls.__name__)
def test_help_says_each_setting_and_option_with_meaning_and_default(cls):
    shown = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    lines = shown.splitlines()
    for indent, model, name in fields_of(cls.Settings):
        field = model.model_fields[name]
        head = f"{field.alias or name}: {type_text(field.annotation)}"
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
            number = isinstance(default, int) and not isinstance(default, bool)
            said = f"{default:_}" if number else repr(default)
            head += (
                f" = {type(default).__name__}()" if isinstance(default, BaseModel) else f" = {said}"
            )
        assert f" |      {' ' * indent}{head}" in lines
        if name != "options":  # the docstring of its model says it
            meaning = meanings(model)[name]
            assert len(meaning) > 10
            assert words(f"{head} {meaning}") in words(shown), name


def test_help_is_as_people_read_it():
    shown = pydoc.render_doc(hygge.ParquetStore, renderer=pydoc.plaintext)
    assert (
        ' |  `ParquetStore("users", path="data/users", options={"compression": "zstd"})`' in shown
    )
    assert (
        " |      options: ParquetOptions = ParquetOptions()\n"
        " |          How Parquet is written.\n"
        " |          file_bytes: int = 536_870_912\n"
        " |              A new file is begun when one has grown to about this.\n"
    ) in shown


def test_a_signature_names_each_setting_and_its_default():
    shown = str(inspect.signature(hygge.SQLStore))
    assert shown.startswith(
        "(name: 'str | None' = None, *, connection: str = ..., table: str | None"
    )
    assert shown.endswith("SQLStoreOptions = SQLStoreOptions())")
    assert "compression" not in str(inspect.signature(hygge.ParquetStore))
    assert list(inspect.signature(hygge.Home).parameters) == ["name", "settings"]


def test_own_classes_have_such_a_help_too():
    class Mine(hygge.Home):
        """Rows of a service."""

        class Settings(hygge.Settings):
            url: str
            """Where the service is."""
            pages: int = 1000

        async def read_batches(self):
            yield {}

    assert inspect.getdoc(Mine) == (
        "Rows of a service.\n\nSettings:\n\n    name: str | None = None\n"
        "        What reports and flows call it.\n    url: str\n        Where the service is.\n"
        "    pages: int = 1_000"
    )
    assert list(inspect.signature(Mine).parameters) == ["name", "url", "pages"]

    class Loose(Mine):
        class Settings(Mine.Settings):
            model_config = ConfigDict(extra="allow")

        def __init__(self, name=None, pages=3, **rest):
            super().__init__(name, pages=pages, **rest)

    class Secret(Mine):
        class Settings(Mine.Settings):
            token: str = "s3cret"
            hidden: str = Field("s3cret", repr=False)
            made: str = Field(default_factory=lambda: "s3cret")
            password: str | None = None

    for text in (inspect.getdoc(Secret), str(inspect.signature(Secret))):
        assert text is not None
        assert "s3cret" not in text
        assert "token: str = ..." in text
        assert "password: str | None = None" in text

    assert str(inspect.signature(Loose)) == "(name=None, pages=3, *, url: str = ..., **rest)"

    class Plain(hygge.Store):
        """Somewhere."""

        def __init__(self, path: str) -> None:
            self.path = path

        async def write(self, df): ...

    assert inspect.getdoc(Plain) == "Somewhere."
    assert list(inspect.signature(Plain).parameters) == ["path"]


def test_help_is_made_only_when_it_is_read():
    code = (
        "import sys, hygge; hygge.SQLHome, hygge.ParquetStore; "
        "assert 'hygge.help_text' not in sys.modules; "
        "assert 'Rows of a batch' in hygge.SQLHome.__doc__"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
