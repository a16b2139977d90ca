"""Defects that a review proved in the file connectors; each test is one of them, and stays."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowHome, ArrowStore, CsvHome, CsvStore, Flow, ParquetHome, ParquetStore
from hygge.connectors.files import listing
from hygge.connectors.files.heads import generation_name
from hygge.connectors.files.home import FileHome
from hygge.connectors.files.listing import find_files
from hygge.connectors.files.source_file import SourceFile
from hygge.errors import HomeError, NotOurs, Rejected, SourceChanged, StoreError
from hygge.model import Head, Run, Ticket
from hygge.store import new_run_id
from tests.connectors.files.old_heads import make_old

IDS = pa.schema([("id", pa.int64())])


def write(path: Path, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def read(home) -> list[dict]:
    with home.open() as plan:
        return [
            row for split in plan.splits for batch in home.read(split) for row in batch.to_pylist()
        ]


def visible(path: Path) -> list[int]:
    return sorted(row["id"] for row in read(ParquetHome(path=path)))


def run(store, ids, mode="replace", flow="A", schema=IDS, run_id=None, watermark=None):
    """A whole run by hand; gives its Commit."""
    begun = begin(store, ids, mode, flow, schema, run_id)
    try:
        return store.commit(*begun, watermark)
    finally:
        store.discard(begun[0])


def begin(store, ids, mode="replace", flow="A", schema=IDS, run_id=None):
    it = Run(run_id or new_run_id(), flow, mode)
    base = store.head(flow)
    store.prepare(it, schema)
    batches = [pa.table({schema.names[0]: ids}, schema=schema)] if ids else []
    return it, base, [store.stage(Ticket(it.id, 0), schema, iter(batches))]


# What is read


@pytest.mark.parametrize("pattern", ["", "/**/*.parquet", "/*/*.parquet"])
def test_a_directory_that_may_not_be_listed_is_an_error(pattern, tmp_path, monkeypatch):
    write(tmp_path / "l/open/b.parquet", id=[2])
    write(tmp_path / "l/shut/c.parquet", id=[3])

    def refusing(listing):
        def refuse(path="."):
            if str(path).endswith("shut"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return listing(path)

        return refuse

    # Not by its mode: root, who runs the tests in a container, may list anything.
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    monkeypatch.setattr(os, "listdir", refusing(os.listdir))
    with pytest.raises(HomeError, match="l/shut cannot be read: Permission denied") as caught:
        read(ParquetHome(path=f"{tmp_path}/l{pattern}"))
    assert caught.value.hint


@pytest.mark.parametrize("pattern", ["", "/**", "/*/*.parquet", "/*/*"])
def test_links_to_directories_are_followed(pattern, tmp_path):
    write(tmp_path / "elsewhere/b.parquet", id=[2, 3])
    write(tmp_path / "l/k/a.parquet", id=[1])
    (tmp_path / "l/more").symlink_to("../elsewhere")
    assert read(ParquetHome(path=f"{tmp_path}/l{pattern}")) == [{"id": 1}, {"id": 2}, {"id": 3}]


@pytest.mark.parametrize("pattern", ["", "/**/*.parquet"])
def test_a_directory_that_links_reach_twice_is_an_error(pattern, tmp_path):
    write(tmp_path / "l/k/a.parquet", id=[1])
    (tmp_path / "l/k/up").symlink_to("..")
    with pytest.raises(HomeError, match="the same directory as"):
        read(ParquetHome(path=f"{tmp_path}/l{pattern}"))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.parquet", "a"),
        ("[bc]*/*", "bc"),
        ("**/*.parquet", "abcd"),
        ("**", "abcd"),
        ("c/**/?.parquet", "cd"),
        ("*/d/d.parquet", "d"),
        (".h/*", "h"),
        ("*/nothing", ""),
    ],
)
def test_patterns_mean_what_glob_means(pattern, found, tmp_path):
    import glob

    for name in ("a", "b/b", "c/c", "c/d/d", ".h/h", "c/.x"):
        write(tmp_path / f"{name}.parquet", id=[1])
    wanted = sorted(filter(os.path.isfile, glob.glob(f"{tmp_path}/{pattern}", recursive=True)))
    assert sorted(Path(path).stem for path in wanted) == list(found)
    if found:
        assert [each.path for each in find_files(f"{tmp_path}/{pattern}", ())] == wanted


def test_a_file_that_goes_while_it_is_listed_is_source_changed(tmp_path, monkeypatch):
    write(tmp_path / "l/a.parquet", id=[1])
    walk = listing._walk

    def raced(*args):
        for path in walk(*args):
            os.unlink(path)
            yield path

    monkeypatch.setattr(listing, "_walk", raced)
    with pytest.raises(SourceChanged, match=r"a\.parquet was there") as caught:
        read(ParquetHome(path=tmp_path / "l"))
    assert caught.value.hint


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "a.parquet").symlink_to("gone.parquet")
    with pytest.raises(HomeError, match="a link to a file that is not there"):
        read(ParquetHome(path=tmp_path))


def test_hive_values_that_are_almost_numbers_are_text(tmp_path):
    write(tmp_path / "k=--5/a.parquet", id=[1])
    assert read(ParquetHome(path=tmp_path)) == [{"id": 1, "k": "--5"}]


@pytest.mark.parametrize("home", [ParquetHome, ArrowHome])
def test_files_need_only_be_alike_in_the_chosen_columns(home, tmp_path):
    from pyarrow import feather

    put = {ParquetHome: pq.write_table, ArrowHome: feather.write_feather}[home]
    put(pa.table({"id": [1], "x": [1]}), tmp_path / f"a{home.suffixes[0]}")
    put(pa.table({"id": [2], "x": ["b"]}), tmp_path / f"b{home.suffixes[0]}")
    with pytest.raises(HomeError) as caught:
        read(home(path=tmp_path))
    assert "`columns: [id]`" in (caught.value.hint or "")
    assert read(home(path=tmp_path, columns=["id"])) == [{"id": 1}, {"id": 2}]


def test_many_small_files_are_packed_in_order_and_soon():
    class Home(FileHome):
        suffixes = (".x",)

    many = [SourceFile(f"/d/{at:05d}.x", 100, 1) for at in range(40_000)]
    began = time.thread_time()  # of work, a quarter of a second, and not of what others do
    splits = list(Home(path="x", options={"split_bytes": 2_000_000})._pack(many, IDS))
    assert time.thread_time() - began < 20, "quadratic: it took a minute"
    assert [split.bytes for split in splits] == [2_000_000, 2_000_000]
    assert [entry[0] for s in splits for entry in s.where["files"]] == [each.path for each in many]


# What append looks at


@pytest.mark.parametrize(
    ("there", "new", "said"),
    [
        ({"id": pa.int64()}, {"id": pa.string()}, "column 'id' is int64 in .*, and string in"),
        ({"id": pa.int64()}, {"id": pa.int32()}, "column 'id' is int64 in .*, and int32 in"),
        ({"id": pa.int64()}, {"id": pa.int64(), "z": pa.int64()}, "columns id; this run has id, z"),
        ({"a": pa.int64(), "b": pa.int64()}, {"b": pa.int64(), "a": pa.int64()}, "columns a, b;"),
    ],
)
def test_append_refuses_another_schema_before_rows_move(there, new, said, tmp_path):
    store = CsvStore(path=tmp_path / "o", options={"header": False})
    run(store, [], "append", schema=pa.schema(there))
    for flow in ("A", "B"):
        with pytest.raises(StoreError, match=said) as caught:
            store.prepare(Run(new_run_id(), flow, "append"), pa.schema(new))
        assert caught.value.hint
    assert not (tmp_path / ".o.hygge").exists()


@pytest.mark.parametrize("store", [ParquetStore, ArrowStore])
def test_large_strings_go_with_strings_for_every_reader(store, tmp_path):
    import pyarrow.dataset as ds

    store = store(path=tmp_path / "o")
    for kind in (pa.string(), pa.large_string(), pa.string()):
        run(store, ["a"], "append", schema=pa.schema([("text", kind)]))
    kind = store.suffixes[0].removeprefix(".")
    assert ds.dataset(store.path, format=kind).to_table().to_pydict() == {"text": ["a"] * 3}
    home = {ParquetStore: ParquetHome, ArrowStore: ArrowHome}[type(store)]
    assert read(home(path=store.path)) == [{"text": "a"}] * 3


def test_append_rejects_a_schema_that_only_the_rows_showed(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    run(store, [1], "append")
    it = Run(new_run_id(), "A", "append")
    base = store.head("A")
    store.prepare(it, None)
    receipt = store.stage(Ticket(it.id, 0), None, iter([pa.table({"id": ["x"]})]))
    with pytest.raises(Rejected, match="column 'id' is int64"):
        store.commit(it, base, [receipt], None)
    assert visible(tmp_path / "o") == [1]


def test_of_two_first_appends_to_one_file_the_second_is_rejected(tmp_path):
    store = ParquetStore(path=tmp_path / "o.parquet")
    first, second = begin(store, [1], "append", "A"), begin(store, [2], "append", "B")
    store.commit(*first, None)
    with pytest.raises(Rejected, match="cannot be appended to"):
        store.commit(*second, None)
    assert visible(tmp_path / "o.parquet") == [1]


def test_an_append_of_nothing_new_writes_nothing(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    run(store, [1], "append", watermark=1)
    before = sorted(tmp_path.rglob("*"))
    for _ in range(3):
        commit = run(store, [], "append", watermark=1)
        assert (commit.note, commit.applied, commit.head) == ("nothing new", 0, store.head("A"))
    assert sorted(tmp_path.rglob("*")) == before
    moved = run(store, [], "append", watermark=2)
    assert store.head("A") == moved.head
    assert moved.head.watermark == 2
    assert len(list(tmp_path.rglob("part-*"))) == 1, "a head needs no empty file"
    run(store, [5])
    assert visible(tmp_path / "o") == [5], "a head alone is ours to replace"


def test_flows_whose_names_look_alike_in_a_path_share_no_folder(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    for at, flow in enumerate(("a b", "a-b", "a:b")):
        run(store, [at], "append", flow)
    assert visible(tmp_path / "o") == [0, 1, 2]
    assert generation_name(Head("a-b", 1, "r", 0)) == "run-a-b-000001"


def test_the_head_keeps_the_cursor_and_old_heads_stay_readable(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    it = Run(new_run_id(), "A", "append", cursor="id")
    store.prepare(it, IDS)
    store.commit(it, None, [store.stage(Ticket(it.id, 0), IDS, iter([pa.table({"id": [1]})]))], 1)
    assert store.head("A").cursor == "id"
    make_old(tmp_path / "o", lambda head: head.pop("cursor"))
    assert store.head("A").cursor is None


# What replace leaves alone


def test_a_store_inside_a_store_is_foreign(tmp_path):
    run(ParquetStore(path=tmp_path / "o/sub-000001"), [1], flow="B")
    outer = ParquetStore(path=tmp_path / "o")
    assert outer.head("B") is None, "the head of another store"
    run(outer, [2], "append")
    with pytest.raises(NotOurs, match="sub"):
        run(outer, [3])
    assert visible(tmp_path / "o/sub-000001") == [1]


@pytest.mark.parametrize("kind", ["link to a directory", "link to a file", "empty directory"])
@pytest.mark.parametrize("where", ["o", "o/run-A-000002"])
def test_links_and_empty_directories_of_others_are_foreign(kind, where, tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    run(store, [1])
    run(store, [2], "append")
    mine = tmp_path / where / "mine"
    if kind == "empty directory":
        mine.mkdir()
    else:
        mine.symlink_to("/tmp" if kind == "link to a directory" else __file__)
    with pytest.raises(NotOurs, match="mine"):
        run(store, [3])
    assert os.path.lexists(mine)


def test_a_part_that_was_edited_to_the_same_size_is_foreign(tmp_path):
    store = CsvStore(path=tmp_path / "o")
    run(store, [1])
    part = next((tmp_path / "o").glob("*.csv"))
    part.write_text(part.read_text().replace("1", "9"))
    with pytest.raises(NotOurs, match="was changed after hygge wrote it"):
        run(store, [2])
    assert read(CsvHome(path=tmp_path / "o")) == [{"id": 9}]


def test_a_link_in_the_place_of_a_part_is_foreign(tmp_path):
    store = ParquetStore(path=tmp_path / "o")
    run(store, [1])
    part = next((tmp_path / "o").glob("part-*.parquet"))
    part.rename(tmp_path / part.name)
    part.symlink_to(tmp_path / part.name)
    with pytest.raises(NotOurs, match="part-"):
        run(store, [2])


def test_heads_that_know_no_mtime_stay_good(tmp_path):
    def forget_mtimes(head):
        head["files"] = [entry[:2] for entry in head["files"]]

    store = ParquetStore(path=tmp_path / "o")
    run(store, [1])
    make_old(tmp_path / "o", forget_mtimes)
    run(store, [2])
    assert visible(tmp_path / "o") == [2]


def test_a_target_behind_a_link_is_written_where_it_is(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "o").symlink_to("real")
    (tmp_path / "s.csv").symlink_to("real.csv")
    home = ParquetHome(path=write(tmp_path / "a.parquet", id=[1]))
    for store in (ParquetStore(path=tmp_path / "o"), CsvStore(path=tmp_path / "s.csv")):
        for _ in range(2):
            Flow(home, store, engine="inline", name="A").run()
    assert (tmp_path / "o").is_symlink()
    assert (tmp_path / "s.csv").is_symlink()
    assert visible(tmp_path / "real") == [1]
    assert read(CsvHome(path=tmp_path / "real.csv")) == [{"id": 1}]
