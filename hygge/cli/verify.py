"""`hygge verify`: compares source and store now.

Exit codes: 0 the same, 1 something is wrong, or an end could not be read, 2 wrong usage, 3 nothing
wrong was found, and a source has moved on since its run, or could not be compared.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hygge.errors import UsageError, as_hygge_error, rows_text

if TYPE_CHECKING:
    from hygge.config.specs import FlowSpec
    from hygge.coordinator.coordinator import Coordinator
    from hygge.coordinator.verify import Verdict

OPEN = 3
"""Exit code where nothing is wrong, and not everything is known."""


def verify(arguments: argparse.Namespace, coordinator: Coordinator) -> int:
    """Compare both ends of each selected flow, print what differs, and return the exit code."""
    from hygge.coordinator.verify import verify_flow

    sample = _sample(arguments.sample)
    found = []
    for verdict in _verdicts(coordinator, lambda spec: verify_flow(coordinator.flow(spec), sample)):
        found.append(verdict)
        print(json.dumps(verdict.facts()) if arguments.json else verdict_text(verdict), flush=True)
    if any(verdict.status in ("different", "failed") for verdict in found):
        return 1
    return 0 if all(verdict.status == "same" for verdict in found) else OPEN


def _verdicts(
    coordinator: Coordinator, verify_one: Callable[[FlowSpec], Verdict]
) -> Iterator[Verdict]:
    from hygge.coordinator.verify import Verdict

    for spec in coordinator.file.flows:
        try:
            if spec.tables is None:
                yield verify_one(spec)
                continue
            with coordinator.open_tables(spec, planning=True) as tables:
                for table in tables:
                    yield verify_one(table)
        except Exception as error:  # of one flow; the others are compared all the same
            reason = as_hygge_error(error)
            yield Verdict(spec.name, "failed", notes=[reason.message], hint=reason.hint)


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict in words for people."""
    lines = [f"{verdict.flow}: {verdict.status}"]
    if verdict.columns:
        columns = len(verdict.columns)
        lines[0] += (
            f"; {rows_text(verdict.rows_source)} in the source, {verdict.rows_store:,} in the "
            f"store, {columns} column{'s'[: columns != 1]} compared"
        )
    if verdict.columns_differ:
        lines.append(f"  these columns differ: {', '.join(verdict.columns_differ)}")
    keys = [
        f"{number:,} {word}"
        for number, word in (
            (verdict.lost, "lost"),
            (verdict.doubled, "doubled"),
            (verdict.changed, "changed"),
            (verdict.only_in_store, "only in the store"),
        )
        if number
    ]
    if keys:
        lines.append(f"  keys: {', '.join(keys)}")
    lines += [f"    {text}" for text in verdict.first]
    lines += [f"  note: {note}" for note in verdict.notes]
    if verdict.hint:
        lines.append(f"  hint: {verdict.hint}")
    return "\n".join(lines)


def _sample(text: str | None) -> int | None:
    if text is not None and (not text.isdigit() or int(text) < 1):
        raise UsageError(f"--sample {text} is no number of rows", "--sample 10000")
    return None if text is None else int(text)
