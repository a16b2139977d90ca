"""`check` and `plan` refuse what a run would refuse, and change nothing: files, drivers, stores."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.cli.main import main
from tests.servers.s3 import s3  # noqa: F401  # a fixture

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


@pytest.fixture
def flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write flows.yml of these flows beside `in.parquet` of two rows, and return its path."""
    pq.write_table(pa.table({"id": [1, 2], "v": ["a", "b"]}), tmp_path / "in.parquet")
    monkeypatch.chdir(tmp_path)

    def write(**ends: str) -> str:
        lines = [f"  {name}: {{home: in.parquet, {rest}}}\n" for name, rest in ends.items()]
        (tmp_path / "flows.yml").write_text("flows:\n" + "".join(lines))
        return "flows.yml"

    return write


def _refused(capsys: pytest.CaptureFixture[str], command: str, file: str) -> str:
    """Return what `command` says of a file that it refuses."""
    assert main([command, file, *(["--inline"] if command == "run" else [])]) == 1
    said = capsys.readouterr()
    return said.out + said.err


def _all_refuse(capsys: pytest.CaptureFixture[str], file: str, what: str, *, here: bool) -> None:
    """`run` refuses with `what`, and so does `plan` before it; `check` too where it is `here`."""
    for command in ("check", "plan", "run") if here else ("plan", "run"):
        assert what in _refused(capsys, command, file), command
    if not here:
        assert main(["check", file]) == 0
        capsys.readouterr()


def test_a_home_that_is_not_there(tmp_path, capsys):
    (tmp_path / "flows.yml").write_text("flows: {f: {home: nope.parquet, store: out}}")
    _all_refuse(capsys, str(tmp_path / "flows.yml"), "there is no file or directory", here=True)


def test_a_folder_of_somebody_else_is_refused_by_all(flows, capsys):
    Path("out").mkdir()
    Path("out/precious.txt").write_text("keep me")
    file = flows(f="store: out")
    _all_refuse(capsys, file, "holds something that hygge did not write: precious.txt", here=True)
    assert os.listdir("out") == ["precious.txt"]


def test_a_file_in_the_way_is_refused_by_all(flows, capsys):
    Path("out").write_text("")
    _all_refuse(capsys, flows(f="store: out/inside"), "Not a directory", here=True)


def test_a_folder_without_the_right_to_write_is_refused(flows, capsys, tmp_path, monkeypatch):
    file = flows(f="store: locked/out")
    (tmp_path / "locked").mkdir(mode=0o555)
    if os.access(tmp_path / "locked", os.W_OK):  # root may write everywhere
        answer = os.access
        monkeypatch.setattr(os, "access", lambda p, m: "locked" not in str(p) and answer(p, m))
    for command in ("check", "plan"):
        said = _refused(capsys, command, file)
        assert f"cannot be written: Permission denied ({tmp_path}/locked)" in said


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("mssql://u:p@h/d", "pip install pyodbc"),
        ("oracle://u:p@h/d", "pip install oracledb"),
        ("postgresql+pg8000://u:p@h/d", "pip install pg8000"),
        ("snowflake://u:p@h/d", "pip install snowflake-sqlalchemy"),
        ("bigquery://project", "pip install sqlalchemy-bigquery"),
        ("trino://h/w", "pip install 'trino[sqlalchemy]'"),
    ],
)
def test_a_driver_that_is_not_installed_is_named_with_its_package(url, package, flows, capsys):
    _all_refuse(capsys, flows(f=f'store: "{url}#t"'), package, here=True)


@pytest.mark.parametrize(
    ("store", "module", "package"),
    [
        ("{connection: lake, table: 'shop.{table}'}", "pyiceberg.io.pyarrow", "pyiceberg["),
        ("{type: delta, path: 'lake/{table}'}", "deltalake", "deltalake"),
        ("{connection: 'duckdb:///w.duckdb', table: '{table}'}", "duckdb", "duckdb"),
    ],
)
def test_check_of_many_tables_names_the_package_that_their_store_lacks(
    store, module, package, tmp_path, capsys, monkeypatch
):
    with closing(sqlite3.connect(tmp_path / "s.db")) as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    (tmp_path / "flows.yml").write_text(
        "connections:\n  lake: {type: iceberg, catalog: {uri: 'sqlite:///c.db', warehouse: w}}\n"
        f"flows: {{f: {{home: {{connection: 'sqlite:///s.db', tables: ['*']}}, store: {store}}}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["check", "flows.yml"]) == 0
    monkeypatch.setitem(sys.modules, module, None)
    said = _refused(capsys, "check", "flows.yml")
    assert "is not installed" in said
    assert f"pip install {package}" in said.replace("'", "")


def test_a_table_of_somebody_else_in_sqlite(flows, capsys):
    with sqlite3.connect("w.db") as database:
        database.execute("create table t (id int)")
    file = flows(f='store: "sqlite:///w.db#t"')
    _all_refuse(capsys, file, "hygge did not make it", here=True)


STORES = ["sqlite", "pg", "psycopg2", "my"]


@pytest.fixture
def table(request, pg, schema, my, my_schema):
    """Return the URL of the table `t` of a database, and the call that runs a statement there."""

    def make(kind: str):
        if kind == "sqlite":
            return "sqlite:///w.db#t", lambda sql: sqlite3.connect("w.db").executescript(sql)
        if kind == "my":
            return f"{my.url(my_schema)}#t", lambda sql: my.ask(
                sql.replace(" t ", f" {my_schema}.t ")
            )
        url = (
            pg.url.replace("postgresql:", "postgresql+psycopg2:") if kind == "psycopg2" else pg.url
        )
        return f"{url}#{schema}.t", lambda sql: pg.ask(sql.replace(" t ", f" {schema}.t "))

    return make


@pytest.mark.parametrize("kind", STORES)
def test_plan_says_what_a_table_holds_and_refuses_what_does_not_fit(kind, table, flows, capsys):
    url, ask = table(kind)
    assert main(["plan", flows(f=f'store: "{url}", mode: append')]) == 0
    said = capsys.readouterr().out
    assert "holds   nothing: it is new, and the run makes it" in said
    assert "again   each run adds all rows of the home again" in said
    ask("create table t (id bigint)")  # so `plan` has made nothing
    file = flows(f=f'store: "{url}", mode: append')
    assert "has no column 'v'" in _refused(capsys, "plan", file)
    replacing = flows(f=f'store: "{url}"')
    assert "hygge did not make it" in _refused(capsys, "plan", replacing)
    ask("drop table t ")
    assert main([file := flows(f=f'store: "{url}", mode: append'), "--inline"]) == 0
    assert main(["plan", file]) == 0
    said = capsys.readouterr().out
    assert "note: f: each run adds all rows of the home again" in said
    assert "holds   2 rows, which stay; the run adds its own" in said


def test_the_right_to_make_tables_is_asked_for_in_postgres(pg, schema, flows, capsys):
    pg.ask(f"CREATE ROLE r{schema} LOGIN PASSWORD 'x'")
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO r{schema}")
    url = pg.url.replace("postgres@", f"r{schema}:x@")
    file = flows(f=f'store: "{url}#{schema}.t"')
    _all_refuse(capsys, file, "permission denied", here=False)
    assert "no schema" in _refused(capsys, "plan", flows(f=f'store: "{pg.url}#nowhere.t"'))
    pg.ask(f"GRANT CREATE ON SCHEMA {schema} TO r{schema}")
    assert main(["plan", flows(f=f'store: "{url}#{schema}.t"')]) == 0
    assert pg.ask("SELECT 1 FROM pg_tables WHERE schemaname = %s", schema) == []


def test_the_right_to_make_tables_is_asked_for_in_mariadb(my, my_schema, flows, capsys):
    user = f"w{my_schema}"
    my.ask(f"CREATE USER {user}@'127.0.0.1'")
    my.ask(f"GRANT SELECT ON {my_schema}.* TO {user}@'127.0.0.1'")
    file = flows(f=f'store: "{my.url(my_schema, user)}#t"')
    _all_refuse(capsys, file, "command denied", here=False)  # CREATE, or DROP
    my.ask(f"GRANT ALL ON {my_schema}.* TO {user}@'127.0.0.1'")
    assert main(["plan", file]) == 0
    assert my.ask(f"SHOW TABLES FROM {my_schema}") == []


def test_plan_says_what_files_hold(flows, capsys):
    assert main([file := flows(f="store: out", g="store: out.csv"), "--inline"]) == 0
    assert main(["check", file]) == 0
    assert main(["plan", file]) == 0
    assert capsys.readouterr().out.count("holds   2 rows, which the run replaces") == 2
    pq.write_table(pa.table({"id": ["text"], "v": ["c"]}), "in.parquet")
    file = flows(f="store: out, mode: append")
    assert "column 'id' is int64" in _refused(capsys, "plan", file)


def test_plan_says_what_a_prefix_holds(flows, capsys, s3):  # noqa: F811
    file = flows(f=f"store: {s3}/t")
    assert main(["plan", file]) == 0
    assert "holds   nothing: it is new, and the run makes it" in capsys.readouterr().out
    assert main([file, "--inline"]) == 0
    assert main(["plan", file]) == 0
    assert "holds   2 rows, which the run replaces" in capsys.readouterr().out
    alien = f"f: {{home: in.parquet, store: {s3}}}"  # what is below it, another flow wrote
    Path("flows.yml").write_text("flows: {" + alien + "}")
    assert "hygge did not write" in _refused(capsys, "plan", "flows.yml")


def test_a_home_that_an_earlier_flow_writes_is_not_missing(flows, capsys):
    file = flows(first="store: out/first")
    with open(file, "a") as flows_file:
        flows_file.write("  then: {home: out/first, store: out/then, depends_on: [first]}\n")
    assert main(["check", file]) == 0
    assert main(["plan", file]) == 0
    assert "then: replace; 'first' writes its home" in capsys.readouterr().out
    assert main([file, "--inline"]) == 0


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("store: out", "store: out", "it replaces the same place as flow 'first'"),
        ("store: out", "store: out, mode: append", "it writes to a place that flow 'first'"),
        ("store: out, mode: append", "store: out", "it replaces what flow 'first'"),
        ("store: out", "store: out/inside", "its store lies inside that of flow 'first'"),
        ("store: out/inside", "store: out", "its store lies around that of flow 'first'"),
    ],
)
def test_two_flows_into_one_store_are_refused_by_all(first, second, what, flows, capsys):
    _all_refuse(capsys, flows(first=first, second=second), what, here=True)


def test_a_flow_may_append_to_what_an_earlier_flow_has_replaced(flows):
    file = flows(first="store: out", second="store: out, mode: append, depends_on: [first]")
    assert main(["check", file]) == 0
    for _ in range(2):
        assert main([file, "--inline"]) == 0
        assert pq.read_table("out").num_rows == 4


def test_a_state_that_cannot_be_written_is_refused(flows, capsys, tmp_path):
    Path("state").write_text("")
    file = flows(f="store: out")
    Path(file).write_text("state: state\n" + Path(file).read_text())
    _all_refuse(capsys, file, "the state", here=True)
