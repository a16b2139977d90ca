"""`--select` and `--exclude`: names, patterns and tags of flows, and of the tables of a flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from hygge.config.flows import FlowsFile, read_flows
from hygge.config.selection import select
from hygge.errors import UsageError

TEXT = """
tags: {team: shop}
connections: {shop: "postgresql://app@db/shop"}
flows:
  a: {home: users.parquet, store: out/a}
  b: {home: users.parquet, store: out/b, depends_on: a, tags: {schedule: nightly}}
  big.c: {home: users.parquet, store: out/c, depends_on: [a, b], tags: {team: data}}
  shop: {home: {connection: shop, tables: ["*.*"]}, store: "out/{schema}/{table}"}
"""


@pytest.fixture
def file(tmp_path: Path) -> FlowsFile:
    (tmp_path / "flows.yml").write_text(TEXT)
    return read_flows(tmp_path / "flows.yml", {})


@pytest.mark.parametrize(
    ("names", "excluded", "kept"),
    [
        ([], [], "a b big.c shop"),
        (["big.c, b"], [], "b big.c"),
        (["b", "a"], [], "a b"),
        (["*"], [], "a b big.c shop"),
        (["big.*"], [], "big.c"),
        (["?"], [], "a b"),
        (["[ab]"], ["b"], "a"),
        ([], ["b*"], "a shop"),
        ([], ["shop,a"], "b big.c"),
        (["tag:nightly"], [], "b"),
        (["tag:schedule"], [], "b"),
        (["tag:team=data"], [], "big.c"),
        (["tag:team"], ["tag:data"], "a b shop"),
    ],
)
def test_names_patterns_and_tags_choose_flows(file, names, excluded, kept):
    assert " ".join(flow.name for flow in select(file, names, excluded).flows) == kept
    assert len(file.flows) == 4


@pytest.mark.parametrize(
    ("names", "excluded", "selected", "left_out"),
    [
        (["shop"], [], (), ()),
        (["sh*"], [], (), ()),
        (["shop.public.orders"], [], ("public.orders",), ()),
        (["shop.public.*", "shop.x.y"], [], ("public.*", "x.y"), ()),
        (["shop.public.*", "shop"], [], (), ()),
        (["*.orders"], [], ("*.orders", "[o]rders"), ()),
        (["s*.public.o?"], [], ("*.public.o?", "public.o?"), ()),
        ([], ["shop.public.tmp_*"], (), ("public.tmp_*",)),
        (["shop.public.*"], ["shop.*_old"], ("public.*",), ("*_old",)),
    ],
)
def test_words_for_tables_are_kept_until_the_tables_are_known(
    file, names, excluded, selected, left_out
):
    flow = next(flow for flow in select(file, names, excluded).flows if flow.name == "shop")
    assert flow.tables is not None
    assert (flow.tables.selected, flow.tables.excluded) == (selected, left_out)


def test_flows_that_are_not_selected_count_as_done(file):
    kept = select(file, ["b,big.c"]).flows
    assert [(flow.name, flow.depends_on) for flow in kept] == [("b", ()), ("big.c", ("b",))]
    assert select(file, [], ["a"]).flows[0].depends_on == ()


@pytest.mark.parametrize(
    ("names", "excluded", "said", "hint"),
    [
        (["d"], [], "has no flow 'd'", "flows: a, b"),
        ([], ["d"], "has no flow 'd'", "flows: a, b"),
        (["x*"], [], "is like 'x*'", "flows: a, b"),
        (["tag:weekly"], [], "no flow with the tag 'weekly'", "schedule=nightly, team=data"),
        ([" ,"], [], "--select names no flow", "leave --select out"),
        ([], [""], "--exclude names no flow", "leave --exclude out"),
        (["a"], ["a"], "no flow is selected", "flows: a, b"),
    ],
)
def test_a_word_that_takes_nothing_is_refused(file, names, excluded, said, hint):
    with pytest.raises(UsageError) as caught:
        select(file, names, excluded)
    assert said in caught.value.message
    assert hint in caught.value.hint
