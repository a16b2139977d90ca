"""The table of built-in connectors: it agrees with the classes, and is read without loading any."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hygge
from hygge import registry
from hygge.journal.fingerprint import with_current_types
from hygge.model import PROTOCOL

BUILT_IN = [(side, kind) for side, kinds in registry.BUILT_IN.items() for kind in kinds]

NEWER = ("delta", "iceberg")
"""The types that 0.1.0 did not have."""


@pytest.mark.parametrize(("side", "kind"), BUILT_IN)
def test_the_table_agrees_with_the_class(side, kind):
    cls, told = registry.find(side, kind), registry.BUILT_IN[side][kind]
    assert told.at == f"{cls.__module__}:{cls.__qualname__}"
    assert told.suffixes == getattr(cls, "suffixes", ())
    assert cls.traits.protocol == PROTOCOL
    assert cls is getattr(hygge, cls.__name__)
    assert registry.type_of(side, cls) == kind
    for suffix in told.suffixes:
        assert registry.by_suffix(side, f"Lake/a.B{suffix.upper()}/") == kind


@pytest.mark.parametrize(("side", "kind"), [each for each in BUILT_IN if each[1] not in NEWER])
def test_what_0_1_0_wrote_as_a_type_is_read_as_the_word_of_today(side, kind):
    # Put together here, so that whoever moves modules does not move this name with them.
    then = f"hygge.{side}s.{kind}.{registry.find(side, kind).__name__}"
    assert with_current_types({f"{side}.type": then}) == {f"{side}.type": kind}


def test_every_built_in_connector_that_hygge_offers_is_in_the_table():
    offered = {name for name in hygge.__all__ if name.endswith(("Home", "Store"))}
    told = {registry.find(side, kind).__name__ for side, kind in BUILT_IN}
    assert offered - {"Home", "Store", "RayDataHome"} == told  # no flows.yml names a Dataset


def test_a_type_is_found_by_an_ending_without_loading_a_connector():
    code = (
        "import sys; from hygge import registry; before = set(sys.modules); "
        "assert registry.by_suffix('home', 'a.csv.gz') == 'csv'; "
        "assert registry.by_suffix('home', 'a.txt') is None; "
        "assert 'parquet' in registry.kinds('store'); "
        "print([name for name in set(sys.modules) - before if name.startswith('hygge')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_class_made_from_a_built_in_one_keeps_its_own_name():
    class Mine(hygge.ParquetHome): ...

    assert registry.type_of("home", Mine) == f"{__name__}.{Mine.__qualname__}"
