"""What a run reports while it runs, and to whom.

An engine and a flow call the verbs of a `Watch` from their own threads. `Silent` drops what it is
told; the watches that show something stand in `hygge/report`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hygge.model import Report


@dataclass(frozen=True)
class Seen:
    """What has passed so far in one flow; `rows` and `bytes` as Stores took them."""

    rows: int = 0
    bytes: int = 0
    splits_done: int = 0
    splits: int = 0
    lanes: int = 0
    waits_for: str = ""
    of: str = "splits"
    """What `splits` counts."""


class Watch(Protocol):
    """Where an engine and a flow report to; may be called from any thread."""

    def began(self, flow: str, splits: int) -> None: ...
    def moved(self, flow: str, seen: Seen) -> None: ...
    def said(self, flow: str, text: str) -> None: ...
    def ended(self, report: Report) -> None: ...

    def close(self) -> None:
        """Nothing more will come; a terminal is left with a clean line."""
        ...


class Silent:
    """Sees nothing: for Python users who did not ask."""

    def began(self, flow: str, splits: int) -> None: ...
    def moved(self, flow: str, seen: Seen) -> None: ...
    def said(self, flow: str, text: str) -> None: ...
    def ended(self, report: Report) -> None: ...

    def close(self) -> None: ...
