"""The values of keys: counts, sizes (`256MiB`), durations (`10m`), names, one of several words.

Each function raises Problem where the value is not of its kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from hygge.config.document import Node
from hygge.config.problems import Problem, suggest

_BYTES = {
    "": 1, "b": 1,
    "k": 1024, "kib": 1024, "kb": 1000,
    "m": 1024**2, "mib": 1024**2, "mb": 1000**2,
    "g": 1024**3, "gib": 1024**3, "gb": 1000**3,
    "t": 1024**4, "tib": 1024**4, "tb": 1000**4,
}  # fmt: skip
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Word = TypeVar("Word", bound=str)


def get(nodes: Mapping[str, Node], key: str) -> Node | None:
    """Return the node of a key, unless a variable of it is missing."""
    node = nodes.get(key)
    return None if node is None or node.is_broken() else node


def read_count(node: Node, key: str, least: int) -> int:
    """Return a whole number of at least `least`; text is read too, since variables are text."""
    number = node.value
    if isinstance(number, str) and re.fullmatch(r"\s*[-+]?[0-9][0-9_]*\s*", number):
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise Problem(node.line, f"'{key}' is {node.describe()}, not a whole number", f"{key}: 4")
    if number < least:
        raise Problem(node.line, f"'{key}' is {node.text or number}; at least {least} is needed")
    return number


def read_bytes(node: Node, key: str) -> int:
    """Return a size in bytes."""
    number = node.value
    if isinstance(number, str):
        match = re.fullmatch(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", number)
        if match and match[2].lower() in _BYTES:
            number = round(float(match[1]) * _BYTES[match[2].lower()])
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        message = f"'{key}' is {node.describe()}, not a size"
        raise Problem(node.line, message, f"bytes, or {key}: 256MiB")
    return number


def read_seconds(node: Node, key: str) -> float:
    """Return a duration in seconds."""
    number = node.value
    if isinstance(number, str):
        text = number.replace(" ", "")
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", text)
        if parts and "".join(amount + unit for amount, unit in parts) == text:
            number = sum(float(amount) * _SECONDS[unit] for amount, unit in parts)
        elif re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", number):
            number = float(number)
    # `not > 0` and not `<= 0`, so that .nan is refused as well
    if isinstance(number, bool) or not isinstance(number, int | float) or not number > 0:
        raise Problem(
            node.line,
            f"'{key}' is {node.describe()}, not a duration",
            f"seconds, or with a unit: {key}: 10m (ms, s, m, h, d)",
        )
    return float(number)


def read_share(node: Node, key: str) -> float:
    """Return a part of a whole, from 0 to 1; `5%` is 0.05."""
    text = node.value if isinstance(node.value, str) else node.text
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(%?)\s*", text)
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= share <= 1:
        raise Problem(
            node.line, f"'{key}' is {node.describe()}, not a part of the rows", f"{key}: 0.1%"
        )
    return share


def read_one_of(node: Node, key: str, known: tuple[Word, ...]) -> Word:
    """Return one of the known words."""
    for word in known:
        if word == node.value:
            return word
    hint = suggest(f"{key} is one of", str(node.text), known)
    raise Problem(node.line, f"'{key}' is {node.describe()}", hint)


def read_names(node: Node, key: str) -> tuple[str, ...]:
    """Return the names of a list without duplicates; a single name is a list of one."""
    items = node.elements
    if any(item.is_list or item.is_mapping or not item.text for item in items):
        example = "[/mnt/shared]" if key == "shared_paths" else "[id]"
        raise Problem(node.line, f"'{key}' is not a list of names", f"{key}: {example}")
    names = tuple(item.value if isinstance(item.value, str) else item.text for item in items)
    for name in names:
        if names.count(name) > 1:
            raise Problem(node.line, f"'{key}' names '{name}' twice", "keep one")
    return names
