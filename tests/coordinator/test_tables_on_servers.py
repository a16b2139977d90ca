"""Many tables of a server in one flow: one snapshot for all, partitions, permissions, names."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from hygge import Coordinator, SQLHome
from hygge.cli.main import main
from tests.waiting import until

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def flows(pg, schema, tmp_path: Path):
    """Writes flows.yml for the tables of this test's schema."""

    def writing(*lines: str, store: str = "lake/{table}", url: str = pg.url, **home) -> Path:
        home = {"connection": "shop", "tables": [f"{schema}.*"], **home}
        body = "".join(f"    {line}\n" for line in lines)
        (tmp_path / "flows.yml").write_text(
            f"connections: {{shop: {json.dumps(url)}}}\n"
            f"flows:\n  shop:\n    home: {json.dumps(home)}\n    store: {json.dumps(store)}\n{body}"
        )
        return tmp_path / "flows.yml"

    return writing


def rows(folder: Path) -> list[dict]:
    return ds.dataset(folder).to_table().to_pylist()


def accounts(pg, schema):
    for name in ("left", "right"):
        pg.ask(f'CREATE TABLE {schema}."{name}" (id int PRIMARY KEY, money int)')
        pg.ask(f'INSERT INTO {schema}."{name}" SELECT i, 100 FROM generate_series(1, 10) i')


def moved_while_money_moves(pg, schema, path, tmp_path) -> int:
    """The sum that arrives of two tables, where money goes from one to the other in between."""
    coordinator = Coordinator(path, engine="inline")
    with coordinator.open_tables(coordinator.file.flows[0]) as members:
        left, right = members
        coordinator.flow(left).run()
        with pg.connect() as connection, connection.transaction():
            connection.execute(f'UPDATE {schema}."left" SET money = money - 50')
            connection.execute(f'UPDATE {schema}."right" SET money = money + 50')
        coordinator.flow(right).run()
    return sum(row["money"] for name in ("left", "right") for row in rows(tmp_path / "lake" / name))


def test_all_tables_are_read_as_of_one_moment(pg, schema, flows, tmp_path):
    accounts(pg, schema)
    assert moved_while_money_moves(pg, schema, flows(), tmp_path) == 2000
    asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hygge%%'"
    # The server sees that somebody left when it looks.
    until(lambda: pg.ask(asked) == [(0,)], "a session was left")


def test_consistency_split_reads_each_table_at_its_own_moment(pg, schema, flows, tmp_path):
    accounts(pg, schema)
    path = flows("consistency: split")
    assert moved_while_money_moves(pg, schema, path, tmp_path) == 2500


def test_each_table_goes_on_where_it_stopped(pg, schema, flows, tmp_path):
    for name in ("good", "late"):
        pg.ask(f"CREATE TABLE {schema}.{name} (id int PRIMARY KEY, day date)")
        pg.ask(f"INSERT INTO {schema}.{name} SELECT i, '2024-01-01' FROM generate_series(1, 40) i")
    pg.ask(f"UPDATE {schema}.late SET day = 'infinity' WHERE id = 40")
    path = flows("consistency: split", options={"splits": 4})
    good, late = Coordinator(path, engine="inline").run().flows
    assert (good.status, late.status) == ("done", "failed")
    assert "infinity" in late.error
    pg.ask(f"UPDATE {schema}.late SET day = '2024-01-02' WHERE id = 40")
    good, late = Coordinator(path, engine="inline").run().flows
    assert (good.status, good.resumed) == ("done", 0)
    assert (late.status, late.resumed) == ("done", late.splits - 1)
    for name in ("good", "late"):
        assert len(rows(tmp_path / "lake" / name)) == 40


def test_a_partition_goes_with_its_parent_or_alone(pg, schema, flows, tmp_path):
    pg.ask(f"CREATE TABLE {schema}.sales (id int, year int) PARTITION BY LIST (year)")
    pg.ask(
        f"CREATE TABLE {schema}.sales_1 PARTITION OF {schema}.sales FOR VALUES IN (1) "
        "PARTITION BY LIST (id)"
    )
    pg.ask(f"CREATE TABLE {schema}.sales_1_1 PARTITION OF {schema}.sales_1 FOR VALUES IN (1)")
    pg.ask(f"CREATE TABLE {schema}.sales_2 PARTITION OF {schema}.sales FOR VALUES IN (2)")
    pg.ask(f"INSERT INTO {schema}.sales VALUES (1, 1), (7, 2)")
    pg.ask(f"CREATE VIEW {schema}.seen AS SELECT 1 AS one")
    pg.ask(f"CREATE MATERIALIZED VIEW {schema}.kept AS SELECT 2 AS two")
    pg.ask(f"CREATE TABLE {schema}._hygge_heads (x int)")

    def taken(**home):
        coordinator = Coordinator(flows(**home), engine="inline")
        with coordinator.open_tables(coordinator.file.flows[0]) as members:
            return [each.name.rpartition(".")[2] for each in members]

    assert taken() == ["sales"]
    assert taken(views=True) == ["kept", "sales", "seen"]
    assert taken(exclude=[f"{schema}.sales"]) == ["sales_1", "sales_2"]
    assert taken(tables=[f"{schema}.sales_1_1"]) == ["sales_1_1"]
    summary = Coordinator(flows(views=True), engine="inline").run()
    assert summary.ok, [each.error for each in summary.flows]
    assert len(rows(tmp_path / "lake" / "sales")) == 2
    assert rows(tmp_path / "lake" / "kept") == [{"two": 2}]


@pytest.mark.parametrize("consistency", ["snapshot", "split", "another driver"])
def test_tables_that_inherit_are_read_each_alone(pg, schema, flows, tmp_path, capsys, consistency):
    pg.ask(f"CREATE TABLE {schema}.parent (id int PRIMARY KEY, a int)")
    pg.ask(f"CREATE TABLE {schema}.child (c int, PRIMARY KEY (id)) INHERITS ({schema}.parent)")
    pg.ask(f"CREATE TABLE {schema}.p (id int) PARTITION BY RANGE (id)")
    pg.ask(f"CREATE TABLE {schema}.p1 PARTITION OF {schema}.p FOR VALUES FROM (0) TO (9)")
    pg.ask(f"INSERT INTO {schema}.parent SELECT i FROM generate_series(1, 1000) i")
    pg.ask(f"INSERT INTO {schema}.child SELECT i FROM generate_series(2001, 2500) i")
    pg.ask(f"INSERT INTO {schema}.p VALUES (1), (2)")
    pg.ask(f"ANALYZE {schema}.parent")
    if consistency == "another driver":
        path = flows(url=pg.url.replace("postgresql:", "postgresql+psycopg2:"))
    else:
        path = flows(f"consistency: {consistency}", options={"splits": 3})
    assert Coordinator(path, engine="inline").run().ok
    assert sorted(row["id"] for row in rows(tmp_path / "lake" / "parent")) == [*range(1, 1001)]
    assert len(rows(tmp_path / "lake" / "child")) == 500
    assert len(rows(tmp_path / "lake" / "p")) == 2
    assert not (tmp_path / "lake" / "p1").exists()
    if consistency == "another driver":
        return
    assert main(["plan", str(path), "--select", f"shop.{schema}.parent"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "its own rows ONLY" in said
    assert '"child"' in said
    with SQLHome("t", table=f"{schema}.parent", connection=pg.url).open() as plan:
        assert "with the rows of the tables that inherit from it" in plan.reason


def test_a_table_that_may_not_be_read_fails_alone(pg, schema, flows, tmp_path):
    accounts(pg, schema)
    role = f"clerk_{schema}"
    pg.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
    pg.ask(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    pg.ask(f'GRANT SELECT ON {schema}."right" TO {role}')
    url = f"postgresql://{role}:p@127.0.0.1:{pg.port}/postgres"
    summary = Coordinator(flows(url=url), engine="inline").run()
    left, right = summary.flows
    assert (left.status, right.status) == ("failed", "done")
    assert "permission denied" in left.error
    assert len(rows(tmp_path / "lake" / "right")) == 10


def test_names_that_differ_in_case_alone_come_to_two_places_on_any_disk(
    pg, schema, flows, tmp_path
):
    hard = ["users", "Users", "USERS", "a.b", 'quo"te', "per%cent", "co:lon", "n" * 63]
    for name in hard:
        quoted = '"' + name.replace('"', '""') + '"'
        pg.ask(f"CREATE TABLE {schema}.{quoted} (v text)")
        with pg.connect() as connection:
            connection.execute(
                f"INSERT INTO {schema}.{quoted.replace('%', '%%')} VALUES (%s)", [name]
            )
    for store in ("lake/{table}", f"{pg.url}#{schema}_copy.{{table}}"):
        pg.ask(f"CREATE SCHEMA IF NOT EXISTS {schema}_copy")
        summary = Coordinator(flows(store=store), engine="inline").run()
        assert summary.ok, [each.error for each in summary.flows]
    folders = list((tmp_path / "lake").iterdir())
    assert len({each.name.lower() for each in folders}) == len(hard)
    assert {rows(each)[0]["v"] for each in folders} == set(hard)
    for name in hard:
        quoted = '"' + name.replace('"', '""') + '"'
        assert pg.ask(f"SELECT v FROM {schema}_copy.{quoted}") == [(name,)]


def test_a_name_that_the_store_would_cut_is_refused(pg, schema, flows):
    pg.ask(f'CREATE TABLE {schema}."{"n" * 63}" (v text)')
    (report,) = (
        Coordinator(flows(store=f"{pg.url}#public.copy_{{table}}"), engine="inline").run().flows
    )
    assert "68 bytes" in report.error
    assert "63 are possible" in report.error


def test_two_schemas_do_not_come_to_one_place(pg, schema, flows):
    other = pg.schema()
    for each in (schema, other):
        pg.ask(f"CREATE TABLE {each}.orders (id int)")
    tables = [f"{schema}.*", f"{other}.*"]
    (report,) = Coordinator(flows(tables=tables), engine="inline").run().flows
    assert "would come to one place" in report.error
    assert "{schema}" in report.hint
    both = Coordinator(flows(tables=tables, store="lake/{schema}/{table}"), engine="inline").run()
    assert both.ok


def test_plan_says_that_one_snapshot_is_held_for_all(pg, schema, flows, capsys):
    for n in range(4):
        pg.ask(f"CREATE TABLE {schema}.t{n} (id int)")
    assert main(["plan", str(flows())]) == 0
    assert "shop: 4 tables, one snapshot for all of them" in capsys.readouterr().out
    assert main(["plan", str(flows("consistency: split")), "--select", f"shop.{schema}.t2"]) == 0
    assert "if the driver dies" in capsys.readouterr().out


def test_many_tables_of_mariadb_come_with_their_names(my, my_schema, tmp_path, capsys):
    hard = ["users", "a.b", "per%cent", "sp ace", "ünï"]
    for name in hard:
        my.ask(f"CREATE TABLE {my_schema}.`{name}` (id INT PRIMARY KEY, v TEXT)")
        with my.connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {my_schema}.`{name.replace('%', '%%')}` VALUES (1, %s)", [name]
            )
    my.ask(f"CREATE TABLE {my_schema}.old (v TEXT) WITH SYSTEM VERSIONING")
    my.ask(f"CREATE VIEW {my_schema}.seen AS SELECT 1 AS one")
    (tmp_path / "flows.yml").write_text(
        f"connections: {{shop: '{my.url(my_schema)}'}}\nflows:\n  shop:\n"
        "    home: {connection: shop, tables: ['*']}\n    store: 'lake/{schema}/{table}'\n"
    )
    summary = Coordinator(tmp_path / "flows.yml", engine="inline").run()
    assert summary.ok, [each.error for each in summary.flows]
    assert len(summary.flows) == len(hard) + 1
    (old,) = [each.flow for each in summary.flows if each.flow.endswith(".old")]
    capsys.readouterr()
    assert main(["plan", str(tmp_path / "flows.yml"), "--select", old]) == 0
    assert "its history (SYSTEM VERSIONING), which is left out" in capsys.readouterr().out
    folders = list((tmp_path / "lake" / my_schema).iterdir())
    found = [each["v"] for folder in folders for each in rows(folder)]
    assert sorted(found) == sorted(hard)


@pytest.fixture
def my_flows(my, my_schema, tmp_path: Path):
    """Writes flows.yml for all tables of this test's database."""

    def writing(*lines: str, user: str = "root", lanes: int = 1, **home) -> Path:
        home = {"connection": "shop", "tables": ["*"], **home}
        body = "".join(f"    {line}\n" for line in (*lines, f"lanes: {lanes}"))
        (tmp_path / "flows.yml").write_text(
            f"connections: {{shop: {json.dumps(my.url(my_schema, user))}}}\n"
            f"flows:\n  shop:\n    home: {json.dumps(home)}\n    store: lake/{{table}}\n{body}"
        )
        return tmp_path / "flows.yml"

    return writing


def my_accounts(my, schema, engine="InnoDB"):
    for name in ("left", "right"):
        my.ask(f"CREATE TABLE {schema}.`{name}` (id int PRIMARY KEY, money int) ENGINE={engine}")
        my.ask(f"INSERT INTO {schema}.`{name}` SELECT seq, 100 FROM seq_1_to_10")


def my_moved_while_money_moves(my, schema, path, tmp_path) -> int:
    """The sum that arrives of two tables; see `moved_while_money_moves`."""
    coordinator = Coordinator(path, engine="inline")
    with coordinator.open_tables(coordinator.file.flows[0]) as (left, right):
        coordinator.flow(left).run()
        my.ask(f"UPDATE {schema}.`left` SET money = money - 50")
        my.ask(f"UPDATE {schema}.`right` SET money = money + 50, id = id + 100")
        coordinator.flow(right).run()
    return sum(row["money"] for name in ("left", "right") for row in rows(tmp_path / "lake" / name))


@pytest.mark.parametrize("lines", [{}, {"mode": "append", "cursor": "id"}])
def test_all_tables_of_mariadb_are_read_as_of_one_moment(my, my_schema, my_flows, tmp_path, lines):
    my_accounts(my, my_schema)
    cursor = {"cursor": lines["cursor"]} if lines else {}
    path = my_flows(*(["mode: append"] if lines else []), **cursor)
    assert my_moved_while_money_moves(my, my_schema, path, tmp_path) == 2000
    my.sessions(my_schema, 0)


def test_tables_of_mariadb_whose_engine_keeps_no_snapshot_are_not_called_of_one_moment(
    my, my_schema, my_flows, tmp_path, capsys
):
    my_accounts(my, my_schema, "MyISAM")
    assert my_moved_while_money_moves(my, my_schema, my_flows(), tmp_path) == 2500
    assert main(["plan", str(my_flows()), "--select", f"shop.{my_schema}.left"]) == 0
    told = capsys.readouterr().out
    assert "not of the moment of the other tables: MyISAM keeps no snapshots" in told


def test_where_tables_of_mariadb_may_not_be_locked_the_plan_says_so(
    my, my_schema, my_flows, tmp_path, capsys
):
    my_accounts(my, my_schema)
    my.ask("CREATE OR REPLACE USER plain@127.0.0.1")
    my.ask(f"GRANT SELECT ON {my_schema}.* TO plain@127.0.0.1")
    path = my_flows(user="plain")
    assert main(["plan", str(path)]) == 0
    assert "each read by itself, since without the right LOCK TABLES" in capsys.readouterr().out
    assert my_moved_while_money_moves(my, my_schema, path, tmp_path) == 2500


def test_a_broken_view_costs_the_other_tables_of_mariadb_nothing(
    my, my_schema, my_flows, tmp_path, capsys
):
    my_accounts(my, my_schema)
    my.ask(f"CREATE TABLE {my_schema}.gone (id int)")
    my.ask(f"CREATE VIEW {my_schema}.seen AS SELECT * FROM {my_schema}.gone")
    my.ask(f"DROP TABLE {my_schema}.gone")
    path = my_flows(views=True)
    summary = Coordinator(path, engine="inline").run()
    assert [each.status for each in summary.flows] == ["done", "done", "failed"]
    assert "cannot read: what it shows is gone" in summary.flows[2].error
    assert main(["plan", str(path)]) == 1
    assert "3 tables, one snapshot for all of them" in capsys.readouterr().out


def test_a_killed_driver_never_mixes_two_moments_of_a_table_of_mariadb(
    my, my_schema, my_flows, tmp_path
):
    """It dies in the middle of the second table; then money moves between that table's splits."""
    my_accounts(my, my_schema)
    own = "{split_by: id}"
    tables = f"tables: {{{my_schema}.left: {own}, {my_schema}.right: {own}}}"
    path = my_flows(tables, options={"splits": 5})
    script = tmp_path / "dies.py"
    script.write_text(
        "import os, signal, sys\n"
        "from hygge import Coordinator, ParquetStore\n"
        "real, sealed = ParquetStore.stage, []\n"
        "def stage(store, ticket, schema, batches):\n"
        "    receipt = real(store, ticket, schema, batches)\n"
        "    sealed.append(store.settings.path)\n"
        "    if sum(path.endswith('right') for path in sealed) == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return receipt\n"
        "ParquetStore.stage = stage\n"
        "Coordinator(sys.argv[1], engine='inline', max_parallel_flows=1).run()\n"
    )
    died = subprocess.run([sys.executable, script, path], cwd=tmp_path)
    assert died.returncode == -signal.SIGKILL
    assert sum(row["money"] for row in rows(tmp_path / "lake" / "left")) == 1000
    assert not (tmp_path / "lake" / "right").exists()
    my.ask(f"UPDATE {my_schema}.`right` SET money = money + IF(id <= 5, 40, -40)")
    left, right = Coordinator(path, engine="inline").run().flows
    assert (left.status, right.status, right.resumed) == ("done", "done", 0)
    found = rows(tmp_path / "lake" / "right")
    assert sorted(row["id"] for row in found) == list(range(1, 11))
    assert {row["money"] for row in found} == {60, 140}


def test_the_tables_of_a_url_without_a_driver_are_found_like_one_table(my, my_schema, my_flows):
    my_accounts(my, my_schema)
    path = my_flows()
    path.write_text(path.read_text().replace("mysql+pymysql:", "mysql:"))
    assert main(["plan", str(path)]) == 0


def test_many_tables_of_mariadb_over_lanes_on_ray_are_of_one_moment(
    my, my_schema, my_flows, tmp_path, ray_here
):
    """Two lanes for each of two flows, while somebody pays from one table to the other."""
    for name in ("left", "right"):
        my.ask(f"CREATE TABLE {my_schema}.`{name}` (id int PRIMARY KEY, money int)")
        my.ask(f"INSERT INTO {my_schema}.`{name}` SELECT seq, 100 FROM seq_1_to_3000")
    done = threading.Event()

    def pay():
        with my.connect(database=my_schema) as connection, connection.cursor() as cursor:
            while not done.wait(0.005):
                cursor.execute("START TRANSACTION")
                cursor.execute("UPDATE `left` SET money = money - 1 WHERE id % 7 = 0")
                cursor.execute("UPDATE `right` SET money = money + 1 WHERE id % 7 = 0")
                cursor.execute("COMMIT")

    payer = threading.Thread(target=pay)
    payer.start()
    try:
        path = my_flows(lanes=2, options={"splits": 4, "batch_size": 300})
        summary = Coordinator(path).run()
    finally:
        done.set()
        payer.join()
    assert summary.ok, [each.error for each in summary.flows]
    found = [row for name in ("left", "right") for row in rows(tmp_path / "lake" / name)]
    assert (len(found), sum(row["money"] for row in found)) == (6000, 600_000)
