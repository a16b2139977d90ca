"""A server on 127.0.0.1 that notes what is posted to it; a plugin of pytest."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest


class Chat(BaseHTTPRequestHandler):
    """Notes what it is sent, and answers with the code, and `location`, of its server."""

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.heard.append(json.loads(self.rfile.read(size)))  # type: ignore[attr-defined]
        self.server.asked.append((self.path, self.headers["Authorization"]))  # type: ignore[attr-defined]
        self.send_response(self.server.code)  # type: ignore[attr-defined]
        if location := getattr(self.server, "location", ""):
            self.send_header("Location", location)
        self.end_headers()

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def chat() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        server.heard, server.asked, server.code = [], [], 200  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
