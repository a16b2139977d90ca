"""Heads as earlier versions of hygge wrote them, in `_hygge.json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hygge.connectors.files.head_files import head_in


def make_old(folder: Path, change: Callable[[dict[str, Any]], object] = lambda head: None) -> None:
    """Make an old head of the one head that is below `folder`, with a change of its JSON."""
    (path,) = folder.rglob("_hygge.parquet")
    head = json.loads(head_in(str(path)))
    change(head)
    path.with_suffix(".json").write_text(json.dumps(head))
    path.unlink()
