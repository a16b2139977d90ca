"""The log of an Iceberg table, which its catalog keeps, as a commit asks it.

See `hygge/connectors/files/table_log.py`; one try is in `hygge/connectors/iceberg/commit.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hygge.connectors.files import table_log
from hygge.connectors.iceberg.commit import Trial, head_of
from hygge.connectors.iceberg.goal import Goal
from hygge.connectors.iceberg.lake import namespace_there
from hygge.model import Commit, Head, Receipt, Run, Watermark


@dataclass(frozen=True)
class Log:
    """The table as its catalog has it now: what `table_log.TableLog` says."""

    goal: Goal
    catalog: Any

    def describe(self) -> str:
        return self.goal.lake.describe()

    def newest(self) -> Any | None:
        return self.goal.lake.load(self.catalog)

    def head_of(self, entry: Any | None, flow: str) -> Head | None:
        return head_of(entry, flow)

    def gathered(self, run: Run, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
        return receipts  # their files are looked for where the table is

    def create_next(
        self,
        entry: Any | None,
        parts: Sequence[Receipt],
        run: Run,
        base: Head | None,
        watermark: Watermark,
    ) -> Commit | None:
        return Trial(self.goal, self.catalog, entry, run, base).commit(parts, watermark)


def commit(
    goal: Goal, run: Run, base: Head | None, receipts: Sequence[Receipt], watermark: Watermark
) -> Commit:
    """Do what `Store.commit` says."""
    with goal.lake.opened() as catalog, namespace_there(goal.lake.describe()):
        return table_log.commit(Log(goal, catalog), run, base, receipts, watermark)
