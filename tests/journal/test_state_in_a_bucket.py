"""The journal in a bucket: `state: s3://…`, with dying drivers and answers that get lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from hygge import Flow, FlowFailed, ParquetHome, ParquetStore
from hygge.places.bucket import Bucket
from tests.chaos import only_in_chaos
from tests.servers.s3 import SECRET, proxy, s3  # noqa: F401  # fixtures
from tests.waiting import LIMIT_S

DRIVER = "tests.crash.bucket_points"


def flow(folder: Path, state: str, mode: str = "append") -> Flow:
    pq.write_table(pa.table({"id": range(10)}), folder / "s.parquet", row_group_size=4)
    home = ParquetHome(path=folder / "s.parquet", options={"split_bytes": 1})
    store = ParquetStore(path=folder / "lake")
    return Flow(home, store, name="f", mode=mode, engine="inline", state=state)


def visible(folder: Path) -> list[int]:
    return sorted(ds.dataset(folder / "lake").to_table()["id"].to_pylist())


@pytest.mark.parametrize("deaths", [1, 2])
def test_no_row_is_lost_or_doubled_whenever_the_driver_dies(deaths, s3, tmp_path):  # noqa: F811
    outcome = killed_everywhere(tmp_path, s3, deaths)
    assert outcome["wrong"] == []
    assert outcome["points"] >= 5, "hardly any call was seen"


@only_in_chaos
def test_a_store_that_does_not_look_at_its_head_is_caught(s3, tmp_path):  # noqa: F811
    assert killed_everywhere(tmp_path, s3, 1, "head")["wrong"]


def killed_everywhere(*arguments: object) -> dict:
    command = [sys.executable, "-m", DRIVER, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_leaves_a_plan_receipts_and_a_decision_without_secrets(s3, tmp_path):  # noqa: F811
    report = flow(tmp_path, s3).run()
    assert (report.rows, report.splits) == (10, 3)
    place = Bucket(s3)
    keys = place.keys("")
    assert any(key.endswith("plan.json") for key in keys)
    assert any(key.endswith("decision.json") for key in keys)
    assert not any(SECRET in (place.get(key) or b"").decode() for key in keys)
    flow(tmp_path, s3).run()
    assert visible(tmp_path) == sorted([*range(10)] * 2)


def test_answers_that_get_lost_lose_and_double_nothing(s3, proxy, tmp_path):  # noqa: F811
    lost = set()

    def once_a_key(request) -> int | None:
        if request.command != "PUT" or request.path in lost:
            return None
        lost.add(request.path)
        return 0 if len(lost) % 2 else 500

    proxy.after = once_a_key
    assert flow(tmp_path, s3).run().rows == 10
    assert len(lost) > 5
    assert visible(tmp_path) == [*range(10)]


def test_a_state_where_two_can_create_one_key_stops_the_run_before_it_reads(s3, proxy, tmp_path):  # noqa: F811
    def unconditional(request) -> None:
        if request.command == "PUT" and request.headers.get("If-None-Match"):
            os.environ["AWS_ENDPOINT_URL"] = f"http://{proxy.behind}"
            Bucket(s3).remove(request.path.split("/", 3)[3])
            os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint

    proxy.before = unconditional
    with pytest.raises(FlowFailed, match="lets two runs create the same object"):
        flow(tmp_path, s3).run()
    assert not (tmp_path / "lake").exists()


def test_a_state_that_cannot_be_reached_is_named(s3, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(FlowFailed, match="may not be read or written.*SignatureDoesNotMatch"):
        flow(tmp_path, s3).run()
    assert not (tmp_path / "lake").exists()
