"""Types are shown in hygge's own words, by each connector: in plans, notes and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowStore, CsvStore, JsonlStore, ParquetStore, SQLStore
from hygge.arrow_errors import said
from hygge.batches import conform
from hygge.cli.main import main
from hygge.errors import HyggeError
from hygge.model import Run
from hygge.testing.values import every_type
from hygge.type_words import nested_type_of, word_of, words_of
from tests.chaos import only_in_chaos

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

ARROWS_OWN = re.compile(
    r"list<(?:item|element):|timestamp\[us(?:, tz=UTC)?\]|date\d\d\[|large_|dictionary<|_view\b|"
    r"decimal\d+\(|halffloat|\bdouble\b|extension<|run_end|fixed_size_binary|month_day_nano"
)
PAIR = pa.struct([("at", pa.timestamp("us")), ("tag", pa.dictionary(pa.int8(), pa.string()))])
WORDS = {
    pa.list_(pa.timestamp("us")): "list<timestamp>",
    pa.large_list(pa.large_string()): "list<string>",
    pa.list_view(pa.date32()): "list<date>",
    pa.list_(pa.float64(), 2): "fixed_size_list<float64>[2]",
    pa.dictionary(pa.int32(), pa.list_(pa.string_view())): "list<string>",
    pa.run_end_encoded(pa.int32(), pa.timestamp("us", "UTC")): "timestamp_tz",
    pa.map_(pa.string(), pa.list_(pa.decimal256(50, 2))): "map<string, list<decimal(50,2)>>",
    PAIR: "struct<at: timestamp, tag: string>",
    pa.uuid(): "uuid",
    pa.json_(pa.large_string()): "json",
    pa.bool8(): "arrow.bool8 (kept as int8)",
    pa.dense_union([pa.field("a", pa.large_binary())]): "union<a: binary>",
    pa.month_day_nano_interval(): "interval",
    pa.timestamp("us", "Europe/Berlin"): "timestamp[us, tz=Europe/Berlin]",  # as `types` takes it
    pa.timestamp("ns"): "timestamp[ns]",
    pa.binary(3): "binary(3)",
}
KINDS = sorted({*WORDS, *(array.type for array in every_type().values())}, key=str)


@pytest.mark.parametrize(("kind", "word"), WORDS.items(), ids=str)
def test_a_type_has_one_word_at_every_depth(kind, word):
    assert word_of(kind) == word
    if word.startswith(("list<", "struct<", "fixed_size_list<")):
        assert word_of(nested_type_of(word)) == word


def test_types_with_one_word_are_told_apart():
    assert words_of(pa.date32(), pa.string()) == ("date", "string")
    assert words_of(pa.date32(), pa.date64()) == ("date32[day]", "date64[ms]")
    days, months = (pa.array(pd.PeriodIndex(["2026-01"], freq=each)).type for each in ("D", "M"))
    for one, other in ((days, months), (pa.list_(days), pa.list_(months))):
        here, there = words_of(one, other)
        assert ('"D"' in here, '"M"' in there) == (True, True)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_arrows_errors_have_the_words(kind):
    if not pa.types.is_union(kind) and not isinstance(kind, pa.BaseExtensionType):
        assert not ARROWS_OWN.search(said(pa.ArrowInvalid(f"no cast from {kind} to bool")))


def said_of(store, kind: pa.DataType) -> Iterator[str]:
    """Yield what a store says of a column of that type."""
    schema = pa.schema([("id", pa.int64()), ("v", kind)])
    try:
        yield from store.remarks(schema)
        store.prepare(Run("r", "f"), schema)
        yield from store.examine(Run("r", "f"), schema).changes
    except HyggeError as error:
        yield str(error)


def check(store) -> int:
    texts = [text for kind in KINDS for text in said_of(store, kind)]
    for text in texts:
        assert not ARROWS_OWN.search(text), text
    return len(texts)


@pytest.mark.parametrize("cls", [ParquetStore, ArrowStore, CsvStore, JsonlStore])
def test_a_store_of_files_says_types_in_words(cls, tmp_path):
    assert check(cls("t", path=str(tmp_path / "t"))) or cls is ArrowStore


def test_sqlite_says_types_in_words(tmp_path):
    assert check(SQLStore("t", connection=f"sqlite:///{tmp_path}/t.db"))


@pytest.mark.parametrize(
    "driver", ["postgresql", pytest.param("postgresql+psycopg2", marks=only_in_chaos)]
)
def test_postgres_says_types_in_words(driver, pg, schema):
    url = pg.url.replace("postgresql:", f"{driver}:")
    assert check(SQLStore(f"{schema}.t", connection=url))


@pytest.mark.parametrize("driver", ["mysql", pytest.param("mysql+pymysql", marks=only_in_chaos)])
def test_mariadb_says_types_in_words(driver, my, my_schema):
    url = my.url(my_schema)
    assert check(SQLStore("t", connection=f"{driver}:{url.partition(':')[2]}"))


def append(kinds: dict[str, pa.DataType], folder, store: str, *, evolve: bool) -> int:
    """Append no rows of columns with these types to a store, inline; return the exit code."""
    schema = pa.schema([("id", pa.int64()), *kinds.items()])
    pq.write_table(schema.empty_table(), folder / "in.parquet")
    flow = {"home": "in.parquet", "store": store, "mode": "append"}
    flow |= {"schema": "evolve"} if evolve else {}
    (folder / "f.yml").write_text(json.dumps({"flows": {"f": flow}}))
    main(["plan", str(folder / "f.yml")])
    return main([str(folder / "f.yml"), "--inline"])


@pytest.mark.parametrize("store", ["out", "sqlite:///x.db#t"])
@pytest.mark.parametrize("evolve", [False, True])
def test_plan_and_errors_of_what_changed_have_the_words(store, evolve, tmp_path, capsys):
    before = {"at": pa.timestamp("us"), "day": pa.date32(), "n": pa.int32()}
    assert append(before, tmp_path, store, evolve=False) == 0
    after = {"at": pa.date32(), "day": pa.decimal128(9, 2), "more": pa.timestamp("us", "UTC")}
    append({**before, **after}, tmp_path, store, evolve=evolve)
    append({"n": pa.int64(), "later": pa.date32()}, tmp_path, store, evolve=evolve)
    told = capsys.readouterr()
    assert "timestamp" in told.out
    assert not ARROWS_OWN.search(told.out + told.err), told.out + told.err


def test_a_batch_that_does_not_fit_says_both_words():
    came = pa.table({"v": pa.array([None], pa.list_(pa.string()))})
    with pytest.raises(HyggeError, match=r"came as list<string>, but its type is timestamp_tz"):
        conform(came, pa.schema([("v", pa.timestamp("us", "UTC"))]), "the Home")


def test_a_batch_with_columns_after_one_without_says_that_there_were_none():
    with pytest.raises(HyggeError, match="has a besides; the first had no columns"):
        conform(pa.table({"a": [1]}), pa.schema([]), "batch 2")
