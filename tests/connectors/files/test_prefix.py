"""Files on a real S3 endpoint: the contract, readers, dead and sleeping drivers, bad lines."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import from_url

from hygge import ParquetStore
from hygge.connectors.files import publish
from hygge.connectors.files.prefix import Prefix
from hygge.errors import ConfigError, HyggeError, Rejected, StoreError, Superseded, Transient
from hygge.model import Head, Run, Ticket
from hygge.places.bucket import Bucket
from hygge.store import new_run_id
from hygge.testing import StoreContract
from tests.chaos import only_in_chaos
from tests.crash.side_by_side import run_each
from tests.forked import hygge
from tests.readers.objects import all_keys, ids_at, newest, rows_at, users
from tests.servers.s3 import BUCKET, SECRET, proxy, s3  # noqa: F401  # fixtures

DRIVER = "tests.crash.object_points"
SCHEMA = pa.schema([("id", pa.int64())])


@pytest.fixture(autouse=True)
def _endpoint(s3: str) -> None:  # noqa: F811
    """Every test here speaks to the endpoint."""


class TestParquetOnObjects(StoreContract):
    def make(self, tmp_path):
        return ParquetStore(path=users())

    def rows(self, store):
        return rows_at(store.describe())

    def plant_foreign(self, store):
        bucket = from_url(f"s3://{BUCKET}", client_options={"allow_http": True})
        key = f"{store.describe().removeprefix(f's3://{BUCKET}/')}/theirs.txt"
        bucket.put(key, b"theirs")
        return lambda: bytes(bucket.get(key).bytes()) == b"theirs"

    def make_with_secret(self, secret, tmp_path):
        os.environ["AWS_SECRET_ACCESS_KEY"] = secret  # the fixture puts it back
        return ParquetStore(path=f"s3://{BUCKET}/secret/users")

    # The writers are those of disks, where every type is tried.
    test_every_type_returns_exactly = None


def begun(url: str, flow: str, mode: str = "append") -> tuple[ParquetStore, Run, Head | None]:
    store, run = ParquetStore(path=url), Run(new_run_id(), flow, mode)
    base = store.head(flow)
    store.prepare(run, SCHEMA)
    return store, run, base


def staged(url: str, flow: str, ids: list[int], mode: str = "append"):
    """A run that only has to be committed: `commit()`."""
    store, run, base = begun(url, flow, mode)
    receipt = store.stage(Ticket(run.id, 0), SCHEMA, iter([pa.table({"id": ids}, SCHEMA)]))
    return store, run, lambda: store.commit(run, base, [receipt], None)


def in_that_moment(store: ParquetStore, verb: str, act) -> None:
    """`act`, once, in the moment before the store's bucket creates, or copies."""
    plain, left = getattr(store.target.bucket, verb), [act]

    def interposed(*given):
        if "fate" not in given[0] and left:
            left.pop()()
        return plain(*given)

    setattr(store.target.bucket, verb, interposed)


# Who dies, and who sleeps


def everywhere(folder: Path, *tries: tuple[str, ...]) -> list[dict]:
    """What each program came to; they run side by side."""
    runs = []
    for at, words in enumerate(tries):
        (folder / str(at)).mkdir()
        runs.append((folder / str(at), users().rpartition("/")[0], *words))
    return [json.loads(said.splitlines()[-1]) for said in run_each(DRIVER, runs)]


def test_no_row_is_lost_or_doubled_whenever_a_driver_dies_or_sleeps(tmp_path):
    tries = [("append", "dies", "7"), ("replace", "dies twice", "0"), ("replace", "sleeps", "5")]
    for outcome in everywhere(tmp_path, *tries):
        assert outcome["wrong"] == []
        assert outcome["points"] >= 15, "hardly any call was seen"


@only_in_chaos
def test_stores_that_remove_too_early_or_do_not_look_at_their_head_are_caught(tmp_path):
    tries = [
        ("replace", "dies", "9", "settle"),
        ("append", "dies", "9", "discard"),
        ("append", "sleeps", "7", "head"),
    ]
    for outcome in everywhere(tmp_path, *tries):
        assert outcome["wrong"]


def test_a_number_that_is_free_again_commits_nothing():
    assert _late_for_its_number() == [[50], "Superseded"]


def test_a_store_that_believes_an_old_number_is_caught(monkeypatch):
    monkeypatch.setattr(Prefix, "_is_in_newest", lambda *_: True)
    assert _late_for_its_number() != [[50], "Superseded"]


def _late_for_its_number() -> list:
    """What a run comes to that slept through four newer ones, until its number was removed."""
    url = users()
    staged(url, "a", [1], "replace")[2]()
    slow, _, commit = staged(url, "a", [2], "replace")

    def others() -> None:
        for n in (20, 30, 40, 50):
            staged(url, "a", [n], "replace")[2]()

    in_that_moment(slow, "create", others)
    said = ""
    try:
        commit()
    except Superseded:
        said = "Superseded"
    return [ids_at(url), said]


# Who comes at the same time


def test_a_store_that_puts_its_manifest_is_caught(monkeypatch):
    def put(self, key, content):
        self.put(key, content)
        return True

    monkeypatch.setattr(Bucket, "create", put)
    monkeypatch.setattr(Bucket, "check", lambda self: None)
    assert _two_at_once() != [[1, 2], ["a", "b"], 2]


def _two_at_once() -> list:
    url = users()
    slow, _, commit = staged(url, "a", [1])
    in_that_moment(slow, "create", staged(url, "b", [2])[2])
    commit()
    told = newest(url)
    return [ids_at(url), sorted(head["flow"] for head in told["heads"]), len(told["files"])]


def test_a_reader_never_sees_less_than_one_whole_run():
    """As declared: whole files, in a replace the new ones beside all of the old ones."""
    url, done, seen = users(), threading.Event(), []

    def commit(n: int) -> None:
        store, run, base = begun(url, "f", "replace")
        receipts = [
            store.stage(Ticket(run.id, s), SCHEMA, iter([pa.table({"id": [n] * 3}, SCHEMA)]))
            for s in range(3)
        ]
        store.commit(run, base, receipts, None)

    def read() -> None:
        while not done.wait(0.005):
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                seen.append(Counter(ids_at(url)))

    commit(0)
    reader = threading.Thread(target=read)
    reader.start()
    for n in range(1, 8):
        commit(n)
    done.set()
    reader.join()
    assert len(seen) > 5
    assert all(9 in each.values() and len(each) <= 2 for each in seen), seen
    assert all(count % 3 == 0 for each in seen for count in each.values()), seen


# What others left


def test_what_a_run_did_not_show_any_more_a_later_one_shows():
    url = users()
    staged(url, "a", [1])[2]()
    store, run, commit = staged(url, "a", [2])

    def broken(*_):
        raise Transient("the line is cut")

    store.target.bucket.copy = broken
    with pytest.raises(Transient):
        commit()
    assert ids_at(url) == [1]
    assert ParquetStore(path=url).head("a").run == run.id
    ParquetStore(path=url).discard(run)
    assert ids_at(url) == [1, 2]
    assert all_keys(url.rpartition("/")[0], ".users.hygge/2") == []


def test_what_others_removed_of_a_commit_is_said():
    url = users()
    store, run, commit = staged(url, "a", [1])
    bucket = from_url(url.rpartition("/")[0], client_options={"allow_http": True})
    part = f".users.hygge/{run.id}/00000-0-0/00000.parquet"
    in_that_moment(store, "copy", lambda: bucket.delete(part))
    with pytest.raises(StoreError, match="was committed and is gone"):
        commit()
    staged(url, "a", [2], "replace")[2]()
    assert ids_at(url) == [2]


def test_what_was_replaced_is_removed_though_nobody_settled_for_long(monkeypatch):
    url = users()
    staged(url, "a", [0], "replace")[2]()
    commits = [staged(url, f"flow {n}", [n], "replace")[2] for n in range(1, 7)]
    with monkeypatch.context() as dying:
        dying.setattr(Prefix, "settle", lambda self: (self.newest(), []))
        for commit in commits:
            commit()
    assert ids_at(url) == [0]
    staged(url, "a", [9], "replace")[2]()
    assert ids_at(url) == [9]


def test_what_a_dead_run_staged_is_swept_unless_it_began_to_commit(monkeypatch):
    url = users()
    _, dead, late = staged(url, "dead", [1])
    sleeper, asleep, commit = staged(url, "sleeper", [2])
    kept = lambda: {key.split("/")[1] for key in all_keys(url.rpartition("/")[0], ".users")}  # noqa: E731

    def sweep() -> None:
        begun(url, "young")
        assert {dead.id, asleep.id} <= kept()
        monkeypatch.setattr(publish, "LEFTOVERS", timedelta(seconds=-60))
        begun(url, "other")
        assert dead.id not in kept()
        assert asleep.id in kept()

    in_that_moment(sleeper, "create", sweep)
    commit()
    with pytest.raises(Rejected):
        late()
    assert ids_at(url) == [2]


def test_what_is_not_whole_is_not_gone_on_with():
    url = users()
    store, run, base = begun(url, "f")
    tables = [pa.table({"id": [n]}, SCHEMA) for n in range(4)]
    receipts = [store.stage(Ticket(run.id, n), SCHEMA, iter([t])) for n, t in enumerate(tables)]
    place = f".users.hygge/{run.id}"
    bucket = from_url(url.rpartition("/")[0], client_options={"allow_http": True})
    bucket.delete(f"{place}/00001-0-0/receipt.json")
    bucket.delete(f"{place}/00002-0-0/00000.parquet")
    bucket.put(f"{place}/00003-0-0/00000.parquet", b"cut off")
    for _ in range(2):
        assert ParquetStore(path=url).resume(run, receipts) == receipts[:1]
    kept = all_keys(url.rpartition("/")[0], place)
    assert {key.split("/")[2] for key in kept} == {"schema.arrow", "00000-0-0"}
    with pytest.raises(Rejected):
        store.commit(run, base, receipts, None)
    again = store.stage(Ticket(run.id, 1, epoch=1), SCHEMA, iter(tables[1:]))
    ParquetStore(path=url).commit(run, base, [receipts[0], again], None)
    assert ids_at(url) == [0, 1, 2, 3]


def test_a_manifest_that_hygge_did_not_write_is_named():
    url = users()
    bucket = from_url(url, client_options={"allow_http": True})
    for content, said in ((b"x", "not a head that hygge wrote"), (b'{"hygge": 9}', "newer hygge")):
        bucket.put("_hygge/0000000007.json", content)
        with pytest.raises(StoreError, match=said) as caught:
            ParquetStore(path=url).head("a")
        assert caught.value.hint


# Bad lines, bad settings


@pytest.mark.parametrize("answer", [0, 503])
def test_a_line_that_breaks_in_mid_upload_loses_and_doubles_nothing(answer, proxy):  # noqa: F811
    url, left = users(), [answer, answer]
    rows = pa.table({"id": range(3_000_000)}, SCHEMA)
    store = ParquetStore(path=url, options={"compression": "none"})
    run = Run(new_run_id(), "f")
    store.prepare(run, SCHEMA)
    # One of the parts of one file.
    proxy.before = lambda it: left.pop() if "partNumber=2" in it.path and left else None
    receipt = store.stage(Ticket(run.id, 0), SCHEMA, iter([rows]))
    assert not left
    store.commit(run, None, [receipt], None)
    assert rows_at(url).equals(rows)


def test_an_upload_that_stays_broken_may_be_tried_again_and_leaves_nothing(proxy, tmp_path):  # noqa: F811
    url = users()
    store, run, base = begun(url, "f")
    store.target.bucket._clients[False] = store.target.bucket._client(once=True)  # no waiting
    tempfile.tempdir = str(tmp_path)
    try:
        proxy.before = lambda it: 503 if it.command == "PUT" and it.path.endswith("quet") else None
        batch = pa.table({"id": [1]}, SCHEMA)
        with pytest.raises(Transient):
            store.stage(Ticket(run.id, 0), SCHEMA, iter([batch]))
        proxy.before = lambda it: None
        store.target.bucket._clients.clear()  # which tries again where a connection was cut
        receipt = store.stage(Ticket(run.id, 0, n=1), SCHEMA, iter([batch]))
    finally:
        tempfile.tempdir = None
    assert [*tmp_path.iterdir()] == []
    assert ids_at(url) == []
    store.commit(run, base, [receipt], None)
    assert ids_at(url) == [1]


def test_what_cannot_be_written_is_said_before_a_row_moves(monkeypatch):
    nowhere = ParquetStore(path="s3://no-such-bucket/x")
    with pytest.raises(HyggeError, match="there is no bucket s3://no-such-bucket"):
        nowhere.prepare(Run(new_run_id(), "f"), SCHEMA)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET + "x")
    with pytest.raises(HyggeError, match="may not be read or written") as caught:
        ParquetStore(path=users()).prepare(Run(new_run_id(), "f"), SCHEMA)
    assert "AWS_SECRET_ACCESS_KEY" in (caught.value.hint or "")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://b/x.parquet", "is one file, and an object store"),
        ("s3://b", "is a whole bucket"),
        (f"s3://key:{SECRET}@b/x", "nothing else, in its URL"),
        ("ftp://b/x", "no object store that hygge knows"),
    ],
)
def test_a_path_that_cannot_be_written_as_a_directory_is_refused(path, said):
    with pytest.raises(ConfigError, match=said) as caught:
        ParquetStore(path=path)
    assert caught.value.hint
    assert SECRET not in str(caught.value)


def test_flows_yml_says_it_and_plan_says_what_a_reader_sees(tmp_path):
    url = users()
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "s.parquet")
    text = f"flows:\n  a:\n    home: s.parquet\n    store: {url}\n"
    (tmp_path / "flows.yml").write_text(text)

    def said(*words: str) -> str:
        done = hygge(*words, "flows.yml", cwd=tmp_path, env=os.environ)
        assert SECRET not in done.stdout + done.stderr
        return f"{' '.join((done.stdout + done.stderr).split())} ended {done.returncode}"

    assert "some of the new files, in a replace beside all of the old ones" in said("plan")
    for _ in range(2):
        assert said("run", "--inline").endswith("ended 0")
    assert ids_at(url) == [1, 2]
    assert SECRET not in json.dumps(newest(url))
    (tmp_path / "flows.yml").write_text(f"{text}    mode: merge\n    key: [id]\n")
    assert "cannot merge; its modes: replace, append" in said("check")
