"""The durable memory of a flow's runs: what was planned, staged and decided, and how it ended.

The entries lie at the state URL (`.hygge` beside flows.yml by default):

    flows/<flow>/lease/<epoch>.json             the process that drives the flow now
    flows/<flow>/runs/<run>/plan.json           written before the first read
    flows/<flow>/receipts/<run>/<split>-<epoch>-<n>.json    one for each staged split
    flows/<flow>/runs/<run>/decision.json       create-only: prepared (exactly these tickets) or
                                                abandoned; it never changes
    flows/<flow>/runs/<run>/outcome.json        evidence: committed, refused, or given up
    bad/<flow>/<run>.parquet                    rows that were set aside: see bad_files.py
    history/<flow>/<began>-<random>.json        what people ask about a run: see history.py
    flows/<flow>/runs/<run>/stopped-<epoch>.json  evidence: a driver was stopped, or failed

Only `decision.json` and the store's head decide anything; docs/journal.md explains why that is
enough.
"""

from hygge.journal.lease import Lease, interrupt_all
from hygge.journal.runs import GIVEN_UP, Decision, FlowJournal, RunRecord

__all__ = ["GIVEN_UP", "Decision", "FlowJournal", "Lease", "RunRecord", "interrupt_all"]
