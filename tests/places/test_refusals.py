"""What an object store refuses is told by what it means, whichever status it comes with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hygge.errors import HyggeError, Transient
from hygge.places.access import Access
from hygge.places.bucket import Bucket


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with one status, and a code and a message as S3 writes them."""

    protocol_version = "HTTP/1.1"
    status, code, message = 500, "", ""

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told = f"<Code>{self.code}</Code><Message>{self.message}</Message>" if self.code else ""
        body = f"<?xml version='1.0'?><Error>{told}</Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _refuse

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to the terminal."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "message", "said", "hint"),
    [
        (404, "NoSuchUpload", "The specified upload does not exist.", "ended its upload", "again"),
        (404, "NoSuchBucket", "It is none.", "there is no bucket s3://lake", "create it"),
        (404, "", "", "there is no bucket s3://lake", "create it"),
        (404, "NoSuchThing", "It is none.", "NoSuchThing: It is none.", "see what"),
        (400, "ExpiredToken", "The provided token has expired.", "keys for s3://lake ran out",
         "get new ones, in the credentials of its connection"),
        (400, "InvalidToken", "It is malformed.", "keys for s3://lake ran out", "get new ones"),
        (403, "ExpiredToken", "The provided token has expired.", "ran out", "get new ones"),
        (400, "AuthorizationHeaderMalformed", "the region 'a' is wrong; expecting 'eu-west-1'",
         "s3://lake is in another region", "AWS_REGION to eu-west-1, or `region`"),
        (400, "AuthorizationHeaderMalformed", "It has no date.", "It has no date.", "see what"),
        (403, "RequestTimeTooSkewed", "The difference is too large.",
         "refuses the time of this machine", "set its clock"),
        (403, "AccessDenied", "Access Denied.", "may not be read or written", "the permissions"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_by_its_code(
    endpoint: str, status: int, code: str, message: str, said: str, hint: str
) -> None:
    Refusing.status, Refusing.code, Refusing.message = status, code, message
    access = Access(
        endpoint=endpoint,
        region="a",
        access_key_id="k",
        secret_access_key="hush",
        session_token="t",
    )
    with pytest.raises(HyggeError, match=said) as caught:
        Bucket("s3://lake/x", access).put("k", b"1")
    assert hint in (caught.value.hint or "")
    assert isinstance(caught.value, Transient) == (code == "NoSuchUpload")
    assert "hush" not in str(caught.value)
