"""The cases of `test_bad_input.py`: a bad input, the command that finds it, words of its error."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

Make = Callable[[Path], Any]


def parquet(name: str, /, **columns: list[Any]) -> Make:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), folder / name, write_page_checksum=True)

    return make


def file(name: str, content: str | bytes) -> Make:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def damaged(start: int, stop: int | None, fill: bytes = b"") -> Make:
    """u.parquet without some of its bytes, or with others in their place."""

    def make(folder: Path) -> None:
        parquet("u.parquet", id=list(range(5000)), s=[f"v{n * 7919}" for n in range(5000)])(folder)
        whole = (folder / "u.parquet").read_bytes()
        rest = whole[stop:] if stop is not None else b""
        (folder / "u.parquet").write_bytes(whole[:start] + fill + rest)

    return make


def sqlite(name: str, *statements: str) -> Make:
    def make(folder: Path) -> None:
        with sqlite3.connect(folder / name) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return make


def both(*makes: Make) -> Make:
    return lambda folder: [make(folder) for make in makes]


USERS = parquet("u.parquet", id=[1, 2, 3], name=["a", "b", "c"])
SHOP = sqlite(
    "s.db", "CREATE TABLE users (id INTEGER, n INTEGER)", "INSERT INTO users VALUES (1,'x')"
)
OWN = "from hygge import Home, Store\nimport pyarrow as pa\n"
CHECK, PLAN, RUN = 0, 1, 2


class Case(NamedTuple):
    """`found` by check, plan or run; whatever comes before it finds nothing."""

    home: str
    found: int
    words: tuple[str, ...]
    make: Make = lambda folder: None
    store: str = "out"
    rest: str = ""


CASES = {
    "missing file": Case("usrs.parquet", CHECK, ("no file or directory", "mean ", "users.parquet"),
        parquet("users.parquet", id=[1])),
    "missing folder": Case("no/such/u.parquet", CHECK, ("no file or", "is no folder ", "/no")),
    "missing directory": Case("dat", CHECK, ("flows.yml:3: flow 'f'", "'dat'", "data"),
        parquet("data/u.parquet", id=[1])),
    "empty directory": Case("{type: parquet, path: d}", CHECK, ("no .parquet", "/d"),
        lambda folder: (folder / "d").mkdir()),
    "missing column": Case("{path: u.parquet, columns: [id, nam]}", PLAN,
        ("u.parquet has no column 'nam'", "did you mean 'name'?"), USERS),
    "missing key": Case("u.parquet", PLAN, ("no column 'idd'", "mean 'id'?"), USERS,
        "'sqlite:///t.db#u'", "    mode: merge\n    key: [idd]\n"),
    "truncated parquet": Case("u.parquet", PLAN, ("u.parquet cannot be read as Parquet",
        "truncated"), damaged(-40, None)),
    "empty parquet": Case("u.parquet", PLAN, ("u.parquet cannot", "0 bytes"),
        file("u.parquet", "")),
    "no parquet": Case("u.parquet", PLAN, ("u.parquet cannot", "another format"),
        file("u.parquet", "id,name\n1,a\n" * 9)),
    "parquet with a damaged page": Case("u.parquet", RUN, ("u.parquet cannot be read", "damaged"),
        damaged(100, 2100, b"\x55" * 2000)),
    "files that differ in columns": Case("d", PLAN, ("b.parquet does not go with", "a.parquet",
        "a.parquet has no column 'x'", "`columns: [id]`"),
        both(parquet("d/a.parquet", id=[1]), parquet("d/b.parquet", id=[1], x=[1]))),
    "files that differ in types": Case("d", PLAN, ("b.parquet does not go", "'id'", "string"),
        both(parquet("d/a.parquet", id=[1]), parquet("d/b.parquet", id=["z"]))),
    "ragged csv": Case("a.csv", PLAN, ("a.csv, line 3", "3 columns"),
        file("a.csv", "id,n\n1,a\n2,b,c\n")),
    "csv in another encoding": Case("a.csv", PLAN, ("a.csv, line 3", "utf-8", "encoding"),
        file("a.csv", b"id,n\n1,a\n2,caf\xe9\n")),
    "csv misfit": Case("{path: a.csv, options: {types: {id: int64}}}", RUN,
        ("a.csv, line 3, column 'id'", "'x'", "int64", "types:"),
        file("a.csv", "id,n\n1,a\nx,b\n")),
    "csv without a line": Case("a.csv", PLAN, ("a.csv is empty", "header"), file("a.csv", "")),
    "csv.gz that is none": Case("a.csv.gz", PLAN, ("a.csv.gz cannot be read",),
        file("a.csv.gz", b"\x1f\x00\x08a,b\n1,2\n")),
    "json line that is not json": Case("a.jsonl", PLAN, ("a.jsonl, line 2", '{"a":2'),
        file("a.jsonl", '{"a":1}\n{"a":2\n{"a":3}\n')),
    "json line that is a list": Case("a.jsonl", PLAN, ("a.jsonl, line 2", "no JSON object"),
        file("a.jsonl", '{"a":1}\n[1]\n')),
    "json misfit": Case("{path: a.jsonl, options: {types: {a: int64}}}", RUN,
        ("a.jsonl, line 2, column 'a'", "int64"), file("a.jsonl", '{"a":1}\n{"a":"x"}\n')),
    "no arrow file": Case("a.arrow", PLAN, ("a.arrow cannot", "damaged"), file("a.arrow", "a,b\n")),
    "missing database": Case("'sqlite:///shp.db#users'", CHECK, ("no SQLite database", "shop.db"),
        sqlite("shop.db", "CREATE TABLE users (id INTEGER)")),
    "missing table": Case("'sqlite:///s.db#usrs'", PLAN, ("no table 'usrs'", "mean 'users'?"),
        SHOP),
    "missing database column": Case("{connection: 'sqlite:///s.db', table: users, columns: [idd]}",
        PLAN, ("no column 'idd'", "mean 'id'?"), SHOP),
    "no database": Case("'sqlite:///s.db#users'", PLAN, ("s.db", "not a database"),
        file("s.db", "hello" * 500)),
    "misfit in a database": Case("'sqlite:///s.db#users'", RUN, ("'n' is int64", "'x'", "types"),
        SHOP),
    "server that is down": Case("'postgresql://u:hushhush@127.0.0.1:1/d#users'", PLAN,
        ("u:***@127.0.0.1", "refused", "is the server up")),
    "home is the store": Case("u.parquet", CHECK, ("flows.yml:4", "the same place"), USERS,
        "u.parquet"),
    "home table is the store": Case("'sqlite:///s.db#users'", CHECK, ("the same place",), SHOP,
        "'sqlite:///s.db#users'"),
    "store inside the home": Case("d", CHECK, ("inside the home",), parquet("d/a.parquet", id=[1]),
        "d/out"),
    "replace what others wrote": Case("u.parquet", CHECK, ("did not write: mine.txt", "move it"),
        both(USERS, lambda folder: (folder / "o").mkdir(), file("o/mine.txt", "x")), "o"),
    "replace a file of others": Case("u.parquet", CHECK, ("o.csv is a file that hygge did not",),
        both(USERS, file("o.csv", "x")), "o.csv"),
    "replace a table of others": Case("u.parquet", CHECK, ("s.db#users", "hygge did not make it"),
        both(USERS, SHOP), "'sqlite:///s.db#users'"),
    "append to one file": Case("u.parquet", CHECK, ("cannot be appended to", "directory"),
        both(USERS, file("o.csv", "x")), "o.csv", "    mode: append\n"),
    "folder below a file": Case("u.parquet", CHECK, ("plain/o cannot be written", "Not a directory",
        "another path"), both(USERS, file("plain", "x")), "plain/o"),
    "file below a file": Case("u.parquet", CHECK, ("plain/o.csv cannot be written",),
        both(USERS, file("plain", "x")), "plain/o.csv"),
    "database below a file": Case("u.parquet", CHECK, ("plain", "Not a directory"),
        both(USERS, file("plain", "x")), "'sqlite:///plain/o.db#t'"),
    "folder that takes nothing": Case("u.parquet", CHECK, ("/proc/none/o cannot be written",),
        USERS, "/proc/none/o"),
}  # fmt: skip

HOMES = {
    "raises": ("yield pa.table({'a': [1]})\n        raise ValueError('boom')",
        ("Mine raised ValueError: boom", "own.py:6", "--debug")),
    "raises in a library": ("yield pa.table({'a': [1]})['b']",
        ("Mine raised KeyError: 'Field \"b\"", "own.py:5")),
    "raises what a store might": ("raise PermissionError(13, 'no')\n        yield",
        ("Mine raised PermissionError", "own.py:5")),
    "raises what cannot travel": ("raise Odd(1, 2)\n        yield",
        ("Mine raised Odd: odd 1 2", "own.py:5")),
    "yields a dict": ("yield {'a': [1]}", ("Mine: batch 1 is a dict", "DataFrame")),
    "yields differing columns": ("yield pa.table({'a': [1]})\n        "
        "yield pa.table({'b': [1]})", ("Mine: batch 2 lacks a and has b besides", "NULL")),
    "yields differing types": ("yield pa.table({'a': [1]})\n        "
        "yield pa.table({'a': ['x']})", ("Mine: batch 2: column 'a'", "string", "pa.schema")),
    "returns": ("return [1]", ("Mine.read_batches returns instead of yielding", "yield df")),
    "ends the process": ("yield pa.table({'a': [1]})\n        raise SystemExit(3)",
        ("Mine ended the process with sys.exit(3)", "own.py:6")),
    "is cancelled": ("import asyncio\n        raise asyncio.CancelledError('late')\n        yield",
        ("Mine gave up something that it waited for: CancelledError late", "own.py:6")),
}  # fmt: skip
ODD = "class Odd(Exception):\n    def __init__(self, a, b): super().__init__(f'odd {a} {b}')\n"


def home_class(body: str) -> str:
    # `Odd` stands below, so that the numbers of the lines stay the same.
    return f"{OWN}class Mine(Home):\n    async def read_batches(self):\n        {body}\n{ODD}"
