"""`files:` of a home: each file is a table, moved by a flow of its own."""

from __future__ import annotations

import gzip
import hmac
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from hygge.model import Summary
from hygge.places.bucket import Bucket
from tests.servers.s3 import s3  # noqa: F401  # a fixture

KEY = "an example, not your key"


@pytest.fixture
def moved(tmp_path: Path):
    """Runs the flow `in`: its home, its store, and what else it has."""

    def moving(home: str, store: str, rest: str = "", select=(), exclude=()) -> Summary:
        written(tmp_path, home, store, rest)
        path = tmp_path / "flows.yml"
        return Coordinator(path, select=select, exclude=exclude, engine="inline").run()

    return moving


def written(folder: Path, home: str, store: str, rest: str = "") -> Path:
    text = f"flows:\n  in:\n    home: {{{home}}}\n    store: {store}\n{rest}"
    (folder / "flows.yml").write_text(text)
    return folder / "flows.yml"


def fill(folder: Path, **files: str) -> None:
    """Write files; `eu__orders_csv` is eu/orders.csv."""
    for name, content in files.items():
        put(folder / "in", name.replace("__", "/").replace("_", "."), content)


def put(folder: Path, name: str, content: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def names(summary: Summary) -> list[str]:
    return [each.flow for each in summary.flows]


def lake(folder: Path, *names: str) -> list[list[dict]]:
    return [pq.read_table(folder / "lake" / name).to_pylist() for name in names]


def test_each_file_of_a_folder_is_a_table_by_its_own_columns(moved, tmp_path):
    fill(tmp_path, orders_csv="id,total\n1,2.5\n", users_csv="id,name\n1,ada\n2,bob\n")
    summary = moved('files: "in/*.csv"', '"lake/{file}"')
    assert summary.ok, [each.error for each in summary.flows]
    assert names(summary) == ["in.orders", "in.users"]
    orders, users = lake(tmp_path, "orders", "users")
    assert orders == [{"id": 1, "total": 2.5}]
    assert users == [{"id": 1, "name": "ada"}, {"id": 2, "name": "bob"}]


def test_types_of_files_and_folders_at_any_depth(moved, tmp_path, capsys):
    fill(tmp_path, eu__orders_csv="id\n1\n", us__east__orders_jsonl='{"id": 2}\n', top_csv="x\n1\n")
    put(tmp_path / "in", "eu/notes.txt", "no table")
    put(tmp_path / "in", "eu/_tmp.csv", "hidden")
    put(tmp_path / "in", "eu/.part.csv", "hidden")
    with gzip.open(tmp_path / "in" / "eu" / "old.csv.gz", "wt") as file:
        file.write("id\n3\n")
    summary = moved("files: in, exclude: [top]", '"lake/{folder}/{file}"')
    assert summary.ok, [each.error for each in summary.flows]
    found = lake(tmp_path, "eu/orders", "us/east/orders", "eu/old")
    assert [rows[0]["id"] for rows in found] == [1, 2, 3]
    east = next(name for name in names(summary) if "east" in name)
    assert names(summary)[:2] == ["in.eu.old", "in.eu.orders"]
    for select in (east, "in.us/east/orders", "in.us*"):
        assert names(moved("files: in", '"lake/{folder}/{file}"', "", [select])) == [east]
    path = written(tmp_path, 'files: "in/*/*"', '"lake/{folder}/{file}"')
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    assert "in: left out, as no type of file ends so: eu/notes.txt" in said
    assert said.startswith("in: 3 files, each read by itself")


def test_a_file_that_comes_is_a_new_flow_and_one_that_goes_is_said(moved, tmp_path, capsys):
    home, store, rest = 'files: "in/*.csv"', '"lake/{file}"', "    mode: append\n"
    fill(tmp_path, a_csv="id\n1\n")
    assert moved(home, store, rest).ok
    fill(tmp_path, b_csv="id\n2\n")
    os.remove(tmp_path / "in" / "a.csv")
    assert main(["run", "--inline", str(tmp_path / "flows.yml")]) == 0
    said = capsys.readouterr()
    assert "in.b  done" in said.out
    assert "no longer at the source: a; what was moved of it stays" in said.err
    assert lake(tmp_path, "a", "b") == [[{"id": 1}], [{"id": 2}]]


def test_what_failed_is_run_again_alone_where_rows_would_come_twice(moved, tmp_path):
    home, store, rest = 'files: "in/*.csv"', '"lake/{file}"', "    mode: append\n"
    fill(tmp_path, a_csv="id\n1\n", b_csv="id,n\n1,2,3\n")
    summary = moved(home, store, rest)
    assert [each.status for each in summary.flows] == ["done", "failed"]
    fill(tmp_path, b_csv="id,n\n1,2\n")
    summary = moved(home, store, rest)
    assert summary.ok
    assert summary.flows[0].note.startswith("skipped: done in the run of")
    assert lake(tmp_path, "a", "b") == [[{"id": 1}], [{"id": 1, "n": 2}]]


def test_settings_by_pattern_and_of_one_file_go_by_the_source(moved, tmp_path, monkeypatch):
    fill(tmp_path, people_csv="id,zip\n1,07001\n", parts_csv="id;zip\n1;2\n", eu__old_csv="id\n1\n")
    rest = """\
    files:
      "p*": {types: {id: string, nope: int8}, mask: {zip: "null"}}
      parts.csv:
        {options: {delimiter: ";"}, columns: [zip], types: {zip: string}, mask: {zip: hash}}
"""
    monkeypatch.setenv("HYGGE_MASK_KEY", KEY)
    home = 'files: "in/**", rename: {people: humans, eu/old: new}'
    summary = moved(home, '"lake/{file}"', rest)
    assert summary.ok, [each.error for each in summary.flows]
    assert lake(tmp_path, "humans", "parts", "new") == [
        [{"id": "1", "zip": None}],
        [{"zip": hmac.new(KEY.encode(), b"2", "sha256").hexdigest()}],
        [{"id": 1}],
    ]
    rest = "    files: {people: {types: {nope: int8}}}\n"
    (failed,) = moved(home, '"lake/{file}"', rest, ["in.people"]).flows
    assert "'types' names column 'nope'" in failed.error


def test_settings_of_a_file_that_is_gone_are_no_error_and_of_one_that_never_was_are(
    moved, tmp_path
):
    home, store = 'files: "in/*.csv"', '"lake/{file}"'
    fill(tmp_path, a_csv="id\n1\n", bb_csv="id\n1\n")
    rest = '    files: {bb: {mask: {id: "null"}}, "b*": {lanes: 1}}\n'
    assert moved(home, store, rest).ok
    os.remove(tmp_path / "in" / "bb.csv")
    assert moved(home, store, rest).ok
    (failed,) = moved(home, store, rest.replace("bb", "c")).flows
    assert "no pattern takes the file 'c'" in failed.error
    assert "files: a" in failed.hint
    (failed,) = moved(home, store, rest.replace("b*", "c*")).flows
    assert "'c*' of `files:` matches none of the files" in failed.error


def test_a_mask_that_no_file_has_is_an_error(moved, tmp_path):
    fill(tmp_path, a_csv="id,email\n1,x\n", b_csv="id\n1\n")
    mask = "    mask: {emial: 'null'}\n"
    (failed,) = moved('files: "in/*.csv"', '"lake/{file}"', mask).flows
    assert "no file of flow 'in' has the column 'emial', which `mask` names" in failed.error
    assert moved('files: "in/*.csv"', '"lake/{file}"', mask.replace("emial", "email")).ok
    assert lake(tmp_path, "a") == [[{"id": 1, "email": None}]]


@pytest.mark.parametrize("other", ["a.jsonl", "a.csv.gz"])
def test_two_files_of_one_stem_are_an_error_before_anything_moves(moved, tmp_path, other, capsys):
    fill(tmp_path, a_csv="id\n1\n", b_csv="id\n1\n")
    put(tmp_path / "in", other, "")
    (failed,) = moved('files: "in/*"', '"lake/{file}"', "", ["in.b"]).flows
    assert f"in/a.csv and {tmp_path}/in/{other} would be one table, 'a'" in failed.error
    assert main(["check", str(tmp_path / "flows.yml")]) == 1  # it looks at files of this machine
    assert f"exclude: [{other}]" in capsys.readouterr().err
    assert not (tmp_path / "lake").exists()
    assert moved(f'files: "in/*", exclude: [{other}]', '"lake/{file}"').ok


def test_two_that_would_come_to_one_place_are_an_error(moved, tmp_path):
    fill(tmp_path, eu__a_csv="id\n1\n", us__a_csv="id\n1\n")
    (failed,) = moved('files: "in/*/*.csv"', '"lake/{file}"').flows
    assert "'in.eu.a' and 'in.us.a' would come to one place" in failed.error
    assert "put {folder} into the store's place" in failed.hint
    fill(tmp_path, eu__a__b_csv="id\n1\n")
    (failed,) = moved("files: in", '"lake/{folder}/{file}"').flows
    assert "would be written into the place of 'in.eu.a'" in failed.error


def test_names_of_files_become_names_of_tables(moved, tmp_path):
    put(tmp_path / "in", "eu/Orders 2024.csv", "id\n1\n")
    home = 'files: "in/*/*.csv", names: snake'
    store = '{connection: "sqlite:///o.db", table: "{folder}_{file}"}'
    assert moved(home, store).ok
    with closing(sqlite3.connect(tmp_path / "o.db")) as database:
        assert database.execute("SELECT * FROM eu_orders_2024").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("home", "store", "said", "hint"),
    [
        ('files: "in/*.csv"', '"lake/{folder}/{file}"', "'{folder}' of the store means nothing",
         "take {folder} out"),
        ('files: "in/*.csv"', '"lake/{table}"', "'{table}' of the store means nothing",
         "a store knows: file, folder"),
        ('files: "in/*.csv"', "lake", "the home takes many files, and the store has one place",
         '"data/lake/{file}"'),
        ("path: in/a.csv", '"lake/{file}"', "'{file}' stands in the store, and the home has no "
         "`files`", 'files: "in/*.csv"'),
        ("path: in/a.csv", '"lake/{date}"', "'{date}' of the store means nothing",
         "take the braces out"),
        ('files: "in/*.csv", path: x', '"lake/{file}"', "'files' and 'path' both say", "keep one"),
        ('files: ["in/*.csv"]', '"lake/{file}"', "'files' is a list, not a pattern", "in/*.csv"),
        ('files: "in/*.csv", type: sql', '"lake/{file}"', "this one is of type sql", "in/*.csv"),
        ('files: "in/*.csv"', '{type: csv, path: "in/out/{file}"}', "the store lies inside",
         "beside"),
        ('files: "in/*.parquet"', '"lake/{file}"', "nothing matches", "check the pattern"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_check(tmp_path, capsys, home, store, said, hint):
    fill(tmp_path, a_csv="id\n1\n")
    assert main(["check", str(written(tmp_path, home, store))]) == 1
    message = capsys.readouterr().err
    assert said in message
    assert hint in message.partition("hint:")[2]


def test_settings_of_tables_are_not_those_of_files(tmp_path, capsys):
    fill(tmp_path, a_csv="id\n1\n")
    path = written(tmp_path, 'files: "in/*.csv"', '"lake/{file}"', "    tables: {a: {lanes: 1}}\n")
    assert main(["check", str(path)]) == 1
    assert "write `files:`" in capsys.readouterr().err
    path = written(tmp_path, "path: in/a.csv", "lake", "    files: {a: {lanes: 1}}\n")
    assert main(["check", str(path)]) == 1
    assert "its home has no patterns of files" in capsys.readouterr().err


def test_what_another_flow_writes_is_found_when_its_turn_comes(tmp_path):
    put(tmp_path, "src/x.csv", "id\n1\n")
    path = tmp_path / "flows.yml"
    path.write_text(
        'flows:\n  one: {home: {files: "src/*.csv"}, store: "mid/{file}.csv"}\n'
        '  two: {home: {files: "mid/*.csv"}, store: "lake/{file}", depends_on: [one]}\n'
    )
    assert main(["check", str(path)]) == 0
    assert Coordinator(path, engine="inline").run().ok
    assert lake(tmp_path, "x") == [[{"id": 1}]]


def test_objects_of_a_bucket(request, moved, tmp_path):
    url = request.getfixturevalue("s3")
    bucket = Bucket(url)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [1]}), sink)
    for key in ("in/eu/a.parquet", "in/us/b[1].parquet", "in/us/_c.parquet", "in/us/d.csv"):
        bucket.put(key, sink.getvalue().to_pybytes())
    summary = moved(f'files: "{url}/in/*/*.parquet"', '"lake/{folder}/{file}"')
    assert summary.ok, [each.error for each in summary.flows]
    assert len(names(summary)) == 2
    assert lake(tmp_path, "eu/a") == [[{"id": 1}]]
    assert next((tmp_path / "lake" / "us").iterdir()).name.startswith("b-1-")
