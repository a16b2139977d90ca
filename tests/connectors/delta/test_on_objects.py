"""Delta tables on a real S3 endpoint: the contract, rivals, and a flow there and back."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from hygge import ConfigError, DeltaHome, DeltaStore
from hygge.errors import HyggeError
from hygge.testing import StoreContract
from tests.chaos import only_in_chaos
from tests.connectors.delta.staged import staged
from tests.readers.objects import users
from tests.servers.s3 import BUCKET, s3  # noqa: F401  # a fixture

HTTP = {"allow_http": "true", "aws_conditional_put": "etag"}

STEPS = [
    f"hygge.connectors.delta.{step} 1"
    for step in ("heads.write", "commit.commit", "table_files.Objects.committed")
]
"""Before the head's file; before the entry of the log of a table that is there; after it."""


@pytest.fixture(autouse=True)
def _endpoint(s3: str) -> None:  # noqa: F811
    """Every test here speaks to the endpoint."""


def shown(url: str) -> pa.Table | None:
    """What a reader that knows nothing of hygge sees."""
    if not DeltaTable.is_deltatable(url, storage_options=HTTP):
        return None
    return pa.table(DeltaTable(url, storage_options=HTTP).scan().read_all())


@only_in_chaos
class TestDeltaOnObjects(StoreContract):
    def make(self, tmp_path):
        return DeltaStore(path=users())

    def rows(self, store):
        return shown(store.path)

    def plant_foreign(self, store):
        theirs = pa.table({"n": pa.array([7], pa.int64()), "text": ["theirs"]})
        write_deltalake(store.path, theirs, storage_options=HTTP)
        return lambda: any(row["text"] == "theirs" for row in shown(store.path).to_pylist())

    def make_with_secret(self, secret, tmp_path):
        os.environ["AWS_SECRET_ACCESS_KEY"] = secret  # the fixture puts it back
        return DeltaStore(path=f"s3://{BUCKET}/secret/users")

    # The writer is that of disks, where every type is tried.
    test_every_type_returns_exactly = None


def test_rows_go_there_and_back_by_each_mode(s3):  # noqa: F811
    store = DeltaStore(path=f"{s3}/users", partition_by=["k"])
    table = pa.table({"id": [1, 2, 3], "k": ["a/b", "%20 ü=+#?", None]})
    staged(store, table, mode="append", splits=2)()
    staged(store, pa.table({"id": [1, 20], "k": ["z", "z"]}), mode="merge", key=["id"])()
    rows = {row["id"]: row["k"] for row in shown(store.path).to_pylist()}
    assert rows == {1: "z", 2: "%20 ü=+#?", 3: None, 20: "z"}
    seen = pl.read_delta(store.path, storage_options=HTTP)  # it takes partitions from the path
    assert dict(zip(seen["id"], seen["k"], strict=True)) == rows
    home = DeltaHome(path=store.path)
    with home.open() as plan:
        read = pa.concat_tables(t for split in plan.splits for t in home.read(split))
    assert {row["id"]: row["k"] for row in read.to_pylist()} == rows
    staged(store, table, mode="replace")()
    assert shown(store.path).num_rows == 3


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "a\\b"])
def test_a_prefix_that_the_library_takes_for_another_is_refused(name, s3):  # noqa: F811
    for end in (DeltaStore(path=f"{s3}/{name}"), DeltaHome(path=f"{s3}/{name}")):
        with pytest.raises(ConfigError, match="it would look into another folder"):
            end.head("f") if isinstance(end, DeltaStore) else end.open().__enter__()


@pytest.mark.parametrize(
    ("variable", "value", "bucket", "words"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", BUCKET, f"s3://{BUCKET} cannot be reached at"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", BUCKET, "may not be read or written"),
        ("AWS_REGION", "us-east-1", "no-such-bucket", "there is no bucket s3://no-such-bucket"),
    ],
)
def test_what_an_object_store_refuses_is_said_as_for_files(
    variable, value, bucket, words, monkeypatch
):
    monkeypatch.setenv(variable, value)
    url = f"s3://{bucket}/refused"
    asks = DeltaHome(path=url).open().__enter__, lambda: DeltaStore(path=url).head("f")
    for ask in asks[: 1 if variable == "AWS_ENDPOINT_URL" else 2]:  # the library waits for it
        with pytest.raises(HyggeError, match=words) as raised:
            ask()
        assert "error" not in raised.value.message
        assert raised.value.hint


@only_in_chaos
@pytest.mark.parametrize("mode", ["append", "replace", "merge"])
def test_a_driver_that_dies_at_a_step_of_its_commit_is_made_whole(mode, s3, tmp_path):  # noqa: F811
    def run(*steps: str) -> int:
        words = [str(tmp_path), f"{s3}/t", mode, *steps]
        return subprocess.run([sys.executable, "-m", "tests.crash.delta_points", *words]).returncode

    expected: list[int] = []
    for number, step in enumerate((STEPS[0], *STEPS, None), 1):
        with closing(sqlite3.connect(tmp_path / "t.db")) as source, source:
            source.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY)")
            source.execute("INSERT INTO t VALUES (?)", [number])
        if step is not None:
            assert run(step) == -signal.SIGKILL
            seen = shown(f"{s3}/t")
            ids = [] if seen is None else sorted(seen["id"].to_pylist())
            assert ids in (expected, [*expected, number])
        expected.append(number)
        assert run() == 0
        assert sorted(shown(f"{s3}/t")["id"].to_pylist()) == expected
