"""No secret is in a flows.yml that `move --save` or `discover --yaml` writes; it still works."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from hygge.cli.main import main
from hygge.config.hidden import Hidden
from hygge.coordinator.move import flow_of, saved_text
from tests.chaos import only_in_chaos

pytest_plugins = ["tests.servers.postgres"]

ODD = ["a${bGEHEIM", "$${GEHEIM}", "p#GEHEIM", "p/GEHEIM", "p?GEHEIM=1", "p:GEHEIM&password=GEHEIM",
       "GEHEIM%40GEHEIM", "'\"GEHEIM{"]  # fmt: skip
MORE = "?sslpassword=GEHEIM1&sslpassword=GEHEIM2&sslmode=disable"


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; return its output and its errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[str, str]:
        code = main(list(words))
        printed = capsys.readouterr()
        assert code == 0, printed.out + printed.err
        return printed.out, printed.err

    return run


@pytest.mark.parametrize(
    ("password", "query"),
    [
        *((password, "") for password in ODD),
        *((password, MORE) for password in ODD[:2]),
        *(pytest.param(password, MORE, marks=only_in_chaos) for password in ODD[2:]),
    ],
)
def test_an_odd_password_is_a_variable(pg, schema, said, monkeypatch, password, query):
    pg.ask(f"CREATE TABLE {schema}.t (id int PRIMARY KEY); INSERT INTO {schema}.t VALUES (1)")
    url = pg.url.replace("postgres@", f"postgres:{password}@") + query
    written, told = said("discover", url, "--yaml", "--pattern", f"{schema}.*")
    assert "the file holds no password: set POSTGRES_PASSWORD" in told
    _, told = said("move", f"{url}#{schema}.t", "out", "--save", "move.yml", "--inline")
    assert "it holds no password: set POSTGRES_PASSWORD" in told
    saved = Path("move.yml").read_text()
    assert "GEHEIM" not in written + saved + told
    moved = flow_of(f"{url}#{schema}.t", "out")
    assert "GEHEIM" not in repr(moved)
    for name, value in moved.variables.items():
        monkeypatch.setenv(name, value)
    Path("discovered.yml").write_text(written)
    said("plan", "discovered.yml")
    said("move.yml", "--inline")
    (spec,) = moved.file.flows
    assert spec.home.settings["connection"].startswith(url)


@pytest.mark.parametrize("password", ODD)
def test_a_url_without_a_database_gives_no_name_with_a_password(password, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    move = flow_of(f"mariadb://u:{password}@h#t", f"postgresql://u:{password}@h/2026#t")
    assert "GEHEIM" not in saved_text(move, "flows.yml")
    assert list(yaml.safe_load(move.text)["connections"]) == ["source", "db_2026"]
    with pytest.raises(Exception, match="a database URL without a table") as caught:
        flow_of(f"postgresql://u:{password}@h", "out")
    assert "GEHEIM" not in str(caught.value)


def test_an_end_with_another_password_has_a_connection_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_PASSWORD", "another")
    move = flow_of("postgresql://a:GEHEIM1@h/shop#a", "postgresql://a:GEHEIM2@h/shop#b")
    assert move.variables == {
        "SHOP_PASSWORD_2": "GEHEIM1", "SHOP_TARGET_PASSWORD": "GEHEIM2"
    }  # fmt: skip
    assert move.file.flows[0].store.settings["connection"].startswith("postgresql://a:GEHEIM2@")


LITERAL = """
connections:
  shop: "postgresql://${WHO:-app}:GEHEIM@db/shop"
  half: "postgresql://${WHO:-app}:${OWN}GEHEIM@db/shop"
  other: {url: "mariadb://app:${PW:-GEHEIM}@db/shop?password=${PW}", max_connections: 3}
  kept: "postgresql://app:${PW}@db/shop"
  whole: "${URL:-postgresql://app:GEHEIM@db/shop}"
  secret: "postgresql://app:${file:pw}@db/shop"
  file: "sqlite:///data/x.db"
  odd: "sqlite:///${FOLDER}/x.db"
  lake: {url: "s3://lake", endpoint: "http://u:GEHEIM@localhost:1", access_key_id: 0815,
         secret_access_key: GEHEIM/+=, region: eu}
  drive: {url: "gs://lake", service_account: key.json}
"""


def test_connections_of_a_file_are_copied_without_their_secrets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WHO", "URL"):
        monkeypatch.delenv(name, raising=False)
    Path("below/root").mkdir(parents=True)
    Path("below/pw").write_text("filled")
    Path("below/.env").write_text("PW=filled\nOWN=own\nFOLDER=deep\n")
    Path("below/flows.yml").write_text(f"root: root\n{LITERAL}flows: {{}}\n")
    from hygge.config.named import connections_of

    named, hidden = connections_of("below/flows.yml"), Hidden()
    copied = {name: hidden.connection(each) for name, each in named.items()}
    assert "GEHEIM" not in json.dumps(copied)
    assert copied == {
        "shop": "postgresql://${WHO:-app}:${SHOP_PASSWORD}@db/shop",
        "half": "postgresql://${WHO:-app}:${HALF_PASSWORD}@db/shop",
        "other": {
            "url": "mariadb://app:${OTHER_PASSWORD}@db/shop?password=${PW}", "max_connections": 3,
        },
        "kept": "postgresql://app:${PW}@db/shop",
        "whole": "${URL:-postgresql://app:${WHOLE_PASSWORD}@db/shop}",
        "secret": f"postgresql://app:${{file:{tmp_path}/below/pw}}@db/shop",
        "file": f"sqlite:///{tmp_path}/below/root/data/x.db",
        "odd": f"sqlite:///{tmp_path}/below/root/deep/x.db",
        "lake": {
            "url": "s3://lake", "endpoint": "http://u:${LAKE_PASSWORD}@localhost:1",
            "access_key_id": "${LAKE_ACCESS_KEY_ID}",
            "secret_access_key": "${LAKE_SECRET_ACCESS_KEY}", "region": "eu",
        },
        "drive": {"url": "gs://lake", "service_account": f"{tmp_path}/below/root/key.json"},
    }  # fmt: skip
    Path("flows.yml").write_text(yaml.safe_dump({"connections": copied, "flows": {}}))
    again = connections_of("flows.yml", {**os.environ, **hidden.variables})
    for name, each in named.items():
        assert again[name].url == each.url
        assert getattr(again[name].url, "access", None) == getattr(each.url, "access", None)
    assert hidden.variables["LAKE_ACCESS_KEY_ID"] == "0815"
    assert hidden.variables["HALF_PASSWORD"] == "ownGEHEIM"


def test_a_relative_file_and_a_literal_password_through_both_commands(said):
    Path("below").mkdir()
    with sqlite3.connect("below/x.db") as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        database.execute("INSERT INTO t VALUES (1)")
    Path("below/flows.yml").write_text('connections: {shop: "sqlite:///x.db"}\nflows: {}\n')
    words = ("--file", "below/flows.yml")
    written, _ = said("discover", "shop", "--yaml", *words)
    Path("discovered.yml").write_text(written)
    said("plan", "discovered.yml")
    Path("conf").mkdir()
    said("move", "shop#t", "lake", "--save", "conf/move.yml", "--inline", *words)
    said("conf/move.yml", "--inline")
    assert pq.read_table("lake").num_rows == 1
