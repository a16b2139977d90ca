"""Random tables of PostgreSQL, out through another kind of store and back: equal, as they say it.

Rows are written by PostgreSQL from texts and compared as PostgreSQL's texts, so nothing of ours
says what is right.
"""

from __future__ import annotations

import itertools
import struct
from decimal import Context, Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hygge import Flow, ParquetHome, ParquetStore, SQLHome, SQLStore

pytest_plugins = ["tests.servers.postgres"]

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_floats = st.floats(allow_nan=False, allow_infinity=False)


def _decimals(precision, scale):
    most = 10**precision - 1
    return st.integers(-most, most).map(lambda n: f"{Decimal(n).scaleb(-scale, _WIDE):f}")


_WIDE = Context(prec=90)


def _narrow(value):
    return struct.unpack("f", struct.pack("f", value))[0]


COMMON = {
    "smallint": st.integers(-(2**15), 2**15 - 1).map(str),
    "integer": st.integers(-(2**31), 2**31 - 1).map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "numeric(9,4)": _decimals(9, 4),
    "numeric(38,0)": _decimals(38, 0),
    "numeric(60,25)": _decimals(60, 25),
    "boolean": st.sampled_from(["true", "false"]),
    "double precision": _floats.map(repr),
    "real": st.floats(width=32, allow_nan=False, allow_infinity=False).map(_narrow).map(repr),
    "text": _texts,
    "bytea": st.binary(max_size=20).map(lambda data: "\\x" + data.hex()),
    "date": st.dates().map(str),
    "time without time zone": st.times().map(str),
    "timestamp without time zone": st.datetimes().map(str),
    "timestamp with time zone": st.datetimes().map(lambda at: f"{at}+00"),
    "uuid": st.uuids().map(str),
    "jsonb": st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=2).map(
        lambda found: "{" + ", ".join(f'"{k}": {v}' for k, v in sorted(found.items())) + "}"
    ),
    "integer[]": st.lists(st.integers(-9, 9).map(str) | st.just("NULL"), max_size=3).map(
        lambda found: "{" + ",".join(found) + "}"
    ),
}
ODD = {
    "double precision": st.sampled_from(["NaN", "Infinity", "-Infinity"]) | _floats.map(repr),
    "date": st.dates().map(str) | st.sampled_from(["4713-01-01 BC", "5874897-12-31"]),
}


@st.composite
def tables(draw, kinds):
    """(names, types, rows) of one table; names are as hard as values."""
    types = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=6))
    hard = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=9)
    wild = st.sampled_from(["Select", "a b", 'q"', "x%s", ":y", "é.ü", "Ab", "aB", "100%", "_\\"])
    names = draw(
        st.lists(
            (hard | wild).map(str.strip).filter(bool).filter(lambda n: n != "n"),
            min_size=len(types),
            max_size=len(types),
            unique_by=str.lower,
        )
    )
    row = st.tuples(*[st.none() | kinds[kind] for kind in types])
    return names, types, draw(st.lists(row, max_size=30))


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def made(pg, table, drawn):
    names, types, rows = drawn
    columns = "".join(f", {quoted(n)} {t}" for n, t in zip(names, types, strict=True))
    places = "".join(f", %s::text::{t}" for t in types)
    with pg.connect() as connection:
        connection.execute(f"CREATE TABLE {table} (n integer PRIMARY KEY{columns})")
        with connection.cursor() as cursor:
            for n, row in enumerate(rows):
                cursor.execute(f"INSERT INTO {table} VALUES ({n}{places})", row)


def texts(pg, table, drawn):
    names, types, _ = drawn
    shown = [
        # A moment without its zone is the same moment, in UTC, where a store has no zones.
        f"{quoted(name)}::timestamp::text" if kind.startswith("timestamp") else
        f"{quoted(name)}::text"
        for name, kind in zip(names, types, strict=True)
    ]  # fmt: skip
    with pg.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.execute(
            f"SELECT {', '.join(['n', *shown])} FROM {table} ORDER BY n"
        ).fetchall()


numbers = itertools.count()


def goes_and_comes_back(pg, schema, folder, drawn, between):
    """Move a table out and back; `between(n)` gives a store and the home that reads it."""
    at = next(numbers)
    source, back = f"{schema}.r{at}", f"{schema}.b{at}"
    made(pg, source, drawn)
    store, home = between(at)
    for step, (one, other) in enumerate(
        [
            (SQLHome("r", table=source, connection=pg.url), store),
            (home, SQLStore("b", table=back, connection=pg.url)),
        ]
    ):
        Flow(one, other, name=f"f{at}_{step}", engine="inline", state=folder / "state").run()
    assert texts(pg, back, drawn) == texts(pg, source, drawn)


SOME = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SOME
@given(drawn=tables(COMMON | ODD))
def test_through_parquet(pg, schema, tmp_path, drawn):
    def between(at):
        path = str(tmp_path / f"lake{at}")
        return ParquetStore("x", path=path), ParquetHome(path=path)

    goes_and_comes_back(pg, schema, tmp_path, drawn, between)


@SOME
@given(drawn=tables(COMMON | ODD))
def test_through_sqlite(pg, schema, tmp_path, drawn):
    def between(at):
        url = f"sqlite:///{tmp_path}/lake{at}.db"
        return SQLStore("x", connection=url), SQLHome("x", connection=url)

    goes_and_comes_back(pg, schema, tmp_path, drawn, between)
