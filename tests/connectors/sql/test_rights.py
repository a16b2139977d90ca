"""A right that is missing on a target is said by `plan` and `run`, before a row moves."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.cli.main import main
from hygge.connectors.mariadb import session

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]
ROWS = pa.table({"id": [1], "v%s:x": ["a"]})


@pytest.fixture
def told(tmp_path: Path, monkeypatch, capsys):
    """Return what `plan` and `run` say of a store: "" where both work, else what both refuse."""
    pq.write_table(ROWS, tmp_path / "in.parquet")
    monkeypatch.chdir(tmp_path)

    def ask(store: str, mode: str = "append", columns: list[str] | None = None) -> str:
        home = {"path": "in.parquet", "columns": columns or ["id"]}
        flow = {"home": home, "store": store, "mode": mode}
        flow |= {"key": ["id"]} if mode == "merge" else {}
        Path("f.yml").write_text(json.dumps({"flows": {"f": flow}}))
        codes, texts = [], []
        for command in (["plan", "f.yml"], ["f.yml", "--inline"]):
            codes.append(main(command))
            said = capsys.readouterr()
            texts.append((said.out + said.err).partition("error: ")[2] or said.out)
        assert codes[0] == codes[1], texts
        return "\n".join(texts) if codes[0] else ""

    return ask


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2"])
def test_in_postgres(driver, pg, schema, told):
    role, name = f"r{schema}", f'{schema}."a%b"'
    pg.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    url = pg.url.replace("postgres@", f"{role}:x@").replace("postgresql:", f"{driver}:")
    store = f"{url}#{schema}.a%b"
    assert "may make no tables" in told(store)
    pg.ask(f"GRANT CREATE ON SCHEMA {schema} TO {role}")
    pg.ask(f'CREATE TABLE {name} (id bigint PRIMARY KEY, "v%s:x" text DEFAULT $$x$$)')
    # A trigger would show that a statement was carried out.
    pg.ask(f"CREATE FUNCTION {schema}.f() RETURNS trigger AS 'BEGIN RAISE; END' LANGUAGE plpgsql")
    pg.ask(
        f"CREATE TRIGGER x BEFORE INSERT OR UPDATE OR DELETE ON {name} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {schema}.f()"
    )
    assert "may not INSERT" in told(store)
    pg.ask(f"DROP FUNCTION {schema}.f() CASCADE")
    pg.ask(f"GRANT INSERT (id) ON {name} TO {role}")
    assert told(store) == ""
    assert "may not INSERT" in told(store, columns=["id", "v%s:x"])
    pg.ask(f"GRANT INSERT, SELECT ON {name} TO {role}")
    assert "may not UPDATE" in told(store, "merge", ["id", "v%s:x"])
    pg.ask(f"GRANT UPDATE ON {name} TO {role}")
    assert told(store, "merge", ["id", "v%s:x"]) == ""


@pytest.mark.parametrize("is_mariadb", [True, False])
def test_in_mariadb_and_mysql(is_mariadb, my, my_schema, told, monkeypatch):
    monkeypatch.setattr(session, "is_mariadb", lambda url, who, side: is_mariadb)
    user, name = f"u{my_schema}", f"{my_schema}.`a%b`"
    my.ask(f"CREATE USER {user}@'127.0.0.1'")
    store = f"{my.url(my_schema, user)}#a%b"

    def grant(rights: str, on: str) -> None:
        my.ask(f"GRANT {rights} ON {on} TO {user}@'127.0.0.1'")

    my.ask(f"CREATE TABLE {name} (id bigint PRIMARY KEY)")
    for right in ("CREATE", "SELECT", "INSERT", "UPDATE", "DELETE"):
        assert f"{right} command denied" in told(store) or right == "CREATE"
        grant(right, f"{my_schema}.*")
    # Without that right, each run would leave the tables behind in which it stages rows.
    assert "DROP command denied" in told(store)
    assert my.ask(f"SHOW TABLES FROM {my_schema}") == [("a%b",)]
    grant("DROP", f"{my_schema}.*")
    assert told(store) == told(store, "merge") == ""
    new = store.replace("a%b", "new")
    if is_mariadb:
        assert "ALTER command denied" in told(new, "replace")
        grant("ALTER", f"{my_schema}.*")
    assert told(new, "replace") == ""


@pytest.mark.parametrize("kind", ["numeric", "jsonb", "uuid", "interval", "bigint[]", "xml"])
def test_a_type_that_psycopg2_gives_no_value_for_is_said_before_rows_move(kind, pg, schema, told):
    pg.ask(f'CREATE TABLE {schema}.t (id bigint, "v%s:x" {kind})')
    url = pg.url.replace("postgresql:", "postgresql+psycopg2:")
    said = told(f"{url}#{schema}.t", columns=["id", "v%s:x"])
    assert "but expression is of type text" in said
    assert pg.ask(f"SELECT * FROM {schema}.t") == []
