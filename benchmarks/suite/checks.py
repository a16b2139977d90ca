"""Whether the rows arrived: how many, an order-free hash of every column, and the types.

The hash of a column is the sum of the hashes of its values (DuckDB's), after a cast to the type of
the source: another type is told apart from another value. Text is text, whatever the width of its
offsets. A column more than the source has (a mover's own) is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN_FOLDERS = ("_dlt", ".", "_delta_log", "metadata")
JSON_COLUMNS = ("doc",)
ENDINGS = {"iceberg": "*.metadata.json", "duckdb": "*.duckdb"}


@dataclass(frozen=True)
class Found:
    """What a target holds; `wrong` and `types` are words, empty where nothing is to say."""

    rows: int
    wrong: str
    types: str
    """`int32 as int64`: kept in value, but not in type."""


def fingerprint(db: Any, rows: str, kinds: dict[str, str]) -> tuple[Any, ...]:
    """Rows, and for every column of `kinds` the number of values and the sum of their hashes."""
    sums = ", ".join(
        f'count("{name}"), sum(hash({_value(name, kind)})::HUGEINT)' for name, kind in kinds.items()
    )
    return tuple(db.execute(f"SELECT count(*), {sums} FROM {rows}").fetchone())


def _value(name: str, kind: str) -> str:
    """JSON is compared without its blanks."""
    value = f'"{name}"::{kind}'
    return f"json({value})" if name in JSON_COLUMNS else value


def of_files(kind: str, out: Path, truth: str, table: str) -> Found:
    """What is in the folder `out`, as `parquet`, `delta`, `iceberg` or `duckdb`, beside the truth.

    `truth` is a path or a glob.
    """
    import duckdb
    import pyarrow.parquet as pq

    first = sorted(Path(truth).parent.glob(Path(truth).name))[0]
    schema = pq.read_schema(first)
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        kinds = dict(row[:2] for row in db.execute(f"DESCRIBE FROM '{truth}'").fetchall())
        try:
            rows, names, types = _target(db, kind, out, table)
        except (FileNotFoundError, ImportError, duckdb.Error) as error:
            return Found(0, str(error)[:300], "")
        if missing := [name for name in kinds if name not in names]:
            return Found(0, f"no column {missing[0]}", "")
        kept = fingerprint(db, f"'{truth}'", kinds)
        try:
            told = fingerprint(db, rows, kinds)
        except duckdb.Error as error:
            return Found(0, f"values of another type: {error}"[:300], "")
    if told[0] != kept[0]:
        return Found(told[0], f"{told[0]} rows instead of {kept[0]}", "")
    pairs = zip(kinds, told[1::2], kept[1::2], told[2::2], kept[2::2], strict=True)
    wrong = [name for name, count, its, total, sums in pairs if (count, total) != (its, sums)]
    said = f"other values in {', '.join(wrong)}" if wrong else ""
    wanted = {name: plain(schema.field(name).type) for name in schema.names}
    return Found(told[0], said, differences(wanted, types or wanted))


def _target(db: Any, kind: str, out: Path, table: str) -> tuple[str, list[str], dict[str, str]]:
    """The rows as DuckDB's SQL, their columns, and their types (Arrow)."""
    if kind == "duckdb":
        db.execute(f"ATTACH '{_one(out, ENDINGS[kind])}' AS it (READ_ONLY)")
        schemas = db.execute(
            f"SELECT schema_name FROM duckdb_tables() WHERE database_name = 'it' "
            f"AND table_name = '{table}'"
        ).fetchall()
        if not schemas:
            raise FileNotFoundError(f"no table {table}")
        rows = f'it."{schemas[0][0]}".{table}'
        arrow = db.sql(f"FROM {rows} LIMIT 0").to_arrow_table().schema
    elif kind == "iceberg":
        from pyiceberg.table import StaticTable

        at = StaticTable.from_metadata(str(_one(out, ENDINGS[kind])))
        reader = at.scan().to_arrow_batch_reader()
        arrow, rows = reader.schema, "from_iceberg"
        db.register(rows, reader.read_all())
    else:
        files: list[str] = []
        if kind == "delta":
            from deltalake import DeltaTable

            for log in out.rglob("_delta_log"):
                if table in str(log) or log.parent.name == "delta":
                    files = [
                        each.removeprefix("file://") for each in DeltaTable(log.parent).file_uris()
                    ]
        else:
            files = [str(each) for each in data_files(out)]
        if not files:
            raise FileNotFoundError("nothing was written")
        import pyarrow.parquet as pq

        arrow = pq.read_schema(max(files, key=lambda each: Path(each).stat().st_size))
        rows = f"read_parquet({files})"
    return rows, arrow.names, {field.name: plain(field.type) for field in arrow}


def data_files(out: Path) -> Iterable[Path]:
    """Parquet files of rows, without hidden ones and those that a mover keeps for itself."""
    return sorted(
        each for each in out.rglob("*.parquet")
        if not any(part.startswith(OWN_FOLDERS) or part.startswith("_hygge")
                   for part in each.relative_to(out).parts)
    )  # fmt: skip


def _one(out: Path, pattern: str) -> Path:
    found = sorted(out.rglob(pattern), key=lambda each: each.name)
    if not found:
        raise FileNotFoundError("nothing was written")
    return found[-1]


def differences(wanted: dict[str, str], found: dict[str, str]) -> str:
    """`int32 as int64, decimal128(15, 2) as …`; each pair of types once."""
    pairs = {f"{kind} as {found[name]}": None
             for name, kind in wanted.items() if found[name] != kind}  # fmt: skip
    return ", ".join(pairs)


def plain(kind: Any) -> str:
    """The name of a type; text, uuid and JSON of the source are text in the truth."""
    name = str(kind)
    for each in ("string_view", "large_string", "extension<arrow.uuid>", "extension<arrow.json>"):
        name = name.replace(each, "string")
    return name.replace("large_list", "list").replace("element: ", "item: ")
