# ruff: noqa: T201  # what it prints is what is tested
"""What the user's code prints and logs reaches the terminal with the flow's name in front."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hygge.cli.main import main
from hygge.run.said import Speaker, speaking

OWN = '''
"""A Home, a Store and a function of somebody's."""
import logging
import sys

import pyarrow as pa

from hygge import Home, Store

log = logging.getLogger("own")
log.addHandler(logging.StreamHandler())


class Given(Home):
    async def read_batches(self):
        print("read", "one")
        yield pa.table({"id": [1, 2]})
        log.warning("read two")
        yield pa.table({"id": [3]})


class Kept(Store):
    receives = "arrow"

    async def write(self, table):
        print(f"wrote {table.num_rows}", file=sys.stderr)


def doubled(batch: pa.Table) -> pa.Table:
    print("no end of line", end="")
    return pa.concat_tables([batch, batch])


def broken(batch: pa.Table) -> pa.Table:
    if batch.num_rows:
        print("before the fault")
        raise ValueError("a fault")
    return batch
'''
FLOWS = """
defaults: {cpus_per_lane: 0.3}
flows:
  own:
    home: {type: "said_own:Given"}
    store: {type: "said_own:Kept"}
    mode: append
    transform: "said_own:doubled"
"""
BROKEN = FLOWS.replace("doubled", "broken")
SAID = ("read one", "read two", "wrote 4", "wrote 2", "no end of line")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("said_own.py").write_text(OWN)
    yield tmp_path
    sys.modules.pop("said_own", None)


@pytest.mark.parametrize("how", ["inline", "ray"])
def test_prints_and_logs_come_with_the_name_of_the_flow(folder, how, capfd, request):
    options = ["--inline"] if how == "inline" else []
    if how == "ray":
        request.getfixturevalue("ray_here")
    Path("flows.yml").write_text(FLOWS)
    assert main(["flows.yml", *options]) == 0
    out, err = capfd.readouterr()
    lines = [line.strip() for line in err.splitlines()]
    for text in SAID:
        assert any("own" in line and text in line for line in lines), (text, err)
    assert "read one" not in out
    Path("flows.yml").write_text(BROKEN)
    assert main(["flows.yml", *options]) == 1
    out, err = capfd.readouterr()
    assert "before the fault" in err
    line = OWN.splitlines().index('        raise ValueError("a fault")') + 1
    assert f"own.py:{line})" in out + err


def test_others_write_where_they_wrote_before(capsys):
    lines: list[str] = []
    speaker = Speaker(lambda said: lines.extend(said))
    with speaking(speaker):
        print("a", "b\nc")
        with speaking(None):
            print("to the terminal")
        print("\n  \n")
        print("x" * 20_001, end="")
    print("behind it")
    assert lines[:2] == ["a b", "c"]
    assert [len(line) for line in lines[2:]] == [20_001]
    assert capsys.readouterr().out == "to the terminal\nbehind it\n"


def test_who_cannot_pass_a_line_on_does_not_end_the_run(capsys):
    def fails(lines: list[str]) -> None:
        print("told")
        raise OSError("gone")

    with speaking(Speaker(fails)):
        print("lost")
    assert capsys.readouterr().out == "told\n"
