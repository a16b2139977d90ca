"""Nested values go into a table as JSON: from JSONL, Parquet and Arrow, with every value."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Flow, Home, JsonlHome, ParquetHome, ParquetStore, SQLHome
from hygge.errors import FlowFailed, UnfitValue
from hygge.report.text import plan_text
from tests.connectors.sql.own_tables import database

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

KINDS = ("postgresql", "psycopg2", "mariadb", "sqlite")
DEEP = pa.struct(
    [
        ("n", pa.int64()), ("u", pa.uint64()), ("d", pa.decimal128(38, 2)), ("f", pa.float64()),
        ("s", pa.string()), ("at", pa.timestamp("us", "UTC")), ("day", pa.date32()),
        ("tags", pa.list_(pa.string())), ("m", pa.map_(pa.string(), pa.int64())),
        ("inner", pa.struct([("x", pa.list_(pa.struct([("y", pa.bool_())])))])),
    ]
)  # fmt: skip
VALUE = {
    "n": 2**63 - 1, "u": 2**64 - 1, "d": Decimal("123456789012345678901234567890123456.78"),
    "f": 0.1, "s": 'a "quoted" \\ text,\n💡', "at": datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC),
    "day": datetime(2024, 2, 29).date(), "tags": ["x", None, ""], "m": [("k", 1), ('"', None)],
    "inner": {"x": [{"y": True}, {"y": None}, None]},
}  # fmt: skip
TEXT = {
    **VALUE, "d": "123456789012345678901234567890123456.78", "day": "2024-02-29",
    "at": "2024-02-29T01:02:03.000004Z", "m": {"k": 1, '"': None},
}  # fmt: skip
EMPTY = {name: None for name in VALUE}
ROWS = pa.table(
    {
        "id": [1, 2, 3],
        "a": pa.array([VALUE, None, EMPTY], DEEP),
        "l": pa.array([[1, None], [], None], pa.list_(pa.int64())),
    }
)


def flow(home, base, state, mode="replace", **options):
    return Flow(home, base.store(**options), name="f", mode=mode, engine="inline", state=state)


@pytest.fixture(params=KINDS)
def base(request, tmp_path):
    return database(request, request.param, tmp_path)


def test_nested_values_of_parquet_are_json_and_come_back(base, tmp_path):
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    moving = flow(ParquetHome("rows", path=str(tmp_path / "rows.parquet")), base, tmp_path)
    with moving.home.open() as found:
        said = plan_text(moving, moving.shaped(found))
    kind = "json" if base.name in ("postgresql", "mariadb") else "of text"
    assert f"nested values are kept as JSON, in a column {kind}: 'a', 'l'" in said
    assert "cannot be kept" not in said
    for _ in range(2):
        moving.run()
    read = Flow(
        SQLHome("t", table=base.store().table, connection=base.store().settings.connection),
        ParquetStore("back", path=str(tmp_path / "back")),
        name="back", engine="inline", state=tmp_path,
    )  # fmt: skip
    read.run()
    rows = sorted(pq.read_table(tmp_path / "back").to_pylist(), key=lambda row: row["id"])
    assert [row["a"] and json.loads(row["a"]) for row in rows] == [TEXT, None, EMPTY]
    assert [row["l"] for row in rows] == ["[1, null]", "[]", None]
    if base.name == "postgresql":
        asked = "SELECT data_type FROM information_schema.columns WHERE table_schema = '{}' AND "
        found = base.ask(asked.format(base.schema) + "column_name IN ('a', 'l')")
        assert found == [("json",), ("json",)]
        base.ask("ALTER TABLE t ALTER a TYPE jsonb")
        flow(moving.home, base, tmp_path, "append").run()
        assert base.ask("SELECT a->'n' FROM t WHERE id = 1") == [(2**63 - 1,)] * 2
    if base.name == "mariadb":
        assert base.ask("SHOW CREATE TABLE t")[0][1].count("json_valid") == 2
        wider = ROWS.append_column("w", pa.array([1, 2, 3]))
        pq.write_table(wider, tmp_path / "rows.parquet")
        flow(moving.home, base, tmp_path).run()  # made anew: the checks of JSON are hygge's own
        base.ask("DROP TABLE t")
        flow(moving.home, base, tmp_path, on_value={"a": "as_text"}).run()
        assert base.ask("SHOW CREATE TABLE t")[0][1].count("json_valid") == 1
        assert json.loads(base.ask("SELECT a FROM t WHERE id = 1")[0][0]) == TEXT


def test_objects_of_jsonl_are_json_or_text(base, tmp_path):
    lines = ['{"id": 1, "o": {"x": {"y": [1]}}, "t": {"z": 1.10}}', '{"id": 2, "o": null}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    home = JsonlHome(path=str(tmp_path / "rows.jsonl"), options={"types": {"t": "json"}})
    flow(home, base, tmp_path, "append").run()
    (first, second) = base.ask("SELECT id, o, t FROM t ORDER BY id")
    value = json.loads(first[1]) if isinstance(first[1], str) else first[1]
    assert value == {"x": {"y": [1]}}
    assert first[2] == '{"z": 1.10}'  # the text that stood there
    assert second == (2, None, None)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (pa.struct([("b", pa.binary())]), {"b": b"x"}, "binary inside"),
        (pa.list_(pa.float64()), [float("nan")], "NaN"),
        (pa.list_(pa.duration("s")), [1], "duration"),
        (pa.map_(pa.int64(), pa.int64()), [(1, 2)], "map with int64 as keys"),
        (pa.map_(pa.string(), pa.int64()), [("k", 1), ("k", 2)], "one key twice"),
    ],
)
def test_what_json_has_no_form_for_is_an_error_that_names_the_column(
    request, tmp_path, kind, value, words
):
    base = database(request, "sqlite", tmp_path)
    rows = pa.table({"id": [1], "a": pa.array([value], kind)})
    pq.write_table(rows, tmp_path / "rows.parquet")
    home = ParquetHome("rows", path=str(tmp_path / "rows.parquet"))
    with pytest.raises((FlowFailed, UnfitValue), match=f"'a' .*{words}") as caught:
        flow(home, base, tmp_path).run()
    assert "flatten: 1" in caught.value.hint


def test_a_merge_that_evolves_adds_and_updates_json(base, tmp_path):
    path = tmp_path / "rows.jsonl"
    for line in ('{"id": 1}', '{"id": 1, "o": {"x": 1}}', '{"id": 1, "o": {"x": 2}}'):
        path.write_text(line + "\n")
        moving = Flow(
            JsonlHome(path=str(path)), base.store(schema="evolve"), name="f", mode="merge",
            key=["id"], engine="inline", state=tmp_path,
        )  # fmt: skip
        moving.run()
    ((value,),) = base.ask("SELECT o FROM t")
    assert (json.loads(value) if isinstance(value, str) else value) == {"x": 2}


class Own(Home):
    """A Home whose columns are known when the first rows come."""

    async def read_batches(self):
        yield pa.table({"id": [1], "a": [{"x": [1, 2]}]})


def test_a_home_of_ones_own_that_shows_its_columns_by_its_rows(request, tmp_path):
    base = database(request, "sqlite", tmp_path)
    flow(Own(), base, tmp_path).run()
    assert base.ask("SELECT * FROM t") == [(1, '{"x": [1, 2]}')]
