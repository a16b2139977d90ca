"""A reader of a bucket that knows nothing of hygge: listings and GETs."""

from __future__ import annotations

import json
import uuid

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.store import from_url

from tests.servers.s3 import BUCKET


def users() -> str:
    """A target where nothing is yet."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}/users"


def listing(url: str) -> dict[str, bytes]:
    """A plain listing with a GET of each: what a reader sees that knows nothing of hygge."""
    bucket = from_url(f"s3://{BUCKET}", client_options={"allow_http": True})
    prefix = url.removeprefix(f"s3://{BUCKET}/") + "/"
    found = [each["path"] for page in obstore.list(bucket, prefix) for each in page]
    names = [path.removeprefix(prefix) for path in found]
    shown = [name for name in names if not any(part[0] in "._" for part in name.split("/"))]
    return {name: bytes(bucket.get(prefix + name).bytes()) for name in shown}


def rows_at(url: str) -> pa.Table | None:
    files = listing(url)
    tables = [pq.read_table(pa.BufferReader(content)) for content in files.values()]
    return pa.concat_tables(tables) if tables else None


def ids_at(url: str) -> list[int]:
    rows = rows_at(url)
    return [] if rows is None else sorted(rows["id"].to_pylist())


def newest(url: str) -> dict:
    bucket = from_url(url, client_options={"allow_http": True})
    found = sorted(e["path"] for page in obstore.list(bucket, "_hygge") for e in page)
    return json.loads(bytes(bucket.get(found[-1]).bytes()))


def all_keys(url: str, start: str) -> list[str]:
    bucket = from_url(url, client_options={"allow_http": True})
    return [e["path"] for page in obstore.list(bucket) for e in page if e["path"].startswith(start)]
