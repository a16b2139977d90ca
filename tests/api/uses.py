"""Right and wrong uses of the public names. It is read by mypy, and never run.

A line that ends in a comment is refused, with an error that holds the words after `error:`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, assert_type

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

import hygge
from hygge import (
    ArrowHome,
    ArrowStore,
    ConfigError,
    Coordinator,
    CsvHome,
    CsvStore,
    DeltaHome,
    DeltaStore,
    Flow,
    FlowFailed,
    Home,
    HyggeError,
    JsonlHome,
    JsonlStore,
    Limits,
    ParquetHome,
    ParquetStore,
    Report,
    SQLHome,
    SQLStore,
    Store,
    StoreTraits,
    Summary,
)
from hygge.connectors.files.csv import CsvOptions
from hygge.connectors.files.parquet import ParquetOptions

URL = "postgresql://app@db/shop"
assert_type(hygge.__version__, str)
hygge.nonsense()  # error: has no attribute "nonsense"

DeltaStore("users", path="lake/users", partition_by=["day"], options={"schema": "evolve"})
DeltaStore("users", options={"on_value": {"t": "as_text"}, "zones": "utc", "adopt": True})
DeltaHome("users", version=3, columns=("id",), options={"split_bytes": 1_000})
DeltaHome("users", as_of="2024-01-31T12:00:00Z", connection={"anonymous": True})
DeltaHome("users", changes=True)
DeltaHome("users", version="3")  # error: "version"
DeltaStore("users", partition="day")  # error: did you mean "partition_by"?

# SQLHome and SQLStore
SQLHome("users")
SQLHome("users", connection=URL)
SQLHome("users", connection=sa.create_engine(URL))
SQLHome("users", connection=sa.create_engine(URL).connect())
SQLHome("users", connection=sa.make_url(URL))
SQLHome("users", connection=create_async_engine(URL))
SQLHome("users", connection=os.environ.get("URL"), columns=["id", "total"], where="id > 3")
SQLHome(connection=URL, query="SELECT 1", split_by=("a", "b"), cursor="a", columns=("a", "b"))
SQLHome("users", options={"batch_size": 10_000, "on_value": {"id": "as_text"}})
SQLHome("users", options={"splits": "auto", "types": {"price": "decimal(10,2)"}})
SQLHome("users", options={"splits": 3, "on_value": "set_null", "consistency": "split"})
SQLHome("u", conection=URL)  # error: did you mean "connection"?
SQLHome("u", connection=3)  # error: "connection"
SQLHome("u", columns="id")  # error: "columns"
SQLHome("u", URL)  # error: Too many positional arguments
SQLHome("u", options={"batchsize": 3})  # error: "options"
SQLHome("u", options={"batch_size": "many"})  # error: "options"
SQLHome("u", options={"on_value": "ignore"})  # error: "options"
SQLHome("u", options=CsvOptions())  # error: "options"
SQLStore("users", connection=URL, table="public.users", options={"zones": "utc"})
SQLStore("users", connection=URL, query="SELECT 1")  # error: Unexpected keyword argument "query"
SQLStore("users", options={"zones": "gmt"})  # error: "options"

# Files
ParquetHome(path="data/users")
ParquetHome("users", path=Path("data/users"), columns=["id"], options={"batch_size": 10_000})
ParquetHome("users", path="s3://lake/users", connection={"region": "eu-west-1"})
ParquetHome("users", connection={"regoin": "eu-west-1"})  # error: "connection"
ParquetHome("users", table="users")  # error: Unexpected keyword argument "table"
ParquetStore("users", path="data/users", options={"compression": "zstd", "file_bytes": 10})
ParquetStore("users", options=ParquetOptions(compression="zstd"))
ParquetStore("users", options={"compression": "rar"})  # error: "options"
CsvHome("users", options={"types": {"zip": "string"}, "null_values": ["-"], "header": False})
CsvHome("users", options={"types": ["string"]})  # error: "options"
CsvStore("users", path="data/users.csv.gz", options={"delimiter": ";", "compression": "gzip"})
CsvStore("users", options={"quote": "'"})  # error: "options"
JsonlHome("events", path="data/events.jsonl", options={"sample_bytes": 10, "encoding": "utf-8"})
JsonlHome("events", options={"header": True})  # error: "options"
JsonlStore("events", options={"compression": None})
JsonlStore("events", options={"compression": "lz4"})  # error: "options"
ArrowHome("users", path="data/users.arrow", options={"split_bytes": 10})
ArrowHome("users", paht="data/users.arrow")  # error: Unexpected keyword argument "paht"
ArrowStore("users", options={"compression": "lz4"})
ArrowStore("users", options={"compression": "gzip"})  # error: "options"
assert_type(ParquetStore("users").settings.options.compression_level, int | None)
assert_type(ParquetHome("users").settings.path, str | None)
assert_type(ParquetHome("users").settings.options.batch_size, int)
assert_type(SQLHome("users").settings.options.batch_size, int)
SQLHome("users").settings.options.batchsize()  # error: has no attribute "batchsize"

# What is known only when it runs is said to be so.
given: dict[str, Any] = {"path": "data/users"}
ParquetStore("users", **given)
ParquetStore("users", options=ParquetOptions(**given))

# Flow
home, store = SQLHome("users"), ParquetStore("users")
Flow(home, store)
Flow(home=home, store=store, name="u", mode="merge", key="id", engine="inline")
Flow(home, store, key=["id"], limits=Limits(lanes=4, retries=0), state=Path("state"), fresh=True)
Flow(home=home, store=store, mode="upsert")  # error: "mode"
Flow(home=home, store=store, engine="spark")  # error: "engine"
Flow(home=store, store=home)  # error: "home"
Flow(home)  # error: Missing positional argument "store"
Flow(home, store, "name")  # error: Too many positional arguments
Flow(home, store, limits={"lanes": 4})  # error: "limits"
Limits(lane=4)  # error: Unexpected keyword argument "lane"

# Coordinator
Coordinator("flows.yml")
Coordinator(Path("flows.yml"), select=["users"], engine="inline", jobs="one", fresh=True)
Coordinator("flows.yml", engine="spark")  # error: "engine"
Coordinator("flows.yml", jobs="all")  # error: "jobs"
Coordinator("flows.yml", max_parallel_flow=3)  # error: did you mean "max_parallel_flows"?


async def runs() -> None:
    assert_type(await Flow(home, store).start(), Report)
    assert_type(Flow(home, store).run(), Report)
    assert_type(await Coordinator("flows.yml").start(), Summary)
    report = await Flow(home, store).start()
    assert_type(report.rows, int)
    report.row()  # error: has no attribute "row"
    report.rows = 3  # error: read-only
    async for batch in home.read_batches():
        await store.write(batch)
    try:
        Flow(home, store).run()
    except FlowFailed as error:
        assert_type(error.hint, str | None)
    except (ConfigError, HyggeError):
        raise


# Own Homes and Stores
class Numbers(Home):
    async def read_batches(self) -> AsyncIterator[dict[str, int]]:
        yield {"n": 1}


class Lines(Store):
    traits = StoreTraits(modes=("append",))

    def __init__(self, path: str) -> None:
        self.path = path

    async def write(self, df: Any) -> None:
        self.path += str(df)


class Rows(Home):
    class Settings(hygge.Settings):
        url: str
        """Where they are."""

    settings: Rows.Settings

    async def read_batches(self) -> AsyncIterator[Any]:
        yield self.settings.url
        yield self.settings.link  # error: has no attribute "link"


class Wrong(Store):
    traits = StoreTraits(modes=("upsert",))  # error: "modes"

    async def write(self, df: Any) -> int:  # error: "write"
        return 3


Flow(Numbers(), Lines("lines.txt"))
Flow(Rows("numbers", url="http://rows"), Lines("lines.txt"))
Lines()  # error: Missing positional argument "path"
