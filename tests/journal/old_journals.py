"""Journals that version 0.1.0 left behind when its driver was killed, with all that it staged.

Each file of `tests/journal/journals_of_0_1_0/` holds one folder: the source, what the store staged,
and the state. `keep` made them: `python -m tests.journal.old_journals`, with version 0.1.0, once.
`put` lays one into a folder. A split's version and digest, and the sum of an entry, depend on where
the folder lies; so `put` computes them anew, by formulas of 0.1.0 that are written out here and
must not follow the code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hygge import CsvHome, Flow, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.model import Limits

KEPT = Path(__file__).parent / "journals_of_0_1_0"
ENDS = ("parquet_to_parquet", "csv_to_sqlite", "sqlite_to_parquet")
SPLITS, ROWS, SEALED = 4, 10, 3
"""Splits of each flow, rows of each split, and how many were sealed when the driver was killed."""
RUN = "20260102T030405-0123abcd"
_HERE = "@HERE@"
_BEGAN = "2026-01-02T03:04:05+00:00"
_WRITTEN_NS = 1_767_300_000 * 10**9


def flow(ends: str, folder: Path) -> Flow:
    """The flow of a journal. It reads one split a file, or one a range of ids."""
    home = {
        "parquet": lambda: ParquetHome(path=folder / "source", options={"split_bytes": 1}),
        "csv": lambda: CsvHome(path=folder / "source", options={"split_bytes": 1}),
        "sqlite": lambda: SQLHome(
            "t", connection=f"sqlite:///{folder}/source/shop.db", options={"splits": SPLITS}
        ),
    }[ends.partition("_")[0]]()
    store: Any = ParquetStore(path=folder / "out" / "lake")
    if ends.endswith("sqlite"):
        store = SQLStore("t", connection=f"sqlite:///{folder}/out/lake.db")
    return Flow(
        home, store, name="f", mode="append" if ends.startswith("csv") else "replace",
        engine="inline", limits=Limits(retries=0, resume_within_s=1e9), state=folder / "state",
    )  # fmt: skip


def put(ends: str, when: str, folder: Path) -> None:
    """Lay a journal into `folder`."""
    kept = json.loads((KEPT / f"{ends}_{when}.json").read_text())
    known = {_HERE: str(folder)}
    for split in kept["splits"]:
        where = json.loads(json.dumps(split["where"]).replace(_HERE, str(folder)))
        version = split["version"]
        if "files" in where:
            told = ";".join(f"{path}:{size}:{mtime}" for path, size, mtime, *_ in where["files"])
            version = hashlib.sha256(told.encode()).hexdigest()[:16]
        told = json.dumps([split["index"], version, where], sort_keys=True)
        known[_version(split["index"])] = version
        known[_digest(split["index"])] = hashlib.sha256(told.encode()).hexdigest()[:16]
    for name, held in kept["files"].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "packed" in held:
            path.write_bytes(zlib.decompress(base64.b64decode(held["packed"])))
        else:
            text = "\n".join(held["text"])
            for word, value in known.items():
                text = text.replace(word, value)
            path.write_text(_signed(text) if name.startswith("state/") else text)
        if name.startswith("source/"):
            os.utime(path, ns=(_WRITTEN_NS, _WRITTEN_NS))


def _signed(text: str) -> str:
    """An entry of the journal with the sum that 0.1.0 writes for it."""
    content = json.loads(text)
    before = content.pop("sum")
    told = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return text.replace(before, hashlib.sha256(told.encode()).hexdigest()[:16])


def keep(ends: str, when: str) -> None:
    """Run a flow, kill its driver, and write down what it left."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name))
        _make_source(ends, folder / "source")
        (folder / "out").mkdir()
        child = os.fork()
        if not child:
            _run_and_die(flow(ends, folder), when)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with flow(ends, folder).home.open() as plan:
            splits = plan.splits
        state = folder / "state/flows/f"
        lease = json.loads((state / "lease/00000001.json").read_text())
        plan_entry = json.loads((state / "runs" / RUN / "plan.json").read_text())
        known = {str(folder): _HERE, lease["machine"]: "another machine"}
        known |= {f'"host": "{lease["host"]}"': '"host": "elsewhere"'}
        known |= {lease["since"]: _BEGAN, plan_entry["began"]: _BEGAN}
        for receipt in (state / "receipts" / RUN).iterdir():
            facts = json.loads(receipt.read_text())
            known[facts["of"]] = _digest(facts["split"])
            known[facts["version"]] = _version(facts["split"])
        kept = {
            "splits": [
                {
                    "index": split.index,
                    "version": split.version,
                    "where": json.loads(json.dumps(split.where).replace(str(folder), _HERE)),
                }
                for split in splits
            ],
            "files": {
                str(path.relative_to(folder)): _held(path, str(folder), known)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        }
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{ends}_{when}.json").write_text(json.dumps(kept, indent=1) + "\n")


def _make_source(ends: str, source: Path) -> None:
    source.mkdir()
    rows = [(number, f"v{number}") for number in range(SPLITS * ROWS)]
    if ends.startswith("sqlite"):
        with closing(sqlite3.connect(source / "shop.db")) as shop:
            shop.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
            shop.executemany("INSERT INTO t VALUES (?, ?)", rows)
            shop.commit()
    for at in range(0 if ends.startswith("sqlite") else SPLITS):
        part = rows[at * ROWS : (at + 1) * ROWS]
        if ends.startswith("csv"):
            lines = ["id,v", *(f"{number},{text}" for number, text in part)]
            (source / f"{at}.csv").write_text("\n".join(lines) + "\n")
        else:
            numbers, texts = map(list, zip(*part, strict=True))
            pq.write_table(pa.table({"id": numbers, "v": texts}), source / f"{at}.parquet")
    for path in source.iterdir():
        os.utime(path, ns=(_WRITTEN_NS, _WRITTEN_NS))


def _run_and_die(dying: Flow, when: str) -> None:
    """Die while the split after the sealed ones is read, or when everything is decided."""
    from hygge.driver import Driver

    from hygge import running

    def die(*_: Any) -> Any:
        time.sleep(1)  # so that the receipts of earlier splits are in the journal
        os.kill(os.getpid(), signal.SIGKILL)

    running.new_run_id = lambda: RUN
    read = dying.home.read
    if when == "decided":
        Driver.commit = die  # type: ignore[method-assign]
    else:
        dying.home.read = lambda split: die() if split.index == SEALED else read(split)  # type: ignore[method-assign]
    dying.run()


def _held(path: Path, folder: str, known: dict[str, str]) -> dict[str, Any]:
    content = path.read_bytes()
    if path.suffix not in (".json", ".csv"):
        assert folder.encode() not in content
        return {"packed": base64.b64encode(zlib.compress(content, 9)).decode()}
    text = content.decode()
    for word, sign in known.items():
        text = text.replace(word, sign)
    return {"text": text.split("\n")}


def _version(split: int) -> str:
    return f"@VERSION {split}@"


def _digest(split: int) -> str:
    return f"@DIGEST {split}@"


if __name__ == "__main__":
    for each in sys.argv[1:] or ENDS:
        keep(each, "undecided")
        keep(each, "decided")
