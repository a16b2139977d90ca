"""Every type of PostgreSQL is read as its Arrow type; misfits are errors, NULL or text."""

from __future__ import annotations

from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest

from hygge import SQLHome
from hygge.errors import SourceMissing, UnfitValue

pytest_plugins = ["tests.servers.postgres"]

US, UTC = pa.timestamp("us"), pa.timestamp("us", "UTC")


def table_of(pg, schema, declared, *values):
    pg.ask(f"CREATE TABLE {schema}.t (at int, v {declared})")
    for at, value in enumerate(values):
        try:
            pg.ask(f"INSERT INTO {schema}.t VALUES ({at}, {value})")
        except psycopg.errors.FeatureNotSupported as error:
            pytest.skip(f"this server was built without it: {error}")


def read(pg, schema, **settings):
    home = SQLHome(table=f"{schema}.t", connection=pg.url, **settings)
    with home.open() as plan:
        tables = [each for split in plan.splits for each in home.read(split)]
        kinds = pa.schema([(each.name, each.type) for each in plan.columns])
    return plan, pa.concat_tables(
        [kinds.empty_table(), *tables], promote_options="default"
    ).sort_by("at")


def values(pg, schema, **settings):
    column = read(pg, schema, **settings)[1].column("v")
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.int32() if pa.types.is_date(column.type) else pa.int64())
    return column.to_pylist()


TEXTS = {
    "text": (
        ["''", "NULL", "'\"'", "E'a\\nb\\r\\nc\\td'", "'a,b'", "'\\N'", "'\\.'", "'NULL'", "'😀'",
         "' '", "E'\\\\'"],
        ["", None, '"', "a\nb\r\nc\td", "a,b", "\\N", "\\.", "NULL", "😀", " ", "\\"],
    ),
    "varchar(5)": (["'ab '", "''"], ["ab ", ""]),
    "char(4)": (["'ab'", "''", "NULL"], ["ab  ", "    ", None]),
    "name": (["'x'"], ["x"]),
    "numeric": (["1e77 + 0.5", "'NaN'", "'Infinity'", "1.10", "0.000000000000000000001"],
                ["1" + "0" * 77 + ".5", "NaN", "Infinity", "1.10", "0.000000000000000000001"]),
    "numeric(78, 2)": (["1e70", "'NaN'"], ["1" + "0" * 70 + ".00", "NaN"]),
    "timetz": (["'12:00:00.5+02'"], ["12:00:00.5+02"]),
    "interval": (["'1 year 2 mons 3 days 04:05:06.7'", "'-1 day'"],
                 ["1 year 2 mons 3 days 04:05:06.7", "-1 days"]),
    "uuid": (["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"], ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "json": (["'{\"a\":  9007199254740993}'"], ['{"a":  9007199254740993}']),
    "jsonb": (["'{\"b\": 1, \"a\": 18446744073709551616.10}'"],
              ['{"a": 18446744073709551616.10, "b": 1}']),
    "int[]": (["'{{1,2},{3,NULL}}'", "'{}'", "NULL"], ["{{1,2},{3,NULL}}", "{}", None]),
    "text[]": (["ARRAY['a,b', '', NULL, '\"', 'NULL']"], ['{"a,b","",NULL,"\\"","NULL"}']),
    "inet": (["'192.168.0.1/24'", "'::1'"], ["192.168.0.1/24", "::1"]),
    "bit(3)": (["B'101'"], ["101"]),
    "varbit": (["B'10101'", "B''"], ["10101", ""]),
    "int4range": (["'[1,5)'", "'empty'"], ["[1,5)", "empty"]),
    "tstzrange": (["'[2024-01-01 00:00+02,)'"], ['["2023-12-31 22:00:00+00",)']),
    "point": (["'(1.5,-2)'"], ["(1.5,-2)"]),
    "money": (["12.34"], ["$12.34"]),
    "xml": (["'<a>1</a>'"], ["<a>1</a>"]),
    "tsvector": (["'a fat cat'"], ["'a' 'cat' 'fat'"]),
    "oid": (["4294967295"], ["4294967295"]),
    "regclass": (["'pg_class'"], ["pg_class"]),
    "\"char\"": (["'x'"], ["x"]),
}  # fmt: skip

TYPED = {
    "smallint": (pa.int16(), ["-32768", "32767", "NULL"], [-32768, 32767, None]),
    "integer": (pa.int32(), ["-2147483648", "2147483647"], [-(2**31), 2**31 - 1]),
    "bigint": (pa.int64(), ["-9223372036854775808", "NULL"], [-(2**63), None]),
    "real": (pa.float32(), ["0.1", "'-Infinity'", "3.4028235e38"],
             [0.10000000149011612, float("-inf"), 3.4028234663852886e38]),
    "double precision": (pa.float64(), ["0.1", "'Infinity'", "5e-324", "1e22"],
                         [0.1, float("inf"), 5e-324, 1e22]),
    "numeric(15, 2)": (pa.decimal128(15, 2), ["-0.01", "9999999999999.99", "NULL"],
                       [Decimal("-0.01"), Decimal("9999999999999.99"), None]),
    "numeric(76, 20)": (pa.decimal256(76, 20), ["1e55", "-1e-20"],
                        [Decimal("1" + "0" * 55 + "." + "0" * 20), Decimal("-1e-20")]),
    "numeric(3, -2)": (pa.decimal128(5, 0), ["99949"], [Decimal("99900")]),
    "numeric(2, 4)": (pa.decimal128(4, 4), ["0.0099"], [Decimal("0.0099")]),
    "boolean": (pa.bool_(), ["true", "false", "NULL"], [True, False, None]),
    "bytea": (pa.binary(),
              ["decode('" + bytes(range(256)).hex() + "', 'hex')", "''", "NULL", "'\\x5c78'"],
              [bytes(range(256)), b"", None, b"\\x"]),
    "date": (pa.date32(), ["'4713-01-01 BC'", "'1970-01-02'", "'9999-12-31'", "'5874897-12-31'",
                           "'0001-01-01'", "'1900-02-28'", "'2000-02-29'", "NULL"],
             [-2440550, 1, 2932896, 2145042905, -719162, -25509, 11016, None]),
    "time": (None, ["'23:59:59.999999'", "'00:00'"], None),
    "timestamp": (US, ["'4713-01-01 00:00 BC'", "'9999-12-31 23:59:59.999999'",
                       "'294246-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.5'"],
                  [-210863520000000000, 253402300799999999, 9223371244799999999, -500000]),
    "timestamptz": (UTC, ["'2024-01-01 02:00+02'", "'0044-03-15 12:00+00 BC'", "NULL"],
                    [1704067200000000, -63517780800000000, None]),
    "timestamp(3)": (US, ["'2024-01-01 00:00:00.1239'"], [1704067200124000]),
}  # fmt: skip


@pytest.mark.parametrize("declared", TEXTS)
def test_what_arrow_has_no_word_for_is_the_databases_own_text(pg, schema, declared):
    given, wanted = TEXTS[declared]
    table_of(pg, schema, declared, *given)
    plan, table = read(pg, schema)
    assert plan.columns[1].type == pa.string()
    assert table["v"].to_pylist() == wanted


@pytest.mark.parametrize("declared", TYPED)
def test_what_arrow_has_a_word_for_is_exact(pg, schema, declared):
    kind, given, wanted = TYPED[declared]
    table_of(pg, schema, declared, *given)
    plan, _ = read(pg, schema)
    if kind is None:
        kind, wanted = pa.time64("us"), [86_399_999_999, 0]
        assert read(pg, schema)[1]["v"].cast(pa.int64()).to_pylist() == wanted
    else:
        assert values(pg, schema) == wanted
    assert plan.columns[1].type == kind
    # What PostgreSQL itself counts, by another way.
    if declared == "date":
        counted = pg.ask(f"SELECT v - date '1970-01-01' FROM {schema}.t ORDER BY at")
        assert [n for (n,) in counted] == wanted
    if declared.startswith("timestamp"):
        counted = pg.ask(
            f"SELECT (extract(epoch FROM v) * 1000000)::bigint FROM {schema}.t ORDER BY at"
        )
        assert [n for (n,) in counted] == wanted


def test_nan_is_not_null(pg, schema):
    table_of(pg, schema, "float8", "'NaN'", "NULL", "'-0'")
    first, absent, zero = values(pg, schema)
    assert first != first
    assert absent is None
    assert str(zero) == "-0.0"


def test_types_that_a_user_made_are_read(pg, schema):
    for kind in (
        f"TYPE {schema}.mood AS ENUM ('sad', 'so-so, \"ok\"')",
        f"TYPE {schema}.pair AS (a int, b text)",
        f"DOMAIN {schema}.price AS numeric(10, 2) CHECK (VALUE >= 0)",
        f"DOMAIN {schema}.cheap AS {schema}.price CHECK (VALUE < 10)",
        f"DOMAIN {schema}.code AS varchar(3)",
    ):
        pg.ask(f"CREATE {kind}")
    columns = f"m {schema}.mood, p {schema}.pair, c {schema}.cheap, d {schema}.code"
    pg.ask(f"CREATE TABLE {schema}.t (at int, {columns}, ms {schema}.mood[])")
    pg.ask(
        f"INSERT INTO {schema}.t VALUES (0, 'so-so, \"ok\"', (1, 'x,y'), 9.99, 'abc', '{{sad}}')"
    )
    for settings in ({}, {"columns": ["at", "m", "p", "c", "d", "ms"]}):
        _, table = read(pg, schema, **settings)
        assert table.schema.field("c").type == pa.decimal128(10, 2)
        assert table.to_pylist() == [
            {"at": 0, "m": 'so-so, "ok"', "p": '(1,"x,y")', "c": Decimal("9.99"), "d": "abc",
             "ms": "{sad}"}
        ]  # fmt: skip


def test_the_plan_says_what_the_catalog_says(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (at int PRIMARY KEY, n numeric(5,1) NOT NULL, "
           'c char(3), x text COLLATE "C")')  # fmt: skip
    plan, _ = read(pg, schema)
    told = [(c.native, c.nullable, c.collation) for c in plan.columns]
    assert told == [
        ("integer", False, None), ("numeric(5,1)", False, None), ("character(3)", True, None),
        ("text", True, "C"),
    ]  # fmt: skip
    assert plan.key == ("at",)
    assert read(pg, schema, columns=["at", "n"])[0].key == ("at",)


MISFITS = [
    ("date", "'infinity'", "infinity"),
    ("timestamp", "'-infinity'", "-infinity"),
    ("timestamp", "'294276-12-31 00:00'", "294276-12-31 00:00:00"),
    ("timestamptz", "'infinity'", "infinity"),
    ("numeric(5, 2)", "'NaN'", "NaN"),
    ("numeric(60, 2)", "'NaN'", "NaN"),
    ("time", "'24:00:00'", "24:00:00"),
]


@pytest.mark.parametrize(("declared", "value", "shown"), MISFITS)
def test_what_arrow_cannot_hold_is_an_error_or_null_or_text(pg, schema, declared, value, shown):
    fine = {"date": "'2024-01-01'", "time": "'12:00'"}.get(declared, "'2024-01-01 00:00'")
    fine = "1.5" if declared.startswith("numeric") else fine
    table_of(pg, schema, declared, fine, value, "NULL")
    with pytest.raises(UnfitValue, match=f"column 'v' is .*, but holds {shown}") as caught:
        read(pg, schema)
    assert f"{schema}.t" in caught.value.message
    assert "set_null" in caught.value.hint
    assert "as_text" in caught.value.hint
    first, second, third = values(pg, schema, options={"on_value": {"v": "set_null"}})
    assert first is not None
    assert (second, third) == (None, None)
    plan, table = read(pg, schema, options={"on_value": "as_text"})
    assert "'v' is read as text" in plan.reason
    assert plan.columns[0].type == pa.int32()
    assert table["v"].to_pylist()[1:] == [shown, None]


def test_the_plan_shows_what_analyze_has_met(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (at int, d date, e date)")
    pg.ask(f"INSERT INTO {schema}.t SELECT n, CASE WHEN n < 9 THEN 'infinity'::date "
           "ELSE date '2020-01-01' END, '2024-01-01' FROM generate_series(1, 100) n")  # fmt: skip
    home = SQLHome(table=f"{schema}.t", connection=pg.url)
    with home.open() as plan:
        assert "Arrow does not" not in plan.reason
    pg.ask(f"ANALYZE {schema}.t")
    with home.open() as plan:
        assert "'d' holds values that Arrow does not" in plan.reason
        assert "'e'" not in plan.reason


def test_a_stated_number_over_text_names_what_is_none(pg, schema):
    table_of(pg, schema, "text", "'1'", "E'2\n3'")
    with pytest.raises(UnfitValue, match="column 'v' is int64, but holds 2"):
        read(pg, schema, options={"types": {"v": "int64"}})
    assert values(pg, schema, where="at = 0", options={"types": {"v": "int64"}}) == [1]


def test_not_null_and_set_null_make_a_column_that_may_be_null(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (at int NOT NULL, v date NOT NULL)")
    pg.ask(f"INSERT INTO {schema}.t VALUES (0, 'infinity')")
    plan, table = read(pg, schema, options={"on_value": "set_null"})
    assert [each.nullable for each in plan.columns] == [False, True]
    assert table["v"].to_pylist() == [None]


def test_stated_types_are_taken_or_refused_never_rounded(pg, schema):
    table_of(pg, schema, "numeric", "1.25", "'NaN'")
    with pytest.raises(UnfitValue, match="holds NaN"):
        read(pg, schema, options={"types": {"v": "decimal(10,2)"}})
    options = {"types": {"v": "decimal(10,2)"}, "on_value": {"v": "set_null"}}
    assert values(pg, schema, options=options) == [Decimal("1.25"), None]
    options["types"]["v"] = "decimal(10,1)"
    assert values(pg, schema, options=options) == [None, None]
    with pytest.raises(UnfitValue, match="holds 1.25"):
        read(pg, schema, where="v <> 'NaN'", options={"types": {"v": "decimal(10,1)"}})
    assert values(pg, schema, options={"types": {"v": "string"}}) == ["1.25", "NaN"]
    with pytest.raises(SourceMissing, match="no column 'w'.*"):
        read(pg, schema, options={"on_value": {"w": "set_null"}})


def test_a_stated_string_is_the_databases_text(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t (at int, b bool, y bytea, c char(3), d date)")
    pg.ask(f"INSERT INTO {schema}.t VALUES (0, true, '\\x00ff', 'x', 'infinity')")
    words = dict.fromkeys(("b", "y", "c", "d"), "string")
    _, table = read(pg, schema, options={"types": words})
    assert table.to_pylist() == [
        {"at": 0, "b": "true", "y": "\\x00ff", "c": "x  ", "d": "infinity"}
    ]


def test_one_column_of_nulls_has_as_many_rows(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.t AS SELECT NULL::int AS at FROM generate_series(1, 1000)")
    assert read(pg, schema)[1].num_rows == 1000
    pg.ask(f"ALTER TABLE {schema}.t ADD v text")
    _, table = read(pg, schema, columns=["v", "at"], options={"batch_size": 7})
    assert table.num_rows == 1000


def test_a_database_of_another_encoding_is_read_in_utf8(pg):
    for name, encoding in (("latin", "LATIN1"), ("ascii", "SQL_ASCII")):
        pg.ask(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    url = pg.url.rsplit("/", 1)[0]
    for name, made, wanted in (
        ("latin", "convert_from('\\xe9', 'LATIN1')", "é"),
        ("ascii", "'plain'", "plain"),
    ):
        home = SQLHome(query=f"SELECT {made} AS v, 1 AS at", connection=f"{url}/{name}", name="q")
        with home.open() as plan:
            (table,) = home.read(plan.splits[0])
        assert table["v"].to_pylist() == [wanted]
    bad = "SELECT 1 AS at, 'ü' AS fine, chr(255) AS v"
    home = SQLHome(query=bad, connection=f"{url}/ascii", name="q")
    with (
        home.open() as plan,
        pytest.raises(UnfitValue, match="column 'v' holds bytes that are not UTF-8") as caught,
    ):
        list(home.read(plan.splits[0]))
    assert "SQL_ASCII" in caught.value.hint
