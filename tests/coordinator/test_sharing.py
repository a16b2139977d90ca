"""Which small flows share a Ray job, and how it is known that they are small."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge import Coordinator
from hygge.cli.main import main
from hygge.connectors.databases.sizes import table_sizes
from hygge.connectors.sqlite import sizes as sizes_of_sqlite
from hygge.coordinator import sharing
from tests.coordinator.many import filled
from tests.servers.postgres import Proxy

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]


def write_flows(folder: Path, url: str, homes: dict[str, dict], more: str = "") -> Path:
    """Write flows.yml with one flow for each of `homes`, to Parquet."""
    lines = [f"connections: {{shop: {json.dumps(url)}}}", "flows:"]
    for name, home in homes.items():
        home = {"connection": "shop", **home}
        lines.append(f"  {name}: {{home: {json.dumps(home)}, store: lake/{name}}}")
    path = folder / "flows.yml"
    path.write_text("\n".join([*lines, more]) + "\n")
    return path


def shared(path: Path) -> dict[str, str]:
    """Return each flow that shares a job → why it is small."""
    together, reasons = Coordinator(path).find_together()
    return {name: reasons[name] for name in together}


def test_a_table_has_the_size_that_postgresql_knows_with_its_partitions(pg, schema):
    pg.ask(f"CREATE TABLE {schema}.plain AS SELECT i FROM generate_series(1, 10000) i")
    pg.ask(f"CREATE TABLE {schema}.parts (i int) PARTITION BY RANGE (i)")
    pg.ask(f"CREATE TABLE {schema}.a PARTITION OF {schema}.parts FOR VALUES FROM (0) TO (99)")
    pg.ask(f"INSERT INTO {schema}.parts SELECT 1 FROM generate_series(1, 10000)")
    pg.ask(f"CREATE VIEW {schema}.seen AS SELECT * FROM {schema}.plain")
    names = [f"{schema}.{name}" for name in ("plain", "parts", "seen", "nowhere")]
    found = table_sizes(pg.url, "it", names)
    assert sorted(found) == sorted(names[:2]), "a view may read anything"
    assert all(10_000 * 28 < size < 10_000 * 60 for size in found.values()), found
    assert table_sizes(f"postgresql+psycopg2{pg.url.partition('psycopg')[2]}", "it", names) == {}


def test_a_table_has_the_size_that_mariadb_estimates(my, my_schema):
    my.ask(f"CREATE TABLE {my_schema}.plain (i int) AS SELECT seq AS i FROM mysql.seq_1_to_1000")
    my.ask(f"CREATE VIEW {my_schema}.seen AS SELECT * FROM {my_schema}.plain")
    my.ask(f"CREATE TABLE {my_schema}.held (i int) ENGINE=MEMORY")
    names = ["plain", "seen", "held", f"{my_schema}.plain"]
    found = table_sizes(my.url(my_schema), "it", names)
    assert list(found) == ["plain", f"{my_schema}.plain"]
    assert all(16_384 <= size < 1_000_000 for size in found.values()), found


def test_a_table_of_a_small_sqlite_file_is_small_and_of_a_large_one_its_pages_are_counted(
    tmp_path, monkeypatch
):
    filled(tmp_path / "shop.db", "users", "large", view=True)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("INSERT INTO large VALUES (9, zeroblob(100000))")
        shop.execute("CREATE VIRTUAL TABLE found USING fts5(v)")
        shop.commit()
    url, names = f"sqlite:///{tmp_path}/shop.db", ["Users", "large", "seen", "found", "nowhere"]
    size = (tmp_path / "shop.db").stat().st_size
    assert table_sizes(url, "it", names) == {"Users": size, "large": size}
    monkeypatch.setattr(sizes_of_sqlite, "_MOST_BYTES", 65_536)
    assert table_sizes(url, "it", names) == {"Users": 4096}


def test_small_tables_share_a_job_before_their_first_run_and_plan_says_why(tmp_path, capsys):
    filled(tmp_path / "shop.db", "users", "orders", "kinds")
    homes = {name: {"table": name} for name in ("users", "orders", "kinds")}
    path = write_flows(
        tmp_path, "sqlite:///shop.db", {**homes, "asked": {"query": "SELECT 1 AS one"}}
    )
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if "these small flows share one Ray job" in line)
    assert line.count("its table has ") == 3
    assert "asked" not in line, "nobody knows what a query gives"


def test_all_tables_of_a_server_are_asked_for_in_one_connection(pg, schema, tmp_path, monkeypatch):
    for at in range(12):
        pg.ask(f"CREATE TABLE {schema}.t{at} (id int)")
    homes = {f"f{at}": {"table": f"{schema}.t{at}"} for at in range(12)}
    asked = []

    def counted(url, who, tables):
        asked.append(tables)
        return table_sizes(url, who, tables)

    monkeypatch.setattr(sharing, "table_sizes", counted)
    found = shared(write_flows(tmp_path, pg.url, homes))
    assert len(found) == 12
    assert [len(tables) for tables in asked] == [12]


def test_a_flow_whose_table_grew_too_large_or_whose_database_is_away_has_its_own_job(
    tmp_path, monkeypatch, pg
):
    filled(tmp_path / "shop.db", "users", "orders", "kinds")
    homes = {name: {"table": name} for name in ("users", "orders")}
    path = write_flows(tmp_path, "sqlite:///shop.db", homes)
    assert set(shared(path)) == {"users", "orders"}
    monkeypatch.setattr(sharing, "SMALL_BYTES", 100)
    assert shared(path) == {}
    monkeypatch.undo()
    with Proxy(pg.port) as proxy:
        url = proxy.url()
    assert shared(write_flows(tmp_path, url, homes)) == {}


def test_a_table_that_ran_before_is_judged_by_its_last_run(tmp_path, monkeypatch):
    filled(tmp_path / "shop.db", "users", "orders")
    homes = {name: {"table": name} for name in ("users", "orders")}
    path = write_flows(tmp_path, "sqlite:///shop.db", homes)
    assert Coordinator(path, engine="inline").run().ok
    assert all("its last run took" in why for why in shared(path).values())
    monkeypatch.setattr(sharing, "SMALL_S", -1.0)
    assert shared(path) == {}, "the file is small, and the run was not"


def test_files_and_tables_share_a_job(tmp_path):
    filled(tmp_path / "shop.db", "users")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "n.parquet")
    path = write_flows(
        tmp_path, "sqlite:///shop.db", {"users": {"table": "users"}},
        "  files: {home: n.parquet, store: lake/files}",
    )  # fmt: skip
    found = shared(path)
    assert found["users"].startswith("its table has ")
    assert found["files"].startswith("its files have ")


@pytest.mark.parametrize("jobs", ["each", "one"])
def test_a_file_that_says_how_flows_run_asks_nobody(tmp_path, jobs, capsys):
    filled(tmp_path / "shop.db", "users", "orders")
    homes = {name: {"table": name} for name in ("users", "orders")}
    path = write_flows(tmp_path, "sqlite:///shop.db", homes, f"jobs: {jobs}")
    assert main(["plan", str(path)]) == 0
    assert "share one Ray job" not in capsys.readouterr().out


def test_a_coordinator_that_is_started_again_keeps_the_jobs_that_it_has_submitted(tmp_path):
    filled(tmp_path / "shop.db", *"abcdef")
    path = write_flows(tmp_path, "sqlite:///shop.db", {name: {"table": name} for name in "abcdef"})
    coordinator = Coordinator(path)
    flows = {flow.name: flow for flow in coordinator.file.flows}
    before = [[flows["a"], flows["b"]], [flows["c"]]]
    jobs = SimpleNamespace(is_repeated=True, find_submitted=lambda: before)
    together = coordinator._together(jobs)
    names = {name: [flow.name for flow in job.flows] for name, job in together.items()}
    assert names == {name: list("ab" if name in "ab" else "def") for name in "abdef"}
    first = Coordinator(path)._together(SimpleNamespace(is_repeated=False))
    assert set(first) == set("abcdef")
    alone = Coordinator(path, jobs="each")
    assert alone._together(jobs) == {}
