"""Flows on several nodes: hosts of their own where we are root, else processes of one machine.

A node that dies costs its unfinished splits and nothing else. A disk that only some of the nodes
see, or too little shared memory, is reported before a row moves.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.chaos import only_in_chaos
from tests.readers.objects import rows_at
from tests.servers.forward import HERE, Forward
from tests.servers.nodes import Nodes
from tests.servers.postgres import rows_of
from tests.servers.s3 import environment, s3  # noqa: F401  # a fixture
from tests.servers.s3 import started as s3_started
from tests.servers.standing import OUTSIDE, hosts
from tests.waiting import free_port, said_by, until

pytest_plugins = ["tests.servers.postgres"]
needs_hosts = pytest.mark.skipif(
    not hosts.can_stand(), reason="disks of their own need root and iproute2"
)
USERS = ROOT / "samples" / "data" / "users.parquet"
LANES, ROWS, SPLITS = 3, 60_000, 12
TABLE = f"""
CREATE TABLE {{table}} (
    id bigint PRIMARY KEY, price numeric(15, 2), part text, shipped date, seen timestamptz,
    weight double precision, comment text
);
INSERT INTO {{table}}
SELECT n, n * 1.37, CASE WHEN n % 7 > 0 THEN 'part ' || n END, date '1992-01-01' + n % 2500,
       timestamptz '2026-01-01 00:00Z' + n * interval '1 microsecond', n / 7.0,
       CASE WHEN n % 11 > 0 THEN repeat('é', n % 40) ELSE '' END
FROM generate_series(1, {ROWS}) n;
ANALYZE {{table}}
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Three nodes that know a bucket."""
    port = free_port()
    keys = environment(f"http://{HERE}:{port}")
    cluster = Nodes(3, keys)
    bucket = Forward(int(s3_started().rpartition(":")[2]), port)
    yield cluster
    bucket.close()
    if cluster.process.poll() is None:
        cluster.end()


def hygge(nodes: Nodes, file: Path, text: str) -> subprocess.Popen[str]:
    """Start a run on the head that prints its report as JSON."""
    file.write_text(text)
    words = [*nodes.on_head, sys.executable, "-m", "hygge", "run", str(file), "--json"]
    return subprocess.Popen(
        [*words, "--jobs", "one"], env=nodes.environ, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def reports(run: subprocess.Popen[str], code: int) -> list[dict[str, str]]:
    said, talk = said_by(run)
    assert run.returncode == code, said + talk
    assert said, talk
    return json.loads(said)["hygge_report"]["flows"]


@only_in_chaos
@needs_hosts
def test_a_disk_that_another_node_does_not_see_is_refused_before_a_row_moves(
    nodes: Nodes, tmp_path: Path
) -> None:
    own = f"{nodes.environ['RAY_TMPDIR']}/{tmp_path.name}"
    copy = f"mkdir {own} && cp {USERS} {own}/users.parquet"
    subprocess.run([*nodes.on_head, "sh", "-c", copy], check=True)
    text = f"""
flows:
  home: {{home: {own}/users.parquet, store: lake}}
  store: {{home: {USERS}, store: {own}/lake}}
"""
    ends = reports(hygge(nodes, tmp_path / "flows.yml", text), 1)
    text = f"state: {own}/state\nflows: {{state: {{home: {USERS}, store: lake}}}}"
    ends += reports(hygge(nodes, tmp_path / "flows.yml", text), 1)
    for flow in ends:
        said = f"the {flow['flow']} {own}/"
        assert flow["error"].startswith(said), flow
        assert "is on a disk that node 10.213." in flow["error"]
        assert "s3://" in flow["hint"]
        assert "shared_paths" in flow["hint"]
    assert not (tmp_path / "lake").exists()


@needs_hosts
def test_a_node_without_shared_memory_is_refused_by_its_address(tmp_path: Path) -> None:
    """As in a container that was started without `--shm-size`."""
    command = [sys.executable, "-m", "hygge", "run", str(tmp_path / "flows.yml"), "--json"]
    script = f"mount -t tmpfs -o size=64m tmpfs /dev/shm && exec {shlex.join(command)}"
    (tmp_path / "flows.yml").write_text(f"flows: {{f: {{home: {USERS}, store: lake}}}}")
    run = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], env=OUTSIDE, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    (flow,) = reports(run, 1)
    assert "has 64 MiB of shared memory (/dev/shm)" in flow["error"]
    assert "--shm-size=" in flow["hint"]
    assert not (tmp_path / "lake").exists()


@only_in_chaos
def test_a_node_that_dies_half_way_costs_its_unfinished_splits_and_no_row(
    nodes: Nodes,
    tmp_path: Path,
    pg,
    schema,
    s3: str,  # noqa: F811
) -> None:
    table = f"{schema}.lineitem"
    pg.ask(TABLE.format(table=table))
    # A quarter of the splits is read; then each lane, one a node, stands amid another.
    database = Forward(pg.port, answers=SPLITS // 4)
    text = f"""
flows:
  lineitem:
    home:
      connection: postgresql://postgres@{database.host}/postgres
      table: {table}
      options: {{splits: {SPLITS}}}
    store: {s3}/lineitem
    lanes: {LANES}
    batch_bytes: 1MiB
"""
    run = hygge(nodes, tmp_path / "flows.yml", text)

    def half_way() -> bool:
        assert run.poll() is None, run.communicate()
        sealed = list((tmp_path / ".hygge").glob("**/receipts/*/*.json"))
        return len(database.standing) == LANES and len(sealed) == SPLITS // 4

    try:
        until(half_way, "not every lane is in the middle of a split")
        nodes.kill(2)
        database.go_on()
        (flow,) = reports(run, 0)
    finally:
        run.kill()
        run.communicate()
        database.close()
    assert flow["retries"] > 0, "what the node was in the middle of moved elsewhere"
    assert (flow["splits"], flow["rows"], flow["rows_read"]) == (SPLITS, ROWS, ROWS)
    moved, source = rows_at(f"{s3}/lineitem"), rows_of(pg, table)
    assert moved is not None
    assert moved.num_rows == ROWS
    assert moved.sort_by("id").cast(source.schema).equals(source.sort_by("id"))
