"""The tables of the servers: made from the truth, and compared with it after each move.

PostgreSQL sums hashes of each column's values, MariaDB sums checksums of their text: both are made
in the server, and the order of rows does not matter. The source table itself is read back once
after loading and compared with the file, so the sums of the source are right.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .checks import Found, differences, fingerprint
from .jobs import SMALL_ROWS, SMALL_TABLES
from .servers import Failed, MariaDB, Postgres, Server

PG = {
    "lineitem": (
        "l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, "
        "l_linenumber integer NOT NULL, l_quantity numeric(15,2) NOT NULL, "
        "l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL, "
        "l_tax numeric(15,2) NOT NULL, l_returnflag text NOT NULL, l_linestatus text NOT NULL, "
        "l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, "
        "l_shipinstruct text NOT NULL, l_shipmode text NOT NULL, l_comment text NOT NULL"
    ),
    "wide": (
        "id bigint, small smallint, number integer, ratio double precision, money numeric(18,4), "
        "word text, ok boolean, day date, moment timestamptz, uid uuid, doc jsonb"
    ),
}
MY = {
    "lineitem": (
        "l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, "
        "l_linenumber int NOT NULL, l_quantity decimal(15,2) NOT NULL, "
        "l_extendedprice decimal(15,2) NOT NULL, l_discount decimal(15,2) NOT NULL, "
        "l_tax decimal(15,2) NOT NULL, l_returnflag {0} NOT NULL, l_linestatus {0} NOT NULL, "
        "l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, "
        "l_shipinstruct {0} NOT NULL, l_shipmode {0} NOT NULL, l_comment {0} NOT NULL"
    )
}
MY_TEXT = "longtext COLLATE utf8mb4_bin"
PG_TYPES = (
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = '{0}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)


def load_pg(pg: Postgres, name: str, truth: Path, ready: Path, times: int = 1) -> None:
    """A table of PostgreSQL from the truth, and the file `ready` that its own client loads."""
    table = name if times == 1 else f"{name}_x{times}"
    pg.ask(f"CREATE TABLE {table} ({PG[name]})")
    text = ready.with_suffix(".csv")
    _export(truth, text, "FORMAT csv, HEADER false")
    for _ in range(times):
        feed(pg, f"COPY {table} FROM STDIN (FORMAT csv)", text)
    text.unlink()
    pg.ask(f"VACUUM (FREEZE, ANALYZE) {table}")
    if times > 1:
        return
    store(pg, f"COPY {name} TO STDOUT (FORMAT csv, FORCE_QUOTE *)", text)
    _compare(
        text, truth, "delim=',', quote='\"', escape='\"', nullstr='', allow_quoted_nulls=false"
    )
    store(pg, f"COPY {name} TO STDOUT (FORMAT binary)", ready)


def load_my(my: MariaDB, name: str, truth: Path, ready: Path) -> None:
    """A table of MariaDB from the truth, and the tab-separated file `ready`."""
    key = "PRIMARY KEY (l_orderkey, l_linenumber)"
    my.ask(f"CREATE TABLE source.{name} ({MY[name].format('varchar(44)')}, {key})")
    _export(truth, ready, "FORMAT csv, HEADER false, DELIMITER '\t', QUOTE '', ESCAPE ''")
    ends = "FIELDS TERMINATED BY '\\t' LINES TERMINATED BY '\\n'"
    my.ask(f"LOAD DATA LOCAL INFILE '{ready}' INTO TABLE source.{name} {ends}")
    my.ask(f"ANALYZE TABLE source.{name}")
    text = ready.with_suffix(".read")
    store(my, f"SELECT * FROM source.{name}", text)
    _compare(text, truth, "delim='\t', quote=''")


def load_small(pg: Postgres) -> None:
    """SMALL_TABLES tables in the schema `small`; a column says which one a row is from."""
    pg.ask("CREATE SCHEMA small")
    pg.ask("; ".join(
        f"CREATE TABLE small.t{number:03} AS SELECT {number}::bigint AS of, i::bigint AS id, "
        f"'text ' || i * {number + 7} AS word FROM generate_series(1, {SMALL_ROWS}) AS i"
        for number in range(SMALL_TABLES)
    ))  # fmt: skip
    pg.ask("ANALYZE")


def small_truth(path: Path) -> Path:
    """The rows of all small tables, as a file."""
    rows = (
        f"SELECT n::BIGINT AS of, i::BIGINT AS id, 'text ' || i * (n + 7) AS word "
        f"FROM range({SMALL_TABLES}) AS a(n), range(1, {SMALL_ROWS + 1}) AS b(i)"
    )
    import duckdb

    duckdb.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    return path


def of_pg(pg: Postgres, name: str) -> Found:
    """What `target.<name>` holds, beside the source table."""
    base = f"public.{name}"
    wanted = dict(line.split("|") for line in pg.ask(PG_TYPES.format(base)))
    try:
        types = dict(line.split("|") for line in pg.ask(PG_TYPES.format(f"target.{name}")))
    except Failed:
        return Found(0, f"there is no table {name}", "")
    if missing := [column for column in wanted if column not in types]:
        return Found(0, f"no column {missing[0]}", "")
    try:
        told = pg.ask(_pg_sums(f"target.{name}", wanted))[0]
    except Failed as error:
        return Found(0, f"the values are of no type that can be compared: {error}"[:300], "")
    kept = pg.ask(_pg_sums(base, wanted))[0]
    types = {column: _pg_type(kind) for column, kind in types.items()}
    return _found(told.split("|"), kept.split("|"), list(wanted), differences(wanted, types))


def _pg_type(text: str) -> str:
    """`character varying` without a length is `text` by another name."""
    return "text" if text == "character varying" else text


def _pg_sums(table: str, types: dict[str, str]) -> str:
    """Casts to the source's types; jsonb has a hash, json does not."""
    sums = ", ".join(
        f"sum(hash_record_extended(ROW({name}::{kind}), 0)::numeric)"
        for name, kind in types.items()
    )
    return f"SELECT count(*), {sums} FROM {table}"


def of_my(my: MariaDB, name: str) -> Found:
    def types(database: str) -> dict[str, str]:
        told = my.ask(
            "SELECT column_name, column_type FROM information_schema.columns "
            f"WHERE table_schema = '{database}' AND table_name = '{name}' ORDER BY ordinal_position"
        )
        return {line.split("\t")[0]: _my_type(line.split("\t")[1]) for line in told}

    wanted, found = types("source"), types("target")
    if missing := [column for column in wanted if column not in found]:
        return Found(0, f"no column {missing[0]}", "")
    sums = ", ".join(
        f"CONCAT(SUM(CRC32({each})), ' ', SUM(CRC32(CONCAT('/', {each}))))" for each in wanted
    )
    told, kept = (
        my.ask(f"SELECT COUNT(*), {sums} FROM {schema}.{name}")[0].split("\t")
        for schema in ("target", "source")
    )
    return _found(told, kept, list(wanted), differences(wanted, found))


def _my_type(text: str) -> str:
    """Text is text, whatever its length; the width of a number's print is no type."""
    if "char" in text or "text" in text:
        return "text"
    return text.partition("(")[0] if "int" in text else text


def _found(told: list[str], kept: list[str], names: list[str], types: str) -> Found:
    if told[0] != kept[0]:
        return Found(int(told[0]), f"{told[0]} rows instead of {kept[0]}", types)
    wrong = [name for name, a, b in zip(names, told[1:], kept[1:], strict=True) if a != b]
    return Found(int(told[0]), f"other values in {', '.join(wrong)}" if wrong else "", types)


def _export(truth: Path, path: Path, words: str) -> None:
    import duckdb

    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(f"COPY (FROM '{truth}') TO '{path}' ({words})")


def _compare(text: Path, truth: Path, words: str) -> None:
    """The table that was loaded against the file, through the text that the client prints."""
    import duckdb

    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        kinds = dict(row[:2] for row in db.execute(f"DESCRIBE FROM '{truth}'").fetchall())
        rows = f"read_csv('{text}', header=false, {words}, columns={kinds})"
        told, kept = (fingerprint(db, each, kinds) for each in (rows, f"'{truth}'"))
    text.unlink()
    if told != kept:
        raise Failed(f"the server does not hold what was loaded: {told} {kept}")


def feed(server: Server, sql: str, path: Path) -> None:
    with open(path, "rb") as file:
        done = subprocess.run(server.client(sql), stdin=file, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{sql}: {done.stderr[-500:]}")


def store(server: Server, sql: str, path: Path) -> None:
    with open(path, "wb") as file:
        done = subprocess.run(server.client(sql), stdout=file, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Failed(f"{sql}: {done.stderr[-500:]}")
