"""What columns, conditions, masks and bad rows cost: CPU seconds (user + system) of whole moves.

TPC-H lineitem, Parquet to Parquet, and a million rows of CSV and JSONL with 100 bad lines, each by
`hygge run --inline` in a process of its own, in turn with the plain move of the same rows. The
table says the median, and how much more it is than the median of the plain move.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from suite.data import lineitem

ROWS = 1_000_000
KEY = "a key for a benchmark"
SHAPES = {
    "plain": "",
    "columns: all 16 by name": "columns",
    "exclude: [l_comment]": "exclude",
    "where: l_quantity >= 0, which drops nothing": "where",
    "add: now, run_id, a text": "add",
    "mask: {l_comment: hash}": "mask",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="1", help="of TPC-H; 1 is 6 million rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["shapes", "bad"], help="one half of it")
    given = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; medians of {given.rounds}")
    with tempfile.TemporaryDirectory() as folder:
        if given.only != "bad":
            flows = {name: shape(given.scale, kind) for name, kind in SHAPES.items()}
            table(measured(Path(folder), flows, given.rounds), "plain")
        if given.only != "shapes":
            for kind in ("csv", "jsonl"):
                table(measured(Path(folder), bad_rows(Path(folder), kind), given.rounds), "fail")


def shape(scale: str, kind: str) -> dict:
    """The flow of one of SHAPES."""
    import pyarrow.parquet as pq

    path = lineitem(scale)
    home: dict = {"path": str(path.resolve())}
    flow: dict = {"home": home}
    if kind == "columns":
        home["columns"] = pq.read_schema(path).names
    elif kind == "exclude":
        home["exclude"] = ["l_comment"]
    elif kind == "where":
        home["where"] = "l_quantity >= 0"
    elif kind == "add":
        flow["add"] = {"loaded_at": "now", "run": "run_id", "source": "'shop'"}
    elif kind == "mask":
        flow["mask"] = {"l_comment": "hash"}
    return flow


def bad_rows(folder: Path, kind: str) -> dict[str, dict]:
    """Flows of a million rows, with and without bad ones."""
    sets_aside = {"on_bad_row": "set_aside"}
    types = {"id": "int64", "name": "string", "price": "float64", "at": "date"}
    flows = {}
    for name, bad, more in (
        ("fail", None, {}),
        ("set_aside, no bad row", None, sets_aside),
        ("set_aside, 100 lines that do not parse", "broken", sets_aside),
        ("set_aside, 100 values of another type", "value", sets_aside),
    ):
        path = folder / f"{bad}.{kind}"
        if not path.exists():
            write(path, kind, bad)
        flows[name] = {"home": {"path": str(path), "options": {"types": types}}, **more}
    return {f"{kind}: {name}" if name != "fail" else name: flow for name, flow in flows.items()}


def write(path: Path, kind: str, bad: str | None) -> None:
    with path.open("w") as file:
        if kind == "csv":
            file.write("id,name,price,at\n")
        for n in range(ROWS):
            day = f"2024-01-{n % 28 + 1:02}"
            number: object = n
            if n % (ROWS // 100) == 77 and bad == "value":
                number = "many"
            if n % (ROWS // 100) == 77 and bad == "broken":
                line = '{"id"' if kind == "jsonl" else f"{n},name"
            elif kind == "csv":
                line = f"{number},name of {n * 7919 % ROWS},{n * 0.37:.2f},{day}"
            else:
                row = {"id": number, "name": f"name of {n * 7919 % ROWS}", "price": n / 4}
                line = json.dumps({**row, "at": day})
            file.write(line + "\n")


def measured(folder: Path, flows: dict[str, dict], rounds: int) -> dict[str, float]:
    """The median CPU seconds of each flow."""
    seconds: dict[str, list[float]] = {name: [] for name in flows}
    for number in range(rounds):
        order = list(flows.items())
        for name, flow in order[number % len(order) :] + order[: number % len(order)]:
            seconds[name].append(cpu_seconds(folder, flow))
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def cpu_seconds(folder: Path, flow: dict) -> float:
    place = folder / "run"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    flow = {**flow, "store": {"type": "parquet", "path": str(place / "out")}}
    (place / "flows.yml").write_text(json.dumps({"flows": {"move": flow}}))  # JSON is YAML
    command = [sys.executable, "-m", "hygge", "run", "flows.yml", "--inline"]
    child = subprocess.Popen(
        command, cwd=place, env={**os.environ, "HYGGE_MASK_KEY": KEY}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"the move failed: {flow}")
    return used.ru_utime + used.ru_stime


def table(seconds: dict[str, float], plain: str) -> None:
    for name, taken in seconds.items():
        more = "" if name == plain else f"{(taken / seconds[plain] - 1) * 100:+.0f} %"
        print(f"| {name} | {taken:.2f} | {more} |")


if __name__ == "__main__":
    main()
