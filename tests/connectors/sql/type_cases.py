"""Values that databases hold and pipelines lose, by the type of the column that holds them.

Each value is a text that the database itself reads as that type, so nothing of ours stands between.
`show` is how a test has the database write a value down, where `::text` would leave something out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A type, and values of it that must arrive."""

    type: str
    values: tuple[str, ...]
    show: str = "{c}::text"
    setup: tuple[str, ...] = ()
    """Statements that make the type; where one fails (an extension is missing) it is left out."""


@dataclass(frozen=True)
class Misfit:
    """A value that Arrow cannot hold: an error, unless the flow says `set_null` or `as_text`."""

    type: str
    value: str
    beside: str
    """A value of the same column that fits."""


HARD_TEXTS = (
    "", " ", "plain", "NULL", "\\N", "\\.", "null", "NaN", "007", '"', '""', "'", "''", "a,b;c|d",
    "two\nlines", "mac\rwin\r\nend\n", "tab\tand\vand\f", "back\\slash \\n \\t \\\\",
    "$1 %s :x {y}", "\u00e9\u0301 \U0001f3e1 \u200d \ufeff \u4e2d\u6587", "\x01\x02\x1b\x7f",
    " both ends ", "x" * 100_000,
)  # fmt: skip
EVERY_BYTE = "\\x" + bytes(range(256)).hex()

POSTGRES = (
    Case("smallint", ("-32768", "32767", "0")),
    Case("integer", ("-2147483648", "2147483647", "0")),
    Case("bigint", ("-9223372036854775808", "9223372036854775807", "9007199254740993")),
    Case("oid", ("0", "4294967295")),
    Case("numeric(10,2)", ("-99999999.99", "0.01", "0.00")),
    Case("numeric(38,10)", ("9" * 28 + "." + "9" * 10, "-0.0000000001")),
    Case("numeric(76,38)", ("9" * 38 + "." + "9" * 38, "-1")),
    Case("numeric(100,20)", ("9" * 80 + "." + "9" * 20, "0")),
    Case("numeric(5,-2)", ("12300", "-9999900")),
    Case("numeric(3,5)", ("0.00999", "-0.00001")),
    Case(
        "numeric",
        ("9" * 78, "1." + "0" * 40 + "1", "1e-100", "NaN", "Infinity", "-Infinity", "0"),
    ),
    Case("real", ("NaN", "Infinity", "-Infinity", "-0", "0.1", "1.1754944e-38", "3.4028235e+38")),
    Case(
        "double precision",
        ("NaN", "Infinity", "-Infinity", "-0", "0.1", "5e-324", "1.7976931348623157e+308"),
    ),
    Case("money", ("-92233720368547758.08", "0.01")),
    Case("boolean", ("true", "false")),
    Case("text", HARD_TEXTS),
    Case("character varying(40)", ("", "x" * 40, "  pad  ")),
    Case("character(5)", ("ab", "", "abcde"), show="rpad({c}::text, 5)"),
    Case("name", ("a", "x" * 63)),
    Case("bytea", ("\\x", "\\x00", EVERY_BYTE), show="encode({c}, 'hex')"),
    Case("date", ("4713-01-01 BC", "0001-01-01", "1969-12-31", "9999-12-31", "5874897-12-31")),
    Case("time without time zone", ("00:00:00", "23:59:59.999999")),
    Case("time with time zone", ("12:00:00.000001+05:30", "00:00:00-12")),
    Case(
        "timestamp without time zone",
        ("9999-12-31 23:59:59.999999", "0001-01-01 00:00:00", "1969-12-31 23:59:59.999999",
         "0044-03-15 12:00:00 BC", "294246-12-31 23:59:59"),
    ),
    Case(
        "timestamp with time zone",
        ("2024-02-29 12:00:00.000001+02", "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00",
         "4713-01-01 00:00:00+00 BC", "294246-12-31 23:59:59+00"),
    ),
    Case("interval", ("1 year 2 mons -3 days 04:05:06.789", "-00:00:00.000001", "00:00:00")),
    Case("uuid", ("00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    Case("json", ('{"a": 9223372036854775807, "a": 1.10}', "null", '"\\u00e9"')),
    Case(
        "jsonb",
        ('{"a": 9223372036854775807, "b": [1.10, null]}', "null", "18446744073709551616"),
    ),
    Case("integer[]", ("{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[0:1]={7,8}")),
    Case("text[]", ("{}", '{"a,b",NULL,"NULL","q\\"uote","",back\\\\slash}')),
    Case("numeric(6,2)[]", ("{1.10,NULL,-9999.99}",)),
    Case("mood", ("sad", "so so"), setup=("CREATE TYPE mood AS ENUM ('sad', 'so so', 'it''s')",)),
    Case("mood[]", ('{sad,NULL,"so so"}',)),
    Case(
        "pair",
        ('(1,"a,b")', "(,)", '(2,"q""uote")'), setup=("CREATE TYPE pair AS (n integer, t text)",),
    ),
    Case("price", ("-12345.678", "0.001"), setup=("CREATE DOMAIN price AS numeric(8,3)",)),
    Case("short", ("", "abc"), setup=("CREATE DOMAIN short AS text CHECK (length(VALUE) < 9)",)),
    Case("inet", ("192.168.0.1/24", "::1", "10.0.0.1"), show="{c}::text::inet::text"),
    Case("cidr", ("192.168.0.0/24", "2001:db8::/32")),
    Case("macaddr", ("08:00:2b:01:02:03",)),
    Case("bit(5)", ("10110", "00000")),
    Case("bit varying(9)", ("", "101")),
    Case("point", ("(1.5,-2)", "(0.1,1e+300)")),
    Case("line", ("{1,-1,0.5}",)),
    Case("lseg", ("[(0,0),(1,1)]",)),
    Case("box", ("(3,4),(1,2)",)),
    Case("path", ("[(0,0),(1,1)]", "((0,0),(1,1),(2,0))")),
    Case("polygon", ("((0,0),(1,1),(2,0))",)),
    Case("circle", ("<(1,2),3>",)),
    Case("int4range", ("[1,5)", "empty", "(,)", "[7,)")),
    Case("numrange", ("(0.1,2.50]",)),
    Case("tstzrange", ('["2024-01-01 00:00:00+00",)',)),
    Case("int4multirange", ("{[1,3),[7,9)}", "{}")),
    Case("tsvector", ("'a':1A 'b c':2,4B",)),
    Case("tsquery", ("'a' & !'b':*",)),
    Case("vector(3)", ("[1,-2.5,0.1]",), setup=("CREATE EXTENSION IF NOT EXISTS vector",)),
    Case("pg_lsn", ("16/B374D848",)),
    Case("xml", ("<a>1 &lt; 2</a>",)),
    Case("hstore", ('"a"=>"1", "b"=>NULL',), setup=("CREATE EXTENSION IF NOT EXISTS hstore",)),
    Case("ltree", ("top.science",), setup=("CREATE EXTENSION IF NOT EXISTS ltree",)),
)  # fmt: skip

POSTGRES_MISFITS = (
    Misfit("date", "infinity", "2024-01-01"),
    Misfit("date", "-infinity", "2024-01-01"),
    Misfit("timestamp without time zone", "infinity", "2024-01-01 00:00:00"),
    Misfit("timestamp with time zone", "-infinity", "2024-01-01 00:00:00+00"),
    Misfit("numeric(10,2)", "NaN", "1.50"),
    Misfit("time without time zone", "24:00:00", "12:00:00"),
)

MARIADB = (
    Case("tinyint", ("-128", "127", "0")),
    Case("tinyint unsigned", ("0", "255")),
    Case("tinyint(1)", ("0", "1")),
    Case("smallint", ("-32768", "32767")),
    Case("smallint unsigned", ("0", "65535")),
    Case("mediumint", ("-8388608", "8388607")),
    Case("mediumint unsigned", ("0", "16777215")),
    Case("int", ("-2147483648", "2147483647")),
    Case("int unsigned", ("0", "4294967295")),
    Case("bigint", ("-9223372036854775808", "9223372036854775807")),
    Case("bigint unsigned", ("0", "18446744073709551615", "9007199254740993")),
    Case("decimal(15,2)", ("-9999999999999.99", "0.01")),
    Case("decimal(38,10)", ("9" * 28 + "." + "9" * 10, "-0.0000000001")),
    Case("decimal(65,30)", ("9" * 35 + "." + "9" * 30, "0")),
    Case("float", ("0.1", "-1.17549e-38", "3.40282e38", "16777216")),
    Case("double", ("0.1", "5e-324", "1.7976931348623157e308", "-0.0")),
    Case("date", ("1000-01-01", "9999-12-31", "1969-12-31")),
    Case("datetime(6)", ("1000-01-01 00:00:00.000000", "9999-12-31 23:59:59.999999")),
    Case("datetime", ("2024-02-29 12:00:00",), show="CAST({c} AS DATETIME(6))"),
    Case("timestamp(6)", ("1970-01-01 00:00:01.000001", "2038-01-19 03:14:07.999999")),
    Case("time(6)", ("00:00:00.000000", "23:59:59.999999")),
    Case("year", ("1901", "2155")),
    Case("char(5)", ("ab", "", "abcde")),
    Case("varchar(40)", HARD_TEXTS[:22:3]),
    Case("text", HARD_TEXTS[:-1]),
    Case("longtext", HARD_TEXTS),
    Case("varchar(40) character set latin1", ("\u00e9\u00df", "plain")),
    Case("varchar(40) collate utf8mb4_bin", ("A", "a")),
    Case("varchar(40) character set utf8mb3", ("\u4e2d\u6587",)),
    Case("blob", ("", "\0", "".join(map(chr, range(256)))), show="HEX({c})"),
    Case("varbinary(9)", ("", "\xff\x00"), show="HEX({c})"),
    Case("binary(4)", ("ab", ""), show="HEX({c})"),
    Case("bit(10)", ("513", "0"), show="{c} + 0"),
    Case("json", ('{"a": 9223372036854775807}', "[]", "null")),
    Case("enum('sad','so so','it''s')", ("sad", "it's")),
    Case("set('a','b','c d')", ("", "a,c d")),
    Case("uuid", ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",)),
    Case("inet6", ("::1", "2001:db8::1")),
)  # fmt: skip

MARIADB_MISFITS = (
    Misfit("date", "0000-00-00", "2024-01-01"),
    Misfit("date", "2024-00-10", "2024-01-01"),
    Misfit("datetime", "0000-00-00 00:00:00", "2024-01-01 00:00:00"),
    Misfit("time", "-838:59:59", "12:00:00"),
    Misfit("time", "25:00:00", "12:00:00"),
    Misfit("tinyint(1)", "2", "1"),
)
