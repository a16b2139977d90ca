"""The data of the benchmark of databases, and whether it arrived: rows, values and types.

Each server gets lineitem once, loaded by its own client and compared with the Parquet file through
DuckDB. What a mover wrote is then compared with that: a table by a sum over hashes of whole rows,
made in the server; Parquet files column by column, in DuckDB. The order of rows does not matter.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

from database_movers import MY_ENDS, MY_TABLE, PG_TABLE, Bench
from database_servers import Failed, Postgres, Server
from parquet_to_parquet import checksum

VALUES_DIFFER = "VALUES DIFFER"
PG_SUM = "SELECT count(*), sum(hash_record_extended(t, 0)::numeric) FROM {0}.lineitem AS t"
PG_TYPES = (
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = '{0}.lineitem'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
MY_SUM = (
    "SELECT COUNT(*), SUM(CRC32(CONCAT_WS('|', {1}))), SUM(CRC32(CONCAT_WS('/', {1}))) "
    "FROM {0}.lineitem"
)


class Truth:
    """What every mover must have moved."""

    def __init__(self, bench: Bench) -> None:
        import pyarrow.parquet as pq

        self.bench = bench
        self.files = checksum(str(bench.source))
        self.schema = pq.read_schema(bench.source)
        self.rows: int = self.files[1]
        self.names = ", ".join(self.schema.names)
        self.tables: dict[str, list[str]] = {}

    def load(self) -> None:
        """lineitem into both servers, and into the ready files of their own clients."""
        import duckdb

        text = self.bench.folder / "lineitem.tsv"
        with duckdb.connect() as db:
            told = "(FORMAT csv, DELIMITER '\t', HEADER false, QUOTE '', ESCAPE '')"
            db.execute(f"COPY (FROM '{self.bench.source}') TO '{text}' {told}")
        if (pg := self.bench.pg) is not None:
            pg.ask(f"CREATE TABLE lineitem ({PG_TABLE})")
            _feed(pg, "COPY lineitem FROM STDIN", text)
            pg.ask("VACUUM (FREEZE, ANALYZE) lineitem")
            self._compare(pg, "COPY lineitem TO STDOUT")
            _store(
                pg, "COPY lineitem TO STDOUT (FORMAT binary)", self.bench.folder / "lineitem.pgcopy"
            )
            self.tables["pg"] = self._sum(pg, "public")
        if (my := self.bench.my) is not None:
            kinds = MY_TABLE.format("varchar(44)")
            my.ask(
                f"CREATE TABLE source.lineitem ({kinds}, PRIMARY KEY (l_orderkey, l_linenumber))"
            )
            my.ask(f"LOAD DATA LOCAL INFILE '{text}' INTO TABLE source.lineitem {MY_ENDS}")
            my.ask("ANALYZE TABLE source.lineitem")
            self._compare(my, "SELECT * FROM source.lineitem")
            self.tables["my"] = self._sum(my, "source")

    def _compare(self, server: Server, sql: str) -> None:
        """The loaded table against the file, through the text that the server's client prints."""
        path = self.bench.folder / "loaded.tsv"
        _store(server, sql, path)
        import duckdb

        with duckdb.connect() as db:
            kinds = dict(db.execute(f"DESCRIBE FROM '{self.bench.source}'").df().iloc[:, :2].values)
            view = f"read_csv('{path}', delim='\t', header=false, quote='', columns={kinds})"
            parquet = self.bench.folder / "loaded.parquet"
            db.execute(f"COPY (FROM {view}) TO '{parquet}'")
        path.unlink()
        found = checksum(str(parquet))
        parquet.unlink()
        if found != self.files:
            raise Failed(f"{server.name} does not hold what was loaded: {found} {self.files}")

    def of_files(self) -> str:
        """What is wrong with the Parquet files in the output folder; empty if nothing is."""
        import duckdb
        import pyarrow.parquet as pq

        files = [each for each in self.bench.out.rglob("*.parquet") if self._is_data(each)]
        if not files:
            return "NO FILES"
        listed = str([str(each) for each in files])
        schema = pq.read_schema(files[0])
        with duckdb.connect() as db:
            db.execute(f"CREATE VIEW source AS FROM '{self.bench.source}'")
            kinds = dict(row[:2] for row in db.execute("DESCRIBE source").fetchall())
            of_source = ", ".join(f'sum(hash("{name}")::HUGEINT)' for name in kinds)
            cast = ", ".join(f'sum(hash("{n}"::{kind})::HUGEINT)' for n, kind in kinds.items())
            told = db.execute(f"SELECT count(*), {cast} FROM read_parquet({listed})").fetchone()
            same = told == db.execute(f"SELECT count(*), {of_source} FROM source").fetchone()
        if not same:
            return VALUES_DIFFER
        return _differences(
            {name: _plain(self.schema.field(name).type) for name in self.schema.names},
            {name: _plain(schema.field(name).type) for name in schema.names},
        )

    @staticmethod
    def _is_data(path: Path) -> bool:
        """dlt writes tables of its own beside."""
        return not any(part.startswith(("_dlt", "own", "state")) for part in path.parts)

    def of_table(self, which: str) -> str:
        """What is wrong with `target.lineitem` of the server `which`; empty if nothing is."""
        server: Any = self.bench.pg if which == "pg" else self.bench.my
        if self._sum(server, "target") != self.tables[which]:
            return VALUES_DIFFER
        if (
            which == "my"
        ):  # decimals and dates of other types would print otherwise: the sum sees it
            return ""
        first, now = (dict(line.split("|") for line in server.ask(PG_TYPES.format(schema)))
                      for schema in ("public", "target"))  # fmt: skip
        return _differences(first, now)

    def _sum(self, server: Server, schema: str) -> list[str]:
        sql = PG_SUM if isinstance(server, Postgres) else MY_SUM
        return server.ask(sql.format(schema, self.names))


def _differences(wanted: dict[str, str], found: dict[str, str]) -> str:
    """`int32 as int64, decimal128(15, 2) as …`; each pair of types once."""
    pairs = {
        f"{kind} as {found[name]}": None for name, kind in wanted.items() if found[name] != kind
    }
    return ", ".join(pairs)


def _plain(kind: Any) -> str:
    """Text is text, whatever the width of its offsets."""
    return {"string_view": "string", "large_string": "string"}.get(str(kind), str(kind))


def _feed(server: Server, sql: str, path: Path) -> None:
    with open(path, "rb") as file:
        done = subprocess.run(server.client(sql), stdin=file, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{shlex.join(server.client(sql))}: {done.stderr[-500:]}")


def _store(server: Server, sql: str, path: Path) -> None:
    with open(path, "wb") as file:
        done = subprocess.run(server.client(sql), stdout=file, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Failed(f"{shlex.join(server.client(sql))}: {done.stderr[-500:]}")
