"""The durable memory of a flow's runs: what was planned, sealed, decided, and how it ended.

It lies at the state URL (`.hygge` beside flows.yml by default):

    flows/<flow>/lease/<epoch>.json             who drives the flow; its number is the epoch
    flows/<flow>/runs/<run>/plan.json           before the first read
    flows/<flow>/receipts/<run>/<split>-<epoch>-<n>.json    one per sealed split
    flows/<flow>/runs/<run>/decision.json       create-only: prepared (exactly which tickets), or
                                                abandoned; nobody ever changes it
    flows/<flow>/runs/<run>/outcome.json        evidence: committed, refused, or given up
    flows/<flow>/runs/<run>/stopped-<epoch>.json  evidence: a driver was stopped, or failed

Only `decision.json` and the store's head decide anything; docs/journal.md says why that is enough.
"""

from hygge.journal.entries import VERSION
from hygge.journal.lease import Lease, interrupt_all
from hygge.journal.runs import GIVEN_UP, Decision, FlowJournal, Past

__all__ = ["GIVEN_UP", "VERSION", "Decision", "FlowJournal", "Lease", "Past", "interrupt_all"]
