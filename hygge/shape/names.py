"""`names: snake`: names as databases and dataframes like them, `OrderID` → `order_id`."""

from __future__ import annotations

import re


def snake(name: str) -> str:
    """Return a name in small letters, its words joined by `_`; one that has no letters stays."""
    words = "_".join(
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", word)
        for word in re.split(r"[\W_]+", name)
        if word
    ).lower()
    if not words:
        return name
    return f"_{words}" if words[0].isdigit() else words
