"""`mask` hides values before they leave the Home's process."""

from __future__ import annotations

import hashlib
import hmac

import pyarrow as pa
import pytest

from hygge import Coordinator, CsvHome, Flow, ParquetStore
from hygge.cli.main import main
from hygge.errors import ConfigError
from hygge.model import Limits
from hygge.shape.mask import _hashes
from hygge.shape.settings import Shape
from tests.shape.moving import FORMATS, flows, lake, moved, run, write

KEY = "0123456789abcdef0123"
pytest_plugins = ["tests.servers.postgres"]


@pytest.fixture(autouse=True)
def _with_key(monkeypatch):
    monkeypatch.setenv("HYGGE_MASK_KEY", KEY)


def hashed(value, key=KEY):
    data = value if isinstance(value, bytes) else str(value).encode()
    return hmac.new(key.encode(), data, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("kind", FORMATS)
def test_values_are_hidden_in_every_format(kind, tmp_path, capsys):
    columns = ["id", {"name": "e_mail", "as": "email"}, "age", "ssn"]
    ways = {"email": "hash", "id": "hash", "ssn": {"keep_last": 1}, "age": "null"}
    path = flows(tmp_path, {**write(kind, tmp_path), "columns": columns}, mask=ways)
    rows = moved(path)
    assert [row["id"] for row in rows] == [hashed(1), hashed(2), hashed(3)]
    assert rows[0]["email"] == hashed("a@x.org")
    assert rows[1]["email"] in (None, hashed(""))  # CSV has no NULL beside empty text
    assert [row["ssn"] for row in rows] == ["**1", "**2", "**3"]
    assert [row["age"] for row in rows] == [None] * 3
    assert lake(path).schema.field("age").type == pa.int64()
    assert main(["plan", str(path)]) == 0
    out = capsys.readouterr().out
    assert "'email' is its HMAC-SHA-256, by the key in HYGGE_MASK_KEY" in out
    assert KEY not in out
    state = b"".join(p.read_bytes() for p in (tmp_path / ".hygge").rglob("*") if p.is_file())
    assert b"shape.mask" in state
    assert KEY.encode() not in state


def test_bytes_and_long_keys_are_hashed_as_the_standard_has_it():
    long = "k" * 100
    got = _hashes(pa.array([b"\x00\xff", None, b""], pa.binary()), long.encode()).to_pylist()
    assert got == [hashed(b"\x00\xff", long), None, hashed(b"", long)]


def test_values_that_repeat_are_hashed_once_and_alike():
    values = ["a", None, "b", ""] * 50
    expected = [None if value is None else hashed(value) for value in values]
    for kind in (pa.string(), pa.large_string(), pa.binary()):
        got = _hashes(pa.array(values, pa.string()).cast(kind), KEY.encode())
        assert (got.type, got.to_pylist()) == (pa.string(), expected)
    assert _hashes(pa.array([7] * 9 + [None]), KEY.encode()).to_pylist() == [hashed(7)] * 9 + [None]


def test_short_texts_show_nothing(tmp_path):
    table = pa.table({"a": ["123456", "1234", "", None, "äöü12", "😀😀😀😀😀"]})
    path = flows(tmp_path, write("parquet", tmp_path, table), mask={"a": {"keep_last": 4}})
    assert [row["a"] for row in moved(path)] == [
        "**3456", "****", "", None, "*öü12", "*😀😀😀😀"]  # fmt: skip
    path = flows(tmp_path, write("parquet", tmp_path, table), mask={"a": {"keep_last": 0}})
    assert [row["a"] for row in moved(path)][:2] == ["******", "****"]


@pytest.mark.parametrize(
    ("ways", "message"),
    [
        ({"a": {"keep_last": 4}}, "which `keep_last` cannot mask"),
        ({"f": "hash"}, "column 'f' is double, which `hash` cannot mask"),
        ({"emial": "hash"}, "has no column 'emial'"),
    ],
)
def test_what_cannot_be_masked_is_an_error_before_a_row_moves(ways, message, tmp_path):
    table = pa.table({"a": [1], "f": [1.5], "email": ["x"]})
    report = run(flows(tmp_path, write("parquet", tmp_path, table), mask=ways))
    assert message in report.error.replace("float64", "double")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("key", [None, "short"])
def test_a_hash_without_a_good_key_is_an_error(key, tmp_path, monkeypatch):
    monkeypatch.delenv("HYGGE_MASK_KEY")
    if key:
        (tmp_path / ".env").write_text(f"HYGGE_MASK_KEY={key}\n")
    report = run(flows(tmp_path, write("parquet", tmp_path), mask={"ssn": "hash"}))
    assert "needs a key of at least 16 bytes" in report.error
    assert "HYGGE_MASK_KEY" in report.hint
    (tmp_path / ".env").write_text(f"HYGGE_MASK_KEY={KEY}\n")
    path = flows(tmp_path, write("parquet", tmp_path), mask={"ssn": "hash"})
    assert moved(path)[0]["ssn"] == hashed("s-1")
    assert KEY not in repr(Coordinator(path).file)


def test_another_key_is_another_shape():
    one, other = (Shape(mask={"a": "hash"}, mask_key=key * 20) for key in "ab")
    assert one.facts().keys() == {"shape.mask", "shape.mask_key"}
    assert one.facts() != other.facts()


def test_a_key_may_be_hashed_and_a_cursor_may_not_be_masked(tmp_path):
    store = {"connection": f"sqlite:///{tmp_path}/out.db", "table": "people"}
    path = flows(tmp_path, write("sqlite", tmp_path), store, mode="merge", key=["ssn"],
                 mask={"ssn": "hash"})  # fmt: skip
    assert run(path).applied == 3
    report = run(path)
    assert (report.status, report.applied) == ("done", 3)
    path = flows(tmp_path, {**write_again(tmp_path), "cursor": "id"}, store, mode="merge",
                 key=["ssn"], mask={"ssn": "hash", "id": "hash"})  # fmt: skip
    assert "'id' is masked, and is the cursor" in run(path).error
    path = flows(tmp_path, write_again(tmp_path), store, mode="merge", key=["ssn"],
                 mask={"ssn": {"keep_last": 2}})  # fmt: skip
    assert "'ssn' is masked, and is the key" in run(path).error


def write_again(folder):
    return {"connection": f"sqlite:///{folder}/shop.db", "table": "people"}


def test_it_is_masked_on_ray(tmp_path, ray_here):
    path = flows(tmp_path, write("parquet", tmp_path), mask={"ssn": "hash"})
    assert moved(path, "ray")[2]["ssn"] == hashed("s-3")


def test_between_postgresqls_only_the_masked_column_changes_its_type(pg, schema, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.a (id int, iv interval, j jsonb, mail varchar(20))")
    pg.ask(f"INSERT INTO {schema}.a VALUES (1, '1 day', '{{}}', 'a@x.org')")
    home = {"connection": pg.url, "table": f"{schema}.a"}
    store = {"connection": pg.url, "table": f"{schema}.b"}
    report = run(flows(tmp_path, home, store, mask={"mail": "hash"}))
    assert report.status == "done", report.error
    kinds = "SELECT pg_typeof(iv)::text, pg_typeof(j)::text, pg_typeof(mail)::text, mail FROM"
    assert pg.ask(f"{kinds} {schema}.b") == [("interval", "jsonb", "text", hashed("a@x.org"))]


def test_no_row_is_set_aside_with_what_a_mask_hides(tmp_path, capsys):
    """`check` says it with its line, and Python at once."""
    path = flows(tmp_path, write("csv", tmp_path), mask={"age": "null"})
    path.write_text(path.read_text() + "    on_bad_row: set_aside\n")
    assert main(["check", str(path)]) == 1
    said = capsys.readouterr().err
    assert "sets aside would keep them" in said
    assert "flows.yml:" in said
    with pytest.raises(ConfigError, match="sets aside would keep them"):
        Flow(
            CsvHome("f", path="f.csv"),
            ParquetStore("o", path="o"),
            limits=Limits(on_bad_row="set_aside"),
            shape={"mask": {"age": "null"}},
        )
