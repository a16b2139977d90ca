"""Moves numbers on whatever Ray cluster answers, kills a worker node half way, compares all values.

    python cluster/smoke.py --store s3://bucket/smoke        # on a node: RAY_ADDRESS, or --address
    ray job submit --working-dir cluster -- python smoke.py --store s3://bucket/smoke

Life: attach → a flow from a Home that needs no disk to Parquet → when a third of its splits is
staged and all lanes work, a node that is neither the head nor this one loses its raylet, and with
it all that it runs → the flow goes on → pyarrow, which knows nothing of hygge, reads what a plain
listing shows → what was written is removed. Other people's lanes on that node die as well;
`--no-kill` spares it.

Exit codes: 0 every value is right, 1 it is not or the flow failed, 3 right, but no node was killed
while its lanes worked.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from hygge import Flow, Home, ParquetStore
from hygge.errors import FlowFailed
from hygge.model import Column, Limits, Plan, Split
from hygge.run.watch import Progress, Silent

SPLITS, BATCHES, ROWS, BATCH_S = 24, 5, 2_000, 0.1
FIELDS = {"id": pa.int64(), "text": pa.string(), "amount": pa.decimal128(21, 2)}


def numbers(first: int, count: int) -> pa.Table:
    """The rows whose ids begin at `first`; each value follows from the id."""
    ids = pa.array(range(first, first + count), pa.int64())
    texts = pa.array([None if n % 7 == 0 else "ö" * (n % 9) for n in ids.to_pylist()], pa.string())
    return pa.table([ids, texts, ids.cast(FIELDS["amount"])], schema=pa.schema(FIELDS.items()))


class Numbers(Home):
    """Splits of numbers, slow enough that something can happen in between."""

    def open(self, since: Any = None) -> Any:
        columns = tuple(Column(name, kind) for name, kind in FIELDS.items())
        return contextlib.nullcontext(Plan(columns, tuple(Split(n, "1") for n in range(SPLITS))))

    def read(self, split: Split) -> Iterator[pa.Table]:
        for batch in range(BATCHES):
            time.sleep(BATCH_S)
            yield numbers((split.index * BATCHES + batch) * ROWS, ROWS)


class Striking(Silent):
    """Watches the flow, and does `strike` once, when a third of its splits is staged.

    While not all `lanes` work, for the last of them may start late, it waits for two thirds.
    """

    def __init__(self, strike: Any, lanes: int) -> None:
        self.thread, self.lanes = threading.Thread(target=strike), lanes

    def moved(self, flow: str, seen: Progress) -> None:
        least = SPLITS // 3 if seen.lanes >= self.lanes else SPLITS * 2 // 3
        if seen.splits_done >= least and self.thread.ident is None:
            self.thread.start()

    def said(self, flow: str, text: str) -> None:
        print(f"  {text}", flush=True)


def cpus() -> int:
    from hygge.engine.ray import connection

    connection.connect()
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def kill_a_node(killed: list[str]) -> None:
    """End the raylet of a node that is neither the head nor ours; its name goes to `killed`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    mine = ray.get_runtime_context().get_node_id()
    workers = [
        node
        for node in ray.nodes()
        if node["Alive"]
        and node["NodeID"] != mine
        and "node:__internal_head__" not in node["Resources"]
        and node["Resources"].get("CPU")
    ]
    if not workers:
        print("  there is no worker node: nobody is killed", flush=True)
        return
    groups = ray.util.placement_group_table().values()
    placed = [each["bundles_to_node_id"].values() for each in groups if each["state"] == "CREATED"]
    with_lanes = {node for nodes in placed for node in nodes}
    node = max(workers, key=lambda node: node["NodeID"] in with_lanes)
    print(f"  the raylet of {node['NodeManagerAddress']} is killed", flush=True)
    killed.append(node["NodeManagerAddress"])
    here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(_kill_parent).options(scheduling_strategy=here)
    with contextlib.suppress(ray.exceptions.RayError):  # who does it dies with it
        ray.get(task.remote())


def _kill_parent() -> None:
    os.kill(os.getppid(), 9)  # whoever runs a task was started by its raylet


def read_back(store: str) -> pa.Table:
    """What a reader finds who lists `store` and opens what does not begin with `.` or `_`."""
    import pyarrow.parquet as pq

    if "://" not in store:
        import pyarrow.dataset as ds

        return ds.dataset(store, format="parquet").to_table()
    import obstore

    bucket = obstore.store.from_url(store, client_options={"allow_http": True})
    names = [each["path"] for page in obstore.list(bucket) for each in page]
    shown = [each for each in names if not any(part[0] in "._" for part in each.split("/"))]
    return pa.concat_tables(
        pq.read_table(pa.BufferReader(bytes(bucket.get(each).bytes()))) for each in shown
    )


def remove(place: str) -> None:
    if "://" not in place:
        shutil.rmtree(place, ignore_errors=True)
        return
    import obstore

    bucket = obstore.store.from_url(place, client_options={"allow_http": True})
    for page in obstore.list(bucket):
        bucket.delete([each["path"] for each in page])


def main() -> int:
    parser = argparse.ArgumentParser(description="A flow on a Ray cluster, of which a node dies.")
    parser.add_argument("--address", help="host:port of the head (RAY_ADDRESS, else a Ray here)")
    parser.add_argument("--store", help="where every node can write: s3://…, a shared folder")
    parser.add_argument("--no-kill", action="store_true", help="only move and compare")
    asked = parser.parse_args()
    if asked.address:
        os.environ["RAY_ADDRESS"] = asked.address
    root = (asked.store or tempfile.gettempdir()).rstrip("/")
    top = f"{root}/hygge-smoke-{uuid.uuid4().hex[:8]}"
    store, killed = f"{top}/numbers", list[str]()
    lanes = min(SPLITS, cpus())  # one a CPU, so that every node has some
    watch = Striking((lambda: None) if asked.no_kill else lambda: kill_a_node(killed), lanes)
    try:
        flow = Flow(
            Numbers("smoke"),
            ParquetStore("smoke", path=store),
            state=f"{top}/state",
            limits=Limits(lanes=lanes, memory_per_lane=64 << 20, batch_bytes=8 << 20, retries=9),
        )
        report = flow.run(watch)
        moved, wanted = read_back(store).sort_by("id"), numbers(0, SPLITS * BATCHES * ROWS)
    except FlowFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        remove(top)
    if not moved.cast(wanted.schema).equals(wanted):
        said = f"{wanted.num_rows:,} rows were sent and {moved.num_rows:,} are there"
        print(f"wrong: {said}, and they are not the same", file=sys.stderr)
        return 1
    print(
        f"{moved.num_rows:,} rows in {report.seconds:.1f} s over {report.lanes} lanes, every value "
        f"right; {report.retries} tries again; killed: {', '.join(killed) or 'nobody'}"
    )
    return 0 if (killed and report.retries) or asked.no_kill else 3


if __name__ == "__main__":
    sys.exit(main())
