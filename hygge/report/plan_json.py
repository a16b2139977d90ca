"""A plan as one line of JSON, for programs: `hygge plan --json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from hygge.batches import raw_format
from hygge.model import Plan, TargetState
from hygge.report.text import is_lossy, taken_schema
from hygge.shape.words import sentences
from hygge.type_words import word_of

if TYPE_CHECKING:
    from hygge.run.flow import Flow


def plan_json(
    flow: Flow, plan: Plan, state: TargetState | None, left_open: Iterable[str] = ()
) -> str:
    """Return what a run would do as one line of JSON; it holds no secret.

    `holds` is None where it is not known what the store has. `rows` is None where the plan does not
    tell it, and `rows_are_exact` says whether it is an estimate.
    """
    traits = flow.store.traits
    rows = [split.rows for split in plan.splits]
    sizes = [split.bytes for split in plan.splits]
    taken = taken_schema(flow, plan)
    content = {
        "flow": flow.name,
        "of": flow.limits.of or None,
        "mode": flow.mode,
        "guarantee": traits.guarantee,
        "home": flow.home.describe(),
        "store": flow.store.describe(),
        "holds": None if state is None else asdict(state),
        "key": list(flow.key),
        "cursor": flow.cursor,
        "watermark": plan.watermark,
        "splits": len(plan.splits),
        "why_these_splits": plan.reason,
        "rows": None if None in rows else sum(each or 0 for each in rows),
        "rows_are_exact": all(split.version not in ("", "split") for split in plan.splits),
        "bytes": None if None in sizes else sum(each or 0 for each in sizes),
        "snapshot": plan.snapshot,
        "passes_through": raw_format(taken),
        "shape": [] if flow.home.shape is None else sentences(flow.home.shape),
        "columns": None if plan.columns is None else [
            {
                "name": column.name,
                "type": word_of(column.type),
                "native": column.native,
                "nullable": column.nullable,
                "in_key": column.name in plan.key,
                "kept_exactly": not is_lossy(column, traits.lossy),
            }
            for column in plan.columns
        ],
        "remarks": flow.store.remarks(taken),
        "reader_sees": flow.store.sees() or None,
        "if_the_driver_dies": plan.dead_driver,
        "left_open": list(left_open),
    }  # fmt: skip
    return json.dumps(content, ensure_ascii=False)
