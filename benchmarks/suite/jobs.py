"""The jobs: from what to what, with which data.

A contender does those that a function of its file is named like.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One movement.

    `source` and `target` are kinds: `parquet csv jsonl sqlite` (files), `pg my` (servers),
    `delta iceberg duckdb`, or "" where nothing is compared.
    """

    function: str
    title: str
    source: str
    target: str
    data: str = "lineitem"
    times: int = 1
    """The source has so many times the rows."""

    @property
    def name(self) -> str:
        more = "" if self.data in ("lineitem", "nested", "plain", "small") else f":{self.data}"
        return self.function + more + (f":x{self.times}" if self.times > 1 else "")

    @property
    def is_long(self) -> bool:
        """Whether a quick run leaves it out: six times the rows, and the table of mixed types."""
        return self.times > 1 or self.data == "wide"

    @property
    def servers(self) -> set[str]:
        return {self.source, self.target} & {"pg", "my"}


ALL = (
    Job("parquet_to_parquet", "Parquet → Parquet", "parquet", "parquet"),
    Job("csv_to_parquet", "CSV → Parquet", "csv", "parquet"),
    Job("jsonl_to_parquet", "JSONL → Parquet, nested rows", "jsonl", "parquet", "nested"),
    Job("pg_to_parquet", "PostgreSQL → Parquet", "pg", "parquet"),
    Job("parquet_to_pg", "Parquet → PostgreSQL", "parquet", "pg"),
    Job("pg_to_pg", "PostgreSQL → PostgreSQL", "pg", "pg"),
    Job("pg_small_tables", "200 small tables, PostgreSQL → Parquet", "pg", "parquet", "small"),
    Job("four_lines", "The sample of four lines", "", ""),
    Job("parquet_to_delta", "Parquet → Delta Lake", "parquet", "delta"),
    Job("parquet_to_iceberg", "Parquet → Iceberg", "parquet", "iceberg"),
    Job("parquet_to_duckdb", "Parquet → DuckDB", "parquet", "duckdb"),
    Job("sqlite_to_parquet", "SQLite → Parquet", "sqlite", "parquet", "plain"),
    Job("my_to_parquet", "MariaDB → Parquet", "my", "parquet"),
    Job("parquet_to_my", "Parquet → MariaDB", "parquet", "my"),
    Job("pg_incremental", "1,000 new rows, PostgreSQL → Parquet", "pg", "parquet"),
    Job("parquet_to_parquet", "Parquet → Parquet, mixed types", "parquet", "parquet", "wide"),
    Job("pg_to_parquet", "PostgreSQL → Parquet, mixed types", "pg", "parquet", "wide"),
    Job("pg_to_pg", "PostgreSQL → PostgreSQL, mixed types", "pg", "pg", "wide"),
    Job("parquet_to_parquet", "Parquet → Parquet, six times", "parquet", "parquet", times=6),
    Job("pg_to_parquet", "PostgreSQL → Parquet, six times", "pg", "parquet", times=6),
)  # fmt: skip
"""In the order in which they run: on a slow machine a quick run has no time for the last ones."""
JOBS = {job.name: job for job in ALL}
MEMORY_ONLY = frozenset({"parquet_to_parquet:x6", "pg_to_parquet:x6"})
"""Only what has `one lane` in its name does them: they are for the bars of memory."""
SMALL_TABLES, SMALL_ROWS, NEW_ROWS = 200, 500, 1000


def jobs_of(names: str) -> list[Job]:
    """The jobs of names with commas between; none of them is all of them."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in JOBS]:
        raise SystemExit(f"{unknown[0]!r} is no job: {', '.join(JOBS)}")
    return [JOBS[name] for name in wanted] or list(ALL)
