"""`where` for files: the same rows as DuckDB takes, or an error with the place."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from hygge.errors import ConfigError
from hygge.shape.settings import Shape
from tests.shape.moving import FORMATS, flows, lake, moved, run, write

pytest_plugins = ["tests.servers.postgres"]
NAN = float("nan")
ROWS = pa.table(
    {
        "n": pa.array(range(8), pa.int64()),
        "i": pa.array([1, 2, None, 4, -5, 100, 7, 0], pa.int8()),
        "f": pa.array([1.0, NAN, None, -1.0, 0.0, float("inf"), 2.5, NAN]),
        "g": pa.array([NAN, NAN, 1.0, None, 0.0, 1.0, 2.5, 3.0]),
        "s": pa.array(["a", "b%\nc", None, "", "B", "a_b", "é", "abc"]),
        "d": pa.array([Decimal(x) if x else None for x in
                       ("1.50", "2.25", None, "-3.00", "0.00", "9.99", "1.51", "1.49")],
                      pa.decimal128(9, 2)),
        "b": pa.array([True, False, None, True, False, True, None, False]),
        "t": pa.array([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2, 12), None,
                       dt.datetime(1999, 1, 1), dt.datetime(2024, 1, 1, 0, 0, 0, 1), None,
                       dt.datetime(2030, 1, 1), dt.datetime(2024, 1, 3)], pa.timestamp("us")),
        "day": pa.array([dt.date(2024, 1, day) for day in range(1, 9)]),
    }
)  # fmt: skip
MANY = ", ".join(map(str, range(2, 60)))
CONDITIONS = [
    "i > 1", "i >= 1.5", "not i = 1.5", "i <> 1000", "i < 1000", "i > -129.5", "1 < i", "i = null",
    "i in (1, null, 7)", "i not in (1, null)", "i not in (1, 2.5)", f"i in ({MANY})",
    f"i not in ({MANY})", "f > 0", "f >= 0", "f < 5", "f <> 1", "not (f > 0)", "f = 'NaN'",
    "f < 'NaN'", "f <= 'NaN'", "f > 'NaN'", "f > g", "f >= g", "f = g", "f <> g", "f <= g", "f < g",
    "f between 0 and 2.5", "s like 'b%'", "s like '%c'", "s not like 'a%'", "s like 'a\\_b'",
    "s ilike 'b%'", "s = ''", "s > 'a'", "s in ('a', 'é')", "d > 2", "d = 1.5", "d = 1.505",
    "d > 1.499", "d <= 1.505", "d not between -3 and 1.5", "b", "not b", "b is not true",
    "b is false", "b = false", "b is null", "i is not null", "t >= '2024-01-01'",
    "t > timestamp '2024-01-01 00:00:00'", "day = date '2024-01-03'", "day > '2024-01-04'",
    "i > 1 and (s = 'a' or s is null)", "i > 1 or b", "not (i > 1 and b)", "(i > 1) is not true",
    'not (not "i" > 3 or s is null)', "i = i", "d > 1 or f is null",
]  # fmt: skip


@pytest.fixture(scope="module")
def by_duckdb():
    # As PostgreSQL, hygge lets a literal take the type of its column, and a backslash escape.
    connection = duckdb.connect()
    connection.register("rows", ROWS)

    def ask(condition):
        condition = condition.replace("'a\\_b'", "'a\\_b' escape '\\'")
        result = connection.sql(f"SELECT n FROM rows WHERE {condition} ORDER BY n").fetchall()
        return [n for (n,) in result]

    return ask


def test_the_rows_are_those_of_duckdb_also_where_row_groups_are_left_out(tmp_path, by_duckdb):
    pq.write_table(ROWS, tmp_path / "rows.parquet", row_group_size=2)
    flows_of = {
        f"f{number}": {
            "home": {"path": "rows.parquet", "where": condition, "columns": ["n"]},
            "store": f"out/{number}.parquet",
        }
        for number, condition in enumerate(CONDITIONS)
    }
    import yaml

    (tmp_path / "flows.yml").write_text(yaml.safe_dump({"flows": flows_of}))
    summary = Coordinator(tmp_path / "flows.yml", engine="inline").run()
    assert [report.error for report in summary.flows if report.error] == []
    got = {
        condition: pq.read_table(tmp_path / f"out/{number}.parquet")["n"].to_pylist()
        for number, condition in enumerate(CONDITIONS)
    }
    assert got == {condition: by_duckdb(condition) for condition in CONDITIONS}


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_are_chosen_in_every_format(kind, tmp_path, capsys):
    path = flows(tmp_path, {**write(kind, tmp_path), "where": "age >= 40 or ssn = 's-1'",
                            "columns": ["id", {"name": "age", "as": "years"}]})  # fmt: skip
    assert moved(path) == [{"id": 1, "years": 30}, {"id": 2, "years": 40}]
    report = run(path)
    assert report.rows_read == report.rows + report.filtered
    assert main(["plan", str(path)]) == 0
    assert "age >= 40" in capsys.readouterr().out or kind == "sqlite"


@pytest.mark.parametrize("engine", ["inline", "ray"])
def test_rows_that_are_filtered_are_counted(engine, tmp_path, capsys, request):
    if engine == "ray":
        request.getfixturevalue("ray_here")
    path = flows(tmp_path, {**write("jsonl", tmp_path), "where": "id = 2"})
    report = run(path, engine)
    assert (report.rows_read, report.filtered, report.rows, report.applied) == (3, 2, 1, 1)
    assert main(["run", str(path), "--inline"]) == 0
    assert "3 rows read - 2 filtered = 1 staged = applied" in capsys.readouterr().out
    report = run(flows(tmp_path, {**write("jsonl", tmp_path), "where": "id > 9"}), engine)
    assert (report.status, report.rows_read, report.filtered) == ("done", 3, 3)
    assert lake(path).num_rows == 0


def test_row_groups_that_cannot_match_are_not_read_and_plan_says_so(tmp_path, capsys):
    table = pa.table({"id": range(1000), "text": ["x"] * 1000})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=100)
    path = flows(tmp_path, {"path": str(tmp_path / "rows.parquet"),
                            "where": "id between 250 and 320"})  # fmt: skip
    assert main(["plan", str(path)]) == 0
    assert "8 of 10 row groups cannot match `where`" in capsys.readouterr().out
    report = run(path)
    assert (report.rows_read, report.filtered, report.rows) == (200, 129, 71)


def test_a_hive_partition_that_cannot_match_is_not_read(tmp_path):
    for year in (2023, 2024):
        (tmp_path / f"in/year={year}").mkdir(parents=True)
        pq.write_table(pa.table({"id": [year, 1]}), tmp_path / f"in/year={year}/a.parquet")
    path = flows(tmp_path, {"path": str(tmp_path / "in"), "where": "year = 2024 and id > 1"})
    assert moved(path) == [{"id": 2024, "year": 2024}]
    assert run(path).rows_read == 2


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("lower(s) = 'a'", r"at character 1: `LOWER\(s\)` is not of the subset"),
        ("i + 1 > 2", r"at character 1: `i \+ 1` is not of the subset"),
        ("i > 1 and i in (select 1)", "at character 11: `in` takes a list of literals"),
        ("i >", "cannot be read at character 3"),
        ("i > 1; drop table x", "is not one condition, but ends at character 6"),
        ("i > 1\n and i = = 2", "cannot be read at line 2, character 10, near '='"),
        ("s = 'it''s' or s = 'x", "a quote at character 20 is not closed"),
        ("x.i > 1", "is not of the subset"),
        ("i is distinct from 2", "is not of the subset"),
        ("1 = 1", "is not of the subset"),
        ("s like 'x' escape '!'", "is not of the subset"),
        ("i = 1 = b", "is not of the subset"),
    ],
)
def test_what_is_outside_of_the_subset_is_an_error_with_the_place(where, message, tmp_path):
    path = flows(tmp_path, {**write("parquet", tmp_path), "where": where})
    with pytest.raises(ConfigError, match=message) as raised:
        Coordinator(path)
    assert "flows.yml:" in str(raised.value)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nn = 1", "has no column 'nn'"),
        ("s = 5", "at character 5: 5 is no value of a column that is string"),
        ("i = 'one'", "'one' is no value"),
        ("i", "'i' is int8, no condition"),
        ("i = s", "they are not compared"),
        ("day > timestamp '2024-01-01 00:00:00'", "is no value of a column that is date"),
        ("t > '2024-01-01 00:00:00Z'", "is no value"),
        ("i like 'a'", "not text"),
    ],
)
def test_what_does_not_fit_the_columns_is_an_error_before_a_row_moves(where, message, tmp_path):
    report = run(flows(tmp_path, {**write("parquet", tmp_path, ROWS), "where": where}))
    assert message in report.error
    assert not (tmp_path / "lake").exists()


def test_a_wrong_condition_in_a_database_names_where(pg, schema, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.a (id int)")
    homes = (
        {"connection": pg.url, "table": f"{schema}.a"},
        write("sqlite", tmp_path),
    )
    for home in homes:
        report = run(flows(tmp_path, {**home, "where": "totl > 1"}))
        assert "totl" in report.error
        assert "`where`" in f"{report.error} {report.hint}", report


def test_a_shape_in_python_puts_where_into_the_query(tmp_path):
    from hygge import Flow, ParquetStore, SQLHome

    home = write("sqlite", tmp_path)
    shape = Shape(where="id > 1", columns=[{"name": "id"}])
    flow = Flow(SQLHome(**home), ParquetStore(path=tmp_path / "lake"), engine="inline", shape=shape,
                state=tmp_path / "state")  # fmt: skip
    report = flow.run()
    assert (report.rows_read, report.rows) == (2, 2)
