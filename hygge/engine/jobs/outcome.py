"""The flows of one Ray job, and how it ended: the reports that it wrote, or one of its death."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hygge.engine.jobs.following import Ended
from hygge.model import Report

if TYPE_CHECKING:
    from hygge.config.specs import FlowSpec


@dataclass(frozen=True)
class JobFlows:
    """One flow, or several that share a job; then the first stands for what they have in common."""

    flows: Sequence[FlowSpec]

    @property
    def first(self) -> FlowSpec:
        return self.flows[0]

    @property
    def names(self) -> list[str]:
        return [flow.name for flow in self.flows]

    @property
    def label(self) -> str:
        """The flow that events of the whole job are about; empty: several."""
        return self.first.name if len(self.flows) == 1 else ""

    @property
    def title(self) -> str:
        """The name of the job for people: `users`, or `users and 11 more`."""
        more = f" and {len(self.flows) - 1} more" if len(self.flows) > 1 else ""
        return f"{self.first.name}{more}"

    @property
    def selected(self) -> list[str]:
        """What `--select` takes."""
        tables = self.first.tables
        if tables and tables.selected:
            return [f"{self.first.name}.{table}" for table in tables.selected]
        return self.names

    def reports_of(self, reports: Sequence[Report]) -> list[Report]:
        """Return the reports of these flows, or of their tables."""
        return [report for report in reports if {report.flow, report.of} & set(self.names)]


@dataclass
class Outcome:
    """The reports of a job about itself, and its end as Ray reports it."""

    job: str
    error: str = ""
    has_begun: bool = False
    """Whether the driver has said anything."""
    reports: list[Report] = field(default_factory=list)
    ended: Ended = field(default_factory=lambda: Ended("RUNNING", None, ""))

    @property
    def is_reported(self) -> bool:
        """Return whether the driver itself reported how it ended."""
        return bool(self.reports or self.error)


def make_report(flow: str, outcome: Outcome, is_stopped: bool) -> Report:
    """Return the report of a flow whose job wrote none."""
    if is_stopped and not outcome.is_reported and outcome.ended.status == "FAILED":
        return Report(flow, "stopped", note="its driver died, and no other was started")
    if outcome.ended.status == "STOPPED":
        return Report(flow, "stopped", note=f"Ray job {outcome.job} was stopped")
    if outcome.error:
        message, _, hint = outcome.error.partition("\n\nhint: ")
        return Report(flow, "failed", error=message, hint=hint or None)
    if outcome.ended.status == "SUCCEEDED":  # its rows are committed: it must not run again
        return Report(
            flow,
            "failed",
            error=f"Ray job {outcome.job} ended well, but its report was not heard",
            hint=f"see `hygge logs {outcome.job}` for what it said, and look into the store before "
            "you run it again",
        )
    return Report(
        flow,
        "failed",
        error=f"the driver of Ray job {outcome.job} died: {outcome.ended.why}",
        hint=f"see `hygge logs {outcome.job}`; run it again when the cause is gone",
    )
