"""PostgreSQL by ranges of a key, beyond a cursor, and passed through as its own COPY."""

from __future__ import annotations

import json
import re
from collections import Counter

import psycopg
import pytest

from hygge import SQLHome
from hygge.batches import raw_schema, rows_in
from hygge.connectors.postgres import splits as pg_splits
from hygge.connectors.sql.splits import how_many
from hygge.errors import ConfigError, HomeError
from tests.connectors.postgres.test_home import each_once, home_of, numbers, rows_of
from tests.servers.postgres import unframed

pytest_plugins = ["tests.servers.postgres"]


def keyed(pg, schema, kind, made, count=600):
    pg.ask(f"CREATE TABLE {schema}.t (n int, k {kind})")
    pg.ask(f"INSERT INTO {schema}.t SELECT n, {made} FROM generate_series(1, {count}) n")
    pg.ask(f"INSERT INTO {schema}.t SELECT -n, NULL FROM generate_series(1, 40) n")
    pg.ask(f"ANALYZE {schema}.t")
    return [(n,) for n in (*range(1, count + 1), *range(-40, 0))]


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("int", "n"),
        ("bigint", "n * 1000000007::bigint * CASE WHEN n % 2 = 0 THEN -1 ELSE 1 END"),
        ("numeric", "n / 7.0"),
        ("date", "date '2020-01-01' + n"),
        ("timestamp", "timestamp '2020-01-01' + n * interval '1 second'"),
        ("timestamptz", "timestamptz '2020-01-01' + n * interval '1 microsecond'"),
        ("uuid", "md5(n::text)::uuid"),
        ("text", "CASE WHEN n % 3 = 0 THEN 'ä' ELSE 'Z' END || '''\\' || n"),
        ("char(20)", "n::text"),
        ("bytea", "decode(md5(n::text), 'hex')"),
    ],
)
@pytest.mark.parametrize("consistency", ["snapshot", "split"])
def test_ranges_of_any_key_hold_every_row_once(pg, schema, kind, made, consistency):
    wanted = keyed(pg, schema, kind, made)
    home = home_of(
        pg, f"{schema}.t", 4, split_by="k", columns=["n"], options={"consistency": consistency}
    )
    plan, parts = rows_of(home)
    assert Counter(row["n"] for part in parts for row in part) == Counter(n for (n,) in wanted)
    assert 4 <= len(parts) <= 6
    assert max(map(len, parts)) < 400  # nothing is skewed here
    assert {split.version for split in plan.splits} == {"split" if consistency == "split" else ""}


def test_text_is_compared_by_the_collation_of_the_column(pg, schema):
    nocase = f"{schema}.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    try:
        pg.ask(f"CREATE COLLATION {nocase}")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server was built without ICU")
    pg.ask(f"CREATE TABLE {schema}.t (n int, k text COLLATE {schema}.nocase)")
    pg.ask(f"INSERT INTO {schema}.t SELECT n, CASE WHEN n % 2 = 0 THEN 'a' ELSE 'A' END "
           "|| n / 4 FROM generate_series(1, 600) n")  # fmt: skip
    each_once(home_of(pg, f"{schema}.t", 4, split_by="k", columns=["n"]),
              [(n,) for n in range(1, 601)], 4)  # fmt: skip


def test_composite_keys_with_nulls_anywhere(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (n int, a int, b text)")
    pg.ask(f"INSERT INTO {schema}.t SELECT n, nullif(n % 5, 3), nullif(n % 7, 2)::text "
           "FROM generate_series(1, 700) n")  # fmt: skip
    home = home_of(pg, f"{schema}.t", 5, split_by=["a", "b"], columns=["n"])
    plan = each_once(home, [(n,) for n in range(1, 701)], 5)
    assert "5 splits by a, b; no index begins with a" in plan.reason
    pg.ask(f"CREATE INDEX ON {schema}.t (a, b)")
    assert "no index" not in each_once(home, [(n,) for n in range(1, 701)], 5).reason
    with pytest.raises(ConfigError, match="2 columns is not built"):
        SQLHome("t", connection="sqlite:///x.db", split_by=["a", "b"])


def test_a_primary_key_without_an_order_splits_by_what_of_it_has_one(pg, schema):
    for columns, splits in (("k int, j jsonb, PRIMARY KEY (k, j)", 6), ("k inet PRIMARY KEY", 1)):
        made = "'{}'" if "json" in columns else ""
        key = "n, '{}'" if made else "'10.0.0.0'::inet + n"
        pg.ask(f"CREATE TABLE {schema}.t{splits} ({columns})")
        pg.ask(f"INSERT INTO {schema}.t{splits} SELECT {key} FROM generate_series(1, 1000) n")
        home = home_of(pg, f"{schema}.t{splits}", 5, options={"consistency": "split"})
        plan, parts = rows_of(home)
        assert len({str(row["k"]) for part in parts for row in part}) == 1000
        assert len(plan.splits) == splits or splits > 1


@pytest.mark.parametrize("kind", ["text", "int"])
def test_bounds_that_are_not_in_order_make_no_ranges(pg, schema, kind, monkeypatch):
    made = "n::text" if kind == "text" else "n * 1000"
    wanted = keyed(pg, schema, kind, made)
    monkeypatch.setattr(pg_splits, "ROWS_PER_SPLIT", 100)
    analyzed = home_of(pg, f"{schema}.t", 4, split_by="k", columns=["n"])
    assert "4 splits" in each_once(analyzed, wanted, 4).reason
    wrong = [str(n) for n in (100000, 900000, 5, 300000, 200000, 500000)]
    monkeypatch.setattr(pg_splits, "_histogram", lambda *_: wrong)
    assert "in order" in each_once(analyzed, wanted, 1).reason


def test_skewed_keys_make_ranges_that_may_be_empty(pg, schema):
    wanted = keyed(pg, schema, "int", "CASE WHEN n < 500 THEN 7 ELSE n * 1000000 END")
    each_once(home_of(pg, f"{schema}.t", 6, split_by="k", columns=["n"]), wanted)
    pg.ask(f"UPDATE {schema}.t SET k = 7")
    each_once(home_of(pg, f"{schema}.t", 6, split_by="k", columns=["n"]), wanted)


def test_bounds_of_integers_stay_the_same_while_a_table_grows(pg, schema):
    numbers(pg, schema, 3000, "PRIMARY KEY")
    home = home_of(pg, f"{schema}.t", 8, options={"consistency": "split"})
    with home.open() as before:
        pass
    pg.ask(f"INSERT INTO {schema}.t SELECT n, 'y' FROM generate_series(3001, 3100) n")
    with home.open() as after:
        pass
    assert "by n, its primary key" in after.reason
    same = [a.where == b.where for a, b in zip(before.splits, after.splits, strict=False)]
    assert same.count(True) >= len(before.splits) - 1


def test_without_a_key_split_by_split_is_one_split(pg, schema):
    wanted = numbers(pg, schema)
    home = home_of(pg, f"{schema}.t", 8, options={"consistency": "split"})
    plan = each_once(home, wanted, 1)
    assert "no primary key" in plan.reason
    assert "as of its split's read" in plan.reason
    assert plan.splits[0].version == "split"
    assert "kept" in plan.dead_driver


def test_a_type_without_an_order_cannot_split(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (k json)")
    with pytest.raises(ConfigError, match="'k' is json"):
        home_of(pg, f"{schema}.t", split_by="k").open().__enter__()


# Cursors


@pytest.mark.parametrize(
    ("kind", "made", "form"),
    [
        ("int", "n", lambda n: n),
        ("numeric(12,2)", "n / 2.0", lambda n: f"{n / 2:.2f}"),
        ("date", "date '2019-12-31' + n", r"20\d\d-\d\d-\d\d"),
        ("timestamptz", "timestamptz '2020-01-01' + n * interval '1 microsecond'",
         r"2020-01-01T00:00:00\.\d{6}\+00:00"),
        ("text", "lpad(n::text, 9, '0')", lambda n: f"{n:09}"),
    ],
)  # fmt: skip
def test_a_cursor_reads_what_is_beyond_the_watermark(pg, schema, kind, made, form):
    pg.ask(f"CREATE TABLE {schema}.t (n int, c {kind})")
    put = f"INSERT INTO {schema}.t SELECT n, {made} FROM generate_series({{}}, {{}}) n"
    pg.ask(put.format(1, 100))
    home = home_of(pg, f"{schema}.t", 3, columns=["n"], cursor="c")
    plan, parts = rows_of(home)
    assert sorted(row["n"] for part in parts for row in part) == list(range(1, 101))
    if callable(form):
        assert plan.watermark == form(100)
    else:
        assert re.fullmatch(form, plan.watermark)
    pg.ask(put.format(101, 150))
    fresh, parts = rows_of(home, plan.watermark)
    came = sorted(row["n"] for part in parts for row in part)
    assert came == list(range(101, 151))
    assert rows_of(home, fresh.watermark)[0].watermark == fresh.watermark


def test_ties_and_rows_without_a_cursor_are_decided_by_the_user(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (n int, c int)")
    pg.ask(f"INSERT INTO {schema}.t VALUES (1, 1), (2, 2), (3, NULL)")
    home = home_of(pg, f"{schema}.t", cursor="c")
    plan, parts = rows_of(home)
    assert len(parts[0]) == 3
    assert "'c' is NULL in 1 row:" in plan.reason
    with pytest.raises(HomeError, match="'c' is NULL in"):
        rows_of(home, 1)
    for options, wanted in (
        ({"null_cursor": "skip"}, [2]),
        ({"null_cursor": "read"}, [2, 3]),
        ({"null_cursor": "skip", "cursor_ties": "read"}, [1, 2]),
    ):
        _, parts = rows_of(home_of(pg, f"{schema}.t", cursor="c", options=options), 1)
        assert sorted(row["n"] for part in parts for row in part) == wanted
    pg.ask(f"DELETE FROM {schema}.t WHERE c IS NOT NULL")
    skip = home_of(pg, f"{schema}.t", cursor="c", options={"null_cursor": "skip"})
    assert rows_of(skip, 7)[0].watermark == 7  # deleted rows do not take it back
    pg.ask(f"TRUNCATE {schema}.t")
    plan, parts = rows_of(home)
    assert (plan.watermark, parts) == (None, [[]])


# Passing through


@pytest.mark.parametrize("form", ["binary", "text"])
def test_passing_through_gives_just_the_stream_of_one_copy(pg, schema, form):
    numbers(pg, schema, 5000)
    home = home_of(pg, f"{schema}.t", 3, options={"batch_bytes": 300_000})
    copied = 0
    with home.open() as plan, pg.connect() as connection:
        passing = home.passing(raw_schema(f"pgcopy-{form}", "{}"))
        for split in plan.splits:
            tables = list(passing.read(split))
            stream = b"".join(unframed(b"".join(table["raw"][0].as_py() for table in tables)))
            where = split.where["sql"].partition(" WHERE ")[2]
            with connection.cursor().copy(
                f"COPY (SELECT n, v FROM {schema}.t WHERE {where}) TO STDOUT (FORMAT {form})"
            ) as copy:
                assert stream == b"".join(copy)
            counted = sum(map(rows_in, tables))
            assert counted == sum(table.num_rows for table in home.read(split))
            copied += counted
    assert copied == 5000
    pg.ask(f"TRUNCATE {schema}.t")
    with home.open() as plan:
        (table,) = home.passing(raw_schema("pgcopy-binary", "{}")).read(plan.splits[0])
        assert rows_in(table) == 0
        assert list(home.passing(raw_schema("pgcopy-text", "{}")).read(plan.splits[0])) == []


def test_what_is_turned_is_not_offered_as_it_is(pg, schema):
    pg.ask(f"CREATE TYPE {schema}.mood AS ENUM ('x')")
    pg.ask(f"CREATE TABLE {schema}.t (n int PRIMARY KEY, m {schema}.mood, r regclass, a int[])")
    with home_of(pg, f"{schema}.t").open() as plan:
        about = plan.raw.metadata[b"hygge.about"].decode()
    told = re.findall(r'"type": "([^"]+)", "builtin": (\w+)', about)
    assert told == [("integer", "true"), (f"{schema}.mood", "false"), ("regclass", "false"),
                    ("integer[]", "true")]  # fmt: skip
    assert '"key": ["n"]' in about
    for options, told in (
        ({"types": {"n": "string"}}, {"type": "text", "as_text": True}),
        ({"types": {"n": "int64"}}, {"type": "integer", "by_value": True}),
        ({"on_value": {"n": "set_null"}}, {"type": "integer"}),
    ):
        with home_of(pg, f"{schema}.t", options=options).open() as plan:
            (n, *others) = json.loads(plan.raw.metadata[b"hygge.about"])["columns"]
        ways = ("type", "as_text", "by_value")
        assert {key: value for key, value in n.items() if key in ways} == told
        assert not any("as_text" in column or "by_value" in column for column in others)


def test_parts_are_the_larger_the_less_they_are_kept_or_divided():
    counts = [how_many("auto", 6_000_000, 150, lanes) for lanes in (None, 1, 2, 8)]
    assert counts == [30, 2, 8, 30]
    assert [how_many(3, 10, 1, lanes) for lanes in (None, 1)] == [3, 3]
