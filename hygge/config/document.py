"""YAML text becomes a tree of `Node`s: plain values that still know their line.

Only `true` and `false` are booleans; `on`, `no`, `yes`, dates, `12:30` and `007` are text.
A key may stand once in a mapping. Anchors, aliases and `<<` work; tags that create objects do not.
The parser's errors become problems with a line and a hint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import yaml

from hygge.config.problems import Problems
from hygge.errors import without_password

EXAMPLE = "a whole file is:  flows: {users: {home: data/users.parquet, store: data/lake/users}}"
Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Node:
    """A scalar, a list or a mapping of Nodes. In a mapping, `line` is that of the key."""

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    text: str = ""
    """A scalar as it is written in the file, before variables were filled in; safe to show."""
    broken: bool = False
    """True where the value is unusable and the reason is reported already: a missing variable."""

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, list)

    @property
    def mapping(self) -> dict[str, Node]:
        """The nodes of a mapping by key; empty for a scalar or a list."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def elements(self) -> list[Node]:
        """The nodes of a list; a scalar or a mapping is the one item of its own list."""
        return self.value if isinstance(self.value, list) else [self]

    def plain(self) -> object:
        """Return the value as plain Python objects."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def text_or_value(self) -> str:
        """Return a text with its variables, or a number as it is written."""
        return self.value if isinstance(self.value, str) else self.text

    def is_broken(self) -> bool:
        """Return whether this node, or any node below it, is broken."""
        return self.broken or any(node.is_broken() for node in self.children())

    def children(self) -> Iterator[Node]:
        if isinstance(self.value, dict):
            yield from self.value.values()
        elif isinstance(self.value, list):
            yield from self.value

    def describe(self) -> str:
        """Return the value in a few words, for messages."""
        if self.is_mapping:
            return "a mapping"
        if self.is_list:
            return "a list"
        if self.value is None:
            return "empty"
        if isinstance(self.value, str):
            return f"'{without_password(self.text)}'"
        return self.text


def merge(under: Node, over: Node) -> Node:
    """Return `over` with the keys that only `under` has; mappings in mappings are merged too."""
    if not (under.is_mapping and over.is_mapping):
        return over
    merged = dict(over.mapping)
    for key, node in under.mapping.items():
        merged[key] = merge(node, merged[key]) if key in merged else node
    return replace(over, value=merged)


def parse(text: str, problems: Problems) -> Node:
    """Return the top mapping of the file; raise ConfigError at once where there is none."""
    try:
        root = yaml.compose(text, _Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(line, "a control character, which YAML does not allow", "delete it")
    except yaml.MarkedYAMLError as error:
        problems.add(*_explain(error, text.splitlines() or [""]))
    else:
        if root is None:
            problems.add(1, "the file is empty", EXAMPLE)
        elif not isinstance(root, yaml.MappingNode):
            line = root.start_mark.line + 1
            problems.add(line, "the file does not begin with keys such as `flows:`", EXAMPLE)
        else:
            return _TreeBuilder(problems).build(root)
    problems.raise_any()
    raise AssertionError("a problem was added above")


class _Loader(yaml.SafeLoader):
    """A loader that only composes nodes; it never constructs an object."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML reads it from the class


for _tag, _pattern, _first in (
    ("null", r"(?:null|~|)", ["n", "~", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,2}(?:_[0-9]{3})+|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
        r"|[1-9][0-9]*[eE][-+]?[0-9]+|\.inf|\.nan)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^{_pattern}$"), _first)

_BRACES = 'braces begin a mapping in YAML: put the whole value in quotes, "{…}/x"'


class _TreeBuilder:
    """Turns YAML nodes into Nodes, and finds an anchor that contains its own alias."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.ancestors: list[int] = []
        """The ids of the YAML nodes that contain the current one."""
        self.nodes: dict[int, Node] = {}
        """Finished nodes by the id of their YAML node: an alias is built once."""

    def build(self, raw: yaml.Node) -> Node:
        known = self.nodes.get(id(raw))
        if known is not None:
            return known
        line = raw.start_mark.line + 1
        if id(raw) in self.ancestors:
            self.problems.add(line, "an anchor (&) that holds its own alias (*)", "spell it out")
            return Node(None, line, broken=True)
        self.ancestors.append(id(raw))
        if isinstance(raw, yaml.ScalarNode):
            node = self._scalar(raw, line)
        elif isinstance(raw, yaml.SequenceNode):
            node = Node([self.build(item) for item in raw.value], line)
        else:
            assert isinstance(raw, yaml.MappingNode)
            node = Node(self._mapping(raw), line)
        self.ancestors.pop()
        self.nodes[id(raw)] = node
        return node

    def _scalar(self, raw: yaml.ScalarNode, line: int) -> Node:
        text, tag = raw.value, raw.tag.removeprefix("tag:yaml.org,2002:")
        value: Scalar = text
        try:
            if tag == "null":
                value = None
            elif tag == "bool":
                value = {"true": True, "false": False}[text.lower()]
            elif tag == "int":
                value = int(text)
            elif tag == "float":
                value = float(text.replace(".inf", "inf").replace(".nan", "nan"))
            elif tag not in ("str", "merge", "value"):
                raise ValueError
        except (ValueError, KeyError):
            message = f"the tag !{tag.lstrip('!')} means nothing here"
            self.problems.add(line, message, "leave it out, or quote the value")
            return Node(None, line, text, broken=True)
        return Node(value, line, text)

    def _mapping(self, raw: yaml.MappingNode) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        merged: list[Node] = []
        for key, value in raw.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.problems.add(line, "a key that is itself a mapping or a list", _BRACES)
                nodes["{…}"] = Node(None, line, broken=True)
            elif key.tag == "tag:yaml.org,2002:merge":
                merged += self.build(value).elements
            elif key.value in nodes:
                first = nodes[key.value].line
                self.problems.add(
                    line, f"'{key.value}' stands twice, on lines {first} and {line}", "keep one"
                )
            elif raw.flow_style and _is_unwritten(value):
                self.problems.add(line, f"{{{key.value}}} without a value", _BRACES)
                nodes[key.value] = Node(None, line, broken=True)
            else:
                nodes[key.value] = replace(self.build(value), line=line)
        for node in merged:
            if node.is_mapping:
                nodes = {**node.mapping, **nodes}
            else:
                line = raw.start_mark.line + 1
                self.problems.add(line, "'<<' takes a mapping, or a list of mappings", "<<: *name")
        return nodes


def _is_unwritten(raw: yaml.Node) -> bool:
    """Return whether a value has no character in the file, as in `{name}`."""
    return (
        isinstance(raw, yaml.ScalarNode)
        and raw.value == ""
        and raw.start_mark.index == raw.end_mark.index
    )


_TABS = "use spaces: YAML is not indented with tabs"
_UNQUOTED_BRACE = re.compile(r"""\{[^{}"']*\}[^\s,}\]]|[\[{,][^"']*\$\{|:\s+\{\{""")


def _explain(error: yaml.MarkedYAMLError, lines: list[str]) -> tuple[int, str, str]:
    """Return line, message and hint for an error of PyYAML."""
    mark = error.problem_mark or error.context_mark
    index = mark.line if mark else 0
    start = error.context_mark.line if error.context_mark else index
    problem = error.problem or "it cannot be read"
    line = lines[index] if index < len(lines) else ""
    rest = line[mark.column :] if mark else ""

    for number in {index, max(index - 1, 0), start}:
        if number < len(lines) and re.match(r" *\t", lines[number]):
            return number + 1, "a tab at the beginning of the line", _TABS
    if rest.startswith("\t"):
        return index + 1, "a tab between key and value", _TABS
    if "single document" in (error.context or ""):
        return index + 1, "a second document begins (---)", "one file holds one: delete the ---"
    for number in (index, start):
        if number < len(lines) and _UNQUOTED_BRACE.search(lines[number]):
            return number + 1, f"unquoted braces: {_excerpt(lines[number])}", _BRACES
    if "alias" in problem or "alias" in (error.context or ""):
        return (
            index + 1,
            f"{_excerpt(line)}: an unquoted * begins an alias, and there is none of that name",
            'put a pattern in quotes: "*.csv"',
        )
    if problem.startswith("found character"):
        return (
            index + 1,
            f"a value cannot begin with {rest[:1] or 'that'}: {_excerpt(line)}",
            "put the whole value in quotes",
        )
    if "unexpected end of stream" in problem:
        return start + 1, "a quote is opened and never closed", "close it"
    if "escape" in problem or "unknown escape" in problem:
        return (
            index + 1,
            "a backslash inside double quotes begins an escape",
            "use single quotes, or write \\\\",
        )
    if "flow" in (error.context or ""):
        return start + 1, "a { or [ is opened and not closed", "close it, or quote the whole value"
    for number in (index, index - 1):
        if number not in range(len(lines)):
            continue
        if glued := re.match(r"\s*(?:- )?([\w-]+):[^\s/:]", lines[number]):
            return (
                number + 1,
                f"no space after the colon: {_excerpt(lines[number])}",
                f"write `{glued[1]}: …`",
            )
    if "mapping values" in problem:
        return (
            index + 1,
            f"a colon too many, or another indentation than the line above: {_excerpt(line)}",
            "put a value that holds ': ' in quotes; begin the keys of one mapping in one column",
        )
    if "<block end>" in problem:
        return (
            index + 1,
            f"this does not fit what begins on line {start + 1}: {_excerpt(line)}",
            "begin the keys of one mapping in one column; quotes go around the whole of a value",
        )
    return index + 1, f"this is not YAML ({problem}): {_excerpt(line)}", "put the value in quotes"


def _excerpt(line: str) -> str:
    line = without_password(line.strip())
    return line if len(line) <= 60 else line[:57] + "..."
