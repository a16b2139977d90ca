"""No raw error: what a library raises in any verb of a connector is said in hygge's words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import obstore.exceptions
import psycopg
import psycopg2
import pyarrow as pa
import pymysql
import pytest
import sqlalchemy as sa

from hygge import CsvStore, ParquetHome, ParquetStore, SQLHome, SQLStore
from hygge.cli.main import main
from hygge.connectors.files.directory import Directory
from hygge.connectors.files.prefix import Prefix
from hygge.errors import HyggeError, as_hygge_error
from hygge.model import Run, Split, Ticket
from hygge.places.bucket import Bucket

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

ARROW: list[Exception] = [
    pa.ArrowInvalid("Invalid: date32[day] -735160 is no value"),
    pa.ArrowNotImplementedError("Unsupported cast from double to halffloat"),
    pa.ArrowTypeError("Expected bytes, got a 'int' object"),
    pa.ArrowKeyError("no such key"),
    pa.ArrowSerializationError("cannot be serialized"),
    pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes"),
    MemoryError("malloc of size 4096 failed"),
]
DRIVERS: list[Exception] = [
    sqlite3.OperationalError("disk I/O error"),
    sqlite3.IntegrityError("UNIQUE constraint failed: t.id"),
    sqlite3.DatabaseError("database disk image is malformed"),
    psycopg.OperationalError("the connection is lost"),
    psycopg.errors.DeadlockDetected("deadlock detected"),
    psycopg.errors.QueryCanceled("canceling statement due to statement timeout"),
    psycopg.errors.DiskFull("could not extend file: No space left on device"),
    psycopg.errors.InsufficientPrivilege("permission denied for table t"),
    psycopg.errors.NumericValueOutOfRange("integer out of range"),
    psycopg2.OperationalError("server closed the connection unexpectedly"),
    psycopg2.ProgrammingError("syntax error"),
    pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query"),
    pymysql.err.OperationalError(1213, "Deadlock found when trying to get lock"),
    pymysql.err.OperationalError(1021, "Disk full"),
    pymysql.err.ProgrammingError(1146, "Table 'd.t' doesn't exist"),
    pymysql.err.InternalError("Packet sequence number wrong"),
    sa.exc.NoSuchTableError("t"),
    sa.exc.CompileError("Can't render element of type NullType"),
    sa.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked")),
    sa.exc.StatementError("(builtins.ValueError) no", "SELECT 1", {}, ValueError("no")),
]
CLASS_NAMES = (
    "ArrowInvalid", "ArrowNot", "ArrowType", "MemoryError", "sqlite3", "psycopg", "pymysql",
    "sqlalchemy", "OperationalError", "date32[day]", "b'", "Traceback", "sqlalche.me",
)  # fmt: skip
RUN, TICKET, SCHEMA = Run("r", "f"), Ticket("r", 0), pa.schema([("id", pa.int64())])


def _names(error: Exception) -> str:
    return f"{type(error).__module__.split('.')[0]}.{type(error).__name__}: {str(error)[:30]}"


def told(call: Callable[[], object], raised: Exception, who: str) -> HyggeError:
    """Return the error of `call`, which is one of hygge that says where, and what to do."""
    with pytest.raises(HyggeError) as caught:
        call()
    error = caught.value
    assert who in error.message
    for name in CLASS_NAMES:
        assert name not in str(error), f"{name!r} in: {error}"
    assert error.hint
    assert "fix it there" not in error.hint
    assert "defect of hygge" not in error.hint
    assert error.__cause__ is raised
    return error


def _verbs(store: Any) -> dict[str, Callable[[], object]]:
    return {
        "head": lambda: store.head("f"),
        "prepare": lambda: store.prepare(RUN, SCHEMA),
        "examine": lambda: store.examine(RUN, SCHEMA),
        "stage": lambda: store.stage(TICKET, SCHEMA, iter(())),
        "resume": lambda: store.resume(RUN, []),
        "commit": lambda: store.commit(RUN, None, [], None),
        "discard": lambda: store.discard(RUN),
    }


class Raising:
    """Every verb raises `error`."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def verb(*given: object, **named: object) -> Any:
            raise self.error

        return verb


@pytest.mark.parametrize("error", [*ARROW, *DRIVERS], ids=_names)
def test_no_verb_of_a_table_lets_an_error_of_a_library_pass(error, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/x.db"
    store, home = SQLStore("t", connection=url), SQLHome("t", connection=url)
    monkeypatch.setattr(SQLStore, "_verbs", lambda self: Raising(error))
    for verb in _verbs(store).values():
        told(verb, error, "x.db#t")
    monkeypatch.setattr(type(home.database), "home", lambda self: Raising(error))
    told(lambda: home.open().__enter__(), error, "x.db#t")
    told(lambda: list(home.read(Split(0, ""))), error, "x.db#t")


@pytest.mark.parametrize("error", ARROW, ids=_names)
def test_no_verb_of_files_lets_an_error_of_arrow_pass(error, tmp_path, monkeypatch):
    table, single = tmp_path / "t", tmp_path / "c.csv"
    for store in (ParquetStore("t", path=str(table)), CsvStore(path=str(single))):
        monkeypatch.setattr(store, "target", Raising(error))
        for verb in _verbs(store).values():
            told(verb, error, str(tmp_path))
    home = ParquetHome(path=str(tmp_path / "in.parquet"))
    monkeypatch.setattr("hygge.connectors.files.home.find_files", Raising(error).find)
    told(lambda: home.open().__enter__(), error, "in.parquet")
    monkeypatch.setattr(home, "_read", Raising(error).read)
    told(lambda: list(home.read(Split(0, ""))), error, "in.parquet")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in dir(obstore.exceptions)
        if name.endswith("Error") and name not in ("AlreadyExistsError", "PreconditionError")
    ],
)
def test_no_verb_of_a_bucket_lets_an_error_of_obstore_pass(name, monkeypatch):
    error = getattr(obstore.exceptions, name)(
        "Generic S3 error: status code: 503 Slow Down: https://lake.example.com/t?X-Amz-Signature=s"
    )
    bucket = Bucket("s3://lake/t")
    monkeypatch.setattr(bucket, "_client", lambda once=False: Raising(error))
    for call in (
        lambda: bucket.get("k"), lambda: bucket.put("k", b""), lambda: bucket.entries("k"),
        lambda: bucket.names("k"), lambda: bucket.entry("k"), lambda: bucket.drop(["k"]),
        lambda: bucket.part("k", 0, 1, ""), lambda: bucket.upload("k", "/dev/null"),
        lambda: bucket.copy("k", "l", 1),
    ):  # fmt: skip
        with suppress(FileNotFoundError):  # a key that is not there is an answer, and no error
            assert _said_by(call, "s3://lake", name)


def _said_by(call: Callable[[], object], where: str, name: str) -> bool:
    """Return whether `call` says what is wrong at `where`, and does not name its class `name`."""
    if name == "NotFoundError":
        return True
    with pytest.raises(HyggeError, match=where) as caught:
        call()
    return bool(caught.value.hint) and not {"Signature", name} & set(str(caught.value).split())


def test_an_error_of_the_home_is_not_taken_for_one_of_the_store(tmp_path):
    """A class of the user that reads SQLite by itself, into SQLite."""
    error = sqlite3.OperationalError("no such table: mine")
    error.__dict__.update(hygge_who="Mine", hygge_where="own.py:3", hygge_own=True)

    def batches() -> Iterator[pa.Table]:
        raise error
        yield

    store = SQLStore("t", connection=f"sqlite:///{tmp_path}/x.db")
    store.prepare(RUN, SCHEMA)
    with pytest.raises(sqlite3.OperationalError):
        store.stage(TICKET, SCHEMA, batches())
    told_error = as_hygge_error(error)
    assert told_error.message == "Mine raised OperationalError: no such table: mine (own.py:3)"
    assert "fix it there" in str(told_error.hint)


def test_what_nobody_expected_is_a_defect_of_hygge_and_not_of_the_user(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "f.yml").write_text("flows: {f: {home: a.csv, store: o.csv}}")
    monkeypatch.setattr(Directory, "prepare", lambda self, run, schema: {}["nothing"])
    monkeypatch.setattr(Prefix, "prepare", Directory.prepare)
    assert main([str(tmp_path / "f.yml"), "--inline"]) == 1
    said = capsys.readouterr().out
    assert "KeyError" in said  # raised in this file, which is the user's code
    monkeypatch.setattr(Directory, "prepare", Directory._held_staging)
    assert main([str(tmp_path / "f.yml"), "--inline"]) == 1
    said = capsys.readouterr().out
    assert "something that hygge did not expect" in said
    assert "please report it" in said
    assert "TypeError" not in said


@pytest.mark.parametrize(
    ("home", "said"),
    [
        ("table: {0}.t", "column 'at' holds -infinity"),
        ("query: SELECT * FROM {0}.t", "column 'at' holds -infinity"),
        ("table: {0}.t, split_by: d, options: {{splits: 3}}", "column 'd' holds infinity"),
        ("table: {0}.t, cursor: d", "the highest value of cursor 'd' is infinity"),
        ("table: {0}.t, cursor: at", "column 'at' holds -infinity"),
    ],
)
def test_psycopg2_gives_no_infinity_as_a_date(home, said, pg, schema, tmp_path, capsys):
    """The driver itself makes 9999-12-31 of it."""
    pg.ask(f"CREATE TABLE {schema}.t (d date, at timestamptz)")
    pg.ask(f"INSERT INTO {schema}.t VALUES ('2024-01-01', '-infinity')")
    mode = "append" if "cursor" in home else "replace"
    if " d" in home:
        pg.ask(f"INSERT INTO {schema}.t SELECT 'infinity' FROM generate_series(1, 3)")
    url = pg.url.replace("postgresql:", "postgresql+psycopg2:")
    (tmp_path / "f.yml").write_text(
        f"connections: {{p: '{url}'}}\n"
        f"flows: {{f: {{home: {{connection: p, {home.format(schema)}}}, store: o, mode: {mode}}}}}"
    )
    assert main([str(tmp_path / "f.yml"), "--inline"]) == 1
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2"])
@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("SELECT 1/(1-1) AS x", "cannot compute a value"),
        ("SELECT nowhere AS x FROM pg_class", "check the names in"),
        ("SELECT pg_sleep(9) AS x", "raise statement_timeout"),
    ],
)
def test_an_error_of_postgres_has_the_same_hint_by_each_driver(driver, query, hint, pg):
    url = f"{pg.url}?options=-c%20statement_timeout%3D200".replace("postgresql:", f"{driver}:")
    home = SQLHome("q", query=query, connection=url)
    with pytest.raises(HyggeError) as caught, home.open() as plan:
        list(home.read(plan.splits[0]))
    assert hint in str(caught.value.hint)
    assert "psycopg" not in str(caught.value)
