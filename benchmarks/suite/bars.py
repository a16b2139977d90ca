"""The bars: how many times another contender's figure hygge may need, as data."""

from __future__ import annotations

from dataclasses import dataclass

from .rounds import DONE, Result

ON_RAY, INLINE, ONE_LANE = "hygge on Ray", "hygge inline", "hygge one lane"
MOVE, WHOLE, REPORT, MEMORY = "move_s", "whole_s", "report_s", "own_mb"
DUCKDB, DUCKDB_PG = "DuckDB", "DuckDB 1.5 extension"
DLT, DLT_ARROW = "dlt", "dlt pyarrow"


@dataclass(frozen=True)
class Bar:
    """`contender`'s `figure` at `job` is at most `most` times that of `peer`.

    Without a peer `most` is the figure itself. The peer's job is the same, unless `peer_job` says
    another.
    """

    job: str
    contender: str
    figure: str
    most: float
    peer: str = ""
    peer_job: str = ""


BARS = (
    Bar("parquet_to_parquet", ON_RAY, MOVE, 1.2, DUCKDB),
    Bar("parquet_to_parquet", ON_RAY, WHOLE, 0.35, "Ray Data"),
    Bar("parquet_to_parquet", INLINE, WHOLE, 1.2, DUCKDB),
    Bar("csv_to_parquet", ON_RAY, MOVE, 1.2, DUCKDB),
    Bar("csv_to_parquet", ON_RAY, WHOLE, 0.35, "Ray Data"),
    Bar("csv_to_parquet", INLINE, WHOLE, 1.2, DUCKDB),
    Bar("pg_to_parquet", ON_RAY, MOVE, 1.15, "limit"),
    Bar("pg_to_parquet", ON_RAY, MOVE, 1.1, DUCKDB_PG),
    Bar("pg_to_parquet", ON_RAY, WHOLE, 0.85, DLT),
    Bar("pg_to_parquet", ON_RAY, WHOLE, 0.3, DLT_ARROW),
    Bar("parquet_to_pg", ON_RAY, MOVE, 1.2, "limit"),
    Bar("parquet_to_pg", ON_RAY, WHOLE, 0.2, DLT),
    Bar("pg_to_pg", ON_RAY, MOVE, 1.1, "limit"),
    Bar("pg_to_pg", ON_RAY, WHOLE, 0.3, DLT),
    Bar("pg_to_pg", ON_RAY, WHOLE, 0.6, "ingestr 0.15.9"),
    Bar("my_to_parquet", ON_RAY, MOVE, 0.95, "ConnectorX"),
    Bar("jsonl_to_parquet", ON_RAY, MOVE, 1.3, DUCKDB),
    Bar("pg_small_tables", ON_RAY, WHOLE, 1.0, DLT),
    Bar("four_lines", ON_RAY, REPORT, 1.05, "bare Ray"),
    Bar("four_lines", ON_RAY, WHOLE, 1.0, "bare Ray"),
    Bar("four_lines", INLINE, WHOLE, 0.5),
    Bar("parquet_to_delta", ON_RAY, MOVE, 1.0, "deltalake"),
    Bar("parquet_to_iceberg", ON_RAY, MOVE, 0.8, "pyiceberg"),
    Bar("parquet_to_iceberg", ONE_LANE, MEMORY, 600),
    Bar("parquet_to_duckdb", ON_RAY, MOVE, 1.3, DUCKDB),
    Bar("parquet_to_parquet", ONE_LANE, MEMORY, 700),
    Bar("parquet_to_parquet:x6", ONE_LANE, MEMORY, 1.1, ONE_LANE, "parquet_to_parquet"),
    Bar("pg_to_parquet", ONE_LANE, MEMORY, 700),
    Bar("pg_to_parquet:x6", ONE_LANE, MEMORY, 1.1, ONE_LANE, "pg_to_parquet"),
)
"""Those of the project, for scale 1 on two cores that do nothing else, medians of three."""


@dataclass(frozen=True)
class Judged:
    """A bar beside what was measured; `value` is None where something of it was not measured."""

    bar: Bar
    value: float | None
    why: str = ""

    @property
    def is_above(self) -> bool:
        return self.value is not None and self.value > self.bar.most


def judge(results: list[Result], bars: tuple[Bar, ...] = BARS) -> list[Judged]:
    """The bars of the jobs that were run. A contender that was wrong is no measure of anybody."""
    by_key = {(result.job, result.contender): result for result in results}
    judged = []
    for bar in bars:
        if not any(result.job == bar.job for result in results):
            continue
        mine, why = _figure(by_key.get((bar.job, bar.contender)), bar.contender, bar.figure)
        theirs: float | None = 1.0
        if bar.peer and not why:
            peer = by_key.get((bar.peer_job or bar.job, bar.peer))
            theirs, why = _figure(peer, bar.peer, bar.figure)
        value = mine / theirs if mine is not None and theirs else None
        judged.append(Judged(bar, value, why))
    return judged


def _figure(result: Result | None, name: str, figure: str) -> tuple[float | None, str]:
    if result is None:
        return None, f"{name} was not run"
    if result.status != DONE:
        return None, f"{name}: {result.status}"
    return result.median(figure), ""
