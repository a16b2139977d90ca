"""A bucket as a place of small entries: a real S3 endpoint, and a proxy that misbehaves."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hygge.errors import ConfigError, HyggeError, Transient
from hygge.places.bucket import Bucket
from hygge.places.place import place_at
from tests.servers.s3 import SECRET, proxy, s3  # noqa: F401  # fixtures


def test_an_endpoint_without_conditional_puts_is_refused(s3, proxy):  # noqa: F811
    def unconditional(request) -> None:
        # The condition is signed, so it cannot be taken out: it is made true.
        if request.command == "PUT" and request.headers.get("If-None-Match"):
            _behind(s3, proxy).remove(request.path.rpartition("/")[2])

    place = Bucket(s3)
    place.check()
    proxy.before = unconditional
    with pytest.raises(HyggeError, match="lets two runs create the same object") as caught:
        place.check()
    assert "conditional puts" in (caught.value.hint or "")
    assert place.keys("") == []


def _behind(url: str, server) -> Bucket:
    """The same place, past the proxy."""
    before = os.environ["AWS_ENDPOINT_URL"]
    os.environ["AWS_ENDPOINT_URL"] = f"http://{server.behind}"
    try:
        place = Bucket(url)
        place._client()
        place._client(once=True)
    finally:
        os.environ["AWS_ENDPOINT_URL"] = before
    return place


@pytest.mark.parametrize("answer", [0, 500, 503])
@pytest.mark.parametrize("winner", ["ours", "theirs"])
def test_a_create_whose_answer_got_lost_is_settled_by_reading_back(answer, winner, s3, proxy):  # noqa: F811
    left = [1]

    def once(request) -> int | None:
        if request.command == "PUT" and left:
            left.pop()
            if winner == "theirs":
                _behind(s3, proxy).put("k", b"theirs")
            return answer
        return None

    if winner == "ours":
        proxy.after = once
    else:
        proxy.before = once
    assert Bucket(s3).create("k", b"ours") == (winner == "ours")
    assert not left
    assert Bucket(s3).get("k") == winner.encode()


def test_a_create_that_was_plainly_refused_is_none_of_ours_though_it_has_our_content(s3):  # noqa: F811
    place = Bucket(s3)
    assert place.create("k", b"same")
    assert not place.create("k", b"same")


@pytest.mark.parametrize("status", [409, 412])
def test_a_create_that_was_refused_though_nothing_is_there_is_tried_again(status, s3, proxy):  # noqa: F811
    left = [status]
    proxy.before = lambda request: left.pop() if request.command == "PUT" and left else None
    assert Bucket(s3).create("k", b"1")
    assert Bucket(s3).get("k") == b"1"
    proxy.before = lambda request: status if request.command == "PUT" else None
    with pytest.raises(Transient, match="was refused 6 times although nothing is there"):
        Bucket(s3).create("other", b"1")


def test_many_entries_go_with_their_folder(s3):  # noqa: F811
    place = Bucket(s3)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: place.put(f"k/{n:05d}", b"x"), range(1100)))
    place.put("l", b"x")
    assert place.keys("k") == [f"k/{n:05d}" for n in range(1100)]
    place.remove("k")
    assert place.keys("") == ["l"]
    place.remove("")
    place.remove("")
    assert place.keys("") == []


def test_what_a_retry_mends_is_retried_and_then_transient(s3, proxy):  # noqa: F811
    answers = [503, 500, 0]
    proxy.before = lambda request: answers.pop() if answers else None
    Bucket(s3).put("k", b"1")
    assert answers == []
    for status, said in ((503, "throttling or down"), (0, "cannot be reached")):
        proxy.before = lambda request, status=status: status
        place = Bucket(s3)
        place._client(once=True)
        place._clients[False] = place._clients[True]  # no waiting
        with pytest.raises(Transient, match=said) as caught:
            place.get("k")
        assert caught.value.hint


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": SECRET + "x"}, r"may not be read.*SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, r"may not be read.*InvalidAccessKeyId"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, r"cannot be reached at http://127.0.0.1:1\n"),
    ],
)
def test_a_refusal_says_what_and_what_to_do_and_never_a_secret(given, said, s3, monkeypatch):  # noqa: F811
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for verb, arguments in {"get": ("k",), "keys": ("k",), "put": ("k", b"1")}.items():
        place = Bucket(s3)
        place._client(once=True)
        place._clients[False] = place._clients[True]
        with pytest.raises(HyggeError, match=said) as caught:
            getattr(place, verb)(*arguments)
        assert caught.value.hint
        assert SECRET not in f"{caught.value}{caught.value.__cause__}{place.describe()}"


def test_a_bucket_that_is_not_there_is_named(s3):  # noqa: F811
    place = Bucket("s3://no-such-bucket/x")
    for verb in (lambda: place.get("k"), lambda: place.keys("k")):
        with pytest.raises(HyggeError, match="there is no bucket s3://no-such-bucket") as caught:
            verb()
        assert "create it" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x", "no object store that hygge knows"),
        (f"s3://key:{SECRET}@bucket/x", "nothing else, in its URL"),
        ("s3:///x", "needs a bucket"),
    ],
)
def test_a_url_that_names_no_bucket_is_refused_without_its_secrets(url, said):
    with pytest.raises(ConfigError, match=said) as caught:
        place_at(url)
    assert caught.value.hint
    assert SECRET not in str(caught.value)


def test_without_credentials_the_error_says_which(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(HyggeError, match="no credentials for az://container") as caught:
        place_at("az://container/x").get("k")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in (caught.value.hint or "")


def test_obstore_is_loaded_by_the_first_verb_only():
    code = """
import sys
from hygge.places.place import place_at
from hygge.errors import ConfigError
place = place_at("s3://lake/state")
assert "obstore" not in sys.modules
sys.modules["obstore"] = sys.modules["obstore.store"] = None
try:
    place.get("k")
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert "needs the package obstore" in done.stdout
    assert "pip install" in done.stdout
