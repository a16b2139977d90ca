"""Rows that break a rule of the table (CHECK, UNIQUE, a foreign key) are set aside.

All others come. Each database is asked for the same rows, in its own way.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import duckdb
import pyarrow as pa
import pytest

from hygge import Flow, SQLStore
from hygge.connectors.sqlite.rules import checks_in
from hygge.errors import FlowFailed
from hygge.journal.bad_files import BadFiles
from hygge.model import Limits
from hygge.places.place import place_at
from tests.bad_rows.test_stores import Rows

pytest_plugins = ["tests.servers.mariadb", "tests.servers.postgres"]
COUNT = 3_000
REFUSED = {5: "negative", 700: "taken", 1600: "lost", 2400: "twice", 2999: "twice and negative"}
"""Rows of the batch that the table refuses, by id."""


def rows(has_keys: bool) -> pa.Table:
    """Rows that are all right but for those of REFUSED; without `has_keys` no shop is missing."""
    code = [f"c{n}" for n in range(COUNT)]
    total, shop = [1] * COUNT, [n % 3 for n in range(COUNT)]
    shop[17] = None  # refers to nothing, and may
    total[5] = total[2999] = -1
    code[700] = "old"
    if has_keys:
        shop[1600] = 99
    code[2400] = code[2999] = "c2399"
    kinds = {"id": pa.int64(), "code": pa.string(), "total": pa.int32(), "shop": pa.int32()}
    values = {"id": range(COUNT), "code": code, "total": total, "shop": shop}
    return pa.table({name: pa.array(values[name], kind) for name, kind in kinds.items()})


def moved(tmp_path, store: SQLStore, table: pa.Table, mode: str = "append", **limits: object):
    """The report of a flow, and the bad rows of its run by id."""
    given = Limits(on_bad_row="set_aside", max_bad_share=1.0, **limits)
    state = str(tmp_path / "state")
    home = Rows(table.slice(0, 2000), table.slice(2000))
    flow = Flow(
        home, store, name="f", engine="inline", limits=given, mode=mode, key="id", state=state
    )
    report = flow.run()
    bad = BadFiles(place_at(state), "f").read(report.run).to_pylist() if report.set_aside else []
    return report, {json.loads(row["text"])["id"]: row for row in bad}


def check(report, bad, refused: set[int], kept: set[int]) -> None:
    assert set(bad) == refused
    assert (report.applied, report.set_aside) == (COUNT - len(refused), len(refused))
    assert report.rows_read == COUNT
    assert kept == {*range(COUNT), -1} - refused


DDL = [
    "CREATE TABLE {s}shops (id integer PRIMARY KEY)",
    "INSERT INTO {s}shops VALUES (0), (1), (2)",
    "CREATE TABLE {s}sales (id bigint PRIMARY KEY, code varchar(20) UNIQUE, total integer "
    "CHECK (total >= 0), shop integer, FOREIGN KEY (shop) REFERENCES {s}shops (id))",
    "INSERT INTO {s}sales VALUES (-1, 'old', 0, 0)",
]


@pytest.fixture(params=["postgres", "postgres by any driver", "mariadb", "sqlite", "duckdb"])
def place(request, tmp_path):
    """How to ask the database, the store, and whether it looks at foreign keys."""
    if request.param == "sqlite":
        path = tmp_path / "s.db"

        def ask(sql):
            with closing(sqlite3.connect(path)) as database:
                found = database.execute(sql).fetchall()
                database.commit()
                return found

        url, prefix = f"sqlite:///{path}", ""
    elif request.param == "duckdb":
        path = tmp_path / "s.duckdb"

        def ask(sql):
            with duckdb.connect(path) as database:
                return database.execute(sql).fetchall()

        url, prefix = f"duckdb:///{path}", ""
    elif request.param == "mariadb":
        my, schema = request.getfixturevalue("my"), request.getfixturevalue("my_schema")
        ask, url, prefix = my.ask, my.url(schema), f"{schema}."
    else:
        pg, schema = request.getfixturevalue("pg"), request.getfixturevalue("schema")
        url = pg.url
        if "any" in request.param:
            url = url.replace("postgresql://", "postgresql+psycopg2://")
        ask, prefix = pg.ask, f"{schema}."
    for sql in DDL:
        ask(sql.format(s=prefix))
    table = f"{prefix}sales" if request.param != "mariadb" else "sales"
    store = SQLStore("sales", connection=url, table=table)
    return ask, prefix, store, request.param != "sqlite"


def test_rows_that_break_a_rule_are_set_aside_and_all_others_come(tmp_path, place):
    ask, prefix, store, has_keys = place
    refused = {*REFUSED} - (set() if has_keys else {1600})
    report, bad = moved(tmp_path, store, rows(has_keys))
    check(report, bad, refused, {row[0] for row in ask(f"SELECT id FROM {prefix}sales")})
    assert "the check" in bad[5]["reason"]
    assert (bad[5]["column"], bad[5]["value"]) == ("total", "-1")
    assert "the table has a row of this key (code) already" in bad[700]["reason"]
    assert "an earlier row of the same split has this key (code)" in bad[2400]["reason"]
    if has_keys:
        assert "it refers to a row that" in bad[1600]["reason"]
    again, bad = moved(tmp_path, store, rows(has_keys).slice(0, 50), max_bad_rows=50)
    assert (again.applied, len(bad)) == (0, 50)  # all keys are there by now


def test_a_merge_updates_what_is_there_and_sets_aside_what_checks_and_keys_refuse(tmp_path, place):
    ask, prefix, store, has_keys = place
    table = rows(has_keys)
    codes = pa.array([f"m{n}" for n in range(COUNT)])
    table = table.set_column(1, "code", codes)
    refused = {5, 1600, 2999} if has_keys else {5, 2999}
    report, bad = moved(tmp_path, store, table, "merge")
    check(report, bad, refused, {row[0] for row in ask(f"SELECT id FROM {prefix}sales")})
    report, bad = moved(tmp_path, store, table, "merge")
    check(report, bad, refused, {row[0] for row in ask(f"SELECT id FROM {prefix}sales")})


def test_above_the_limit_the_run_fails_and_nothing_is_visible(tmp_path, place):
    ask, prefix, store, has_keys = place
    limit = 4 if has_keys else 3
    with pytest.raises(FlowFailed, match=f"{limit + 1} rows cannot be moved.*max_bad_rows"):
        moved(tmp_path, store, rows(has_keys), max_bad_rows=limit)
    assert ask(f"SELECT id FROM {prefix}sales") in ([(-1,)], ((-1,),))


def test_a_value_that_an_enum_does_not_have(tmp_path, pg, schema):
    pg.ask(f"CREATE TYPE {schema}.mood AS ENUM ('good', 'bad')")
    pg.ask(
        f"CREATE TABLE {schema}.t (id bigint PRIMARY KEY, v {schema}.mood CHECK (v <> 'bad'), "
        "d inet UNIQUE)"
    )
    moods, places = ["good"] * 100, [f"10.0.0.{n}" for n in range(100)]
    moods[7], moods[8] = "odd", "bad"
    places[50], places[60] = "nowhere", "10.0.0.61/32"  # the same as that of 61, in its type
    table = pa.table({"id": range(100), "v": moods, "d": places})
    store = SQLStore("t", connection=pg.url, table=f"{schema}.t")
    report, bad = moved(tmp_path, store, table)
    assert (set(bad), report.applied) == ({7, 8, 50, 61}, 96)


def test_what_still_fails_the_run_by_any_driver(tmp_path, pg, schema):
    """What cannot be asked for, such as a unique index of an expression."""
    pg.ask(f"CREATE TABLE {schema}.t (id bigint, code text)")
    pg.ask(f"CREATE UNIQUE INDEX ON {schema}.t (lower(code))")
    table = pa.table({"id": range(3), "code": ["a", "A", "b"]})
    store = SQLStore("t", connection=pg.url.replace("://", "+psycopg2://"), table=f"{schema}.t")
    with pytest.raises(FlowFailed, match="duplicate key"):
        moved(tmp_path, store, table)
    assert pg.ask(f"SELECT * FROM {schema}.t") == []


def test_a_trigger_may_mend_a_row_before_rules_are_looked_at(tmp_path, pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (id bigint PRIMARY KEY, n integer CHECK (n > 0))")
    pg.ask(
        f"CREATE FUNCTION {schema}.mend() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.n := abs(NEW.n); RETURN NEW; END'"
    )
    pg.ask(
        f"CREATE TRIGGER mend BEFORE INSERT ON {schema}.t FOR EACH ROW "
        f"EXECUTE FUNCTION {schema}.mend()"
    )
    table = pa.table({"id": [1, 2], "n": pa.array([1, -2], pa.int32())})
    store = SQLStore("t", connection=pg.url, table=f"{schema}.t")
    report, bad = moved(tmp_path, store, table)
    assert (report.applied, bad) == (2, {})


def test_the_checks_of_a_statement_of_sqlite():
    created = (
        "CREATE TABLE t (a int CHECK (a > (1)), b text DEFAULT ')' CHECK (b <> 'CHECK (x)'), "
        '"check" int, c -- CHECK (no)\n int, CONSTRAINT x check(a < c /* ) */), CHECK ((a)))'
    )
    assert checks_in(created) == ["a > (1)", "b <> 'CHECK (x)'", "a < c /* ) */", "(a)"]
