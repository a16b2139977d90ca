"""Sources that grow, the flows that move them, and what a reader that is not hygge sees of it.

Each row tells in which generation of its source it was written last. So a reader of a store can say
of which generation the store is, and whether a row is lost, doubled, or of another one.
"""

from __future__ import annotations

import contextlib
import csv
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from sqlalchemy.exc import OperationalError

from hygge import CsvStore, Flow, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.model import MIB, Limits

Rows = list[tuple[int, int, str]]
"""(id, generation, text) of each row, sorted."""

_GONE = (FileNotFoundError, sqlite3.OperationalError, OperationalError)


@dataclass
class Growing:
    """A source, its flow, and every state that the source ever had."""

    name: str
    folder: Path
    kind: str
    """What the flow is, such as `table to directory append`."""
    states: list[dict[int, int]] = field(default_factory=list)
    """For each generation: id → the generation in which that row was written last."""

    @property
    def generation(self) -> int:
        return len(self.states) - 1

    def grow(self, rng: random.Random, rows: int) -> None:
        """One more generation; whoever reads the source sees all of it or nothing of it."""
        before = self.states[-1] if self.states else {}
        now = len(self.states)
        ids = list(range(len(before) + 1, len(before) + rows + 1))
        if self.kind.endswith("merge"):
            ids += rng.sample(sorted(before), min(rows, len(before)))
        if self.kind.startswith("files"):
            self._add_file(ids, now)
        else:
            self._add_rows(ids, now)
        self.states.append({**before, **dict.fromkeys(ids, now)})

    def _add_rows(self, ids: list[int], now: int) -> None:
        with closing(sqlite3.connect(self.folder / f"{self.name}.db", timeout=300)) as source:
            source.execute(
                "CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, seq INTEGER, v TEXT)"
            )
            rows = [(n, now, text(n, now)) for n in ids]
            source.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", rows)
            source.commit()

    def _add_file(self, ids: list[int], now: int) -> None:
        folder = self.folder / f"{self.name}_files"
        folder.mkdir(exist_ok=True)
        columns = {"id": ids, "seq": [now] * len(ids), "v": [text(n, now) for n in ids]}
        pq.write_table(pa.table(columns), folder / ".new", row_group_size=100)
        os.rename(folder / ".new", folder / f"{now:04}.parquet")

    def described(self) -> str:
        """The flow, as a part of flows.yml."""
        source, _, target, mode = self.kind.split()
        home = f"{{connection: 'sqlite:///{self.name}.db', table: rows, "
        home += {"append": "cursor: id, ", "merge": "cursor: seq, "}.get(mode, "")
        home += "options: {splits: 6, batch_size: 200}}"
        if source == "files":
            home = f"{{path: {self.name}_files, options: {{split_bytes: 8_000, batch_size: 200}}}}"
        stores = {
            "directory": f"out/{self.name}",
            "file": f"out/{self.name}.csv",
            "table": f"sqlite:///out_{self.name}.db#rows",
            "delta": f"{{type: delta, path: out/{self.name}}}",
            "iceberg": f"{{type: iceberg, table: chaos.rows, catalog: {{uri: "
            f"'sqlite:///{self.name}_catalog.db', warehouse: out/{self.name}}}}}",
        }
        key = "\n    key: [id]" if mode == "merge" else ""
        return (
            f"  {self.name}:\n    home: {home}\n    store: {stores[target]}\n"
            f"    mode: {mode}{key}\n"
            "    lanes: 2\n    memory_per_lane: 32 MiB\n    batch_bytes: 4 MiB\n"
        )

    def flow(self, pause_s: float = 0.0, engine: str = "ray", free: int | None = None) -> Flow:
        """The same, as Python says it; notes what it reads and stages, and takes its time.

        If given, only `free` splits are read to their ends before `gate` is there.
        """
        source, _, target, mode = self.kind.split()
        cursor = {"append": "id", "merge": "seq"}.get(mode)
        url = f"sqlite:///{self.folder}"
        home = {
            "table": lambda: NotedTable(
                "rows", connection=f"{url}/{self.name}.db", cursor=cursor,
                options={"splits": 6, "batch_size": 25},
            ),
            "files": lambda: NotedFiles(
                path=self.folder / f"{self.name}_files",
                options={"split_bytes": 4_000, "batch_size": 25},
            ),
        }[source]()  # fmt: skip
        store = {
            "directory": lambda: NotedDirectory(path=self.folder / "out" / self.name),
            "file": lambda: NotedFile(path=self.folder / "out" / f"{self.name}.csv"),
            "table": lambda: NotedTarget("rows", connection=f"{url}/out_{self.name}.db"),
        }[target]()
        home.notes = store.notes = str(self.folder / "notes")
        home.pause_s, home.free = pause_s, free
        os.makedirs(home.notes, exist_ok=True)
        return Flow(
            home, store, name=self.name, mode=mode, key=["id"] if mode == "merge" else [],
            limits=Limits(lanes=1, memory_per_lane=32 * MIB, batch_bytes=4 * MIB),
            engine=engine, state=self.folder / ".hygge",
        )  # fmt: skip

    @property
    def gate(self) -> Path:
        return self.folder / "notes" / "gate"

    def noted(self, what: str) -> list[list[str]]:
        """The notes that begin with a word, oldest first, each as its further words."""
        names = [each.name.split() for each in (self.folder / "notes").glob(f"* {what} *")]
        return [words[2:] for words in sorted(names, key=lambda words: int(words[0]))]

    def sealed(self) -> set[int]:
        """The splits of which a receipt stands in the journal."""
        flows = self.folder / ".hygge" / "flows"
        return {int(file.name.split("-")[0]) for file in flows.glob("*/receipts/*/*.json")}

    def seen(self) -> Rows | None:
        """What stands in the store, read without hygge; None before anything does."""
        target = self.kind.split()[2]
        look: Callable[[], Rows | None] = getattr(self, f"_seen_in_{target}")
        # Who listed a directory just before it was exchanged finds its files gone, and looks again.
        for _ in range(50):
            try:
                found = look()
                return None if found is None else sorted(found)
            except _GONE as error:
                missing = error
                time.sleep(0.02)
        raise missing

    def _seen_in_directory(self) -> Rows | None:
        folder = self.folder / "out" / self.name
        dataset = ds.dataset(folder, format="parquet") if folder.exists() else None
        if dataset is None or not dataset.files:  # the first run makes the folder, then shows in it
            return None
        return _as_rows(dataset.to_table())

    def _seen_in_file(self) -> Rows | None:
        path = self.folder / "out" / f"{self.name}.csv"
        if not path.exists():
            return None
        with open(path, newline="") as file:
            return [(int(n), int(seq), v) for n, seq, v in list(csv.reader(file))[1:]]

    def _seen_in_table(self) -> Rows | None:
        path = self.folder / f"out_{self.name}.db"
        if not path.exists():
            return None
        with closing(sqlite3.connect(path, timeout=300)) as target:
            there = "SELECT count(*) FROM sqlite_master WHERE name = 'rows'"
            if not target.execute(there).fetchone()[0]:
                return None
            return list(target.execute("SELECT id, seq, v FROM rows"))

    def _seen_in_delta(self) -> Rows | None:
        path = self.folder / "out" / self.name
        if not DeltaTable.is_deltatable(str(path)):
            return None
        table = DeltaTable(path)
        if table.version() == 0 and not table.file_uris():  # a first merge makes it, then fills it
            return None
        return _as_rows(pa.table(table.scan(["id", "seq", "v"]).read_all()))

    def _seen_in_iceberg(self) -> Rows | None:
        path = self.folder / f"{self.name}_catalog.db"
        if not path.exists():
            return None
        warehouse = f"file://{self.folder}/out/{self.name}"
        with closing(SqlCatalog("default", uri=f"sqlite:///{path}", warehouse=warehouse)) as lake:
            try:
                return _as_rows(lake.load_table("chaos.rows").scan().to_arrow())
            except (NoSuchTableError, NoSuchNamespaceError):
                return None

    def judged(self, rows: Rows | None) -> tuple[int, str]:
        """(generation that the store is of, what is wrong with it or nothing)."""
        if rows is None:
            return -1, ""
        if not rows:
            return -1, "half visible: a store without rows"
        generation = max(seq for _, seq, _ in rows)
        wanted = self.states[generation] if generation < len(self.states) else {}
        twice = [n for n, times in Counter(n for n, _, _ in rows).items() if times > 1]
        if twice:
            return generation, f"doubled: {len(twice)} rows, such as {twice[:3]}"
        found = {n: seq for n, seq, _ in rows}
        if lost := sorted(wanted.keys() - found.keys()):
            return generation, f"lost: {len(lost)} rows of generation {generation}: {lost[:3]}"
        if mixed := sorted(n for n in found if found[n] != wanted.get(n)):
            return generation, f"half visible: {len(mixed)} rows of another generation: {mixed[:3]}"
        if changed := [n for n, seq, v in rows if v != text(n, seq)]:
            return generation, f"changed: {len(changed)} values, such as that of {changed[:3]}"
        return generation, ""


def _as_rows(table: pa.Table) -> Rows:
    return list(zip(*(table[name].to_pylist() for name in ("id", "seq", "v")), strict=True))


def note(folder: str, *words: object) -> None:
    """Leave an empty file with a telling name: when, what, by which process."""
    name = " ".join(map(str, (time.time_ns(), *words, os.getpid())))
    with contextlib.suppress(FileExistsError), open(os.path.join(folder, name), "x"):
        pass


class _NotedHome:
    notes = ""
    pause_s = 0.0
    free: int | None = None

    def read(self, split):
        note(self.notes, "reads", split.index)
        gate = os.path.join(self.notes, "gate")
        reads = sum(" reads " in name for name in os.listdir(self.notes))
        stands = self.free is not None and reads > self.free
        for number, table in enumerate(super().read(split)):  # type: ignore[misc]  # a mixin
            yield table
            if number == 0:
                note(self.notes, "reading", split.index)
            while stands and not os.path.exists(gate):
                time.sleep(0.01)
            time.sleep(self.pause_s)


class _NotedStore:
    notes = ""

    def stage(self, ticket, schema, batches):
        def noted():
            for number, batch in enumerate(batches):
                yield batch
                if number == 0:
                    note(self.notes, "staging", ticket.split)

        note(self.notes, "stages", ticket.split)
        return super().stage(ticket, schema, noted())  # type: ignore[misc]  # a mixin


class NotedFiles(_NotedHome, ParquetHome): ...


class NotedTable(_NotedHome, SQLHome): ...


class NotedDirectory(_NotedStore, ParquetStore): ...


class NotedFile(_NotedStore, CsvStore): ...


class NotedTarget(_NotedStore, SQLStore): ...


def text(n: int, seq: int) -> str:
    """A value that tells which row it belongs to; some need quotes in a file of text."""
    return f'{n}, "{seq}"' if n % 5 == 0 else f"{n} of {seq} {'x' * (n % 40)}"
