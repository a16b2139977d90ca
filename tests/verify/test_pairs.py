"""A changed value, a lost row and a doubled row are found, whatever the two ends are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hygge import Flow
from hygge.coordinator.verify import verify_flow
from hygge.home import Home
from hygge.store import Store
from tests.chaos import only_in_chaos
from tests.servers.mariadb import my, my_schema  # noqa: F401  # fixtures
from tests.verify.ends import FILES, ROWS, damage, home_of, store_of

pytest_plugins = ["tests.servers.postgres"]

KINDS = [*FILES, "sqlite"]
SOME = {("parquet", "sqlite"), ("sqlite", "csv"), ("arrow", "jsonl")}
PAIRS = [
    pytest.param(home, store, marks=() if (home, store) in SOME else only_in_chaos)
    for home in KINDS
    for store in KINDS
]


def check_pair(
    home: str, store: str, folder: Path, home_url: str = "", store_url: str = ""
) -> None:
    state = folder / "state"

    def move(home: Home, store: Store) -> Flow:
        flow = Flow(home, store, engine="inline", state=state, name=f"f{id(store)}")
        assert flow.run().rows == ROWS
        return flow

    source = home_of(home, folder, move, home_url)
    flow = move(source, store_of(store, folder, store_url))
    verdict = verify_flow(flow)
    assert (verdict.status, verdict.rows_source, verdict.rows_store) == ("same", ROWS, ROWS), (
        verdict
    )
    assert len(verdict.columns) == 7, verdict.notes
    for how in ("changed", "lost", "doubled"):
        if store in FILES:  # a Store of files replaces none that somebody changed
            shutil.rmtree(folder / f"store_{store}")
        flow.run()
        damage(how, store, folder, store_url)
        verdict = verify_flow(flow)
        assert verdict.status == "different", (how, verdict)
        assert any("30" in text for text in verdict.first), (how, verdict)
        if how != "changed":
            assert getattr(verdict, how) == 1, (how, verdict)
        else:
            assert verdict.columns_differ == ["name"], verdict


@pytest.mark.parametrize(("home", "store"), PAIRS)
def test_files_and_sqlite(home, store, tmp_path):
    check_pair(home, store, tmp_path)


def test_postgres_to_parquet(pg, schema, tmp_path):
    check_pair("pg", "parquet", tmp_path, f"{pg.url}?options=-csearch_path%3D{schema}")


@only_in_chaos
def test_databases_among_each_other(pg, schema, my, my_schema, tmp_path):  # noqa: F811
    urls = [f"{pg.url}?options=-csearch_path%3D{schema}", my.url(my_schema), ""]
    for number, home in enumerate(urls):
        for other, store in enumerate(urls):
            folder = tmp_path / f"{number}{other}"
            folder.mkdir()
            if home != store:
                check_pair("sql", "sql", folder, home, store)


@only_in_chaos
@pytest.mark.parametrize("kind", [*FILES])
def test_databases_and_files(kind, pg, schema, my, my_schema, tmp_path):  # noqa: F811
    urls = [f"{pg.url}?options=-csearch_path%3D{schema}", my.url(my_schema)]
    for number, url in enumerate(urls):
        for name, ends in (("in", (kind, "sql")), ("out", ("sql", kind))):
            folder = tmp_path / f"{number}{name}"
            folder.mkdir()
            check_pair(*ends, folder, url if name == "out" else "", url if name == "in" else "")
