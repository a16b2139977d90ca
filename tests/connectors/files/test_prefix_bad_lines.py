"""Bad lines to Google and Azure: throttling, cuts in mid-upload, and conditions passed over."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from hygge.errors import HyggeError, Transient
from hygge.places.access import Access
from hygge.places.bucket import Bucket
from tests.servers import azurite, gcs
from tests.servers.s3 import Proxy, passing

Line = tuple[Bucket, Bucket, Proxy]


@pytest.fixture(params=["google", "azure"])
def line(request, tmp_path, monkeypatch) -> Iterator[Line]:
    """A place through a proxy, the same one past it, and the proxy."""
    for name in [each for each in os.environ if each.startswith(("AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    service = {"google": gcs, "azure": azurite}[request.param]
    with passing(service.started()) as proxy:
        name = uuid.uuid4().hex[:12]
        ends = (proxy.endpoint, service.started().removesuffix(f"/{azurite.ACCOUNT}"))
        yield (*(place(request.param, end, name, tmp_path) for end in ends), proxy)


def place(service: str, endpoint: str, name: str, folder) -> Bucket:
    if service == "azure":
        access = Access(
            endpoint=f"{endpoint}/{azurite.ACCOUNT}",
            account_name=azurite.ACCOUNT,
            account_key=azurite.KEY,
        )
        return Bucket(f"az://{azurite.CONTAINER}/{name}", access)
    file = folder / f"{uuid.uuid4().hex}.json"
    file.write_text(json.dumps({**json.loads(gcs.key_file()), "gcs_base_url": endpoint}))
    return Bucket(f"gs://{gcs.BUCKET}/{name}", Access(endpoint=endpoint, service_account=str(file)))


@pytest.mark.parametrize("status", [429, 503])
def test_a_throttled_line_is_asked_again_and_then_transient(status: int, line: Line) -> None:
    through, past, proxy = line
    answers = [status, status]
    proxy.before = lambda request: answers.pop() if answers else None
    through.put("k", b"1")
    assert (answers, past.get("k")) == ([], b"1")
    proxy.before = lambda request: status
    through._clients[False] = through._client(once=True)  # no waiting
    with pytest.raises(Transient, match="throttling or down"):
        through.put("k", b"2")


@pytest.mark.parametrize("status", [0, 503])
def test_a_line_that_is_cut_in_mid_upload_loses_nothing(status: int, line: Line, tmp_path) -> None:
    through, past, proxy = line
    content, cut = os.urandom(20 << 20), [status, status]
    (tmp_path / "f").write_bytes(content)

    def in_mid_upload(request) -> int | None:
        part = "partNumber=" in request.path or "comp=block&" in request.path
        return cut.pop() if part and cut else None

    proxy.before = in_mid_upload
    through.upload("f", str(tmp_path / "f"))
    assert cut == []
    assert past.get("f") == content


def test_an_endpoint_that_passes_over_conditions_is_refused(line: Line) -> None:
    through, past, proxy = line
    through.check()

    def made_true(request) -> None:
        # The condition is signed, so it cannot be taken out.
        named = ("If-None-Match", "x-goog-if-generation-match")
        if request.command == "PUT" and any(request.headers.get(name) for name in named):
            past.drop([unquote(request.path.partition("?")[0]).rpartition("/")[2]])

    proxy.before = made_true
    with pytest.raises(HyggeError, match="lets two runs create the same object"):
        through.check()
    assert past.keys("") == []
