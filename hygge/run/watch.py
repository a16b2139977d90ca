"""The reports of a run while it runs, and the interface that receives them.

A flow and its engine call the methods of a `Watch` from their own threads. The methods have the
names of the events that `--log-format json` writes. `Silent` ignores every event; the watches that
show something stand in `hygge/report`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hygge.model import Report


@dataclass(frozen=True)
class Progress:
    """The progress of one flow."""

    rows: int = 0
    """Rows that Stores took so far."""
    bytes: int = 0
    """Arrow bytes that Stores took so far."""
    splits_done: int = 0
    """Splits that are staged."""
    splits: int = 0
    """Splits in all."""
    lanes: int = 0
    """Lanes that work."""
    waits_for: str = ""
    """Text for people about what the flow waits for; empty: nothing."""
    of: str = "splits"
    """The plural word for people of what `splits` counts."""


class Watch(Protocol):
    """Receives what a flow and its engine report. Every method may be called from any thread."""

    def began(self, flow: str, splits: int) -> None:
        """`flow` is planned and begins to move this number of splits."""
        ...

    def moved(self, flow: str, progress: Progress) -> None:
        """`flow` has come as far as `progress` tells. Called often."""
        ...

    def said(self, flow: str, text: str) -> None:
        """`flow` has a message for people; "" as `flow`: the whole command has."""
        ...

    def ended(self, report: Report) -> None:
        """A flow has ended, well or not."""
        ...

    def close(self) -> None:
        """Nothing more will be reported; may be called again."""
        ...


class Silent:
    """Ignores every event: the default for Python users."""

    def began(self, flow: str, splits: int) -> None: ...
    def moved(self, flow: str, progress: Progress) -> None: ...
    def said(self, flow: str, text: str) -> None: ...
    def ended(self, report: Report) -> None: ...
    def close(self) -> None: ...
