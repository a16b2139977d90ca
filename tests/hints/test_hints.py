"""A hint that is followed works: each case prints its hint, does what it says, and then runs.

`hints.txt` lists every hint of the source, with a word before it that says who follows it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from hygge.cli.main import main
from hygge.errors import rows_text
from tests.hints.collected import all_hints, listed, one_line

pytest_plugins = ["tests.servers.postgres"]

WORDS = {
    "again": "only says to run again: tests/crash and tests/run do so after each kind of failure",
    "cluster": "is about a Ray cluster: tests/engine and tests/cli/test_cluster.py start some",
    "code": "is about the user's code: tests/cli/bad_inputs.py, tests/shape/test_transform.py",
    "outside": "is done outside of hygge: rights, disks, servers, packages, other programs",
    "rows": "changes rows or files at their source, or renames something there",
    "form": "shows the form of a key: tests/config reads each form",
    "names": "names what there is: tests/config and tests/cli/bad_inputs.py look for the nearest",
    "part": "is a part of another hint, or an answer of a function that gives no hint",
    "settings": "sends to a setting whose effect is tested where that setting is",
}
"""The words of `hints.txt` beside `case:<name>` → why no test here follows such hints."""


def parquet(name: str, **columns: object) -> Callable[[], None]:
    def make() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), name)

    return make


def text(name: str, content: str | bytes) -> Callable[[], None]:
    def make() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def sqlite(*statements: str) -> Callable[[], None]:
    def make() -> None:
        with closing(sqlite3.connect("s.db")) as database:
            database.executescript(";".join(statements))

    return make


def in_duckdb(*statements: str) -> Callable[[], None]:
    def make() -> None:
        with duckdb.connect("s.duckdb") as database:
            database.execute(";".join(statements))

    return make


def arrow_union() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    feather.write_feather(pa.table({"id": [1], "u": union}), "in.arrow")


class Case(NamedTuple):
    make: tuple[Callable[[], None], ...]
    flow: str
    """The flow, `{home: …, store: …}`, that gives the hint."""
    followed: str
    """The flow after its hint was followed."""
    rows: int
    """The rows that it then moves."""


S, D, OUT = "'sqlite:///s.db#t'", "s.duckdb#t", "store: out"
NUMBERED = "connection: 'sqlite:///s.db', table: t, cursor: t"
MERGE_OUT = "store: 'sqlite:///o.db#o', mode: merge, key: id"
ICE = "store: {type: iceberg, catalog: {uri: 'sqlite:///c.db', warehouse: w}, table: s.t}"
TYPED = "{home: {connection: 'sqlite:///s.db', table: t, options: {types: {t: TYPE}}}, store: out}"
CASES = {
    "folders and files have the column": Case(
        (parquet("t/year=2024/p.parquet", id=[1], year=[2024]),),
        f"{{home: t, {OUT}}}", f"{{home: {{path: t, columns: [id]}}, {OUT}}}", 1,
    ),
    "files with other types": Case(
        (parquet("t/a.parquet", id=[1], v=[1]), parquet("t/b.parquet", id=[2], v=["x"])),
        f"{{home: t, {OUT}}}", f"{{home: {{path: t, columns: [id]}}, {OUT}}}", 2,
    ),
    "files with other columns": Case(
        (parquet("t/a.parquet", id=[1], v=[1]), parquet("t/b.parquet", id=[2])),
        f"{{home: t, {OUT}}}", f"{{home: {{path: t, columns: [id]}}, {OUT}}}", 2,
    ),
    "bytes in a text of sqlite": Case(
        (sqlite("create table t (t text)", "insert into t values (x'ff00fe')"),),
        f"{{home: {S}, {OUT}}}",
        TYPED.replace("TYPE", "binary"), 1,
    ),
    "a cursor that arrives as text": Case(
        (sqlite("create table t (id int, t numeric)", "insert into t values (1, 9)"),),
        f"{{home: {{{NUMBERED}, options: {{types: {{t: string}}}}}}, {MERGE_OUT}}}",
        f"{{home: {{{NUMBERED}, options: {{types: {{t: 'decimal(38, 10)'}}}}}}, {MERGE_OUT}}}", 1,
    ),
    "a type of duckdb that is not known": Case(
        (in_duckdb("create table t as select null::geometry as t"),), f"{{home: {D}, {OUT}}}",
        TYPED.replace("sqlite:///s.db", "duckdb:///s.duckdb").replace("TYPE", "string"), 1,
    ),
    "an infinite date of duckdb": Case(
        (in_duckdb("create table t as select 'infinity'::date as t"),), f"{{home: {D}, {OUT}}}",
        f"{{home: {{connection: 'duckdb:///s.duckdb', table: t, options: {{on_value: as_text}}}}, "
        f"{OUT}}}", 1,
    ),
    "a text of duckdb that is no number": Case(
        (in_duckdb("create table t as select 'x' as t"),),
        TYPED.replace("sqlite:///s.db", "duckdb:///s.duckdb").replace("TYPE", "int64"),
        TYPED.replace("sqlite:///s.db", "duckdb:///s.duckdb").replace("TYPE", "string"), 1,
    ),
    "a time zone that duckdb does not keep": Case(
        (parquet("p.parquet", t=pa.array([0], pa.timestamp("us", "Europe/Berlin"))),),
        f"{{home: p.parquet, store: {D}}}",
        "{home: p.parquet, store: {connection: 'duckdb:///s.duckdb', table: t, "
        "options: {zones: utc}}}", 1,
    ),
    "a type that iceberg does not have": Case(
        (parquet("p.parquet", t=pa.array([0], pa.duration("us"))),),
        f"{{home: p.parquet, {ICE}}}",
        f"{{home: {{path: p.parquet, columns: [{{name: t, type: int64}}]}}, {ICE}}}", 1,
    ),
    "a text in a number of sqlite": Case(
        (sqlite("create table t (t integer)", "insert into t values ('x'), (1)"),),
        f"{{home: {S}, {OUT}}}",
        TYPED.replace("TYPE", "string"), 2,
    ),
    "a json value of another type": Case(
        (text("a.jsonl", '{"n": 1}\n' * 9 + '{"n": "x"}\n'),),
        "{home: {path: a.jsonl, options: {sample_bytes: 20}}, store: out}",
        "{home: {path: a.jsonl, options: {sample_bytes: 20, types: {n: string}}}, store: out}", 10,
    ),
    "json objects that are no objects": Case(
        (text("a.jsonl", '{"n": 1}\n{"n": "x"}\n'),),
        "{home: a.jsonl, store: out}",
        "{home: {path: a.jsonl, options: {types: {n: string}}}, store: out}", 2,
    ),
    "numbers beyond float64": Case(
        (text("a.jsonl", '{"n": 0.12345678901234567890123}\n'),),
        "{home: a.jsonl, store: out}",
        "{home: {path: a.jsonl, options: {types: {n: 'decimal(38,23)'}}}, store: out}", 1,
    ),
    "numbers beyond every type": Case(
        (text("a.jsonl", '{"n": 1e400}\n'),),
        "{home: a.jsonl, store: out}",
        "{home: {path: a.jsonl, options: {types: {n: string}}}, store: out}", 1,
    ),
    "a merge of a table without a key": Case(
        (sqlite("create table t (id integer)", "insert into t values (1)"),),
        f"{{home: {S}, store: 'sqlite:///o.db#t', mode: merge}}",
        f"{{home: {S}, store: 'sqlite:///o.db#t', mode: merge, key: [id]}}", 1,
    ),
    "deep json": Case(
        (text("a.jsonl", '{"a":' * 70 + "1" + "}" * 70 + "\n"),),
        "{home: a.jsonl, store: out}",
        "{home: {path: a.jsonl, options: {types: {a: string}}}, store: out}", 1,
    ),
    "another encoding": Case(
        (text("a.csv", "id,n\n1,Zürich\n".encode("latin-1")),),
        "{home: a.csv, store: out}",
        "{home: {path: a.csv, options: {encoding: latin-1}}, store: out}", 1,
    ),
    "no merge key": Case(
        (parquet("a.parquet", id=[1]),),
        "{home: a.parquet, store: 'sqlite:///s.db#t', mode: merge}",
        "{home: a.parquet, store: 'sqlite:///s.db#t', mode: merge, key: [id]}", 1,
    ),
    "append to a file": Case(
        (parquet("a.parquet", id=[1]), text("o.csv", "x\n")),
        "{home: a.parquet, store: o.csv, mode: append}",
        "{home: a.parquet, store: {path: o, type: csv}, mode: append}", 1,
    ),
    "a folder of others": Case(
        (parquet("a.parquet", id=[1]), text("o/mine.txt", "x\n")),
        "{home: a.parquet, store: o}", "{home: a.parquet, store: o, mode: append}", 1,
    ),
    "a table of others": Case(
        (parquet("a.parquet", id=[1]), sqlite("create table t (id bigint)")),
        f"{{home: a.parquet, store: {S}}}", f"{{home: a.parquet, store: {S}, adopt: true}}", 1,
    ),
    "bytes in a nested value": Case(
        (parquet("a.parquet", id=[1], v=[{"b": b"x"}]),),
        f"{{home: a.parquet, store: {S}}}", f"{{home: a.parquet, store: {S}, flatten: 1}}", 1,
    ),
    "adopted files": Case(
        (parquet("a.parquet", id=[1]),), "{home: a.parquet, store: o, adopt: true}",
        "{home: a.parquet, store: o}", 1,
    ),
    "a table without the column": Case(
        (parquet("a.parquet", id=[1], v=[2]), sqlite("create table t (id bigint)")),
        f"{{home: a.parquet, store: {S}, mode: append}}",
        f"{{home: {{path: a.parquet, columns: [id]}}, store: {S}, mode: append}}", 1,
    ),
    "a unique key that is met twice": Case(
        (parquet("a.parquet", id=[1]), sqlite("create table t (id bigint primary key)",
                                              "insert into t values (1)")),
        f"{{home: a.parquet, store: {S}, mode: append}}",
        f"{{home: a.parquet, store: {S}, mode: merge, key: [id]}}", 1,
    ),
    "a union in a table": Case(
        (arrow_union,), f"{{home: in.arrow, store: {S}}}",
        f"{{home: {{path: in.arrow, columns: [id]}}, store: {S}}}", 1,
    ),
    "nested values in csv": Case(
        (parquet("a.parquet", id=[1], v=[[1]]),),
        "{home: a.parquet, store: o.csv}", "{home: a.parquet, store: o.jsonl}", 1,
    ),
    "a union in parquet": Case(
        (arrow_union,), "{home: in.arrow, store: {path: out, type: parquet}}",
        "{home: in.arrow, store: {path: out, type: arrow}}", 1,
    ),
    "a variable in a path": Case(
        (parquet("a.parquet", id=[1]),),
        "{home: a.parquet, store: $SOMEWHERE/o}", '{home: a.parquet, store: "${SOMEWHERE}/o"}', 1,
    ),
    "a cursor that replaces": Case(
        (sqlite("create table t (id integer primary key)", "insert into t values (1)"),),
        "{home: {connection: 'sqlite:///s.db', table: t, cursor: id}, store: out}",
        "{home: {connection: 'sqlite:///s.db', table: t, cursor: id}, store: out, mode: append}", 1,
    ),
}  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], flow: str) -> tuple[int, str]:
    Path("flows.yml").write_text(f"flows:\n  f: {flow}\n")
    code = main(["flows.yml", "--inline", "--fresh"])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def hint_in(output: str) -> str:
    return output.partition("hint: ")[2].strip()


@pytest.mark.parametrize("name", CASES)
def test_a_hint_that_is_followed_works(name, tmp_path, monkeypatch, capsys):
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOMEWHERE", str(tmp_path / "there"))
    for make in case.make:
        make()
    code, output = said(capsys, case.flow)
    assert code == 1, output
    templates = [hint for hint, word in listed().items() if word.startswith("case:")]
    printed = one_line(hint_in(output))
    patterns = [".*".join(map(re.escape, hint.split("{}"))) for hint in templates]
    assert any(re.search(pattern, printed) for pattern in patterns), printed
    code, output = said(capsys, case.followed)
    assert code == 0, output
    assert f"{rows_text(case.rows)} read" in output


def test_every_hint_of_the_source_is_listed_with_who_follows_it():
    known, source = listed(), {one_line(hint): place for hint, place in all_hints().items()}
    missing = [f"?  {hint}    # {place}" for hint, place in source.items() if hint not in known]
    assert not missing, (
        "hints that nobody follows: follow them in a case of test_hints.py, and add each to "
        "tests/hints/hints.txt with `case:<name>`, or with a word of WORDS that says why not:\n"
        + "\n".join(missing)
    )
    gone = [hint for hint in known if hint not in source]
    assert not gone, (
        "no longer in the source, take them out of tests/hints/hints.txt:\n" + "\n".join(gone)
    )
    for hint, word in known.items():
        is_case = word.startswith("case:") and word.removeprefix("case:") in CASES
        assert is_case or word in WORDS, f"{word!r} of {hint!r} is neither a case nor a word"


def test_files_of_which_the_first_has_only_nulls_go_together(tmp_path, monkeypatch, capsys):
    """B2 and B3 of the cases: no hint is needed where nothing is ambiguous."""
    monkeypatch.chdir(tmp_path)
    Path("t").mkdir()
    pq.write_table(pa.table({"id": [1], "n": pa.nulls(1)}), "t/a.parquet")  # as pandas writes it
    pq.write_table(pa.table({"id": [2], "n": ["x"]}), "t/b.parquet")
    text("u/a.jsonl", '{"n": null}\n')()
    text("u/b.jsonl", '{"n": 7}\n')()
    code, output = said(capsys, "{home: t, store: p.parquet}")
    assert code == 0, output
    assert pq.read_table("p.parquet")["n"].to_pylist() == [None, "x"]
    code, output = said(capsys, "{home: u, store: j.parquet}")
    assert code == 0, output
    assert pq.read_table("j.parquet").to_pylist() == [{"n": None}, {"n": 7}]


def test_a_column_is_nullable_where_it_is_so_in_one_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("t").mkdir()
    never = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    pq.write_table(pa.table([pa.array([1])], schema=never), "t/a.parquet")
    pq.write_table(pa.table({"n": pa.array([None], pa.int64())}), "t/b.parquet")
    code, output = said(capsys, "{home: t, store: o.parquet}")
    assert code == 0, output
    assert pq.read_table("o.parquet")["n"].to_pylist() == [1, None]
