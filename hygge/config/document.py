"""YAML text becomes a tree of `Node`s: plain values that still know their line.

YAML as people expect it: only `true` and `false` are booleans (`on`, `no`, `yes` stay words),
dates, `12:30` and `007` stay text, a key stands once. Anchors, aliases and `<<` work; tags that
make objects do not exist. What the parser says is put into words, with the line and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from hygge.config.problems import Problems
from hygge.errors import without_password

EXAMPLE = "a whole file is:  flows: {users: {home: data/users.parquet, store: data/lake/users}}"


@dataclass(frozen=True)
class Node:
    """A scalar, a list or a mapping of Nodes. In a mapping, `line` is that of the key."""

    value: Any
    line: int
    text: str = ""
    """A scalar as it is written, before any variable was put in: what messages may show."""
    broken: bool = False
    """A variable of it is missing; that was said, so nothing more is said about it."""

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, list)

    def plain(self) -> Any:
        """The value as plain Python."""
        if self.is_mapping:
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if self.is_list else self.value

    def is_broken(self) -> bool:
        return self.broken or any(node.is_broken() for node in self.children())

    def children(self) -> Iterator[Node]:
        if self.is_mapping:
            yield from self.value.values()
        elif self.is_list:
            yield from self.value

    def shown(self) -> str:
        """For messages: what it is, in a few words."""
        if self.is_mapping:
            return "a mapping"
        if self.is_list:
            return "a list"
        if self.value is None:
            return "empty"
        return f"'{without_password(self.text)}'" if isinstance(self.value, str) else self.text


def merge(under: Node, over: Node) -> Node:
    """`over` with the keys that only `under` has; deep in mappings."""
    if not (under.is_mapping and over.is_mapping):
        return over
    joined = dict(over.value)
    for key, node in under.value.items():
        joined[key] = merge(node, joined[key]) if key in joined else node
    return replace(over, value=joined)


def parse(text: str, problems: Problems) -> Node:
    """The top mapping of the file. Raises at once where there is no tree to go on with."""
    try:
        root = yaml.compose(text, _Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(line, "a control character, which YAML does not allow", "delete it")
    except yaml.MarkedYAMLError as error:
        problems.add(*_in_words(error, text.splitlines() or [""]))
    else:
        if root is None:
            problems.add(1, "the file is empty", EXAMPLE)
        elif not isinstance(root, yaml.MappingNode):
            line = root.start_mark.line + 1
            problems.add(line, "the file does not begin with keys such as `flows:`", EXAMPLE)
        else:
            return _Tree(problems).node(root)
    problems.raise_any()
    raise AssertionError("a problem was noted above")


class _Loader(yaml.SafeLoader):
    """Composes nodes only, and never constructs an object."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # where PyYAML looks for it


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


class _Tree:
    """Composed YAML nodes → Nodes; remembers where it stands, so that a circle is found."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.above: list[int] = []
        self.made: dict[int, Node] = {}

    def node(self, raw: yaml.Node) -> Node:
        known = self.made.get(id(raw))
        if known is not None:
            return known
        line = raw.start_mark.line + 1
        if id(raw) in self.above:
            self.problems.add(line, "an anchor (&) that holds its own alias (*)", "spell it out")
            return Node(None, line, broken=True)
        self.above.append(id(raw))
        if isinstance(raw, yaml.ScalarNode):
            made = self._scalar(raw, line)
        elif isinstance(raw, yaml.SequenceNode):
            made = Node([self.node(each) for each in raw.value], line)
        else:
            assert isinstance(raw, yaml.MappingNode)
            made = Node(self._mapping(raw), line)
        self.above.pop()
        self.made[id(raw)] = made
        return made

    def _scalar(self, raw: yaml.ScalarNode, line: int) -> Node:
        text, tag = raw.value, raw.tag.removeprefix("tag:yaml.org,2002:")
        value: Any = text
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
            said = f"the tag !{tag.lstrip('!')} means nothing here"
            self.problems.add(line, said, "leave it out, or quote the value")
            return Node(None, line, text, broken=True)
        return Node(value, line, text)

    def _mapping(self, raw: yaml.MappingNode) -> dict[str, Node]:
        made: dict[str, Node] = {}
        merged: list[Node] = []
        for key, value in raw.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.problems.add(line, "a key that is itself a mapping or a list", _BRACES)
                made["{…}"] = Node(None, line, broken=True)
            elif key.tag == "tag:yaml.org,2002:merge":
                node = self.node(value)
                merged += node.value if node.is_list else [node]
            elif key.value in made:
                first = made[key.value].line
                self.problems.add(
                    line, f"'{key.value}' stands twice, on lines {first} and {line}", "keep one"
                )
            elif raw.flow_style and _is_bare(value):
                self.problems.add(line, f"{{{key.value}}} without a value", _BRACES)
                made[key.value] = Node(None, line, broken=True)
            else:
                made[key.value] = replace(self.node(value), line=line)
        for node in merged:
            if node.is_mapping:
                made = {**node.value, **made}
            else:
                line = raw.start_mark.line + 1
                self.problems.add(line, "'<<' takes a mapping, or a list of mappings", "<<: *name")
        return made


def _is_bare(raw: yaml.Node) -> bool:
    """Whether a flow mapping's value is not even written: `{name}`."""
    return (
        isinstance(raw, yaml.ScalarNode)
        and raw.value == ""
        and raw.start_mark.index == raw.end_mark.index
    )


_TABS = "use spaces: YAML is not indented with tabs"
_UNQUOTED_BRACE = re.compile(r"""\{[^{}"']*\}[^\s,}\]]|[\[{,][^"']*\$\{|:\s+\{\{""")


def _in_words(error: yaml.MarkedYAMLError, lines: list[str]) -> tuple[int, str, str]:
    """(line, what is wrong, what to do) for what PyYAML found."""
    mark = error.problem_mark or error.context_mark
    at = mark.line if mark else 0
    begun = error.context_mark.line if error.context_mark else at
    problem = error.problem or "it cannot be read"
    line = lines[at] if at < len(lines) else ""
    rest = line[mark.column :] if mark else ""

    for number in {at, max(at - 1, 0), begun}:
        if number < len(lines) and re.match(r" *\t", lines[number]):
            return number + 1, "a tab at the beginning of the line", _TABS
    if rest.startswith("\t"):
        return at + 1, "a tab between key and value", _TABS
    if "single document" in (error.context or ""):
        return at + 1, "a second document begins (---)", "one file holds one: delete the ---"
    for number in (at, begun):
        if number < len(lines) and _UNQUOTED_BRACE.search(lines[number]):
            return number + 1, f"unquoted braces: {_excerpt(lines[number])}", _BRACES
    if "alias" in problem or "alias" in (error.context or ""):
        return (
            at + 1,
            f"{_excerpt(line)}: an unquoted * begins an alias, and there is none of that name",
            'put a pattern in quotes: "*.csv"',
        )
    if problem.startswith("found character"):
        return (
            at + 1,
            f"a value cannot begin with {rest[:1] or 'that'}: {_excerpt(line)}",
            "put the whole value in quotes",
        )
    if "unexpected end of stream" in problem:
        return begun + 1, "a quote is opened and never closed", "close it"
    if "escape" in problem or "unknown escape" in problem:
        return (
            at + 1,
            "a backslash inside double quotes begins an escape",
            "use single quotes, or write \\\\",
        )
    if "flow" in (error.context or ""):
        return begun + 1, "a { or [ is opened and not closed", "close it, or quote the whole value"
    for number in (at, at - 1):
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
            at + 1,
            f"a colon too many, or another indentation than the line above: {_excerpt(line)}",
            "put a value that holds ': ' in quotes; begin the keys of one mapping in one column",
        )
    if "<block end>" in problem:
        return (
            at + 1,
            f"this does not fit what begins on line {begun + 1}: {_excerpt(line)}",
            "begin the keys of one mapping in one column; quotes go around the whole of a value",
        )
    return at + 1, f"this is not YAML ({problem}): {_excerpt(line)}", "put the value in quotes"


def _excerpt(line: str) -> str:
    line = without_password(line.strip())
    return line if len(line) <= 60 else line[:57] + "..."
