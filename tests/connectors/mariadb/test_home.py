"""MariaDB as a Home: every value is read exactly, or refused with a hint; names and failures."""

from __future__ import annotations

import math
import random
import struct
import sys
from datetime import UTC, date, datetime
from datetime import time as clock
from decimal import Decimal

import pyarrow as pa
import pytest

from hygge import SQLHome
from hygge.connectors.mariadb import values
from hygge.errors import ConfigError, HomeError, SourceMissing, Transient, UnfitValue
from tests.connectors.mariadb.rows import home_at, read

pytest_plugins = ["tests.servers.mariadb"]

TYPES = {
    # column: (type, Arrow, literal of SQL, what comes)
    "i1": ("tinyint", pa.int8(), "-128", -128),
    "u1": ("tinyint unsigned", pa.uint8(), "255", 255),
    "i2": ("smallint", pa.int16(), "-32768", -32768),
    "i3": ("mediumint", pa.int32(), "-8388608", -8388608),
    "u3": ("mediumint unsigned zerofill", pa.uint32(), "7", 7),
    "i4": ("int", pa.int32(), "-2147483648", -(2**31)),
    "u4": ("int unsigned", pa.uint32(), "4294967295", 2**32 - 1),
    "i8": ("bigint", pa.int64(), "-9223372036854775808", -(2**63)),
    "u8": ("bigint unsigned", pa.uint64(), "18446744073709551615", 2**64 - 1),
    "yes": ("boolean", pa.bool_(), "true", True),
    "b1": ("bit(1)", pa.bool_(), "b'1'", True),
    "b64": ("bit(64)", pa.uint64(), "~0", 2**64 - 1),
    "dec": ("decimal(38,10)", pa.decimal128(38, 10), "-" + "9" * 28 + "." + "9" * 10, None),
    "big": ("decimal(65,30)", pa.decimal256(65, 30), "9" * 35 + "." + "9" * 30, None),
    "f4": ("float", pa.float32(), "16777217.7", 16777218.0),
    "f8": ("double", pa.float64(), "0.1e0 + 0.2e0", 0.1 + 0.2),
    "d": ("date", pa.date32(), "'9999-12-31'", date(9999, 12, 31)),
    "dt": ("datetime(6)", pa.timestamp("us"), "'1000-01-01 00:00:00.000001'",
           datetime(1000, 1, 1, microsecond=1)),
    "dt3": ("datetime(3)", pa.timestamp("us"), "'2024-02-29 23:59:59.999'",
            datetime(2024, 2, 29, 23, 59, 59, 999000)),
    "ts": ("timestamp(6) null", pa.timestamp("us", "UTC"), "'2024-10-27 00:30:00.000001'",
           datetime(2024, 10, 27, 0, 30, 0, 1, tzinfo=UTC)),
    "tm": ("time(6)", pa.time64("us"), "'23:59:59.999999'", clock(23, 59, 59, 999999)),
    "y": ("year", pa.uint16(), "2155", 2155),
    "c": ("char(5)", pa.string(), "'a '", "a"),
    "l1": ("varchar(9) character set latin1", pa.string(), "'é ÿ'", "é ÿ"),
    "u16": ("varchar(9) character set utf16 collate utf16_bin", pa.string(), "'🏡'", "🏡"),
    "u3b": ("text character set utf8mb3", pa.string(), "'ж\"'", 'ж"'),
    "bn": ("varchar(9) character set utf8mb4 collate utf8mb4_bin", pa.string(), "'A'", "A"),
    "ci": ("varchar(9) character set utf8mb4 collate utf8mb4_unicode_ci", pa.string(), "'b'", "b"),
    "e": ("enum('a','b,c','d\"')", pa.string(), "'d\"'", 'd"'),
    "s": ("set('x','y')", pa.string(), "'x,y'", "x,y"),
    "js": ("json", pa.string(), "'{\"n\": 12345678901234567890}'", '{"n": 12345678901234567890}'),
    "id": ("uuid", pa.string(), "'123e4567-e89b-12d3-a456-426655440000'",
           "123e4567-e89b-12d3-a456-426655440000"),
    "ip": ("inet6", pa.string(), "'::1'", "::1"),
    "bin": ("binary(3)", pa.binary(), "X'00FF0A'", b"\x00\xff\n"),
    "vb": ("varbinary(300)", pa.binary(), f"X'{bytes(range(256)).hex()}'", bytes(range(256))),
    "bl": ("longblob", pa.binary(), f"X'{bytes(range(256)).hex()}'", bytes(range(256))),
}  # fmt: skip


def test_every_type_comes_exactly(my, my_schema):
    columns = ", ".join(f"`{name}` {kind}" for name, (kind, *_) in TYPES.items())
    my.ask(f"CREATE TABLE {my_schema}.t ({columns})")
    values = ", ".join(literal for _, _, literal, _ in TYPES.values())
    nulls = ", ".join(["NULL"] * len(TYPES))
    my.ask(f"INSERT INTO {my_schema}.t VALUES ({nulls}), ({values}), ({nulls})")
    table, plan = read(home_at(my, my_schema))
    for each, (name, (_, kind, literal, came)) in zip(plan.columns, TYPES.items(), strict=True):
        assert each.type == kind, name
        wanted = Decimal(literal) if name in ("dec", "big") else came
        assert table.column(name).to_pylist() == [None, wanted, None], name


def test_a_query_has_the_same_types(my, my_schema):
    names = [name for name in TYPES if name not in ("js",)]
    columns = ", ".join(f"`{name}` {TYPES[name][0]}" for name in names)
    my.ask(f"CREATE TABLE {my_schema}.t ({columns})")
    my.ask(f"INSERT INTO {my_schema}.t VALUES ({', '.join(TYPES[name][2] for name in names)})")
    table, plan = read(home_at(my, my_schema, "q", query="SELECT * FROM t;"))
    known, _ = read(home_at(my, my_schema))
    assert len(plan.splits) == 1
    assert table.equals(known)


DOUBLES = [
    0.0,
    5e-324,
    1.7976931348623157e308,
    1e22,
    1e23,
    -1 / 3,
    2**53 + 2.0,
    4.35,
    1e-7,
    123456789.123,
]


def test_floats_keep_every_bit(my, my_schema):
    some = random.Random(1)
    doubles = DOUBLES + [
        value
        for value in (struct.unpack("d", some.randbytes(8))[0] for _ in range(500))
        if math.isfinite(value) and value
    ]
    floats = [
        value
        for value in (struct.unpack("f", some.randbytes(4))[0] for _ in range(500))
        if math.isfinite(value) and value
    ]
    my.ask(f"CREATE TABLE {my_schema}.d (v double)")
    my.ask(f"CREATE TABLE {my_schema}.f (v float)")
    with my.connect(database=my_schema) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO d VALUES (%s)", [(repr(value),) for value in doubles])
        cursor.executemany("INSERT INTO f VALUES (%s)", [(repr(value),) for value in floats])
    assert read(home_at(my, my_schema, "d"))[0].column("v").to_pylist() == doubles
    assert read(home_at(my, my_schema, "f"))[0].column("v").to_pylist() == floats


TEXTS = [
    "", None, "NULL", "null", r"\N", "\\", 'quote " and \' and `', '"', '""', ",", "two\nlines",
    "mac\rwin\r\n", "tab\t", "🏡 👩‍👩‍👧", "é", " both ", "nul \0 nul", "\x1a\x7f", "%s :x ${y}",
    "x" * 70_000, '"' * 65_536, "🏡" * 30_000, "y" * 300_000,
]  # fmt: skip


@pytest.mark.parametrize("kind", ["longtext", "longblob", "text", "varchar(4000)"])
def test_texts_and_bytes_come_as_they_are(kind, my, my_schema):
    longest = {"text": 65_535, "varchar(4000)": 4_000}.get(kind, 1 << 30)
    texts = [t for t in TEXTS if t is None or len(t.encode()) <= longest]
    my.ask(f"CREATE TABLE {my_schema}.t (n int, v {kind}, w {kind} NOT NULL)")
    with my.connect(database=my_schema) as connection, connection.cursor() as cursor:
        for at, each in enumerate(texts):
            cursor.execute("INSERT INTO t VALUES (%s, %s, %s)", (at, each, each or ""))
    table, _ = read(home_at(my, my_schema, options={"batch_size": 4}))
    wanted = texts if "blob" not in kind else [t if t is None else t.encode() for t in texts]
    assert table.sort_by("n").column("v").to_pylist() == wanted
    assert table.sort_by("n").column("w").to_pylist() == [w or type(wanted[0])() for w in wanted]


def test_a_row_of_more_than_16_mib_comes_whole(my, my_schema):
    my.ask("SET GLOBAL max_allowed_packet = 64 * 1024 * 1024")
    try:
        my.ask(f"CREATE TABLE {my_schema}.t (n int, v longtext, b longblob)")
        my.ask(
            f"INSERT INTO {my_schema}.t VALUES (1, 'a', 'b'), "
            "(2, REPEAT('x\"', 9000000), REPEAT(X'00FF', 8500000)), (3, 'c', NULL)"
        )
        table, _ = read(home_at(my, my_schema))
    finally:
        my.ask("SET GLOBAL max_allowed_packet = 16 * 1024 * 1024")
    assert table.column("n").to_pylist() == [1, 2, 3]
    assert table.column("v").to_pylist() == ["a", 'x"' * 9_000_000, "c"]
    assert table.column("b").to_pylist() == [b"b", b"\0\xff" * 8_500_000, None]


def test_a_row_that_does_not_fit_into_a_packet_is_an_error(my, my_schema):
    my.ask("SET GLOBAL max_allowed_packet = 1024 * 1024")
    try:
        columns = ", ".join(f"c{at} text" for at in range(20))
        my.ask(f"CREATE TABLE {my_schema}.t ({columns})")
        my.ask(f"INSERT INTO {my_schema}.t (c0) VALUES ('a')")
        my.ask(
            f"INSERT INTO {my_schema}.t VALUES ({', '.join(['REPEAT(%s, 60000)'] * 20)})", *"x" * 20
        )
        with pytest.raises(HomeError, match="longer than max_allowed_packet"):
            read(home_at(my, my_schema))
    finally:
        my.ask("SET GLOBAL max_allowed_packet = 16 * 1024 * 1024")


MISFITS = [
    ("date", "'0000-00-00'", "0000-00-00", "'2024-01-02'", date(2024, 1, 2)),
    ("date", "'2024-00-10'", "2024-00-10", "'2024-01-02'", date(2024, 1, 2)),
    ("datetime", "'2024-05-00 01:02:03'", "2024-05-00 01:02:03", "'2024-01-02 03:04:05'",
     datetime(2024, 1, 2, 3, 4, 5)),
    ("timestamp NULL", "'0000-00-00'", "0000-00-00 00:00:00", "'2024-01-02 03:04:05'",
     datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("time", "'-838:59:59'", "-838:59:59", "'03:04:05'", clock(3, 4, 5)),
    ("time(2)", "'24:00:00.01'", "24:00:00.01", "'03:04:05.5'", clock(3, 4, 5, 500000)),
    ("tinyint(1)", "2", "2", "1", True),
    ("tinyint(1)", "-1", "-1", "0", False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "odd", "text", "usual", "value"), MISFITS)
def test_what_arrow_cannot_hold_is_the_users_choice(kind, odd, text, usual, value, my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (v {kind})")
    my.ask(f"INSERT INTO {my_schema}.t VALUES ({usual}), ({odd}), (NULL)")
    with pytest.raises(UnfitValue, match=f"column 'v' holds '{text}'") as caught:
        read(home_at(my, my_schema))
    assert "on_value: {v: set_null}" in caught.value.hint
    table, _ = read(home_at(my, my_schema, options={"on_value": "set_null"}))
    assert table.column("v").to_pylist() == [value, None, None]
    table, _ = read(home_at(my, my_schema, options={"on_value": {"v": "as_text"}}))
    assert table.schema.field("v").type == pa.string()
    assert table.column("v").to_pylist()[1:] == [text, None]


def test_a_geometry_is_refused_unless_its_text_is_asked_for(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (g point)")
    my.ask(f"INSERT INTO {my_schema}.t VALUES (POINT(1.5, -2)), (NULL)")
    with pytest.raises(ConfigError, match="column 'g' is point") as caught:
        read(home_at(my, my_schema))
    assert "{types: {g: string}}" in caught.value.hint
    table, _ = read(home_at(my, my_schema, options={"types": {"g": "string"}}))
    assert table.column("g").to_pylist() == ["POINT(1.5 -2)", None]


@pytest.mark.parametrize("mode", ["ANSI_QUOTES,PIPES_AS_CONCAT", "NO_BACKSLASH_ESCAPES", "ORACLE"])
def test_the_servers_own_sql_mode_changes_no_value(mode, my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (a varchar(20) NOT NULL, b varchar(20))")
    my.ask(f"INSERT INTO {my_schema}.t VALUES ('', NULL), ('a\"\\\\\n', '')")
    my.ask(f"SET GLOBAL sql_mode = '{mode},EMPTY_STRING_IS_NULL'")
    try:
        table, _ = read(home_at(my, my_schema))
    finally:
        my.ask("SET GLOBAL sql_mode = ''")
    assert table.to_pylist() == [{"a": "", "b": None}, {"a": 'a"\\\n', "b": ""}]


ODD = [
    "a`b",
    "a.b",
    "a b",
    'quote"',
    "percent %s",
    ":x",
    "select",
    "日本",
    "x" * 64,
    "a'b",
    "-- c",
    "A",
]


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql"])
def test_every_way_to_write_the_url_is_read_the_same_way(scheme, my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id tinyint)")
    url = my.url(my_schema).replace("mysql+pymysql", scheme)
    assert read(SQLHome("t", connection=url))[1].columns[0].type == pa.int8()


def test_without_the_driver_it_is_said_what_to_install(my, my_schema, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql.constants", None)
    with pytest.raises(ConfigError, match="driver of MariaDB is not installed") as caught:
        read(home_at(my, my_schema))
    assert "pymysql>=1.1,<2" in caught.value.hint


def test_any_name_is_only_a_name(my, my_schema):
    for at, name in enumerate(ODD):
        other = ODD[at - 1]
        table = name.replace("`", "``")
        columns = f"`{table}` int, `{other.replace('`', '``')}` text"
        my.ask(f"CREATE TABLE {my_schema}.`{table}` ({columns})")
        my.ask(f"INSERT INTO {my_schema}.`{table}` VALUES (1, 'v'), (2, NULL)")
        whole = '"' + name.replace('"', '""') + '"'
        home = SQLHome("x", table=whole, connection=my.url(my_schema), cursor=name)
        assert read(home)[0].to_pylist() == [{name: 1, other: "v"}, {name: 2, other: None}]
    with pytest.raises(SourceMissing):
        read(home_at(my, my_schema, "t; DROP TABLE A"))
    assert my.ask(f"SELECT COUNT(*) FROM {my_schema}.A") == [(2,)]


def test_what_is_missing_is_named_with_the_nearest(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.users (id int)")
    with pytest.raises(SourceMissing, match="no table 'user'") as caught:
        read(home_at(my, my_schema, "user"))
    assert "did you mean 'users'" in caught.value.hint
    with pytest.raises(SourceMissing, match="no column 'idd'"):
        read(home_at(my, my_schema, "users", columns=["idd"]))
    with pytest.raises(SourceMissing, match="Unknown column 'x'"):
        read(home_at(my, my_schema, "users", where="x > 1"))


def test_a_column_that_may_not_be_read_is_an_error(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id int, pay int)")
    my.ask("CREATE USER IF NOT EXISTS reader@127.0.0.1 IDENTIFIED BY 's3cret'")
    my.ask(f"GRANT SELECT (id) ON {my_schema}.t TO reader@127.0.0.1")
    url = my.url(my_schema, "reader:s3cret")
    assert read(SQLHome("t", connection=url, columns=["id"]))[1].columns[0].name == "id"
    with pytest.raises(HomeError, match=r"denied to user 'reader'") as caught:
        read(SQLHome("q", query="SELECT pay FROM t", connection=url))
    assert "grant" in caught.value.hint


def test_a_killed_connection_is_retried(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id int, v char(200))")
    my.ask(f"INSERT INTO {my_schema}.t SELECT seq, REPEAT('x', 200) FROM seq_1_to_60000")
    home = home_at(my, my_schema, options={"batch_size": 100})
    with home.open(None) as plan:
        reading = home.read(plan.splits[0])
        next(reading)
        (number,) = my.ask(
            f"SELECT id FROM information_schema.processlist WHERE db = '{my_schema}'"
        )[0]
        my.ask(f"KILL {number}")
        with pytest.raises(Transient):
            list(reading)
        assert sum(t.num_rows for t in home.read(plan.splits[0])) == 60_000


def test_a_reader_that_stops_early_leaves_no_session(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id int, v char(200))")
    my.ask(f"INSERT INTO {my_schema}.t SELECT seq, REPEAT('x', 200) FROM seq_1_to_60000")
    home = home_at(my, my_schema, options={"batch_size": 100})
    with home.open(None) as plan:
        reading = home.read(plan.splits[0])
        next(reading)
        reading.close()
    my.sessions(my_schema, 0)


def test_a_statement_that_lasts_too_long_stops(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.t (id int)")
    my.ask(f"INSERT INTO {my_schema}.t VALUES (1)")
    url = my.url(my_schema) + "?statement_timeout=0.2"
    with pytest.raises(HomeError, match="max_statement_time") as caught:
        read(SQLHome("q", query="SELECT SLEEP(3600) AS s FROM t", connection=url))
    assert "statement_timeout" in caught.value.hint


def test_what_is_not_converted_would_be_seen(my, my_schema, monkeypatch):
    my.ask(f"CREATE TABLE {my_schema}.t (v text)")
    my.ask(f"INSERT INTO {my_schema}.t VALUES ('a\"b')")
    real = values._csv_field
    monkeypatch.setattr(
        values, "_csv_field", lambda *a: real(*a).replace("'\"\"'", "'\"'")
    )  # quotes are not doubled
    with pytest.raises((AssertionError, UnfitValue, pa.ArrowInvalid)):
        assert read(home_at(my, my_schema))[0].to_pylist() == [{"v": 'a"b'}]


def test_invisible_columns_are_read(my, my_schema):
    my.ask(
        f"CREATE TABLE {my_schema}.t (id int PRIMARY KEY, secret int INVISIBLE DEFAULT 7, v int)"
    )
    my.ask(f"INSERT INTO {my_schema}.t (id, secret, v) VALUES (1, 99, 2)")
    rows, _ = read(home_at(my, my_schema))
    assert rows.to_pylist() == [{"id": 1, "secret": 99, "v": 2}]


@pytest.mark.parametrize(
    ("table", "granted", "named"),
    [
        ("id int PRIMARY KEY, salary int, v int", "SELECT (id, v)", "number 2"),
        ("id int PRIMARY KEY, v int, salary int", "SELECT (id, v)", "one or more at the end"),
        ("id int PRIMARY KEY, salary int, v int", "SELECT (id, v), INSERT (salary)", "'salary'"),
        (
            "id int PRIMARY KEY, v int, salary int INVISIBLE",
            "SELECT (id, v)",
            "one or more at the end",
        ),
    ],
)
def test_columns_without_a_grant_are_an_error_with_the_remedy(my, my_schema, table, granted, named):
    my.ask(f"CREATE TABLE {my_schema}.t ({table})")
    my.ask(f"INSERT INTO {my_schema}.t (id, v, salary) VALUES (1, 2, 3)")
    user = f"u{my_schema}"
    my.ask(f"CREATE USER {user}@'127.0.0.1'")
    my.ask(f"GRANT {granted} ON {my_schema}.t TO {user}@'127.0.0.1'")
    url = my.url(my_schema, user)
    with pytest.raises(HomeError, match=named) as caught:
        read(SQLHome("t", connection=url))
    assert "`columns: [id, v]`" in caught.value.hint
    remedy = caught.value.hint.partition(", or ")[2]
    assert read(SQLHome("t", connection=url, columns=["id", "v"]))[0].to_pylist() == [
        {"id": 1, "v": 2}
    ]
    my.ask(f"GRANT SELECT (salary) ON {my_schema}.t TO {user}@'127.0.0.1'")
    assert read(SQLHome("t", connection=url))[0].num_rows == 1
    my.ask(f"REVOKE SELECT (salary) ON {my_schema}.t FROM {user}@'127.0.0.1'")
    my.ask(remedy.replace("`t`", f"{my_schema}.t"))
    assert read(SQLHome("t", connection=url))[0].column_names == [
        name.split()[0] for name in table.split(", ")
    ]
