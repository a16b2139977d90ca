"""TPC-H lineitem, Parquet to Parquet: hygge beside a bare pyarrow stream and beside Ray Data.

Life of a run: generate the file once (`benchmarks/data/`, git-ignored) → three rounds, each in
another order: every mover in a process of its own, from the same warm file to an empty folder →
after each, DuckDB compares every column with the source → medians, ratios, exit 1 above a bar.

Times are taken from outside hygge. A move begins when the kernel (inotify) sees the source opened,
and ends when a reader that is not hygge (pyarrow.dataset) counts every row at the target. What
hygge itself reports is a cross-check: it may not be off by more than MAX_SKEW_S.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
ROUNDS = 3
BARS = {"hygge move / pyarrow stream": 1.0, "hygge whole / Ray Data whole": 0.5}
MAX_SKEW_S = 0.5
LOOK_EVERY_S = 0.02
IN_OPEN = 0x20

STREAM = """
import sys, time
import pyarrow.parquet as pq
began = time.time()
source = pq.ParquetFile(sys.argv[1])
with pq.ParquetWriter(sys.argv[2] + "/lineitem.parquet", source.schema_arrow) as writer:
    for batch in source.iter_batches():
        writer.write_batch(batch)
print(time.time() - began)
"""
# Ray is started as hygge starts it: quiet and without a dashboard, which is quicker than by itself.
RAY_DATA = """
import sys, ray
ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
ray.data.read_parquet(sys.argv[1]).write_parquet(sys.argv[2])
"""


class Outside:
    """Watches the source and the target of a move: `opened_at` and `seen_at`, in epoch seconds."""

    def __init__(self, source: Path, target: Path, rows: int) -> None:
        self.opened_at = self.seen_at = 0.0
        self._source, self._target, self._rows = source, target, rows
        self._over = threading.Event()
        libc = ctypes.CDLL(None, use_errno=True)
        self._notes = libc.inotify_init()
        if self._notes < 0 or libc.inotify_add_watch(self._notes, bytes(source), IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {source}")
        self._threads = [threading.Thread(target=self._begin), threading.Thread(target=self._end)]

    def __enter__(self) -> Outside:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        os.close(self._notes)

    def _begin(self) -> None:
        while not self._over.is_set():
            if select.select([self._notes], [], [], LOOK_EVERY_S)[0]:
                self.opened_at = time.time()
                return

    def _end(self) -> None:
        import pyarrow.dataset as ds

        last = False
        while not last:
            last = self._over.wait(LOOK_EVERY_S)  # one more look when the process has ended
            if self._target.exists() and self._count(ds) == self._rows:
                self.seen_at = time.time()
                return

    def _count(self, ds: Any) -> int:
        try:
            return int(ds.dataset(self._target, format="parquet").count_rows())
        except (OSError, ValueError):  # half of a file, while somebody writes in the open
            return -1


def lineitem(scale: str) -> Path:
    """The generated table, from the cache if it is there."""
    path = DATA / f"sf{scale}" / "lineitem.parquet"
    if not path.exists():
        beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        tool = shutil.which("tpchgen-cli", path=beside)
        if tool is None:
            raise SystemExit("tpchgen-cli is missing: pip install -r benchmarks/requirements.txt")
        fresh = path.parent.with_name("generated")
        options = [
            "-s",
            scale,
            "--tables=lineitem",
            "--compression=SNAPPY",
            f"--output-dir={fresh}",
        ]
        subprocess.run([tool, "parquet", *options], check=True)
        fresh.rename(path.parent)
    return path


def checksum(files: str) -> tuple[Any, ...]:
    """Rows, and for every column the sum of the hashes of its values: the order does not matter."""
    import duckdb

    with duckdb.connect() as db:
        names = [row[0] for row in db.sql(f"DESCRIBE FROM '{files}'").fetchall()]
        sums = ", ".join(f'sum(hash("{name}")::HUGEINT)' for name in names)
        row = db.execute(f"SELECT count(*), {sums} FROM '{files}'").fetchone()
    assert row
    return (tuple(names), *row)


def run(command: list[str]) -> tuple[str, float]:
    """What a process printed, and how many seconds it took as a whole."""
    alone = {name: text for name, text in os.environ.items() if name[:4] != "RAY_"}
    began = time.monotonic()
    ran = subprocess.run(command, env=alone, capture_output=True, text=True)
    took = time.monotonic() - began
    if ran.returncode:
        raise SystemExit(f"{command} ended with {ran.returncode}\n{ran.stdout}\n{ran.stderr}")
    return ran.stdout, took


def by_stream(source: Path, folder: Path, rows: int) -> dict[str, float]:
    (folder / "out").mkdir()
    said, whole = run([sys.executable, "-c", STREAM, str(source), str(folder / "out")])
    return {"move": float(said), "whole": whole}


def by_ray_data(source: Path, folder: Path, rows: int) -> dict[str, float]:
    return {"whole": run([sys.executable, "-c", RAY_DATA, str(source), str(folder / "out")])[1]}


def by_hygge(source: Path, folder: Path, rows: int) -> dict[str, float]:
    flows = folder / "flows.yml"
    flows.write_text(f"flows:\n  lineitem:\n    home: {source}\n    store: {folder}/out\n")
    with Outside(source, folder / "out", rows) as outside:
        said, whole = run([sys.executable, "-m", "hygge", "run", str(flows), "--json", "--quiet"])
    report = json.loads(said.splitlines()[-1])["hygge_report"]["flows"][0]
    if not outside.seen_at or report["rows"] != rows:
        raise SystemExit(f"hygge ended well but {rows} rows were not seen at the target: {report}")
    skews = (outside.opened_at - report["started_at"], outside.seen_at - report["done_at"])
    if max(map(abs, skews)) > MAX_SKEW_S:
        raise SystemExit(f"hygge's own clock is off (begin, end): {skews} s, {report}")
    return {"move": outside.seen_at - outside.opened_at, "whole": whole}


MOVERS = {"pyarrow stream": by_stream, "hygge": by_hygge, "Ray Data": by_ray_data}


def measure(source: Path) -> dict[str, dict[str, float]]:
    """The median of each time of each mover."""
    wanted = checksum(str(source))
    times: dict[str, list[dict[str, float]]] = {name: [] for name in MOVERS}
    for number in range(ROUNDS):
        names = list(MOVERS)[number:] + list(MOVERS)[:number]
        for name in names:
            folder = DATA / "out" / name.replace(" ", "_")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            source.read_bytes()  # warm for everybody
            os.sync()  # nobody waits for what another one wrote
            took = MOVERS[name](source, folder, wanted[1])
            if checksum(f"{folder}/out/**/*.parquet") != wanted:
                raise SystemExit(f"{name} wrote other values than it read: see {folder}")
            files = list((folder / "out").rglob("*.parquet"))
            took |= {"files": len(files), "MiB": sum(file.stat().st_size for file in files) / 2**20}
            times[name].append(took)
            print(number + 1, name, *(f"{k} {v:.2f}" for k, v in took.items()), file=sys.stderr)
    shutil.rmtree(DATA / "out")
    return {
        name: {each: statistics.median(took[each] for took in runs) for each in runs[0]}
        for name, runs in times.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", default="1", help="TPC-H scale factor (1: 6 million rows)")
    source = lineitem(parser.parse_args().scale)
    busy = os.getloadavg()[0]
    if busy > 0.5:
        print(f"the machine is busy (load {busy:.1f}): the ratios are noise", file=sys.stderr)
    medians = measure(source)
    print(f"{'median of ' + str(ROUNDS):<16}{'move s':>9}{'whole s':>9}{'files':>7}{'MiB':>7}")
    for name, took in medians.items():
        move = f"{took['move']:9.2f}" if "move" in took else f"{'-':>9}"
        print(f"{name:<16}{move}{took['whole']:9.2f}{took['files']:7.0f}{took['MiB']:7.0f}")
    mine, stream, peer = (medians[name] for name in ("hygge", "pyarrow stream", "Ray Data"))
    ratios = (mine["move"] / stream["move"], mine["whole"] / peer["whole"])
    for (name, bar), ratio in zip(BARS.items(), ratios, strict=True):
        print(f"{name}: {ratio:.2f} (bar {bar}){'' if ratio <= bar else '  ABOVE'}")
    return int(any(ratio > bar for ratio, bar in zip(ratios, BARS.values(), strict=True)))


if __name__ == "__main__":
    sys.exit(main())
