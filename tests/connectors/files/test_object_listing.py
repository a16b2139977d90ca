"""Homes on a real S3 endpoint: the contract in each format, what a URL means, and what changes."""

from __future__ import annotations

import os
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import from_url
from pyarrow import feather

from hygge import ArrowHome, CsvHome, JsonlHome, ParquetHome, ParquetStore
from hygge.errors import (
    HomeError,
    HyggeError,
    SourceChanged,
    SourceMissing,
    StoreError,
    Transient,
)
from hygge.model import Run
from hygge.places.bucket import Bucket
from hygge.testing import HomeContract
from tests.connectors.files.test_listing import HIDDEN
from tests.connectors.files.test_prefix import staged
from tests.forked import hygge
from tests.readers.foreign import text_options, write_csv, write_jsonl
from tests.readers.objects import ids_at, users
from tests.servers.s3 import BUCKET, SECRET, proxy, s3  # noqa: F401  # fixtures


@pytest.fixture(autouse=True)
def _endpoint(s3: str) -> None:  # noqa: F811
    """Every test here speaks to the endpoint."""


def bucket():
    return from_url(f"s3://{BUCKET}", client_options={"allow_http": True})


def key_of(url):
    return url.removeprefix(f"s3://{BUCKET}/")


def put(url, content=b"x"):
    bucket().put(key_of(url), content)


def put_rows(url, *ids):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": list(ids)}, pa.schema([("id", pa.int64())])), sink)
    put(url, sink.getvalue().to_pybytes())


def ids(home):
    with home.open() as plan:
        return sorted(
            row["id"] for split in plan.splits for t in home.read(split) for row in t.to_pylist()
        )


def below():
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"


class OnObjects(HomeContract):
    kind, ending = ParquetHome, "parquet"

    def write(self, table, path):
        pq.write_table(table, path, row_group_size=self.batch_rows)

    def options(self, table):
        return {"batch_size": self.batch_rows, "split_bytes": 5_000}

    def make(self, table, tmp_path):
        self.write(table, tmp_path / "t")
        url = f"{below()}/t.{self.ending}"
        put(url, (tmp_path / "t").read_bytes())
        return self.kind(path=url, options=self.options(table))

    def change(self, home):
        content = bytes(bucket().get(key_of(home.path)).bytes())
        put(home.path, content + b"\n")


class TestParquet(OnObjects):
    pass


class OtherFormats(OnObjects):
    test_every_type_returns_exactly = None  # the readers are those of disks, and of TestParquet


class TestArrow(OtherFormats):
    kind, ending = ArrowHome, "arrow"

    def write(self, table, path):
        feather.write_feather(table, path, chunksize=self.batch_rows)

    def options(self, table):
        return {"split_bytes": 5_000}


class TestCsv(OtherFormats):
    big_rows = 24_000
    kind, ending, write = CsvHome, "csv", staticmethod(write_csv)

    def options(self, table):
        return {
            **text_options(table, self.batch_rows),
            "newlines_in_values": "v" in table.column_names,
        }


class TestJsonl(OtherFormats):
    big_rows = 24_000
    kind, ending, write = JsonlHome, "jsonl", staticmethod(write_jsonl)

    def options(self, table):
        return text_options(table, self.batch_rows)


def test_a_url_means_one_object_a_prefix_or_a_pattern():
    top = below()
    put_rows(f"{top}/a.parquet", 1)
    put_rows(f"{top}/b/c.parquet", 2)
    put_rows(f"{top}/b/d e=ü.parquet", 3)
    put_rows(f"{top}/b/_hidden.parquet", 4)
    put_rows(f"{top}/_b/x.parquet", 5)
    put_rows(f"{top}/.b/x.parquet", 6)
    put(f"{top}/b/readme.txt")
    for url, wanted in {
        f"{top}": [1, 2, 3], f"{top}/": [1, 2, 3], f"{top}/a.parquet": [1], f"{top}/b": [2, 3],
        f"{top}/*.parquet": [1], f"{top}/*/*.parquet": [2, 3], f"{top}/**/*.parquet": [1, 2, 3],
        f"{top}/b/[a-c].parquet": [2], f"{top}/b/?.parquet": [2],
        f"{top}/b/_hidden.parquet": [4], f"{top}/b/_*.parquet": [4],
    }.items():  # fmt: skip
        assert ids(ParquetHome(path=url)) == wanted, url


def test_hive_partitions_are_columns():
    top = below()
    put_rows(f"{top}/year=2024/kind=a%20b/x.parquet", 1)
    put_rows(f"{top}/year=2025/kind=__HIVE_DEFAULT_PARTITION__/x.parquet", 2)
    home = ParquetHome(path=top)
    with home.open() as plan:
        rows = [row for s in plan.splits for t in home.read(s) for row in t.to_pylist()]
    assert rows == [
        {"id": 1, "year": 2024, "kind": "a b"}, {"id": 2, "year": 2025, "kind": None},
    ]  # fmt: skip


def test_what_is_missing_is_said_with_the_nearest():
    top = below()
    put_rows(f"{top}/users/a.parquet", 1)
    with pytest.raises(SourceMissing, match="there is nothing at") as caught:
        ids(ParquetHome(path=f"{top}/usres"))
    assert f"did you mean {top}/users?" in caught.value.hint
    put(f"{top}/texts/a.txt")
    with pytest.raises(SourceMissing, match="no .parquet or .pq or .parq object below"):
        ids(ParquetHome(path=f"{top}/texts"))
    with pytest.raises(SourceMissing, match="nothing matches"):
        ids(ParquetHome(path=f"{top}/*.csv"))
    with pytest.raises(HyggeError, match="there is no bucket"):
        ids(ParquetHome(path="s3://no-such-bucket-here/x"))


def test_what_hygge_wrote_is_read_by_its_newest_manifest(monkeypatch):
    url = users()
    for mode, rows in (("replace", [1, 2]), ("append", [3])):
        _, _, commit = staged(url, "f", rows, mode)
        commit()
    assert ids(ParquetHome(path=url)) == ids_at(url) == [1, 2, 3]
    put_rows(f"{url}/of-somebody-else.parquet", 9)
    with pytest.raises(HomeError, match="no longer as hygge wrote it: of-somebody"):
        ids(ParquetHome(path=url))
    assert ids(ParquetHome(path=f"{url}/of-*.parquet")) == [9]
    bucket().delete(key_of(f"{url}/of-somebody-else.parquet"))

    def dies(*_):
        raise Transient("the driver dies before anything is copied")

    _, _, commit = staged(url, "f", [7, 8], "replace")
    monkeypatch.setattr(Bucket, "copy", dies)
    with pytest.raises(Transient):
        commit()
    assert ids_at(url) == [1, 2, 3]
    assert ids(ParquetHome(path=url)) == [7, 8]


def test_an_object_that_is_rewritten_meanwhile_is_noticed():
    url = f"{below()}/t.parquet"
    sink = pa.BufferOutputStream()
    table = pa.table({"id": list(range(300_000)), "v": [uuid.uuid4().hex for _ in range(300_000)]})
    pq.write_table(table, sink, row_group_size=300_000)
    put(url, sink.getvalue().to_pybytes())
    home = ParquetHome(path=url, options={"batch_size": 1000})
    with home.open() as plan:
        (split,) = plan.splits
        reading = home.read(split)
        next(reading)
        put(url, sink.getvalue().to_pybytes() + b"!")
        with pytest.raises(SourceChanged, match="was rewritten"):
            list(reading)
        bucket().delete(key_of(url))
        with pytest.raises(SourceChanged, match="is gone"):
            list(home.read(split))


@pytest.mark.parametrize("status", [503, 0])
def test_an_endpoint_that_fails_now_and_then_is_asked_again(status, proxy):  # noqa: F811
    url = f"{below()}/t.parquet"
    put_rows(url, *range(1000))
    answers = iter([status, None] * 100)
    proxy.before = lambda request: next(answers)
    assert ids(ParquetHome(path=url)) == list(range(1000))
    proxy.before = lambda request: 403
    with pytest.raises(HyggeError, match="may not be read"):
        ids(ParquetHome(path=url))


def test_a_column_is_read_with_few_requests(proxy):  # noqa: F811
    url = f"{below()}/t.parquet"
    sink = pa.BufferOutputStream()
    columns = {f"c{at}": [uuid.uuid4().hex for _ in range(20_000)] for at in range(8)}
    pq.write_table(pa.table(columns), sink, compression="none", use_dictionary=False)
    put(url, sink.getvalue().to_pybytes())
    asked, size = [], len(sink.getvalue())
    proxy.before = lambda request: asked.append(request.headers.get("Range"))
    home = ParquetHome(path=url, columns=["c1", "c5"])
    with home.open() as plan:
        assert sum(t.num_rows for s in plan.splits for t in home.read(s)) == 20_000
    ranges = [each.removeprefix("bytes=").split("-") for each in asked if each]
    read = sum(int(end) - int(start) + 1 for start, end in ranges)
    assert 2 <= len(asked) < 28, asked  # most of them look for lake tables above it, at once
    assert read < size / 2, (read, size)


def test_one_file_moves_from_bucket_to_bucket_and_names_no_secret(tmp_path):
    source, target = below(), users()
    put_rows(f"{source}/a.parquet", 1, 2)
    (tmp_path / "flows.yml").write_text(f"flows:\n  a: {{home: '{source}', store: '{target}'}}\n")

    def said(*words):
        done = hygge(*words, "flows.yml", cwd=tmp_path, env=os.environ)
        assert SECRET not in done.stdout + done.stderr
        return f"{' '.join((done.stdout + done.stderr).split())} ended {done.returncode}"

    assert said("check").endswith("ended 0")
    assert "1 file in 1 split" in said("plan")
    assert said("run", "--inline").endswith("ended 0")
    assert ids_at(target) == [1, 2]
    (tmp_path / "flows.yml").write_text(f"flows:\n  a: {{home: '{source}x', store: '{target}'}}\n")
    assert f"did you mean {source}" in said("check")


def test_a_flow_onto_what_it_reads_is_refused():
    url = users()
    home, store = ParquetHome(path=url), ParquetStore(path=url)
    assert home.holds(store)
    assert ParquetHome(path=url.rpartition("/")[0]).holds(store)
    assert not ParquetHome(path=f"{url}-other").holds(store)


@pytest.mark.parametrize(
    ("log", "data", "kind"),
    [
        ("_delta_log/00.json", "dt=1/", "a Delta table"),
        ("metadata/v1.metadata.json", "data/dt=1/", "an Iceberg table"),
        (".hoodie/hoodie.properties", "dt=1/", "a Hudi table"),
        ("base_0000002/b", "delta_0000001_0000001/", "a transactional table of Hive"),
    ],
)
def test_a_lake_table_in_a_bucket_is_refused_by_its_name(log, data, kind):
    top = below()
    put(f"{top}/lake/t/{log}")
    with pytest.raises(StoreError, match=f"t is {kind}: its readers would not see"):
        ParquetStore(path=f"{top}/lake/t/{data}more").examine(Run("r", "f"), None)
    put_rows(f"{top}/lake/t/{data}a.parquet", 1)
    put_rows(f"{top}/plain/a.parquet", 1)
    inside = f"lake/t/{data}"
    for path in (
        "lake",
        "lake/t",
        inside,
        f"{inside}a.parquet",
        f"{inside}*.parquet",
        "**/*.parquet",
    ):
        with (
            pytest.raises(HomeError, match=f"t is {kind}"),
            ParquetHome(path=f"{top}/{path}").open(),
        ):
            pass
    assert ids(ParquetHome(path=f"{top}/plain")) == [1]


@pytest.mark.parametrize("path", ["", "**/*.parquet", "**", "*/*.parquet", "*", "dt=?", "[d_.]*"])
def test_a_prefix_and_a_pattern_leave_the_same_names_out(path):
    top = below()
    put_rows(f"{top}/dt=1/a.parquet", 1)
    for name in HIDDEN:
        put_rows(f"{top}/{name}", 2)
    assert ids(ParquetHome(path=f"{top}/{path}", columns=["id"])) == [1]


def test_a_hidden_key_is_read_where_the_path_says_it_and_a_prefix_that_matches_is_read():
    top = below()
    put_rows(f"{top}/_temporary/a.parquet", 1)
    put_rows(f"{top}/t.parquet/part-0.parquet", 2)
    put_rows(f"{top}/u.parquet", 3)
    paths = {
        "_temporary": [1],
        "_temp*/a.parquet": [1],
        "*.parquet": [2, 3],
        "**/*.parquet": [2, 3],
    }
    for path, found in paths.items():
        assert ids(ParquetHome(path=f"{top}/{path}")) == found, path


def test_a_compressed_object_beside_plain_ones_is_said():
    top = below()
    put_rows(f"{top}/a.parquet", 1)
    put(f"{top}/b.parquet.xz")
    with pytest.raises(HomeError, match="b.parquet.xz would be left out"):
        ids(ParquetHome(path=top))
