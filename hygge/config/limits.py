"""What a flow may use: lanes, memory, tries, and where its lanes may run.

lanes: 8
cpus_per_lane: 2
resources: {fast_disk: 1}                  # what else of its node a lane takes
label_selector: {region: "in(eu, uk)"}     # on which nodes; also `eu` and `!eu`
home: {connection: shop, table: orders, max_bytes_per_second: 50MB}
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hygge.config import amounts, connectors
from hygge.config.document import Node
from hygge.config.ends import End
from hygge.config.problems import Problems, Wrong
from hygge.model import MIB, Limits

RATE = "max_bytes_per_second"
"""Stands in the home: it is the source that is spared, over all lanes of the flow."""
_ELSEWHERE = {
    "cpu": "cpus_per_lane: 2, beside `resources`",
    "object_store_memory": "memory_per_lane: 256MiB, beside `resources`",
}
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.\-]{0,61}[A-Za-z0-9])?"
_LABEL = re.compile(rf"(?:{_WORD}(?:\.{_WORD})*/)?{_WORD}")
_SELECTED = re.compile(rf"!?(?:in\({_WORD}(?:, ?{_WORD})*\)|{_WORD})")


def limits(
    full: Mapping[str, Node],
    rate: Node | None,
    problems: Problems,
    inside: Callable[[str], str | None],
) -> Limits:
    """The flow's limits; what is wrong with one of them is noted, and its default stands in."""
    found: dict[str, Any] = {}
    readers: dict[str, tuple[str, Callable[[Node, str], Any]]] = {
        "lanes": ("lanes", _lanes),
        "cpus_per_lane": ("cpus_per_lane", _amount),
        "resources": ("resources", _resources),
        "label_selector": ("label_selector", _labels),
        "memory_per_lane": ("memory_per_lane", amounts.size),
        "batch_bytes": ("batch_bytes", amounts.size),
        "retries": ("retries", lambda node, key: amounts.count(node, key, 0)),
        "stall_timeout": ("stall_timeout_s", amounts.seconds),
        "resume_within": ("resume_within_s", amounts.seconds),
        RATE: (RATE, amounts.size),
    }
    nodes = {**full, **({} if rate is None else {RATE: rate})}
    for key, (name, read) in readers.items():
        node = nodes.get(key)
        if node is not None and not node.is_broken():
            with problems.collect(inside(key)):
                found[name] = read(node, key)
    made = Limits(**found)
    if made.batch_bytes > made.memory_per_lane:
        key = "batch_bytes" if "batch_bytes" in found else "memory_per_lane"
        problems.add(
            full[key].line,
            f"batch_bytes ({_mib(made.batch_bytes)}) is more than memory_per_lane "
            f"({_mib(made.memory_per_lane)})",
            "a lane holds several batches: make memory_per_lane at least four times batch_bytes",
            inside(key),
        )
    return made


def rate_of(end: End) -> tuple[End, Node | None]:
    """A home without its `max_bytes_per_second`, which is the flow's to keep to, and that."""
    own = end.own.value
    if RATE not in own or RATE in (connectors.keys_of(end.cls) or ()):
        return end, None
    rest = {key: node for key, node in own.items() if key != RATE}
    return replace(end, own=Node(rest, end.own.line)), own[RATE]


def _lanes(node: Node, key: str) -> int | None:
    if node.value == "auto":
        return None
    try:
        return amounts.count(node, key, 1)
    except Wrong as wrong:
        raise Wrong(wrong.line, wrong.text, "lanes: auto, or a number from 1") from None


def _amount(node: Node, key: str, example: str = "2, or 0.5") -> float:
    number = node.value
    if isinstance(number, str) and re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", number):
        number = float(number)
    usable = isinstance(number, int | float) and not isinstance(number, bool)
    if not usable or not 0 < number < math.inf:
        raise Wrong(node.line, f"'{key}' is {node.shown()}, not an amount", f"{key}: {example}")
    if number < 0.01:  # Ray counts in ten-thousandths, and a lane has three actors
        raise Wrong(node.line, f"'{key}' is {node.shown()}; at least 0.01 is needed")
    return float(number)


def _resources(node: Node, key: str) -> dict[str, float]:
    example = "resources: {fast_disk: 1}"
    if not node.is_mapping:
        raise Wrong(node.line, f"'{key}' is {node.shown()}, not names with amounts", example)
    found = {}
    for name, each in node.value.items():
        if name.lower() in _ELSEWHERE:
            raise Wrong(each.line, f"'{name}' is no resource to say here", _ELSEWHERE[name.lower()])
        if name == "memory":
            found[name] = float(amounts.size(each, "resources.memory"))
        else:
            found[name] = _amount(each, f"resources.{name}", "1")
    return found


def _labels(node: Node, key: str) -> dict[str, str]:
    example = 'label_selector: {region: eu}, or "!eu", or "in(eu, uk)"'
    if not node.is_mapping:
        raise Wrong(node.line, f"'{key}' is {node.shown()}, not labels with values", example)
    for name, each in node.value.items():
        if not _LABEL.fullmatch(name):
            raise Wrong(each.line, f"'{name}' of '{key}' is no label of a node", example)
        if each.is_mapping or each.is_list or not _SELECTED.fullmatch(_word(each)):
            text = f"'{key}.{name}' is {each.shown()}, which selects nothing"
            raise Wrong(each.line, text, example)
    return {name: _word(each) for name, each in node.value.items()}


def _word(node: Node) -> str:
    return node.value if isinstance(node.value, str) else node.text  # `true`, `2024`


def _mib(size: int) -> str:
    return f"{size / MIB:,.10g} MiB" if size >= MIB else f"{size:,} bytes"
