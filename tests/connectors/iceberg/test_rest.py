"""A real REST catalog, SeaweedFS: the same commits, its bucket, and answers that do not come."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import Any

import pyarrow as pa
import pytest

from hygge import IcebergHome, IcebergStore
from hygge.errors import Superseded, Unknown
from hygge.testing.staging import FLOW, copy_of, stage_run, tagged_rows
from hygge.testing.values import difference
from tests.chaos import only_in_chaos
from tests.servers import s3
from tests.waiting import until


def _settings(uri: str, endpoint: str) -> dict[str, str]:
    return {
        "uri": uri,
        "warehouse": "s3://warehouse/",
        "credential": f"hygge:{s3.SECRET}",
        "oauth2-server-uri": f"{uri}/v1/oauth/tokens",
        "s3.endpoint": endpoint,
        "s3.access-key-id": "hygge",
        "s3.secret-access-key": s3.SECRET,
        "s3.region": "us-east-1",
    }


@pytest.fixture(scope="module")
def served() -> tuple[str, dict[str, str]]:
    """The URL of the catalog, and its settings."""
    endpoint, uri = s3.started_with_iceberg()
    settings = _settings(uri, endpoint)

    def answers() -> bool:
        try:
            with IcebergStore("sales.none", catalog=settings).lake.opened() as catalog:
                catalog.create_namespace_if_not_exists("sales")
        except Exception:
            return False
        return True

    until(answers, lambda: "the catalog does not answer", every_s=0.3)
    return uri, settings


def _rows(table: str, settings: dict[str, str]) -> pa.Table:
    home = IcebergHome(table, catalog=settings)
    with home.open(None) as plan:
        return pa.concat_tables(batch for split in plan.splits for batch in home.read(split))


@only_in_chaos  # the tests with a catalog of SQLite are quicker
def test_runs_on_a_rest_catalog(served: tuple[str, dict[str, str]]) -> None:
    settings: dict[str, Any] = served[1]
    store = IcebergStore("sales.lines", catalog=settings, partition_by=["text"])
    rivals = [stage_run(store, tagged_rows(tag), mode="append") for tag in ("a", "b")]
    rivals[0].commit()
    with pytest.raises(Superseded):
        rivals[1].commit()
    for run in rivals:
        store.discard(run.run)
    stage_run(store, tagged_rows("new", 15, 10), mode="merge").commit()
    expected = pa.concat_tables([tagged_rows("a", 0, 15), tagged_rows("new", 15, 10)])
    assert difference(_rows("sales.lines", settings), expected) is None
    stage_run(store, tagged_rows("c")).commit()
    assert difference(_rows("sales.lines", settings), tagged_rows("c")) is None
    more = tagged_rows("d", 100).append_column("more", pa.array(range(20)))
    evolving = IcebergStore("sales.lines", catalog=settings, options={"schema": "evolve"})
    assert stage_run(evolving, more, mode="append").commit().changes


@only_in_chaos  # as above
def test_a_commit_whose_answer_is_lost_is_asked_for(served: tuple[str, dict[str, str]]) -> None:
    uri, settings = served
    with s3.passing(uri) as proxy:
        through = {**settings, "uri": proxy.endpoint}
        store = IcebergStore("sales.lost", catalog=through)
        for number, status in enumerate((500, 502, 0)):
            run = stage_run(store, tagged_rows("x", 100 * number), mode="append")

            def lose(request: BaseHTTPRequestHandler, status: int = status) -> int | None:
                return status if request.command == "POST" and "lost" in request.path else None

            proxy.after = lose
            with pytest.raises(Unknown):
                run.commit()
            proxy.after = lambda request: None
            head = store.head(FLOW)
            assert head is not None
            assert (head.run, head.generation) == (run.run.id, number + 1)
            assert run.commit(copy_of(store)).head == head
            store.discard(run.run)
    assert _rows("sales.lost", settings).num_rows == 60
