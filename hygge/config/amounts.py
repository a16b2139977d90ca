"""Sizes, durations and counts as people write them: `256MiB`, `10m`, `4` or `"4"`."""

from __future__ import annotations

import re

from hygge.config.document import Node
from hygge.config.problems import Wrong

_UNITS = {
    "": 1, "b": 1,
    "k": 1024, "kib": 1024, "kb": 1000,
    "m": 1024**2, "mib": 1024**2, "mb": 1000**2,
    "g": 1024**3, "gib": 1024**3, "gb": 1000**3,
    "t": 1024**4, "tib": 1024**4, "tb": 1000**4,
}  # fmt: skip
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def count(node: Node, key: str, least: int) -> int:
    """A whole number, also as text (a variable is always text)."""
    number = node.value
    if isinstance(number, str) and re.fullmatch(r"\s*[-+]?[0-9][0-9_]*\s*", number):
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise Wrong(node.line, f"'{key}' is {node.shown()}, not a whole number", f"{key}: 4")
    if number < least:
        raise Wrong(node.line, f"'{key}' is {node.text or number}; at least {least} is needed")
    return number


def size(node: Node, key: str) -> int:
    """Bytes."""
    number = node.value
    if isinstance(number, str):
        match = re.fullmatch(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", number)
        if match and match[2].lower() in _UNITS:
            number = round(float(match[1]) * _UNITS[match[2].lower()])
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise Wrong(node.line, f"'{key}' is {node.shown()}, not a size", f"bytes, or {key}: 256MiB")
    return number


def seconds(node: Node, key: str) -> float:
    number = node.value
    if isinstance(number, str):
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", number.replace(" ", ""))
        if parts and "".join(a + b for a, b in parts) == number.replace(" ", ""):
            number = sum(float(amount) * _SECONDS[unit] for amount, unit in parts)
        elif re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", number):
            number = float(number)
    # `not > 0` and not `<= 0`, so that .nan is refused as well
    if isinstance(number, bool) or not isinstance(number, int | float) or not number > 0:
        raise Wrong(
            node.line,
            f"'{key}' is {node.shown()}, not a duration",
            f"seconds, or with a unit: {key}: 10m (ms, s, m, h, d)",
        )
    return float(number)
