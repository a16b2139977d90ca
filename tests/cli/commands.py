"""What several tests of commands do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Said = Callable[..., str]
"""The fixture `said`: it runs a command, and returns what it prints."""


def plan_of_yaml(said: Said, *words: str) -> str:
    """Save what `hygge discover … --yaml` prints, and have `plan` accept it; return the plan."""
    Path("made.yml").write_text(said("discover", *words, "--yaml"))
    return said("plan", "made.yml")
