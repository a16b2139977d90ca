"""Arrow and Parquet keep dictionaries, views and run-end encoding, as far as they have them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowHome, ArrowStore, CsvHome, CsvStore, Flow, ParquetHome, ParquetStore
from hygge.batches import plain as plain_table
from hygge.connectors.files.directory import Directory
from hygge.encodings import KEY, Categories, plain_of
from hygge.errors import StoreError
from hygge.formats import nested
from hygge.formats.arrow import ArrowWriter
from hygge.formats.parquet import ParquetSettings, ParquetWriter
from hygge.report.text import plan_text
from hygge.run.engines import schema_of

WORDS = ["b", None, "a", "b", "b", "a", None, "c"]
SMALL = pa.dictionary(pa.int8(), pa.string())
FLOATS = pa.dictionary(pa.int32(), pa.float64())
ORDERED = pa.dictionary(pa.int32(), pa.string(), ordered=True)
TYPES = {
    "small": SMALL,
    "unsigned": pa.dictionary(pa.uint32(), pa.string()),
    "large": pa.dictionary(pa.int32(), pa.large_string()),
    "bytes": pa.dictionary(pa.int16(), pa.binary()),
    "numbers": pa.dictionary(pa.int32(), pa.decimal128(6, 2)),
    "ordered": ORDERED,
    "of_views": pa.dictionary(pa.uint32(), pa.string_view()),
    "view": pa.string_view(),
    "byte_view": pa.binary_view(),
    "runs": pa.run_end_encoded(pa.int16(), pa.string()),
    "list": pa.list_(SMALL),
}
PLAIN = {
    "ordered": pa.string(), "list": pa.list_(pa.string()), "numbers": pa.decimal128(6, 2),
}  # fmt: skip


def move(home, store, name="f", **more) -> Flow:
    return Flow(home, store, name=name, engine="inline", **more)


def of(kind: pa.DataType, words: list[str | None]) -> pa.Array:
    """Return words as an array of any of these types."""
    if pa.types.is_list(kind):
        whole = of(kind.value_type, words)
        return pa.ListArray.from_arrays(pa.array(range(len(words) + 1), pa.int32()), whole)
    value = kind.value_type if hasattr(kind, "value_type") else kind
    if pa.types.is_decimal(value):
        plain = pa.array([None if word is None else ord(word) for word in words], value)
    else:
        plain = pa.array(words, pa.string()).cast(value)
    if pa.types.is_run_end_encoded(kind):
        return pa.compute.run_end_encode(plain, run_end_type=kind.run_end_type)
    if pa.types.is_dictionary(kind):
        encoded = plain.dictionary_encode()
        indices = encoded.indices.cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, encoded.dictionary, ordered=kind.ordered)
    return plain


def table(words: list[str | None] = WORDS) -> pa.Table:
    return pa.table({name: of(kind, words) for name, kind in TYPES.items()})


def write_arrow(path, *tables: pa.Table) -> str:
    with pa.ipc.new_stream(path, tables[0].schema) as writer:  # of which each batch may replace
        for each in tables:
            writer.write_table(each)
    return str(path)


def read_arrow(path) -> pa.Table:
    if path.is_dir():
        return pa.concat_tables(read_arrow(file) for file in sorted(path.rglob("part-*.arrow")))
    with pa.ipc.open_file(path) as reader:
        return reader.read_all()


def values(*tables: pa.Table) -> list[dict]:
    """Return the rows; pyarrow itself makes Python values of all these types."""
    return [row for each in tables for row in each.to_pylist()]


@pytest.mark.parametrize("target", ["o", "o.arrow"])
def test_arrow_keeps_them_with_the_dictionaries_of_all_batches(tmp_path, target):
    other = table(["z", "b", None])
    source = write_arrow(tmp_path / "in.arrows", table(), other)
    move(ArrowHome(path=source), ArrowStore(path=tmp_path / target)).run()
    read = read_arrow(tmp_path / target)
    expected = {**TYPES, "ordered": PLAIN["ordered"]}  # of a stream it is not known
    assert dict(zip(read.schema.names, read.schema.types, strict=True)) == expected
    assert values(read) == values(table(), other)
    assert not any((field.metadata or {}).get(KEY) for field in read.schema)
    assert not list(tmp_path.rglob("*.plain"))


WITHIN = {
    pa.struct([("a", SMALL), ("b", pa.dictionary(pa.int32(), pa.binary()))]):
        [{"a": "x", "b": b"y"}, None, {"a": None, "b": b"x"}, {"a": "y", "b": None}],
    pa.list_view(pa.int32()): [[1], [], None, [2, None]],
    pa.large_list_view(pa.string_view()): [["a"], [], None, ["b", None]],
    pa.map_(SMALL, pa.large_list(SMALL)): [[("k", ["a"])], [], None, [("l", None), ("k", ["a"])]],
    pa.list_(pa.struct([("q", pa.list_(SMALL, 2))])):
        [[{"q": ["a", None]}], None, [{"q": None}, None], [{"q": ["b", "b"]}]],
    pa.struct([("r", pa.run_end_encoded(pa.int32(), pa.string()))]):
        [{"r": "a"}, {"r": "a"}, None, {"r": None}],
}  # fmt: skip


@pytest.mark.parametrize("target", ["o", "o.arrow"])
def test_arrow_keeps_what_is_within_lists_structs_and_maps(tmp_path, target):
    columns = {}
    for at, (kind, rows) in enumerate(WITHIN.items()):
        plain = pa.array(rows, plain_of(kind))
        known = {path: Categories(each) for path, each in nested.dictionaries_in(kind, "")}
        nested.add_values(plain, kind, "", known)
        columns[f"c{at}"] = nested.in_form(plain, kind, "", known)
    content = pa.table(columns)
    source = write_arrow(tmp_path / "in.arrows", content, content.slice(1, 2))
    home = ArrowHome(path=source)
    for _ in range(2):
        move(home, ArrowStore(path=tmp_path / target)).run()
    read = read_arrow(tmp_path / target)
    read.validate(full=True)
    assert read.schema.types == list(WITHIN)
    for at, rows in enumerate(WITHIN.values()):
        kind = plain_of(read.schema.types[at])
        expected = pa.array([*rows, *rows[1:3]], kind).to_pylist()
        assert plain_table(read).column(at).to_pylist() == expected
    with home.open() as plan:
        lines = plan_text(move(home, ParquetStore(path=tmp_path / "p")), plan)
    assert "encodings that Parquet does not give back become plain values: 'c0', 'c1'" in lines


@pytest.mark.parametrize("target", ["o", "o.parquet"])
def test_parquet_keeps_what_its_readers_give_back(tmp_path, target):
    fields = {b"PARQUET:field_id": b"7"}
    content = table().select([name for name in TYPES if name != "runs"])
    noted = [field.with_metadata(fields) for field in content.schema]
    content = content.cast(pa.schema(noted, {"made by": "us"}))
    source = write_arrow(tmp_path / "in.arrows", content)
    store = ParquetStore(path=tmp_path / target, options={"row_group_bytes": 1})
    move(ArrowHome(path=source), store).run()
    read = pq.read_table(tmp_path / target)
    plain = {name: PLAIN[name] for name in ("ordered", "list", "numbers")}
    texts = {
        "large": pa.dictionary(pa.int32(), pa.string()),
        "of_views": pa.dictionary(pa.uint32(), pa.string()),
    }
    expected = {name: TYPES[name] for name in content.column_names} | plain | texts
    assert dict(zip(read.schema.names, read.schema.types, strict=True)) == expected
    assert values(read) == values(content)
    assert read.schema.metadata == {b"made by": b"us"}
    assert read.schema.field("small").metadata[b"PARQUET:field_id"] == b"7"
    again = ParquetHome(path=tmp_path / target)
    move(again, ArrowStore(path=tmp_path / "again.arrow")).run()
    kept = read_arrow(tmp_path / "again.arrow")
    assert kept.schema.types == read.schema.types
    assert values(kept) == values(content)


@pytest.mark.parametrize("store", [ParquetStore, ArrowStore])
def test_an_index_that_is_too_narrow_for_all_values_becomes_a_wider_one(tmp_path, store):
    """pyarrow writes such a Parquet file, and cannot read it."""
    words = [f"w{n}" for n in range(200)]
    parts = [pa.table({"c": of(SMALL, words[at : at + 100])}) for at in (0, 100)]
    source = write_arrow(tmp_path / "in.arrows", *parts)
    suffix = store.suffixes[0]
    move(ArrowHome(path=source), store(path=tmp_path / f"o{suffix}")).run()
    path = tmp_path / f"o{suffix}"
    read = pq.read_table(path) if store is ParquetStore else read_arrow(path)
    assert read.column("c").type == pa.dictionary(pa.int32(), pa.string())
    assert read.column("c").to_pylist() == words


LOW_TO_HIGH = ["low", "mid", "high", "of no row"]


def in_order(path, *parts: list[int | None], order=LOW_TO_HIGH) -> str:
    """Write a file of row groups or batches whose columns are ordered dictionaries."""
    kinds = {"c": order, "n": [30, 20, 10, 0]}
    tables = [
        pa.table({
            name: pa.DictionaryArray.from_arrays(pa.array(part, pa.int8()), values, ordered=True)
            for name, values in kinds.items()
        })
        for part in parts
    ]  # fmt: skip
    new = pq.ParquetWriter if path.suffix == ".parquet" else pa.ipc.new_file
    with new(path, tables[0].schema) as writer:
        for each in tables:
            writer.write_table(each)
    return str(path)


@pytest.mark.parametrize("target", ["parquet", "arrow", "o.parquet", "o.arrow"])
@pytest.mark.parametrize("source", ["in.parquet", "in.arrow"])
def test_an_ordered_dictionary_keeps_its_categories_and_their_order(tmp_path, source, target):
    is_arrow = target.endswith("arrow")
    home = ArrowHome if source == "in.arrow" else ParquetHome
    store = ArrowStore if is_arrow else ParquetStore
    path = in_order(tmp_path / source, [2, 0, None], [1])
    modes = ["replace"] if "." in target else ["append", "append"]  # to what has them
    for mode in modes:
        move(home(path=path), store(path=tmp_path / target), mode=mode).run()
    read = read_arrow(tmp_path / target) if is_arrow else pq.read_table(tmp_path / target)
    column = read.column("c").combine_chunks()
    assert column.type == pa.dictionary(pa.int8(), pa.string(), ordered=True)
    assert column.dictionary.to_pylist() == LOW_TO_HIGH
    assert column.to_pylist() == ["high", "low", None, "mid"] * len(modes)
    keeps_numbers = is_arrow and source == "in.arrow"  # pages of Parquet have texts and bytes only
    assert pa.types.is_dictionary(read.schema.field("n").type) == keeps_numbers
    assert read.column("n").to_pylist() == [10, 30, None, 20] * len(modes)


def test_an_ordered_dictionary_that_is_not_in_the_pages_comes_as_plain_values(tmp_path):
    """Other writers may leave it out, or go over to plain values after some pages."""
    column = in_order(tmp_path / "in.arrow", [2, 0, None, 1])
    content = read_arrow(tmp_path / "in.arrow").select(["c"])
    pq.write_table(content, tmp_path / "in.parquet", use_dictionary=False)
    move(ParquetHome(path=tmp_path / "in.parquet"), ParquetStore(path=tmp_path / "o.parquet")).run()
    read = pq.read_table(tmp_path / "o.parquet").column("c")
    assert (read.type, read.to_pylist()) == (pa.string(), ["high", "low", None, "mid"])
    with ArrowHome(path=column, columns=["c"]).open() as plan:
        writer = ParquetWriter(
            str(tmp_path / "p"), schema_of(plan), ParquetSettings("none", None, 1)
        )
    with pytest.raises(StoreError, match="'c' is an ordered dictionary, and holds a value that is"):
        writer.write(pa.table({"c": ["lowest"]}))
        writer.close()
    shape = {"columns": [{"name": "c", "type": "string"}]}  # as its hint says
    move(ArrowHome(path=column), ParquetStore(path=tmp_path / "named.parquet"), shape=shape).run()
    assert pq.read_schema(tmp_path / "named.parquet").field("c").type == pa.string()


def test_files_whose_categories_differ_give_plain_values(tmp_path):
    (tmp_path / "in").mkdir()
    in_order(tmp_path / "in" / "a.parquet", [2, 0])
    in_order(tmp_path / "in" / "b.parquet", [1], order=["high", "mid", "low"])
    home = ParquetHome(path=tmp_path / "in")
    with home.open() as plan:
        assert plan.lost == ("'ordered' of column 'c': the files differ in categories",)
    move(home, ParquetStore(path=tmp_path / "o.parquet")).run()
    read = pq.read_table(tmp_path / "o.parquet")
    assert read.column("c").type == pa.string()
    assert read.column("c").to_pylist() == ["high", "low", "mid"]


def test_runs_longer_than_their_ends_can_count(tmp_path):
    runs = pa.run_end_encoded(pa.int16(), pa.string())
    part = pa.table({"c": of(runs, ["a"] * 20_000)})
    source = write_arrow(tmp_path / "in.arrows", part, part)
    move(ArrowHome(path=source), ArrowStore(path=tmp_path / "o.arrow")).run()
    read = read_arrow(tmp_path / "o.arrow")
    assert read.column("c").type == runs
    assert read.num_rows == 40_000


def test_runs_within_lists_that_are_longer_than_their_ends_can_count(tmp_path):
    """Two batches of the source may be one of what is written."""
    runs = pa.run_end_encoded(pa.int16(), pa.string())
    values = of(runs, ["a"] * 20_000)
    lists = pa.ListArray.from_arrays(pa.array(range(0, 20_001, 100), pa.int32()), values)
    part = pa.table({"c": lists, "w": of(SMALL, ["x"] * 200)})
    source = write_arrow(tmp_path / "in.arrows", part, part)
    for columns in (["c"], ["c", "w"]):
        home = ArrowHome(path=source, columns=columns)
        with home.open() as plan:
            writer = ArrowWriter(str(tmp_path / "o.arrow"), schema_of(plan), "lz4")
            writer.write(pa.concat_tables(home.read(plan.splits[0])).combine_chunks())
        writer.close()
        read = read_arrow(tmp_path / "o.arrow")
        read.validate(full=True)
        assert read.column("c").type == pa.list_(runs)
        assert plain_table(read).column("c").to_pylist() == [["a"] * 100] * 400


def test_an_append_follows_the_files_that_are_there(tmp_path):
    """Some readers (polars) refuse a directory of files of more than one type."""
    plain = pa.table({"c": ["a", "b"]})
    encoded = pa.table({"c": of(SMALL, ["a", "c"])})
    texts, codes = tmp_path / "texts.parquet", tmp_path / "codes.parquet"
    pq.write_table(plain, texts)
    pq.write_table(encoded, codes)
    for first, second, kind in ((texts, codes, pa.string()), (codes, codes, SMALL)):
        store = ParquetStore(path=tmp_path / f"{first.stem}-{second.stem}")
        for number, source in enumerate((first, second)):
            move(ParquetHome(path=source), store, mode="append", name=f"f{number}").run()
        files = sorted((tmp_path / f"{first.stem}-{second.stem}").rglob("part-*.parquet"))
        assert len(files) == 2
        assert [pq.read_schema(file).field("c").type for file in files] == [kind, kind]


def test_a_run_that_was_prepared_without_them_is_ended_without_them(tmp_path, monkeypatch):
    """So goes a run on that an earlier version of hygge began."""
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"c": of(SMALL, ["a", "c"])}), source)
    store = ParquetStore(path=tmp_path / "o")
    prepare = Directory.prepare

    def prepared_twice(self, run, schema):
        prepare(self, run, pa.schema([field.remove_metadata() for field in schema]))
        prepare(self, run, schema)

    monkeypatch.setattr(Directory, "prepare", prepared_twice)
    move(ParquetHome(path=source), store).run()
    (file,) = (tmp_path / "o").rglob("part-*.parquet")
    assert pq.read_schema(file).field("c").type == pa.string()


def test_files_that_differ_in_them_come_as_plain_values(tmp_path):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"c": of(SMALL, ["a"])}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"c": ["b"]}), tmp_path / "in" / "b.parquet")
    move(ParquetHome(path=tmp_path / "in"), ParquetStore(path=tmp_path / "o.parquet")).run()
    read = pq.read_table(tmp_path / "o.parquet")
    assert read.column("c").type == pa.string()
    assert read.column("c").to_pylist() == ["a", "b"]


def test_plan_says_what_is_lost_of_categories(tmp_path):
    rows = table().select(["small", "ordered", "view"])
    stream = ArrowHome(path=write_arrow(tmp_path / "in.arrows", rows))
    file = ArrowHome(path=in_order(tmp_path / "in.arrow", [0]), columns=["c"])
    unused = "metadata 'categories' of column 'small': those of no row are left out"
    of_stream = "metadata 'ordered' of column 'ordered': categories become plain values"
    of_file = "metadata 'ordered' of column 'c': it becomes plain values"
    for store in (CsvStore(path=tmp_path / "o.csv"), ArrowStore(path=tmp_path / "o")):
        for home, lost in (
            (stream, [f"{of_stream}; {unused}"]),
            (file, [of_file] if isinstance(store, CsvStore) else []),
        ):
            with home.open() as plan:
                lines = plan_text(move(home, store), plan).splitlines()
            said = [line for line in lines if line.startswith("  loses ")]
            assert said == [f"  loses   {each}" for each in lost]


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        (pa.struct([("a", pa.list_(pa.string_view())), ("b", FLOATS)]), ["dictionary", "view"]),
        (pa.list_view(pa.list_(SMALL)), []),
        (FLOATS, ["dictionary"]),
        (pa.run_end_encoded(pa.int32(), pa.float64()), ["run-end encoding"]),
        (SMALL, []),
        (pa.list_(pa.int64()), []),
    ],
    ids=str,
)
def test_plan_says_which_encoding_is_not_kept(kind, lost, tmp_path):
    rows = pa.schema([("v", kind)]).empty_table()
    with ArrowHome(path=write_arrow(tmp_path / "in.arrows", rows)).open() as plan:
        said = [sentence for sentence in plan.lost if "become plain" in sentence]
    assert said == [f"'{each}' of column 'v': its values become plain ones" for each in lost]


def test_text_into_text_stays_what_it_was(tmp_path):
    move(ArrowHome(path=write_arrow(tmp_path / "in.arrows", table().select(["small", "view"]))),
         CsvStore(path=tmp_path / "o.csv")).run()  # fmt: skip
    move(CsvHome(path=tmp_path / "o.csv"), ParquetStore(path=tmp_path / "o.parquet")).run()
    read = pq.read_table(tmp_path / "o.parquet")
    assert read.column("small").to_pylist() == WORDS
    assert read.column("view").type == pa.string()
