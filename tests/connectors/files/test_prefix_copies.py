"""A copy that is not whole yet is not taken for done: its rows are in what is staged alone."""

from __future__ import annotations

import threading
import uuid

import pytest
from obstore.store import AzureStore

from hygge import ParquetHome, ParquetStore
from hygge.errors import NotOurs, Transient
from hygge.journal import FlowJournal
from hygge.model import Receipt, Run, Ticket
from hygge.places import bucket, objects
from hygge.places.bucket import Bucket
from hygge.store import new_run_id
from tests.connectors.files.test_object_listing import ids
from tests.connectors.files.test_prefix import begun, staged
from tests.readers.objects import all_keys, ids_at, users
from tests.servers import azurite
from tests.servers.s3 import passing, proxy, s3  # noqa: F401  # fixtures
from tests.waiting import LIMIT_S


def test_what_is_shown_short_is_copied_again_and_read_from_where_it_is_staged(s3, monkeypatch):  # noqa: F811
    url, plain = users(), Bucket.copy

    def begins(self, source, target, size):
        self.put(target, b"")
        return True

    with monkeypatch.context() as slow:
        slow.setattr(Bucket, "copy", begins)
        _, run, commit = staged(url, "a", [1, 2], "replace")
        with pytest.raises(Transient, match="does not show what was copied"):
            commit()
        assert len(all_keys(url.rpartition("/")[0], f".users.hygge/{run.id}")) > 1
        assert ids(ParquetHome(path=url)) == [1, 2]
    assert Bucket.copy is plain
    ParquetStore(path=url).discard(run)
    assert ids_at(url) == [1, 2]
    assert all_keys(url.rpartition("/")[0], f".users.hygge/{run.id}") == []


def test_what_is_shown_short_and_staged_no_more_was_changed_by_others(s3):  # noqa: F811
    url = users()
    store, _, commit = staged(url, "a", [1, 2], "replace")
    commit()
    (name,) = [key for key in store.target.bucket.keys("users") if key.endswith(".parquet")]
    store.target.bucket.put(name, b"")
    with pytest.raises(NotOurs, match="was changed after hygge wrote it"):
        begun(url, "a", "replace")


class Late:
    """Azure as it may answer to Copy Blob: accepted, an empty blob, and whole after some looks."""

    def __init__(self, behind: AzureStore, looks: int) -> None:
        self.behind, self.looks = behind, looks
        self.pending: dict[str, tuple[str, int]] = {}

    def __call__(self, request) -> int | None:
        key = request.path.split("/", 3)[3].partition("?")[0]
        source = request.headers.get("x-ms-copy-source")
        if request.command == "PUT" and source:
            if key in self.pending:
                return 409
            self.pending[key] = (source.split("/", 5)[5], self.looks)
            self.behind.put(key, b"")
            return 202
        if request.command == "HEAD" and key in self.pending:
            source, left = self.pending[key]
            self.pending[key] = (source, left - 1)
            if not left:
                self.behind.copy(source, key)
                del self.pending[key]
        return None


def test_azure_is_waited_for_until_its_copy_is_whole(monkeypatch):
    access = {"account_name": azurite.ACCOUNT, "account_key": azurite.KEY}
    behind = AzureStore(
        azurite.CONTAINER, endpoint=azurite.started(), **access,
        client_options={"allow_http": True},
    )  # fmt: skip
    with passing(azurite.started()) as late:
        endpoint = f"{late.endpoint}/{azurite.ACCOUNT}"
        url = f"az://{azurite.CONTAINER}/{uuid.uuid4().hex[:12]}/users"
        connection = {**access, "endpoint": endpoint}
        place = ParquetStore(path=url, connection=connection).target.bucket
        place.put("a", b"1234")
        late.before = Late(behind, 3)
        assert place.copy("a", "b", 4)
        assert place.get("b") == b"1234"
        late.before = Late(behind, 10**6)
        monkeypatch.setattr(bucket, "_COPY_S", 0.2)
        for _ in range(2):  # the second is refused, since the first is on its way
            with pytest.raises(Transient, match="still being copied.*0 of 4 bytes") as caught:
                place.copy("a", "c", 4)
            assert "run it again" in (caught.value.hint or "")
        assert place.get("a") == b"1234"


def test_marks_of_other_programs_are_in_nobodys_way_and_stay(s3):  # noqa: F811
    url = users()
    marks = Bucket(url)
    marks.put("_SUCCESS", b"")
    marks.put(".hidden/x", b"1")
    staged(url, "a", [1], "replace")[2]()
    assert ids(ParquetHome(path=url)) == [1]
    staged(url, "a", [2], "replace")[2]()
    assert ids(ParquetHome(path=url)) == ids_at(url) == [2]
    assert {"_SUCCESS", ".hidden/x"} <= set(marks.keys(""))
    marks.put("theirs.parquet", b"1")
    with pytest.raises(NotOurs) as caught:
        begun(url, "a", "replace")
    assert "append" not in (caught.value.hint or "")


def test_a_typo_is_asked_of_one_level_and_costs_no_error_of_its_own(s3, proxy):  # noqa: F811
    place, asked = Bucket(s3), []
    for key in ("users/a/b/c.csv", "users/d.csv", "orders.csv"):
        place.put(key, b"id\n1\n")
    assert place.names("") == ["orders.csv", "users"]

    def listing(request) -> None:
        if "list-type" in request.path:
            asked.append("delimiter=%2F" in request.path or "delimiter=/" in request.path)

    proxy.before = listing
    assert objects.hint_for_missing(f"{s3}/usrs") == f"did you mean {s3}/users?"
    assert asked == [True]
    proxy.before = lambda request: 403
    assert objects.hint_for_missing(f"{s3}/usrs") is None


def test_receipts_in_a_bucket_are_read_side_by_side_and_stay_in_order(s3, monkeypatch):  # noqa: F811
    journal, run = FlowJournal(Bucket(s3), "f"), Run(new_run_id(), "f")
    for split in (2, 0, 1):
        for n in (1, 0):
            journal.seal(run, Receipt(Ticket(run.id, split, n=n), "", 1, 1), "d")
    together, plain = threading.Barrier(6), Bucket.get

    def get(self, key):
        together.wait(LIMIT_S)  # broken, unless all six are asked at once
        return plain(self, key)

    monkeypatch.setattr(Bucket, "get", get)
    found = [(each.ticket.n, each.ticket.split) for _, each in journal.receipts(run)]
    assert found == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    monkeypatch.setattr(Bucket, "get", lambda *_: pytest.fail("a receipt is read to be counted"))
    assert journal.count_receipts(run) == 6
