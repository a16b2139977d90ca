"""Two flows whose names of tables or folders differ in case alone: two places, or an error."""

from __future__ import annotations

import os
import shutil
import unicodedata

import pyarrow as pa
import pytest

from hygge import ParquetHome, ParquetStore
from hygge.config.flows import read_flows
from hygge.connectors.databases.store import SQLStore
from hygge.coordinator.coordinator import Coordinator
from hygge.errors import ConfigError, NotOurs
from tests.connectors.sql.own_tables import Generic, moved

pytest_plugins = ["tests.servers.postgres", "tests.servers.mariadb"]

ROWS, MORE = pa.table({"id": [1, 2]}), pa.table({"id": [3]})


@pytest.fixture(scope="module")
def folding(my):
    """A MariaDB that takes `Users` and `users` for one table, as on Windows."""
    from tests.servers import mariadb  # a plugin, which pytest has loaded by now

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mariadb.SETTINGS, "lower-case-table-names", "1")
        server = mariadb.Server()
    yield server
    server.stop()
    shutil.rmtree(server.folder)


def family(tmp_path, pg, schema, store):
    """Return a Coordinator of the tables `Users` and `users`, which go to `store`."""
    for name in ("Users", "users"):
        pg.ask(f'CREATE TABLE {schema}."{name}" (id int)')
        pg.ask(f'INSERT INTO {schema}."{name}" VALUES ({len(name)})')
    home = f"{{connection: '{pg.url}', tables: ['{schema}.*']}}"
    path = tmp_path / "flows.yml"
    path.write_text(
        f"flows: {{all: {{home: {home}, store: {{connection: '{store}', table: '{{table}}'}}, "
        "mode: append}}"
    )
    return Coordinator(path, engine="inline")


def test_two_tables_of_a_family_never_come_to_one(my, my_schema, folding, pg, schema, tmp_path):
    summary = family(tmp_path, pg, schema, folding.url(folding.schema())).run()
    assert {report.status for report in summary.flows} == {"failed"}
    assert "would come to one place" in summary.flows[0].error
    other = pg.schema()
    assert family(tmp_path, pg, other, my.url(my_schema)).run().ok  # where they are two tables
    for name in ("Users", "users"):
        assert my.ask(f"SELECT * FROM {my_schema}.{name}") == [(5,)]


def test_two_flows_do_not_replace_one_table_under_two_names(my, folding, tmp_path):
    path = tmp_path / "flows.yml"
    for server, is_one in ((my, False), (folding, True)):
        stores = [f"{server.url()}#{name}" for name in ("Users", "users")]
        flows = [f"f{at}: {{home: a.csv, store: '{store}'}}" for at, store in enumerate(stores)]
        path.write_text(f"flows: {{{', '.join(flows)}}}")
        if is_one:
            with pytest.raises(ConfigError, match="it replaces the same place as flow 'f0'"):
                read_flows(path)
        else:
            assert len(read_flows(path).flows) == 2


def test_a_replace_under_another_name_lets_the_other_flows_start_anew(folding):
    schema = folding.schema()
    big, small = (SQLStore("x", table=name, connection=folding.url(schema)) for name in ("T", "t"))

    def run(store, name, mode, rows):
        return moved(store, rows, mode, name, flow=name[0])

    run(big, "a1", "replace", ROWS)
    run(small, "b1", "append", MORE)
    assert [store.head("b").rows for store in (big, small)] == [1, 1]
    run(small, "c1", "replace", MORE)  # the table is known as ours under either name
    assert [store.head("b") for store in (big, small)] == [None, None]
    assert folding.ask(f"SELECT * FROM {schema}.t") == [(3,)]
    # What an older hygge wrote under the name as it was written is found, too.
    folding.ask(f"UPDATE {schema}._hygge_heads SET target = 'T'")
    assert small.head("c").rows == 1
    run(small, "c2", "replace", ROWS)
    assert folding.ask(f"SELECT target FROM {schema}._hygge_heads") == [("t",)]


def test_tables_that_differ_in_case_have_heads_of_their_own_in_any_database(my, my_schema):
    small, big = (Generic(my, my_schema, name) for name in ("t", "T"))
    for base, name in ((small, "a"), (big, "A")):
        moved(base.store(), ROWS, "append", f"{name}1", flow=name)
    with pytest.raises(NotOurs):
        my.ask(f"CREATE TABLE {my_schema}.Tt (id bigint)")
        moved(Generic(my, my_schema, "Tt").store(), ROWS, "replace", "b1", flow="b")
    moved(small.store(), MORE, "replace", "b2", flow="b")
    assert small.store().head("a") is None
    assert big.store().head("A").rows == 2


@pytest.mark.parametrize("mark", ["case", "form"])
def test_two_folders_that_a_disk_takes_for_one_are_an_error(tmp_path, mark):
    lake = tmp_path / "lake"
    lake.mkdir()
    path = tmp_path / "flows.yml"
    names = ("Users", "users")
    if mark == "form":
        names = tuple(unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    flows = [f"f{at}: {{home: a.csv, store: lake/{name}}}" for at, name in enumerate(names)]
    path.write_text(f"flows: {{{', '.join(flows)}}}", encoding="utf-8")
    if mark == "case":
        assert len(read_flows(path).flows) == 2  # this disk tells them apart
        os.symlink(lake, tmp_path / "LAKE")  # as a disk is that ignores case
    with pytest.raises(ConfigError, match="it replaces the same place as flow 'f0'"):
        read_flows(path)


def test_a_path_with_nul_is_an_error_of_the_settings():
    for make in (ParquetHome, ParquetStore):
        with pytest.raises(ConfigError, match="NUL"):
            make(path="lake/a\0b")
