"""`tags:` of the file and of a flow: words that go with a flow's Ray job, for people's own lists.

They are read as they are written: a job's metadata is shown to whoever reaches the cluster, so a
variable, which may be a secret, has no place in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hygge.config.document import Node
from hygge.config.problems import Problems, Wrong
from hygge.config.specs import FlowSpec

_NAME = re.compile(r"(?!hygge_|job_)[A-Za-z][\w.\-/]{0,62}")
_LONGEST = 256
_MOST = 20
_EXAMPLE = "tags: {team: shop, cost_centre: '4711'}"


def given(flows: Sequence[FlowSpec], top: Node, problems: Problems) -> list[FlowSpec]:
    """The flows with their tags: those of the file, and over them their own."""
    shared: dict[str, str] = {}
    with problems.collect():
        shared = _read(top)
    parts = top.value.get("flows")
    drawn = []
    for flow in flows:
        own: dict[str, str] = {}
        with problems.collect(flow.name):
            own = _read(parts.value[flow.name])
        drawn.append(replace(flow, tags={**shared, **own}))
    return drawn


def _read(around: Node) -> dict[str, str]:
    node = around.value.get("tags")
    if node is None:
        return {}
    if not node.is_mapping:
        raise Wrong(node.line, f"'tags' is {node.shown()}, not a mapping", _EXAMPLE)
    if len(node.value) > _MOST:
        raise Wrong(node.line, f"{len(node.value)} tags, and {_MOST} are possible", _EXAMPLE)
    return {name: _value(name, each) for name, each in node.value.items()}


def _value(name: str, node: Node) -> str:
    if not _NAME.fullmatch(name):
        raise Wrong(
            node.line,
            f"'{name}' is no name for a tag",
            "a letter, then letters, digits, _ - . /; names that begin with hygge_ or job_ are "
            "taken",
        )
    if node.is_mapping or node.is_list or not node.text:
        raise Wrong(node.line, f"the tag '{name}' is {node.shown()}, not a text", _EXAMPLE)
    if "${" in node.text:
        raise Wrong(
            node.line,
            f"the tag '{name}' has a variable, and tags are shown to whoever reaches the cluster",
            "write its value out",
        )
    if len(node.text) > _LONGEST:
        raise Wrong(node.line, f"the tag '{name}' has more than {_LONGEST} letters", _EXAMPLE)
    return str(node.value) if isinstance(node.value, str) else node.text
