"""Random tables of random types and values: what is read is what PostgreSQL says it holds."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from hygge.connectors.postgres import home as pg_home
from tests.connectors.postgres.test_home import home_of

pytest_plugins = ["tests.servers.postgres"]

PIECES = [
    "a",
    '"',
    ",",
    "\n",
    "\r",
    "\\",
    "\t",
    "é",
    "😀",
    " ",
    "N",
    "\\N",
    "\\.",
    "\x01",
    "x" * 300,
]


def day(dice):
    if dice.random() < 0.02:
        return f"{dice.randint(1, 4700):04}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02} BC"
    far = 200_000 if dice.random() < 0.02 else 2_500
    return f"{dice.randint(1, far):04}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}"


def clock(dice):
    return f"{dice.randint(0, 23):02}:{dice.randint(0, 59):02}:07.{dice.randint(0, 999_999):06}"


GENERATORS = {
    "text": lambda dice: "".join(dice.choices(PIECES, k=dice.randint(0, 12))),
    "bytea": lambda dice: dice.randbytes(dice.randint(0, 40)),
    "bigint": lambda dice: dice.randint(-(2**63), 2**63 - 1),
    "numeric(20,5)": lambda dice: f"{dice.randint(-(10**14), 10**14)}.{dice.randint(0, 99999):05}",
    "numeric(60,5)": lambda dice: f"{dice.randint(-(10**54), 10**54)}.{dice.randint(0, 99999):05}",
    "float8": lambda dice: dice.uniform(-1e300, 1e300) * 10.0 ** dice.randint(-300, 0),
    "float4": lambda dice: dice.uniform(-1e30, 1e30),
    "bool": lambda dice: dice.random() < 0.5,
    "date": day,
    "timestamptz": lambda dice: f"{dice.randint(1, 9999):04}-05-06 {clock(dice)}+02",
    "time": clock,
    "int[]": lambda dice: [dice.randint(0, 9) for _ in range(dice.randint(0, 3))],
    "jsonb": lambda dice: f'{{"a": "{dice.randint(0, 9)}"}}',
}
EXPECTED_SQL = {
    "date": "c{} - date '1970-01-01'",
    "timestamptz": "(extract(epoch FROM c{}) * 1000000)::bigint",
    "time": "(extract(epoch FROM c{}) * 1000000)::bigint",
    "int[]": "c{}::text",
    "jsonb": "c{}::text",
    "float8": "encode(float8send(c{}), 'hex')",
    "float4": "encode(float4send(c{}), 'hex')",
}


def comparable(kind, column):
    """Return an Arrow column in the form that `EXPECTED_SQL` gives of PostgreSQL's."""
    if kind in ("date", "timestamptz", "time"):
        return column.cast(pa.int32() if kind == "date" else pa.int64()).to_pylist()
    if kind in ("float8", "float4"):
        bare = column.combine_chunks()
        width = 8 if kind == "float8" else 4
        raw = bare.to_numpy(zero_copy_only=False).astype(f">f{width}").tobytes().hex()
        cut = [raw[at : at + 2 * width] for at in range(0, len(raw), 2 * width)]
        return [
            text if ok else None for text, ok in zip(cut, bare.is_valid().to_pylist(), strict=True)
        ]
    return column.to_pylist()


@pytest.mark.parametrize("through", ["the socket", "libpq"])
@pytest.mark.parametrize("seed", range(6))
def test_a_random_table_is_read_as_it_is(pg, schema, seed, through, monkeypatch):
    if through == "libpq":
        monkeypatch.setattr(pg_home, "has_plain_socket", lambda connection: False)
    dice = random.Random(seed)
    kinds = dice.sample(list(GENERATORS), dice.randint(1, 7))
    count, absent = dice.randint(0, 2_000), dice.choice([0, 0.1, 0.9])
    with pg.connect() as connection:
        columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(kinds))
        connection.execute(f"CREATE TABLE {schema}.t ({columns})")
        with connection.cursor().copy(f"COPY {schema}.t FROM STDIN") as copy:
            for _ in range(count):
                row = [None if dice.random() < absent else GENERATORS[kind](dice) for kind in kinds]
                copy.write_row(row)
        asked = ", ".join(EXPECTED_SQL.get(kind, "c{}").format(at) for at, kind in enumerate(kinds))
        wanted = connection.execute(f"SELECT {asked} FROM {schema}.t ORDER BY ctid").fetchall()
    options = {"batch_size": dice.choice([37, 500, 50_000]), "batch_bytes": 50_000}
    home = home_of(pg, f"{schema}.t", dice.randint(1, 4), options=options)
    with home.open() as plan:
        empty = pa.schema([(each.name, each.type) for each in plan.columns]).empty_table()
        table = pa.concat_tables([empty, *(t for split in plan.splits for t in home.read(split))])
    for at, kind in enumerate(kinds):
        assert comparable(kind, table.column(at)) == [row[at] for row in wanted], (
            kind,
            plan.reason,
        )
    assert table.num_rows == count
