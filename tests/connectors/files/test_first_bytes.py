"""A file is what its first bytes say, whatever its name says: on a disk and in a bucket."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import uuid
import zipfile
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import from_url

from hygge import ArrowHome, CsvHome, JsonlHome, ParquetHome
from hygge.config.flows import build, read_flows
from hygge.errors import HyggeError
from hygge.home import Home
from tests.servers.s3 import BUCKET, s3  # noqa: F401  # fixtures

CSV = b"id,said\n1,a\n2,b\n"
JSONL = b'{"id": 1, "said": "a"}\n{"id": 2, "said": "b"}\n'
ROWS = [{"id": 1, "said": "a"}, {"id": 2, "said": "b"}]


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", content)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


READ = {
    "gzip": gzip.compress,
    "gzip in two members": lambda c: gzip.compress(c[:9]) + gzip.compress(c[9:]),
    "zstd": zstd,
    "zstd in two frames": lambda c: zstd(c[:9]) + zstd(c[9:]),
    "zstd that begins with a frame to skip": lambda c: b"\x50\x2a\x4d\x18\2\0\0\0ab" + zstd(c),
    "plain": bytes,
}
REFUSED = {
    "zip": (zipped, "unzip"),
    "xz": (lzma.compress, "unxz"),
    "bzip2": (bz2.compress, "bunzip2"),
    "lz4": (lambda c: pa.compress(c, codec="lz4", asbytes=True), "unlz4"),
}


def read(home: Home) -> list[dict]:
    with home.open() as plan:
        return [row for split in plan.splits for t in home.read(split) for row in t.to_pylist()]


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path) -> Callable[[str, bytes], str]:
    """Return a function that puts a file there, and returns its path."""
    if request.param == "disk":

        def put(name: str, content: bytes) -> str:
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            return str(path)

        return put
    request.getfixturevalue("s3")
    bucket = from_url(f"s3://{BUCKET}", client_options={"allow_http": True})
    top = uuid.uuid4().hex[:12]

    def put_object(name: str, content: bytes) -> str:
        bucket.put(f"{top}/{name}", content)
        return f"s3://{BUCKET}/{top}/{name}"

    return put_object


@pytest.mark.parametrize("how", READ)
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_text_is_read_as_what_it_is_and_never_in_part(place, how, ending):
    csv, jsonl = READ[how](CSV), READ[how](JSONL)
    small = {"split_bytes": 10}
    assert read(CsvHome(path=place(f"a.csv{ending}", csv), options=small)) == ROWS
    no_newlines = {"newlines_in_values": False, **small}
    assert read(CsvHome(path=place(f"b.csv{ending}", csv), options=no_newlines)) == ROWS
    assert read(JsonlHome(path=place(f"a.jsonl{ending}", jsonl), options=small)) == ROWS
    assert read(JsonlHome(path=place(f"a.jsonl{ending}", jsonl))) == ROWS


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_not_read_is_named_with_the_remedy(place, how):
    compress, remedy = REFUSED[how]
    for kind, name, content in ((CsvHome, "a.csv", CSV), (CsvHome, "a.csv.gz", CSV),
                                (JsonlHome, "a.jsonl", JSONL)):  # fmt: skip
        with pytest.raises(HyggeError, match=f"{name} is compressed as {how}") as caught:
            read(kind(path=place(name, compress(content))))
        assert remedy in caught.value.hint


def test_binary_files_within_a_compression_are_named(place):
    out = io.BytesIO()
    pq.write_table(pa.table({"id": [1]}), out)
    for kind, ending in ((ParquetHome, "parquet"), (ArrowHome, "arrow")):
        with pytest.raises(HyggeError, match=f"a.{ending} is compressed as gzip") as caught:
            read(kind(path=place(f"a.{ending}", gzip.compress(out.getvalue()))))
        assert "gunzip" in caught.value.hint
    with pytest.raises(HyggeError, match="a.csv is a file of Parquet") as caught:
        read(CsvHome(path=place("a.csv", out.getvalue())))
    assert "type: parquet" in caught.value.hint
    with pytest.raises(HyggeError, match="a.arrow is a file of Parquet"):
        read(ArrowHome(path=place("a.arrow", out.getvalue())))


def test_a_damaged_beginning_is_no_text(place):
    with pytest.raises(HyggeError, match="it does not begin as gzip does"):
        read(CsvHome(path=place("a.csv.gz", b"\x1f\x00" + gzip.compress(CSV)[2:])))


def test_words_that_look_like_another_format_are_text(place):
    for name in ("ORCID", "PAR1", "ARROW1", "FEA1", "BZh9", "PKG"):
        path = place(f"{name}.csv", f"{name},b\n1,2\n".encode())
        assert read(CsvHome(path=path, options={"header": True})) == [{name: 1, "b": 2}]


def test_a_compressed_file_beside_plain_ones_is_read_or_said(place):
    place("d/a.csv", CSV)
    top = place("d/b.csv", gzip.compress(CSV)).removesuffix("/b.csv")
    assert len(read(CsvHome(path=top))) == 4
    place("d/c.gz", gzip.compress(CSV))
    with pytest.raises(HyggeError, match="c.gz would be left out"):
        read(CsvHome(path=top))
    assert len(read(CsvHome(path=f"{top}/*.csv"))) == 4
    assert len(read(CsvHome(path=f"{top}/*"))) == 6


def test_a_compressed_file_whose_type_is_not_stated_is_named(tmp_path):
    (tmp_path / "a.csv.bz2").write_bytes(bz2.compress(CSV))
    flows = tmp_path / "f.yml"
    flows.write_text(f"flows: {{f: {{home: {tmp_path}/a.csv.bz2, store: out.csv}}}}\n")
    with pytest.raises(HyggeError, match=r"is compressed as .bz2, which is not read") as caught:
        build(read_flows(flows, {}))
    assert "decompress it first" in str(caught.value)


@pytest.mark.parametrize("home", [CsvHome, JsonlHome, ParquetHome, ArrowHome])
@pytest.mark.parametrize(
    ("page", "kind"),
    [(b"<!DOCTYPE html>\n<p>404</p>\n", "HTML"), (b"\n<html>\n</html>\n", "HTML"),
     (b'<?xml version="1.0"?>\n<Error/>\n', "XML")],
)  # fmt: skip
def test_a_page_that_a_server_sent_in_the_place_of_a_file_is_no_table(home, page, kind, tmp_path):
    (tmp_path / "in").write_bytes(page)
    with pytest.raises(HyggeError, match=f"is a file of {kind}"):
        read(home(path=tmp_path / "in"))
