"""`tags:` of the file and of a flow: texts in the metadata of a flow's Ray job, to find it by.

Tags hold no variables: everybody who reaches the cluster can read a job's metadata, and a variable
may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hygge.config.document import Node
from hygge.config.problems import Problem, Problems
from hygge.config.specs import FlowSpec

_NAME = re.compile(r"(?!hygge_|job_)[A-Za-z][\w.\-/]{0,62}")
_MAX_LETTERS = 256
_MAX_TAGS = 20
_EXAMPLE = "tags: {team: shop, cost_centre: '4711'}"


def add_tags(flows: Sequence[FlowSpec], top: Node, problems: Problems) -> list[FlowSpec]:
    """Return the flows with their tags: those of the file, overridden by their own.

    `top` is the file as it is written, without variables filled in.
    """
    shared: dict[str, str] = {}
    with problems.collect():
        shared = _read(top)
    tagged = []
    for flow in flows:
        own: dict[str, str] = {}
        with problems.collect(flow.name):
            own = _read(top.mapping["flows"].mapping[flow.name])
        tagged.append(replace(flow, tags={**shared, **own}))
    return tagged


def _read(parent: Node) -> dict[str, str]:
    node = parent.mapping.get("tags")
    if node is None:
        return {}
    if not node.is_mapping:
        raise Problem(node.line, f"'tags' is {node.describe()}, not a mapping", _EXAMPLE)
    if len(node.mapping) > _MAX_TAGS:
        message = f"{len(node.mapping)} tags, and {_MAX_TAGS} are possible"
        raise Problem(node.line, message, _EXAMPLE)
    return {name: _value(name, tag) for name, tag in node.mapping.items()}


def _value(name: str, node: Node) -> str:
    if not _NAME.fullmatch(name):
        raise Problem(
            node.line,
            f"'{name}' is no name for a tag",
            "a letter, then letters, digits, _ - . /; names that begin with hygge_ or job_ are "
            "taken",
        )
    if node.is_mapping or node.is_list or not node.text:
        raise Problem(node.line, f"the tag '{name}' is {node.describe()}, not a text", _EXAMPLE)
    if "${" in node.text:
        raise Problem(
            node.line,
            f"the tag '{name}' has a variable, and tags are shown to whoever reaches the cluster",
            "write its value out",
        )
    if len(node.text) > _MAX_LETTERS:
        message = f"the tag '{name}' has more than {_MAX_LETTERS} letters"
        raise Problem(node.line, message, _EXAMPLE)
    return node.value if isinstance(node.value, str) else node.text
