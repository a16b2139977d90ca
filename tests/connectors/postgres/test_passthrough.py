"""PostgreSQL into PostgreSQL: COPY is passed through, and every type arrives as it was."""

from __future__ import annotations

import json

import psycopg
import pyarrow as pa
import pytest

from hygge.batches import raw_format, raw_schema, raw_table
from hygge.connectors.databases.home import SQLHome
from hygge.errors import HyggeError, StoreError
from hygge.model import Run, Ticket
from tests.servers.postgres import Heard, flow, store_at

pytest_plugins = ["tests.servers.postgres"]

# This server is built without xml: its column holds NULL.
BUILTIN = """
    i2 smallint, i4 integer NOT NULL, i8 bigint, n numeric, np numeric(15,2), nn numeric(5,-2),
    f4 real, f8 double precision, m money, t text, vc varchar(10), ch char(5), b bytea,
    bo boolean, d date, ti time, tiz timetz(3), ts timestamp, tsz timestamptz(2), iv interval,
    ivd interval day to second(2), u uuid, j json, jb jsonb, x xml, ip inet, ci cidr, ma macaddr,
    ma8 macaddr8, bi bit(5), vb bit varying(9), po point, li line, ls lseg, bx box, pa path,
    pg polygon, ce circle, r4 int4range, r8 int8range, rn numrange, rt tsrange, rz tstzrange,
    rd daterange, mr int4multirange, tv tsvector, jp jsonpath, ai integer[],
    at text[], an numeric(6,2)[], aa int[][], lsn pg_lsn, na name, o oid, c "char", co text
    COLLATE "C"
"""
ROWS = [
    """(1, 2, 9223372036854775807, 1e77 + 1.000000000000000000000000001, 1.50, 12300, 1.1, 'NaN',
    '$1,234.56', E'tab\\t\\\\N "q" \\n 😀', 'a  ', 'ab', '\\x00ff5c', true, '4713-01-01 BC',
    '24:00', '12:34:56.789+05:30', '294276-12-31 23:59:59.999999', '2024-01-01 00:00:00.12+02',
    '1 year -2 days 03:00:00.000001', '5 days 01:02:03.45',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"b": 1, "a":  [1.0]}', '{"n": 9007199254740993}',
    NULL, '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
    B'10101', B'1', '(1.5,-2)', '{1,2,3}', '[(0,0),(1,1)]', '((1,1),(0,0))', '((0,0),(1,1))',
    '((0,0),(1,1),(1,0))', '<(0,0),2>', '[1,5)', '(,7]', '[1.5,2.5]', '[2024-01-01,infinity]',
    '[2024-01-01 00:00+00,)', 'empty', '{[1,3),[5,7)}', 'a:1A b:2', '$.a[*]',
    '{1,NULL,3}', '{"",NULL,"NULL","a,b"}', '{1.50}', '{{1,2},{3,4}}', '16/B374D848', 'name', 42,
    'x', 'é')""",
    """(NULL, 3, NULL, 'NaN', '-0.01', -45600, '-Infinity', '-0', '-$0.01', '', '', '', '', false,
    'infinity', '00:00', '00:00-15', '-infinity', 'infinity', '-178000000 years', '0',
    NULL, 'null', '"x"', NULL, '::1', '::/0', NULL, NULL, B'00000', B'', NULL, NULL, NULL, NULL,
    '[(0,0),(1,1)]', NULL, NULL, 'empty', NULL, NULL, NULL, NULL, '[2024-01-01,2024-02-01)', '{}',
    '', 'strict $', '{}', '{}', NULL, '[2:3][0:1]={{5,6},{7,8}}', NULL, '', NULL, '', NULL)""",
]


def equal_rows(pg, one, two):
    """Compare two tables, row by row as text, and their columns' types; return the row count."""
    asked = "SELECT t::text FROM {} t ORDER BY 1"
    kinds = (
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attcollation "
        "FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0 ORDER BY attnum"
    )
    rows = pg.ask(asked.format(one))
    assert pg.ask(asked.format(two)) == rows
    assert pg.ask(kinds.format(two)) == pg.ask(kinds.format(one))
    return len(rows)


def pass_through(pg, schema, mode="replace", cursor=None):
    """Move `s` to `t`; return the format of the passthrough, or None, and the report."""
    heard, formats = Heard(), []
    home = SQLHome("s", table=f"{schema}.s", connection=pg.url, cursor=cursor)
    store = store_at(pg.url, schema)
    real = type(store).prepare

    class Seen(type(store)):
        def prepare(self, run, columns):
            formats.append(raw_format(columns))
            real(self, run, columns)

    store.__class__ = Seen
    report = flow(home, store, mode=mode, key=["id"] if mode == "merge" else []).run(heard)
    assert report.rows == report.applied + report.superseded
    return formats[0], report


def test_every_built_in_type_arrives_as_it_was(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.s ({BUILTIN})")
    for row in ROWS:
        pg.ask(f"INSERT INTO {schema}.s VALUES {row}")
    form, report = pass_through(pg, schema)
    assert (form, report.rows) == ("pgcopy-binary", 2)
    assert equal_rows(pg, f"{schema}.s", f"{schema}.t") == 2
    form, _ = pass_through(pg, schema)  # onto a table that is there
    assert form == "pgcopy-binary"
    assert equal_rows(pg, f"{schema}.s", f"{schema}.t") == 2
    # PostgreSQL does not read back the binary form of an empty tsquery.
    for table in ("s", "t"):
        pg.ask(f"ALTER TABLE {schema}.{table} ADD q tsquery, ADD r tsquery[]")
    pg.ask(f"UPDATE {schema}.s SET q = '', r = ARRAY['a & !b', '']::tsquery[]")
    form, _ = pass_through(pg, schema)
    assert form == "pgcopy-text"
    assert equal_rows(pg, f"{schema}.s", f"{schema}.t") == 2


def test_types_of_a_database_arrive_as_they_were_by_text(pg, schema):
    with pg.connect() as people:
        people.execute(f"CREATE TYPE {schema}.\"Mood's\" AS ENUM ('sad', 'a \"b\"', 'ok')")
        people.execute(f"CREATE TYPE {schema}.pair AS (a int, b text)")
        people.execute(f"CREATE DOMAIN {schema}.positive AS int CHECK (value > 0)")
        people.execute(f"CREATE TYPE {schema}.span AS RANGE (subtype = float8)")
        people.execute(
            f'CREATE TABLE {schema}.s (id int PRIMARY KEY, e {schema}."Mood\'s", '
            f'p {schema}.pair, d {schema}.positive, r {schema}.span, ae {schema}."Mood\'s"[], '
            f"k regclass, ap {schema}.pair[])"
        )
        people.execute(
            f"INSERT INTO {schema}.s VALUES (1, 'a \"b\"', '(1,\"x,\\\\\"\"\")', 5, '[1.5,2)', "
            f"ARRAY['sad', NULL]::{schema}.\"Mood's\"[], 'pg_class', "
            f"ARRAY[(1, NULL)::{schema}.pair]), "
            "(2, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
        )
    form, _ = pass_through(pg, schema)
    assert form == "pgcopy-text"
    assert equal_rows(pg, f"{schema}.s", f"{schema}.t") == 2
    keys = f"SELECT conname FROM pg_constraint WHERE conrelid = '{schema}.t'::regclass"
    assert ("t_pkey",) in pg.ask(keys + " AND contype = 'p'")


def test_appending_passes_too_where_the_columns_fit(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.s (id int, r int4range)")
    pg.ask(f"INSERT INTO {schema}.s SELECT g, int4range(g, g + 1) FROM generate_series(1, 5000) g")
    pg.ask(f"CREATE TABLE {schema}.t (r int4range, id int, more text DEFAULT 'x')")
    form, _ = pass_through(pg, schema, mode="append")
    assert form == "pgcopy-binary"
    assert pg.ask(f"SELECT DISTINCT more FROM {schema}.t") == [("x",)]
    form, report = pass_through(pg, schema, mode="append")
    assert (form, report.rows) == ("pgcopy-binary", 5000)
    found = pg.ask(f"SELECT id, r, count(*) FROM {schema}.t GROUP BY 1, 2")
    assert len(found) == 5000
    assert {count for _, _, count in found} == {2}


def test_merging_passes_too_and_compares_keys_as_the_target_does(pg, schema):
    pg.ask(f"CREATE TYPE {schema}.mood AS ENUM ('a', 'b')")
    pg.ask(f"CREATE TABLE {schema}.s (id uuid, at int, r int4range, m {schema}.mood)")
    key = "('00000000-0000-0000-0000-' || lpad((g % 700)::text, 12, '0'))::uuid"
    pg.ask(
        f"INSERT INTO {schema}.s SELECT {key}, g, int4range(g, g + 1), "
        f"CASE WHEN g % 2 = 0 THEN 'a' ELSE 'b' END::{schema}.mood FROM generate_series(1, 1000) g"
    )
    form, report = pass_through(pg, schema, mode="merge", cursor="at")
    assert (form, report.applied, report.superseded) == ("pgcopy-text", 700, 300)
    last = f"(SELECT DISTINCT ON (id) * FROM {schema}.s ORDER BY id, at DESC)"
    same = f"SELECT count(*) FROM {schema}.t t JOIN {last} s USING (id) WHERE t::text = s::text"
    assert pg.ask(same) == [(700,)]
    kind = f"SELECT pg_typeof(r)::text FROM {schema}.t LIMIT 1"
    assert pg.ask(kind) == [("int4range",)]
    pg.ask(f"UPDATE {schema}.s SET at = at + 1000, m = 'b' WHERE at <= 10")
    form, report = pass_through(pg, schema, mode="merge", cursor="at")
    # Ten new rows, and the one at the watermark, which a merge reads again.
    assert (form, report.applied) == ("pgcopy-text", 11)
    assert pg.ask(same) == [(700,)]


def run_of(pg, schema, columns, chunks, mode="replace", form="binary", rows=None):
    """Take a run of a passthrough to its end; `chunks` are the splits' bytes and rows."""
    store, run = store_at(pg.url, schema), Run("r1", "f", mode)
    about = {"columns": columns, "key": ["id"], "server": 180000}
    raw = raw_schema("pgcopy", json.dumps(about))
    names = pa.schema([(each["name"], pa.string()) for each in columns])
    taken = store.takes(run, raw, names)
    if taken is None:
        return None
    assert raw_format(taken) == f"pgcopy-{form}"
    base = store.head("f")
    store.prepare(run, taken)
    receipts = []
    for at, (data, count) in enumerate(chunks):
        pieces = [data[n : n + 1000] for n in range(0, len(data), 1000)]
        pieces = [b"d" + (len(each) + 4).to_bytes(4, "big") + each for each in pieces]
        counts = [0] * (len(pieces) - 1) + [count if rows is None else rows]
        batches = (raw_table(taken, p, c) for p, c in zip(pieces, counts, strict=True))
        receipts.append(store.stage(Ticket("r1", at), taken, batches))
    commit = store.commit(run, base, receipts, None)
    store.discard(run)
    return commit


SCHEMA = pa.schema([("id", pa.int64())])


def column(name, kind, builtin=True, nullable=True, collation=None):
    return {"name": name, "type": kind, "builtin": builtin, "nullable": nullable,
            "collation": collation}  # fmt: skip


def copied(pg, sql, form="binary"):
    with pg.connect() as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT {form})") as copy:
            data = b"".join(bytes(each) for each in copy)
        return data, cursor.rowcount


def test_chunks_that_end_anywhere_are_loaded_as_they_are(pg, schema):
    columns = [column("id", "bigint", nullable=False), column("v", "text")]
    asked = "SELECT g::bigint, repeat('é', g % 50) FROM generate_series({}, {}) g"
    chunks = [copied(pg, asked.format(1, 3000)), copied(pg, asked.format(3001, 3500))]
    commit = run_of(pg, schema, columns, chunks)
    assert commit.applied == 3500
    assert commit.head.columns == (("id", "bigint"), ("v", "text"))
    found = pg.ask(f"SELECT count(*), sum(id), sum(length(v)) FROM {schema}.t")
    assert found == pg.ask("SELECT count(*), sum(g), sum(g % 50) FROM generate_series(1, 3500) g")


def test_rows_that_the_server_counts_otherwise_fail_the_split(pg, schema):
    columns = [column("id", "bigint")]
    data, count = copied(pg, "SELECT g::bigint FROM generate_series(1, 10) g")
    with pytest.raises(StoreError, match="took 10 rows, but 9 were sent"):
        run_of(pg, schema, columns, [(data, count)], rows=9)


def test_what_does_not_fit_is_an_error_or_not_taken(pg, schema):
    known = column("id", "bigint")
    pg.ask(f"CREATE TABLE {schema}.t (id integer)")
    with pytest.raises(StoreError, match="'id' is integer, which cannot keep bigint exactly"):
        run_of(pg, schema, [known], [], mode="append")
    with pytest.raises(HyggeError, match="did not make it"):
        run_of(pg, schema, [column("id", "integer")], [])
    labels = store_at(pg.url, schema)
    assert labels.takes(Run("r", "f"), raw_schema("other", "{}"), pa.schema([])) is None
    assert labels.takes(Run("r", "f"), raw_schema("pgcopy", '{"columns": []}'), SCHEMA) is None


@pytest.mark.parametrize(
    ("odd", "kind", "note"),
    [
        (column("id", "no_such_type", builtin=False), "text", "no type no_such_type"),
        (column("id", "int); DROP TABLE x; --"), "text", "no type int); DROP"),
        (column("id", "text", collation='"no such"'), "text", "no collation"),
    ],
)  # fmt: skip
def test_a_type_that_is_not_here_becomes_text_and_is_noted(pg, schema, odd, kind, note):
    raw = raw_schema("pgcopy", json.dumps({"columns": [odd, column("u", "uuid")]}))
    names = pa.schema([("id", pa.string()), ("u", pa.string())])
    store = store_at(pg.url, schema)
    taken = store.takes(Run("r1", "f"), raw, names)
    assert note in store.remarks(taken)[0]
    store.prepare(Run("r1", "f"), taken)
    kinds = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute a JOIN pg_class c "
        f"ON c.oid = attrelid WHERE relname LIKE '%_rows' AND attnum > 0 "
        f"AND relnamespace = '{schema}'::regnamespace"
    )
    assert pg.ask(kinds) == [("id", kind), ("u", "uuid")]


def test_labels_that_an_enum_here_does_not_have_fail_the_split(pg, schema):
    other = pg.schema()
    pg.ask(f"CREATE TYPE {schema}.mood AS ENUM ('a', 'b')")
    pg.ask(f"CREATE TYPE {other}.mood AS ENUM ('a')")
    data = copied(pg, f"SELECT 1, 'b'::{schema}.mood", "text")
    columns = [column("id", "integer"), column("m", f"{other}.mood", builtin=False)]
    with pytest.raises(HyggeError, match='enum.*mood: "b"'):
        run_of(pg, schema, columns, [data], form="text")
    with pytest.raises(psycopg.errors.UndefinedTable):
        pg.ask(f"SELECT * FROM {schema}.t")
