"""What a table holds committed of each flow: two transactions of the log, and a small file.

    hygge/<flow>       txn: a number that grows by one with each commit of the flow
    hygge#run/<flow>   txn: a number made of the run's id; 0: there is no head (any more)
    hygge#made         txn: hygge made the table
    _hygge/<flow>/<number>-<run's number>.json   watermark, rows, columns, and the run's files

The transactions are in the entry of the log that shows the rows, so rows and head move together;
they stay when the log is cleaned up, where other notes in it are lost. The file is written before
that entry, and counts only if the transactions name it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hygge.connectors.delta.table_files import Disk, Objects
from hygge.errors import StoreError
from hygge.model import Head, facts_of_head
from hygge.places.names import file_name

if TYPE_CHECKING:
    from deltalake import DeltaTable

FORMAT = 1
MADE = "hygge#made"
_FOLDER = "_hygge"
_KEPT = 100
"""Files of a flow that stay when newer ones come."""


@dataclass(frozen=True)
class Committed:
    """What is committed of a flow."""

    number: int
    head: Head | None


def made_by_hygge(table: DeltaTable) -> bool:
    """Return whether hygge made a table."""
    return table.transaction_version(MADE) is not None


def committed_of(files: Disk | Objects, table: DeltaTable | None, flow: str, who: str) -> Committed:
    """Return what is committed of `flow` in the version that is loaded."""
    if table is None:
        return Committed(0, None)
    number = number_of(table, flow)
    run = table.transaction_version(_run_app(flow))
    if not run:
        return Committed(number, None)
    name = _name(flow, number, run)
    content = files.get(name)
    if content is None:
        raise StoreError(
            f"{who}/{name} is gone: it says how far flow '{flow}' has come",
            "restore it; or give the flow another name, which begins anew",
        )
    return Committed(number, _head(content, f"{who}/{name}"))


def number_of(table: DeltaTable | None, flow: str) -> int:
    """Return the number of the newest commit of a flow; 0: there is none."""
    return 0 if table is None else table.transaction_version(_app(flow)) or 0


def write(files: Disk | Objects, head: Head, number: int, parts: Sequence[str]) -> None:
    """Write the file of a commit that is about to be made; the same again is of no harm."""
    content = {"hygge": FORMAT, **facts_of_head(head), "parts": list(parts)}
    name = _name(head.flow, number, _run_number(head.run))
    files.put(name, json.dumps(content, indent=1).encode())


def transactions(flow: str, number: int, run: str | None) -> list[tuple[str, int]]:
    """Return the transactions that move the head of a flow; `run` None: it has none any more."""
    return [(_app(flow), number), (_run_app(flow), 0 if run is None else _run_number(run))]


def without_others(files: Disk | Objects, table: DeltaTable, flow: str) -> list[tuple[str, int]]:
    """Return the transactions by which a replace takes their heads from the other flows."""
    moves: list[tuple[str, int]] = []
    newest = {key.split("/")[1]: key for key in files.sizes(_FOLDER) if key.endswith(".json")}
    for key in newest.values():
        other = json.loads(files.get(key) or b"{}").get("flow", flow)
        if other != flow and table.transaction_version(_run_app(other)):
            moves += transactions(other, (table.transaction_version(_app(other)) or 0) + 1, None)
    return moves


def parts_of_run(files: Disk | Objects, flow: str, run: str) -> set[str] | None:
    """Return the files that a run has, or had, in the table; None: it never began to commit."""
    ending = f"-{_run_number(run):016x}.json"
    own = [name for name in files.sizes(_flow_folder(flow)) if name.endswith(ending)]
    if not own:
        return None
    return {part for name in own for part in json.loads(files.get(name) or b"{}").get("parts", ())}


def prune(files: Disk | Objects, flow: str) -> None:
    """Remove what old commits of a flow left."""
    files.drop(list(files.sizes(_flow_folder(flow)))[:-_KEPT])


def _app(flow: str) -> str:
    return f"hygge/{flow}"


def _run_app(flow: str) -> str:
    return f"hygge#run/{flow}"


def _run_number(run: str) -> int:
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], "big") >> 1 or 1


def _flow_folder(flow: str) -> str:
    return f"{_FOLDER}/{file_name(flow)}"


def _name(flow: str, number: int, run: int) -> str:
    return f"{_flow_folder(flow)}/{number:010d}-{run:016x}.json"


def _head(content: bytes, where: str) -> Head:
    try:
        facts: dict[str, Any] = json.loads(content)
        if facts.pop("hygge") > FORMAT:
            raise StoreError(
                f"{where} was written by a newer hygge", "upgrade hygge-data, then run again"
            )
        del facts["parts"]
        facts["columns"] = tuple((name, kind) for name, kind in facts["columns"])
        return Head(**facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{where} is not a head that hygge wrote: {error}",
            "restore it, or give the flow another name, which begins anew",
        ) from error
