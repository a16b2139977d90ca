"""The limits of a flow: lanes, memory, retries, the nodes for its lanes, and bad rows.

lanes: 8
cpus_per_lane: 2
resources: {fast_disk: 1}                  # what else of its node a lane takes
label_selector: {region: "in(eu, uk)"}     # on which nodes; also `eu` and `!eu`
driver: {cpus: 1, memory: 2GiB, resources: {fast_disk: 1}}    # what its Ray job takes of its node
home: {connection: shop, table: orders, max_bytes_per_second: 50MB}
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hygge.config import connectors, values
from hygge.config.document import Node
from hygge.config.ends import End
from hygge.config.problems import Problem, Problems, suggest
from hygge.model import MIB, Limits

RATE = "max_bytes_per_second"
"""It is written in the home, whose source it spares, and counts for all lanes of the flow."""
_ELSEWHERE = {
    "cpu": "cpus_per_lane: 2, beside `resources`",
    "object_store_memory": "memory_per_lane: 256MiB, beside `resources`",
}
_ON_BAD_ROW = ("fail", "set_aside")
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.\-]{0,61}[A-Za-z0-9])?"
_LABEL = re.compile(rf"(?:{_WORD}(?:\.{_WORD})*/)?{_WORD}")
_LABEL_VALUE = re.compile(rf"!?(?:in\({_WORD}(?:, ?{_WORD})*\)|{_WORD})")


def read_limits(
    full: Mapping[str, Node],
    rate: Node | None,
    problems: Problems,
    flow_of: Callable[[str], str | None],
) -> Limits:
    """Return the limits of a flow; a limit that is wrong is a problem, and keeps its default.

    `flow_of` returns the flow's name for a key that the flow has itself, None for a default.
    """
    arguments: dict[str, Any] = {}
    readers: dict[str, tuple[str, Callable[[Node, str], object]]] = {
        "lanes": ("lanes", _lanes),
        "cpus_per_lane": ("cpus_per_lane", _amount),
        "resources": ("resources", _resources),
        "label_selector": ("label_selector", _labels),
        "driver": ("driver", _driver),
        "memory_per_lane": ("memory_per_lane", values.read_bytes),
        "batch_bytes": ("batch_bytes", values.read_bytes),
        "retries": ("retries", lambda node, key: values.read_count(node, key, 0)),
        "stall_timeout": ("stall_timeout_s", values.read_seconds),
        "wait_at_most": ("wait_at_most_s", values.read_seconds),
        "resume_within": ("resume_within_s", values.read_seconds),
        "on_bad_row": ("on_bad_row", lambda n, key: values.read_one_of(n, key, _ON_BAD_ROW)),
        "max_bad_rows": ("max_bad_rows", lambda node, key: values.read_count(node, key, 0)),
        "max_bad_share": ("max_bad_share", values.read_share),
        RATE: (RATE, values.read_bytes),
    }
    nodes = dict(full)
    if rate is not None:
        nodes[RATE] = rate
    for key, (name, read) in readers.items():
        node = nodes.get(key)
        if node is not None and not node.is_broken():
            with problems.collect(flow_of(key)):
                arguments[name] = read(node, key)
    limits = Limits(**arguments)
    for key in ("max_bad_rows", "max_bad_share"):
        if key in arguments and limits.on_bad_row == "fail" and "on_bad_row" not in full:
            problems.add(
                full[key].line,
                f"'{key}' is given, and a bad row fails the run",
                "say `on_bad_row: set_aside` too, or leave it out",
                flow_of(key),
            )
    if limits.batch_bytes > limits.memory_per_lane:
        key = "batch_bytes" if "batch_bytes" in arguments else "memory_per_lane"
        problems.add(
            full[key].line,
            f"batch_bytes ({_mib(limits.batch_bytes)}) is more than memory_per_lane "
            f"({_mib(limits.memory_per_lane)})",
            "a lane holds several batches: make memory_per_lane at least four times batch_bytes",
            flow_of(key),
        )
    return limits


def take_rate(home: End) -> tuple[End, Node | None]:
    """Return a home without its `max_bytes_per_second`, and that; the flow enforces it."""
    keys = home.node.mapping
    if RATE not in keys or RATE in (connectors.keys_of(home.cls) or ()):
        return home, None
    rest = {key: node for key, node in keys.items() if key != RATE}
    return replace(home, node=Node(rest, home.node.line)), keys[RATE]


def _lanes(node: Node, key: str) -> int | None:
    if node.value == "auto":
        return None
    try:
        return values.read_count(node, key, 1)
    except Problem as problem:
        raise Problem(problem.line, problem.message, "lanes: auto, or a number from 1") from None


def _amount(node: Node, key: str, example: str = "2, or 0.5") -> float:
    number = node.value
    if isinstance(number, str) and re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", number):
        number = float(number)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        message = f"'{key}' is {node.describe()}, not an amount"
        raise Problem(node.line, message, f"{key}: {example}")
    if number < 0.01:  # Ray counts in ten-thousandths, and a lane has three actors
        raise Problem(node.line, f"'{key}' is {node.describe()}; at least 0.01 is needed")
    return float(number)


def _resources(node: Node, key: str) -> dict[str, float]:
    example = f"{key.rpartition('.')[2]}: {{fast_disk: 1}}"
    if not node.is_mapping:
        message = f"'{key}' is {node.describe()}, not names with amounts"
        raise Problem(node.line, message, example)
    resources = {}
    for name, amount in node.mapping.items():
        if name.lower() in _ELSEWHERE or (name == "memory" and key != "resources"):
            hint = _ELSEWHERE[name.lower()] if key == "resources" else "cpus: 1, or memory: 2GiB"
            raise Problem(amount.line, f"'{name}' is no resource to name here", hint)
        if name == "memory":
            resources[name] = float(values.read_bytes(amount, "resources.memory"))
        else:
            resources[name] = _amount(amount, f"{key}.{name}", "1")
    return resources


def _driver(node: Node, key: str) -> dict[str, float]:
    """Return what a driver takes of its node, by Ray's names."""
    example = "driver: {cpus: 1, memory: 2GiB, resources: {fast_disk: 1}}"
    if not node.mapping:
        what = "empty" if node.is_mapping else node.describe()
        raise Problem(node.line, f"'{key}' is {what}, not names with amounts", example)
    amounts: dict[str, float] = {}
    for name, amount in node.mapping.items():
        if name == "cpus":
            amounts["CPU"] = _amount(amount, "driver.cpus")
        elif name == "memory":
            amounts["memory"] = float(values.read_bytes(amount, "driver.memory"))
        elif name == "resources":
            amounts.update(_resources(amount, "driver.resources"))
        else:
            hint = suggest("keys of driver", name, ("cpus", "memory", "resources"))
            raise Problem(amount.line, f"'{name}' is not a key of '{key}'", hint)
    return amounts


def _labels(node: Node, key: str) -> dict[str, str]:
    example = 'label_selector: {region: eu}, or "!eu", or "in(eu, uk)"'
    if not node.is_mapping:
        message = f"'{key}' is {node.describe()}, not labels with values"
        raise Problem(node.line, message, example)
    for name, value in node.mapping.items():
        if not _LABEL.fullmatch(name):
            raise Problem(value.line, f"'{name}' of '{key}' is no label of a node", example)
        if value.is_mapping or value.is_list or not _LABEL_VALUE.fullmatch(_word(value)):
            message = f"'{key}.{name}' is {value.describe()}, which selects nothing"
            raise Problem(value.line, message, example)
    return {name: _word(value) for name, value in node.mapping.items()}


def _word(node: Node) -> str:
    return node.value if isinstance(node.value, str) else node.text  # `true`, `2024`


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.10g} MiB" if size_bytes >= MIB else f"{size_bytes:,} bytes"
