"""What a foreign reader sees while hygge writes, measured: one whole generation, whenever it looks.

A process without hygge (`tests/readers/polling.py`) reads the target in a loop; a flow replaces it,
adds to it or rewrites it, each time with another generation's rows, in several splits. Generations
differ in their number of rows, so that a mixture, a half and a doubling are all seen.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import ArrowStore, CsvStore, Flow, JsonlStore, ParquetHome, ParquetStore, SQLStore
from hygge.cli.main import main
from hygge.connectors.files import publish
from tests.chaos import only_in_chaos
from tests.waiting import until

GENERATIONS = 8
KINDS = {"parquet": ParquetStore, "arrow": ArrowStore, "csv": CsvStore, "jsonl": JsonlStore}
READER = "tests.readers.polling"


def rows_of(gen: int) -> int:
    return 300 + 10 * gen


def flow(kind: str, target: Path, source: Path, mode: str) -> Flow:
    home = ParquetHome(path=source, options={"split_bytes": 1})
    if kind == "sqlite":
        store = SQLStore("t", connection=f"sqlite:///{target}")
    else:
        store = KINDS[kind](path=target)
    return Flow(home, store, name="f", mode=mode, engine="inline")


def write(kind: str, target: Path, gen: int, mode: str) -> None:
    source = target.parent / "source.parquet"
    table = pa.table({"gen": [gen] * rows_of(gen), "id": range(rows_of(gen))})
    pq.write_table(table, source, row_group_size=120)  # three splits or four
    flow(kind, target, source, mode).run()


@contextmanager
def polled(kind: str, target: Path) -> Iterator[list[dict]]:
    """What the reader says, line by line, for as long as the block lasts."""
    said: list[dict] = []
    command = [sys.executable, "-m", READER, kind, str(target)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reader:
        collecting = threading.Thread(
            target=lambda: said.extend(json.loads(line) for line in reader.stdout)
        )
        collecting.start()
        try:
            _until_more(said, 2)
            _reading.append(said)
            yield said
        finally:
            _reading.clear()
            reader.stdin.close()
            collecting.join()
            errors = reader.stderr.read()
    assert reader.returncode == 0, errors


_reading: list[list[dict]] = []


def _until_more(said: list[dict], more: int) -> None:
    """Until `more` reads came to something: so that each generation is there for at least one."""
    told = lambda: sum("gone" not in each for each in list(said))  # noqa: E731
    wanted = told() + more
    until(lambda: told() >= wanted, "the reader says nothing", every_s=0.002)


def watched(kind: str, target: Path, mode: str) -> list[dict]:
    """What the reader said while the generations were written, or until something was wrong."""
    write(kind, target, 1, mode)
    with polled(kind, target) as said:
        for gen in range(2, GENERATIONS + 1):
            write(kind, target, gen, mode)
            _until_more(said, 1)
            if problems(said, mode):
                break
    return said


def problems(said: list[dict], mode: str) -> list[str]:
    """Every read that was neither one whole generation, nor, appended, all of them up to one."""
    said = list(said)
    wrong = [each["wrong"] for each in said if "wrong" in each]
    for each in (each for each in said if "seen" in each):
        seen = each["seen"]
        last = seen[-1][0] if seen else 0
        wanted = range(1, last + 1) if mode == "append" else [last]
        if seen != [[gen, rows_of(gen)] for gen in wanted]:
            wrong.append(f"{each['by']} saw {seen}")
    return wrong


CASES = [
    *((kind, "o", mode) for kind in KINDS for mode in ("replace", "append")),
    *((kind, f"o.{kind}", "replace") for kind in KINDS),
    *(("sqlite", "o.db", mode) for mode in ("replace", "append")),
]
# The publishing of a file or a folder is the same for every format: `make chaos` tries each pair.
QUICK = [
    ("parquet", "o", "replace"),
    ("parquet", "o", "append"),
    ("parquet", "o.parquet", "replace"),
    ("csv", "o", "append"),
    ("jsonl", "o.jsonl", "replace"),
    ("arrow", "o", "replace"),
    ("sqlite", "o.db", "append"),
]


@pytest.mark.parametrize(
    ("kind", "target", "mode"),
    [case if case in QUICK else pytest.param(*case, marks=only_in_chaos) for case in CASES],
)
def test_a_foreign_reader_sees_one_whole_generation_whenever_it_looks(kind, target, mode, tmp_path):
    said = watched(kind, tmp_path / target, mode)
    assert problems(said, mode) == []
    seen = [each["seen"] for each in said if "seen" in each]
    assert len({str(each) for each in seen}) >= GENERATIONS // 2, "hardly anything was seen"
    if (mode, target) != ("replace", "o"):
        assert len(seen) == len(said), "only a replaced directory makes a reader list it again"


# The same, over broken publishers


def half_shown() -> None:
    """Until whoever reads has looked at it from its first moment to its last, if somebody does."""
    for said in _reading:
        wanted = len(said) + 2
        until(lambda: len(said) >= wanted, "the reader says nothing")  # noqa: B023


def show_directory_in_place(staged: str, target: str) -> None:
    """Files go and come one by one."""
    for name in os.listdir(target) if os.path.isdir(target) else ():
        os.unlink(os.path.join(target, name))
    show_inside_in_place(staged, os.path.dirname(target), os.path.basename(target))


def show_inside_in_place(staged: str, folder: str, name: str) -> bool:
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    for each in sorted(os.listdir(staged)):
        shutil.copy2(os.path.join(staged, each), os.path.join(folder, name, each))
        half_shown()
    return True


def show_file_in_place(staged: str, target: str) -> None:
    content = Path(staged).read_bytes()
    half = len(content) // 2
    with open(target, "wb", buffering=0) as file:
        for part in (content[:half], content[half:]):
            file.write(part)
            half_shown()
    os.utime(target, ns=(os.stat(staged).st_atime_ns, os.stat(staged).st_mtime_ns))


@pytest.mark.parametrize(
    ("kind", "target", "mode", "twin"),
    [
        ("parquet", "o", "replace", show_directory_in_place),
        ("jsonl", "o", "append", show_inside_in_place),
        ("csv", "o.csv", "replace", show_file_in_place),
    ],
)
def test_a_publisher_that_writes_in_place_is_caught(
    kind, target, mode, twin, tmp_path, monkeypatch
):
    monkeypatch.setattr(publish, twin.__name__.removesuffix("_in_place"), twin)
    try:
        said = watched(kind, tmp_path / target, mode)
    except Exception as error:
        raise AssertionError("the twin must fail by what is read, not by itself") from error
    assert problems(said, mode)


# Declared


def test_plan_prints_what_a_foreign_reader_sees(tmp_path, capsys):
    pq.write_table(pa.table({"id": [1]}), tmp_path / "s.parquet")
    file = tmp_path / "flows.yml"
    file.write_text("flows: {f: {home: s.parquet, store: o}}")
    assert main(["plan", str(file)]) == 0
    declared = ParquetStore(path=tmp_path / "o").sees()
    assert "list it again" in declared
    assert f"a reader of the store sees {declared}" in capsys.readouterr().out
