"""Delta tables in Google's and Azure's object stores, by a connection and by the environment.

Two commits each: at a third one the library itself (1.6.6), also by `write_deltalake`, finds no
newest version in these emulators, "Invalid table version: 1".
"""

from __future__ import annotations

import os
import uuid

import pyarrow as pa
import pytest

from hygge import DeltaHome, DeltaStore
from tests.chaos import only_in_chaos
from tests.connectors.delta.staged import staged
from tests.servers import azurite, gcs

pytestmark = only_in_chaos


def two_commits(url: str, access: dict | None) -> None:
    store = DeltaStore(path=f"{url}/{uuid.uuid4().hex[:12]}/t", connection=access)

    def ids() -> list[int]:
        home = DeltaHome(path=store.path, connection=access)
        with home.open() as plan:
            tables = [table for split in plan.splits for table in home.read(split)]
        return sorted(pa.concat_tables(tables)["id"].to_pylist())

    staged(store, pa.table({"id": [1, 2]}))()
    staged(store, pa.table({"id": [2, 3]}), mode="merge", key=["id"])()
    assert ids() == [1, 2, 3]


def test_azure_by_a_connection(monkeypatch):
    for name in [each for each in os.environ if each.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    endpoint = azurite.started()
    access = {"account_name": azurite.ACCOUNT, "account_key": azurite.KEY, "endpoint": endpoint}
    two_commits(f"az://{azurite.CONTAINER}", access)


@pytest.mark.parametrize("by", ["environment", "connection"])
def test_google(by, monkeypatch, tmp_path):
    (tmp_path / "key.json").write_text(gcs.key_file())
    access = None
    if by == "environment":
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "key.json"))
        monkeypatch.setenv("GOOGLE_BASE_URL", gcs.started())
    else:
        access = {"service_account": str(tmp_path / "key.json"), "endpoint": gcs.started()}
    two_commits(f"gs://{gcs.BUCKET}", access)
