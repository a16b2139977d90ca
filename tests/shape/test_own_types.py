"""From PostgreSQL to PostgreSQL, columns that a shape does not touch keep their own types."""

from __future__ import annotations

from pathlib import Path

import pytest

from hygge import Coordinator
from hygge.cli.main import main

pytest_plugins = ["tests.servers.postgres"]

CODE = """
import pyarrow as pa

def same(batch: pa.Table):
    return batch

def more(batch: pa.Table):
    return batch.append_column("z", pa.nulls(batch.num_rows, pa.int64()))

def twice(batch: pa.Table):
    return pa.concat_tables([batch, batch])

def broken(batch: pa.Table):
    at = batch.schema.get_field_index("u")
    return batch.set_column(at, "u", pa.array(["no uuid"] * batch.num_rows, pa.string()))

def long(batch: pa.Table):
    at = batch.schema.get_field_index("v")
    return batch.set_column(at, "v", pa.array(["x" * 9] * batch.num_rows, pa.string()))

def number(batch: pa.Table):
    at = batch.schema.get_field_index("v")
    return batch.set_column(at, "v", pa.array([7] * batch.num_rows, pa.int64()))
"""
OWN = [
    ("id", "integer"), ("u", "uuid"), ("j", "jsonb"), ("n", "numeric"), ("p", "numeric(10,2)"),
    ("v", "character varying(7)"), ("a", "integer[]"), ("ts", "timestamp(2) with time zone"),
]  # fmt: skip
VALUES = (
    "1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"b\": 1}', 1.5, 2.50, 'x', '{1,2}', "
    "'2024-01-01 00:00+00'"
)


@pytest.fixture
def flows(pg, schema, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    columns = ", ".join(f"{name} {kind}" for name, kind in OWN)
    pg.ask(f"CREATE TABLE {schema}.s ({columns}, PRIMARY KEY (id))")
    pg.ask(f"INSERT INTO {schema}.s VALUES ({VALUES})")
    (tmp_path / "own_code_here.py").write_text(CODE)

    def writing(shape: str, home: str = "", store: str = "t") -> Path:
        path = tmp_path / "flows.yml"
        path.write_text(
            f"connections: {{a: '{pg.url}'}}\nflows:\n  f:\n"
            f"    home: {{connection: a, table: {schema}.s{home}}}\n"
            f"    store: {{connection: a, table: {schema}.{store}}}\n    {shape}\n"
        )
        return path

    return writing


def types(pg, table: str) -> list[tuple[str, str]]:
    return pg.ask(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        f"WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
    )


MADE = "nothing passes through undecoded, since "


@pytest.mark.parametrize(
    ("shape", "said", "changed"),
    [
        ("add: {at: now, x: 7}", MADE + "at, x are made on the way",
         [("at", "timestamp with time zone"), ("x", "bigint")]),
        ("mask: {v: hash}", MADE + "v is made on the way", [("v", "text")]),
        ("transform: own_code_here:same", MADE + "a transform makes the rows", []),
        ("transform: own_code_here:more", MADE + "a transform makes the rows", [("z", "bigint")]),
        ("transform: own_code_here:number", MADE + "a transform makes the rows", [("v", "bigint")]),
        ("names: snake", "", []),
    ],
)  # fmt: skip
def test_plan_and_report_say_what_is_made_and_the_rest_keeps_its_types(
    pg, schema, flows, shape, said, changed, capsys, monkeypatch
):
    monkeypatch.setenv("HYGGE_MASK_KEY", "an example, not your key")
    path = flows(shape)
    assert main(["plan", str(path)]) == 0
    planned = capsys.readouterr().out
    assert ("passes  pgcopy-binary" in planned) == (not said)
    assert (f"  but     {said}" in planned) == bool(said)
    for _ in range(2):  # into a new table, and over it
        (report,) = Coordinator(path, engine="inline").run().flows
        assert report.status == "done", report.error
        assert (said in report.note) if said else not report.note
        expected = dict(OWN) | dict(changed)
        assert types(pg, f"{schema}.t") == list(expected.items())
    kept = ", ".join(f"{name}::text" for name, _ in OWN if name not in dict(changed))
    asked = f"SELECT {kept} FROM {schema}."
    assert pg.ask(f"{asked}t") == pg.ask(f"{asked}s")


def test_rows_that_a_transform_doubles_are_in_no_primary_key(pg, schema, flows):
    (report,) = Coordinator(flows("transform: own_code_here:twice"), engine="inline").run().flows
    assert (report.status, report.applied) == ("done", 2), report.error
    assert types(pg, f"{schema}.t") == OWN


def test_what_a_transform_makes_of_a_column_must_fit_its_type(pg, schema, flows):
    """Or the column is text in the home, or of the type that the transform states."""
    for name, column in (("broken", "u"), ("long", "v")):
        (report,) = (
            Coordinator(flows(f"transform: own_code_here:{name}"), engine="inline").run().flows
        )
        assert report.status == "failed"
        assert f"'{column}'" in report.error
        remedy = f"options: {{types: {{{column}: string}}}}"
        assert report.hint.endswith(remedy)
        path = flows(f"transform: own_code_here:{name}", f", {remedy}")
        (report,) = Coordinator(path, engine="inline").run().flows
        assert report.status == "done", report.error
        assert dict(types(pg, f"{schema}.t")) == dict(OWN) | {column: "text"}
    words = (
        "{id: int32, u: string, j: string, n: string, p: 'decimal(10,2)', v: string, a: string, "
        "ts: timestamp_tz}"
    )
    path = flows(f"transform: {{call: own_code_here:broken, schema: {words}}}", store="stated")
    (report,) = Coordinator(path, engine="inline").run().flows
    assert report.status == "done", report.error
    assert dict(types(pg, f"{schema}.stated"))["u"] == "text"
