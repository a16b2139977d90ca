"""Appending to a table of PostgreSQL: a column takes its own type or a narrower one, or refuses."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, ParquetHome, SQLHome, SQLStore
from hygge.errors import FlowFailed, StoreError, UnfitValue
from hygge.model import Run, Ticket
from hygge.report.text import plan_text
from tests.servers.postgres import store_at

pytest_plugins = ["tests.servers.postgres"]

ROUNDED = [
    ("numeric(6,2)[]", "numeric(5,1)[]", "{1.25,2.75}"),
    ("timestamp[]", "timestamp(0)[]", '{"2024-01-01 12:34:56.789"}'),
    ("timetz", "timetz(0)", "10:00:00.7+00"),
    ("float8[]", "real[]", "{0.1234567890123}"),
    ("interval", "interval(0)", "1.7 s"),
    ("interval", "interval year", "1 year 2 days"),
    ("numeric", "money", "1.239"),
    ("numeric", "numeric(5,1)", "1.25"),
    ("numeric(9,3)", "numeric(9,2)", "1.255"),
    ("text", "name", "n" * 70),
    ("text", '"char"', "ab"),
    ("text", "varchar(1)", "x  "),
    ("varchar(3)", "varchar(2)", "x  "),
    ("text", "char(4)", "x"),
    ("text", "interval", "1.12345678 s"),
    ("time", "time(3)", "10:00:00.1234"),
    ("varbit(9)", "varbit(4)", "101"),
    ("json", "jsonb", '{"a": 1, "a": 2}'),
    ("bigint", "integer", "1"),
    ("double precision", "real", "0.1"),
    ("timestamp", "timestamptz", "2024-01-01"),
    ("date", "timestamp", "2024-01-01"),
]
WIDER = [
    ("varchar(3)", "varchar(4)", "x  "),
    ("varchar(3)", "text", "x  "),
    ("char(3)", "text", "x"),
    ("name", "text", "x"),
    ("uuid", "text", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("text", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("text", "jsonb", '{"a": 1}'),
    ("varchar(9)", "numeric", "1.2345"),
    ("numeric(6,2)", "numeric(8,3)", "1.25"),
    ("numeric(6,2)[]", "numeric[]", "{1.25,NULL}"),
    ("smallint[]", "bigint[]", "{1,NULL}"),
    ("integer", "numeric(10,0)", "7"),
    ("integer", "double precision", "7"),
    ("real", "double precision", "0.5"),
    ("timestamp(0)", "timestamp(3)", "2024-01-01 12:00:01"),
    ("interval(2)", "interval", "1.25 s"),
    ("bit(3)", "varbit(5)", "101"),
    ("inet", "inet", "10.0.0.1"),
]


def append(pg, schema, folder, **options):
    home = SQLHome("s", connection=pg.url, table=f"{schema}.s", options=options)
    store = SQLStore("t", connection=pg.url, table=f"{schema}.t")
    return Flow(home, store, name="f", mode="append", engine="inline", state=folder).run()


def moved(store, run, rows):
    base = store.head(run.flow)
    store.prepare(run, rows.schema)
    receipt = store.stage(Ticket(run.id, 0), rows.schema, iter([rows]))
    return store.commit(run, base, [receipt], None)


def both(pg, schema, cases):
    """Make a source `s` with a row, and a target `t`, of a column `v<number>` for each case."""
    for table, at, more in (("s", 0, ""), ("t", 1, ", more text DEFAULT 'd'")):
        columns = ", ".join(f"v{n} {case[at]}" for n, case in enumerate(cases))
        pg.ask(f"CREATE TABLE {schema}.{table} (id int, {columns}{more})")
    values = ", ".join(f"%s::text::{source}" for source, _, _ in cases)
    pg.ask(f"INSERT INTO {schema}.s SELECT 1, {values}", *[value for *_, value in cases])


BY_ARROW = {"types": {"id": "int16"}}
WAYS = pytest.mark.parametrize("options", [{}, BY_ARROW], ids=["copied", "by Arrow"])


def test_a_column_that_would_round_or_cut_is_an_error_before_rows_move(pg, schema):
    both(pg, schema, ROUNDED)
    store, run = store_at(pg.url, schema), Run("r1", "f", "append")
    for n, (source, target, _) in enumerate(ROUNDED):
        home = SQLHome("s", connection=pg.url, table=f"{schema}.s", columns=["id", f"v{n}"])
        with home.open() as plan:
            columns = pa.schema([(column.name, column.type) for column in plan.columns])
            taken = store.takes(run, plan.raw, columns)
        with pytest.raises(StoreError, match=f"column 'v{n}' is .*cannot keep .* exactly"):
            store.prepare(run, taken)
            pytest.fail(f"{target} does not keep {source}")


@WAYS
def test_what_was_refused_leaves_the_target_as_it_was(pg, schema, tmp_path, options):
    both(pg, schema, [ROUNDED[0], ("text", "text", "x")])
    with pytest.raises(FlowFailed, match=r"'v0' is numeric\(5,1\)\[\], which cannot keep numeric"):
        append(pg, schema, tmp_path, **options)
    assert pg.ask(f"SELECT * FROM {schema}.t") == []


@WAYS
def test_a_wider_column_takes_the_value_as_it_is(pg, schema, tmp_path, options):
    both(pg, schema, WIDER)
    append(pg, schema, tmp_path, **options)
    for n, (source, target, _) in enumerate(WIDER):
        shown = f"SELECT trim(TRAILING '0' FROM concat(v{n})) FROM {schema}"
        case = (source, target)
        assert (case, pg.ask(f"{shown}.t")) == (case, pg.ask(f"{shown}.s"))


@pytest.mark.parametrize(
    ("target", "text"),
    [("varchar(3)", "x   "), ("varchar(3)", "xxxx"), ("char(3)", "x   "), ("uuid", "nonsense")],
)
def test_a_text_that_does_not_fit_its_column_fails_the_run(pg, schema, target, text):
    pg.ask(f"CREATE TABLE {schema}.t (v {target})")
    store = store_at(pg.url, schema)
    with pytest.raises(UnfitValue):
        moved(store, Run("r1", "f", "append"), pa.table({"v": [text]}))
    assert pg.ask(f"SELECT * FROM {schema}.t") == []
    if "3" in target:
        pg.ask(f"CREATE DOMAIN {schema}.d AS {target}")
        pg.ask(f"CREATE TABLE {schema}.od (v {schema}.d)")
        with pytest.raises(UnfitValue):
            of_domain = SQLStore("d", connection=pg.url, table=f"{schema}.od")
            moved(of_domain, Run("r3", "f", "append"), pa.table({"v": [text]}))
        moved(store, Run("r2", "f", "append"), pa.table({"v": ["x é"]}))
        assert pg.ask(f"SELECT v FROM {schema}.t") == [("x é",)]


def test_a_text_that_its_column_would_read_as_another_value_fails_the_run(pg, schema):
    cases = {
        "bytea[]": ("{a}", '{"\\\\x61"}'),
        "bit(4)": ("x5", "0101"),
        "varbit(8)": ("x1F", "00011111"),
        "cidr": ("10", "10.0.0.0/8"),
        "macaddr8": ("08002b010203", "08:00:2b:ff:fe:01:02:03"),
        "tsvector": ("a cat a", "'a' 'cat'"),
        "regtype": ("int4", "integer"),
        "jsonb": ('{"a": 1, "a": 2}', '{"a": 2}'),
    }
    columns = ", ".join(f"v{n} {kind}" for n, kind in enumerate(cases))
    pg.ask(f"CREATE TABLE {schema}.t ({columns})")
    store = store_at(pg.url, schema)
    kept = {f"v{n}": [own, None] for n, (_, own) in enumerate(cases.values())}
    for n, (kind, (text, _)) in enumerate(cases.items()):
        with pytest.raises(UnfitValue, match=f"'v{n}' is .*, which would (read|keep) .*"):
            changed = pa.table({**kept, f"v{n}": [None, text]})
            moved(store, Run(f"r{n}", "f", "append"), changed)
            pytest.fail(f"{kind} changes {text}")
    assert pg.ask(f"SELECT * FROM {schema}.t") == []
    moved(store, Run("r", "f", "append"), pa.table(kept))
    texts = ", ".join(f"v{n}::text" for n in range(len(cases)))
    there = pg.ask(f"SELECT {texts} FROM {schema}.t ORDER BY v0")
    assert there[0] == tuple(own for _, own in cases.values())


@pytest.mark.parametrize(
    "target",
    [
        "money",
        "name",
        "interval",
        "timetz(0)",
        "real[]",
        "numeric(5,1)[]",
        "point",
        "date[]",
        "date",
        "integer",
        "boolean",
        "bytea",
        "timestamp",
    ],
)
def test_a_type_that_rounds_what_it_reads_takes_no_text_of_unknown_origin(pg, schema, target):
    pg.ask(f"CREATE TABLE {schema}.t (v {target})")
    with pytest.raises(StoreError, match="'v' is .*which cannot keep (text|string) exactly"):
        store_at(pg.url, schema).prepare(Run("r1", "f", "append"), pa.schema([("v", pa.string())]))


@WAYS
def test_a_domain_counts_as_the_type_behind_it(pg, schema, tmp_path, options):
    pg.ask(f"CREATE DOMAIN {schema}.price AS numeric(5,1)")
    both(pg, schema, [("numeric(9,2)", f"{schema}.price", "1.25")])
    with pytest.raises(FlowFailed, match="cannot keep numeric"):
        append(pg, schema, tmp_path, **options)
    pg.ask(f"ALTER TABLE {schema}.s ALTER v0 TYPE numeric(4,1)")
    append(pg, schema, tmp_path, **options)
    assert pg.ask(f"SELECT v0::text FROM {schema}.t") == [("1.3",)]


@pytest.mark.parametrize("url", ["psycopg", "psycopg2"])
def test_unsigned_integers_are_kept_in_wider_types_and_that_is_said(pg, schema, tmp_path, url):
    kinds = [pa.uint64(), pa.uint32(), pa.uint16(), pa.uint8()]
    most = [2 ** (kind.bit_width) - 1 for kind in kinds]
    arrays = [pa.array([value, 0, None], kind) for value, kind in zip(most, kinds, strict=True)]
    rows = pa.table(arrays, names=["a", "b", "c", "d"])
    pq.write_table(rows, tmp_path / "f.parquet")
    store = SQLStore(
        "t", connection=pg.url.replace("postgresql:", f"postgresql+{url}:"), table=f"{schema}.t"
    )
    home = ParquetHome(path=str(tmp_path / "f.parquet"))
    words = "'a' (uint64) as numeric(20,0), 'b' (uint32) as bigint, 'c' (uint16) as integer"
    for mode in ("replace", "append"):
        flow = Flow(home, store, name="f", mode=mode, engine="inline", state=tmp_path / "s")
        with home.open() as plan:
            assert words in plan_text(flow, plan)
        assert words in flow.run().note
    assert pg.ask(f"SELECT DISTINCT * FROM {schema}.t ORDER BY a DESC NULLS LAST")[0] == tuple(most)
    kinds_there = (
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        f"WHERE attrelid = '{schema}.t'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert [kind for (kind,) in pg.ask(kinds_there)] == [
        "numeric(20,0)", "bigint", "integer", "smallint",
    ]  # fmt: skip
    pg.ask(f"ALTER TABLE {schema}.t ALTER a TYPE numeric(19,0) USING 1")
    with pytest.raises(FlowFailed, match="'a' is .*cannot keep uint64 exactly"):
        flow.run()


@pytest.mark.parametrize("name", ["money_kind", "date_kind", "path", "timeline"])
def test_a_type_of_people_is_known_by_its_whole_name(pg, schema, name):
    pg.ask(f"CREATE TYPE {schema}.{name} AS ENUM ('a')")
    pg.ask(f"CREATE TABLE {schema}.t (v {schema}.{name})")
    moved(store_at(pg.url, schema), Run("r1", "f", "append"), pa.table({"v": ["a"]}))
    assert pg.ask(f"SELECT v::text FROM {schema}.t") == [("a",)]
