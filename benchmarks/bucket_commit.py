"""How long a commit into a bucket takes, by parts and by the latency of the bucket.

    python benchmarks/bucket_commit.py                       # 1,000 and 10,000 parts at 50 ms
    python benchmarks/bucket_commit.py --parts 10000 --latency-ms 20

The bucket is a server of this script that speaks what hygge asks of S3 and lets every answer wait;
so the figure is of hygge's requests and how many it has under way, not of a server's disk. What a
real bucket needs to copy a part comes on top, divided by as many. Exits with 1 where 10,000 parts
at 50 ms take more than 30 s.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import multiprocessing
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq

from hygge import ParquetStore
from hygge.connectors.files.heads import schema_text
from hygge.connectors.files.parts import RECEIPT, StagedParts, ticket_name
from hygge.model import Receipt, Run, Ticket

MOST_S, MOST_AT = 30.0, (10_000, 50.0)
PAGE = 1000


class SlowBucket:
    """One bucket in memory: the requests of S3 that hygge makes, each answered after a while."""

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.objects: dict[str, bytes] = {}
        self.most = self.now = 0

    async def answer(self, request: Any) -> Any:
        """Answer one request."""
        from aiohttp import web

        body = await request.read()
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self.now -= 1
        key = unquote(request.path).removeprefix("/bucket").lstrip("/")
        if request.method == "PUT":
            return self._put(web, request, key, body)
        if request.method == "POST" and "delete" in request.query:
            names = re.findall(r"<Key>(.*?)</Key>", body.decode())
            for name in names:
                self.objects.pop(name, None)
            deleted = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            return self._xml(web, f"<DeleteResult>{deleted}</DeleteResult>")
        if request.method == "GET" and "list-type" in request.query:
            return self._list(web, request.query)
        if key not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        if request.method == "DELETE":
            del self.objects[key]
            return web.Response(status=204)
        return web.Response(body=self.objects[key], headers=self._headers(key))

    def _put(self, web: Any, request: Any, key: str, body: bytes) -> Any:
        if request.headers.get("If-None-Match") == "*" and key in self.objects:
            return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
        source = request.headers.get("x-amz-copy-source")
        if source is None:
            self.objects[key] = body
            return web.Response(headers=self._headers(key))
        self.objects[key] = self.objects[unquote(source).lstrip("/").removeprefix("bucket/")]
        tag = self._headers(key)["ETag"]
        return self._xml(web, f"<CopyObjectResult><ETag>{escape(tag)}</ETag></CopyObjectResult>")

    def _list(self, web: Any, query: Any) -> Any:
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        page, more = keys[:PAGE], len(keys) > PAGE
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        listed = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{now}</LastModified>"
            f"<ETag>{escape(self._headers(key)['ETag'])}</ETag>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        return self._xml(web, f"<ListBucketResult>{listed}{truncated}{token}</ListBucketResult>")

    def _xml(self, web: Any, text: str) -> Any:
        return web.Response(text=text, content_type="application/xml")

    def _headers(self, key: str) -> dict[str, str]:
        digest = hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()
        return {"ETag": f'"{digest}"', "Last-Modified": "Mon, 30 Nov 2026 00:00:00 GMT"}


def serve(latency_s: float, parts: int, run: str, port: Any) -> None:
    """Serve a bucket in which a run has staged `parts` splits of one part each; never returns."""
    from aiohttp import web

    bucket = SlowBucket(latency_s)
    content = io.BytesIO()
    table = pa.table({"n": pa.array([1], pa.int64())})
    pq.write_table(table, content)
    for split in range(parts):
        ticket = ticket_name(Ticket(run, split, 1, 1))
        staged = StagedParts(1, (("00000.parquet", 1, content.tell()),), schema_text(table.schema))
        below = f"lake/.t.hygge/{run}/{ticket}"
        bucket.objects[f"{below}/00000.parquet"] = content.getvalue()
        bucket.objects[f"{below}/{RECEIPT}"] = staged.to_json()

    async def start() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", bucket.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(start())


def measure(parts: int, latency_ms: float) -> float:
    """Return the seconds of a commit of `parts` splits that are staged already."""
    run = Run("20261130T000000-bench", "flow")
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(latency_ms / 1000, parts, run.id, there), daemon=True
    )
    server.start()
    try:
        os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{here.recv()}", "AWS_REGION": "x",
                       "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
                       "AWS_ALLOW_HTTP": "true"}  # fmt: skip
        store = ParquetStore(path="s3://bucket/lake/t")
        store.prepare(run, pa.schema([pa.field("n", pa.int64())]))
        receipts = [Receipt(Ticket(run.id, n, 1, 1), "", 1, 8, parts=1) for n in range(parts)]
        began = time.monotonic()
        commit = store.commit(run, None, receipts, None)
        seconds = time.monotonic() - began
        assert commit.applied == parts, commit
        store.discard(run)
        return seconds
    finally:
        server.terminate()
        server.join()


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--parts", type=int, nargs="+", default=[1000, 10_000])
    asked.add_argument("--latency-ms", type=float, default=50.0)
    options = asked.parse_args()
    slow = False
    for parts in options.parts:
        seconds = measure(parts, options.latency_ms)
        print(f"{parts:>8,} parts at {options.latency_ms:.0f} ms: {seconds:6.1f} s", flush=True)
        slow |= (parts, options.latency_ms) == MOST_AT and seconds > MOST_S
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
