"""The change data feed of a Delta table as rows of changes: `_op` says insert, update or delete.

Each version since the last run is read in two passes: first the rows that went (deleted, or as they
were before an update), as `delete`; then those that came. So the last row of a key is how the
version left it, also where a replace deletes and adds one key, and where an update changes the key.
Versions go to splits in their order; the watermark is the newest of them, with the table's id.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from hygge.batches import plain, slices
from hygge.changes import OP
from hygge.connectors.delta import library
from hygge.connectors.delta.source import conformed, is_gone
from hygge.connectors.files.file_options import FileOptions
from hygge.errors import HomeError
from hygge.extension_types import OP as _MARK
from hygge.model import Column, Plan, Split, Watermark
from hygge.places.access import Access

if TYPE_CHECKING:
    from deltalake import DeltaTable

_KIND = "_change_type"
_PASSES = (
    {"delete": "delete", "update_preimage": "delete"},
    {"insert": "insert", "update_postimage": "update"},
)
"""What the feed says of a row → `_op`, for each pass."""
_MOST_SPLITS = 64
_ADVICE = "give the flow another name and another store, which begin anew"
_COLUMN = Column(OP, pa.string(), nullable=False, metadata={_MARK: b"1"})


def version_at(since: Watermark) -> int:
    """Return the version that a watermark names."""
    return int(str(since).partition(":")[0])


def check(
    url: str, access: Access | None, table: DeltaTable, schema: pa.Schema, since: Watermark
) -> None:
    """Raise HomeError for a table that does not tell its changes, or not since then."""
    if str(library.configuration(table).get("delta.enableChangeDataFeed", "")).lower() != "true":
        raise HomeError(
            f"{url} keeps no change data feed",
            "turn it on, with the engine that writes the table: delta.enableChangeDataFeed = true; "
            "or take `changes` out, and `mode: merge` reads all rows in each run",
        )
    if OP in schema.names:
        raise HomeError(
            f"{url} has a column '{OP}', which is what tells its changes",
            "leave it out with `columns`",
        )
    if since is None:
        return
    version = version_at(since)
    if version > table.version():
        raise HomeError(
            f"{url} is at version {table.version()}, and was read up to {version}: it was made "
            "anew",
            _ADVICE,
        )
    _, _, known = str(since).partition(":")
    if known not in ("", _id(table)):  # some writers give a table another id in a version of it
        before = library.load(url, access, version)
        if before is None or known != _id(before):
            raise HomeError(
                f"{url} is not the table that was read up to version {version}: it was made anew",
                _ADVICE,
            )
    if version < table.version():
        with _told(url):  # it reads the log, and no rows
            table.load_cdf(version + 1, table.version(), columns=[_KIND])


def _id(table: DeltaTable) -> str:
    return str(table.metadata().id)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Raise what a feed does not tell any more as HomeError."""
    try:
        yield
    except Exception as error:
        text = str(error)
        if match := re.search(r"Change Data not enabled for version: (\d+)", text):
            what = f"version {match[1]} kept no change data feed, so its changes are not known"
        elif match := re.search(r"Invalid table version: (\d+)", text):
            what = f"version {match[1]} is no longer in the log, so its changes are not known"
        elif is_gone(error):
            what = "somebody has vacuumed files of the changes since the last run"
        else:
            raise
        raise HomeError(f"{url}: {what}", _ADVICE) from error


def begun(plan: Plan, table: DeltaTable) -> Plan:
    """Return the plan of all rows, as inserts: that of a first run."""
    splits = tuple(
        replace(
            split,
            where={
                **split.where,
                "schema": _with_op(split.where["schema"]),
                "constants": {OP: "insert"},
            },
        )
        for split in plan.splits
    )
    assert plan.columns is not None
    return replace(plan, columns=(*plan.columns, _COLUMN), splits=splits, watermark=_reached(table))


def _reached(table: DeltaTable) -> str:
    return f"{table.version()}:{_id(table)}"


def planned(
    url: str, table: DeltaTable, columns: tuple[Column, ...], schema: pa.Schema, since: int
) -> Plan:
    """Return the plan of what has changed after version `since`."""
    newest = table.version()
    text = _with_op(base64.b64encode(schema.serialize().to_pybytes()).decode())
    step = max(1, -(-(newest - since) // _MOST_SPLITS))
    starts = range(since + 1, newest + 1, step) if newest > since else [newest + 1]
    splits = tuple(
        Split(
            index,
            f"delta:{start}-{min(start + step - 1, newest)}",
            {"schema": text, "version": newest, "from": start,
             "until": min(start + step - 1, newest)},
            f"{url}, version {start}",
        )
        for index, start in enumerate(starts)
    )  # fmt: skip
    count = newest - since
    return Plan(
        (*columns, _COLUMN),
        splits,
        snapshot=f"version {newest} of the table",
        watermark=_reached(table),
        reason=f"the changes of {count:,} version{'s'[: count != 1]}",
        dead_driver="the next run goes on with it where the table has no newer version",
    )


def read(
    url: str, table: DeltaTable, split: Split, schema: pa.Schema, options: FileOptions
) -> Iterator[pa.Table]:
    """Yield the changes of the versions of a split, in their order."""
    names = [name for name in schema.names if name != OP]
    wanted = ['"' + name.replace('"', '""') + '"' for name in [*names, _KIND]]  # texts of SQL
    for version in range(split.where["from"], split.where["until"] + 1):
        for words in _PASSES:
            for batch in _fed(url, table, version, wanted):
                rows = plain(pa.Table.from_batches([batch]))  # filters know no views
                kinds = rows.column(_KIND).cast(pa.string())
                is_wanted = pc.is_in(kinds, value_set=pa.array(list(words)))
                rows, kinds = rows.select(names).filter(is_wanted), kinds.filter(is_wanted)
                ops = pa.array([words[kind] for kind in kinds.to_pylist()], pa.string())
                full = conformed(rows.append_column(OP, ops), schema, url)
                del rows, batch
                yield from slices(full, options.batch_size, options.batch_bytes)
                del full


def _fed(url: str, table: DeltaTable, version: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    with _told(url):
        stream = table.load_cdf(version, version, columns=names)
        yield from pa.RecordBatchReader.from_stream(stream)


def _with_op(text: str) -> str:
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
    field = pa.field(OP, pa.string(), nullable=False, metadata={_MARK: b"1"})
    return base64.b64encode(schema.append(field).serialize().to_pybytes()).decode()
