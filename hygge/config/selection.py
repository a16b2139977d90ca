"""`--select` and `--exclude`: which flows of a file run.

    orders,users        flows by their names
    shop.public.orders  one table of the flow `shop`, which has `tables`
    'shop.public.*'     a pattern as in a shell (*, ?, [a-z]) of flows, or of tables of a flow
    tag:nightly         flows with a tag of this name, or with this value
    tag:team=shop       flows with this tag

The tables of a flow are known only when its database is asked: names and patterns of tables are
kept in `Tables.selected` and `Tables.excluded`, as `<schema>.<table>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from hygge.config.problems import suggest
from hygge.config.specs import FlowsFile, FlowSpec
from hygge.errors import UsageError

_TAG = "tag:"
_WILDCARD = re.compile(r"[*?\[]")


def select(file: FlowsFile, names: Sequence[str], excluded: Sequence[str] = ()) -> FlowsFile:
    """Return the file with only the flows that `names` take and `excluded` do not.

    Each is a name, a pattern or a tag, or several with commas; no `names`: all flows. Dependencies
    on other flows count as done. Raises UsageError for a word that takes nothing.
    """
    wanted, unwanted = _words(names, "--select"), _words(excluded, "--exclude")
    taken: dict[str, tuple[str, ...]] = {flow.name: ("",) for flow in file.flows}
    if wanted:
        taken = _match(file, wanted)
    dropped = _match(file, unwanted)
    flows = []
    for flow in file.flows:
        if flow.name not in taken or "" in dropped.get(flow.name, ()):
            continue
        tables = flow.tables
        if tables is not None:
            selected = () if "" in taken[flow.name] else taken[flow.name]
            tables = replace(tables, selected=selected, excluded=dropped.get(flow.name, ()))
        flows.append(replace(flow, tables=tables))
    if not flows:
        known = ", ".join(sorted(flow.name for flow in file.flows))
        raise UsageError("no flow is selected", f"flows: {known}")
    kept = {flow.name for flow in flows}
    return replace(
        file,
        flows=tuple(
            replace(flow, depends_on=tuple(name for name in flow.depends_on if name in kept))
            for flow in flows
        ),
    )


def check_words(names: Sequence[str], excluded: Sequence[str]) -> None:
    """Raise UsageError where an option is given and names no flow."""
    _words(names, "--select")
    _words(excluded, "--exclude")


def takes(pattern: str, table: str) -> bool:
    """Return whether a name or a pattern of `--select` takes a table, `<schema>.<table>`."""
    return table == pattern or fnmatchcase(table, pattern)


def is_pattern(text: str) -> bool:
    """Return whether a word of `--select` may take several tables."""
    return _WILDCARD.search(text) is not None


def _words(texts: Sequence[str], option: str) -> list[str]:
    words = [word for text in texts for part in text.split(",") if (word := part.strip())]
    if texts and not words:
        raise UsageError(f"{option} names no flow", f"name some of the file, or leave {option} out")
    return words


def _match(file: FlowsFile, words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return flow → the tables of it that the words take, as patterns; "" is all of the flow."""
    matches: dict[str, list[str]] = {}
    for word in words:
        found = list(_matches(file, word))
        if not found:
            raise _nothing(file, word)
        for flow, table in found:
            matches.setdefault(flow.name, []).append(table)
    return {name: tuple(dict.fromkeys(tables)) for name, tables in matches.items()}


def _matches(file: FlowsFile, word: str) -> Iterator[tuple[FlowSpec, str]]:
    if word.startswith(_TAG):
        name, has_value, value = word.removeprefix(_TAG).partition("=")
        for flow in file.flows:
            tags = flow.tags
            if tags.get(name) == value if has_value else name in {*tags, *tags.values()}:
                yield flow, ""
        return
    if not is_pattern(word):
        if exact := next((flow for flow in file.flows if flow.name == word), None):
            yield exact, ""
            return
        owners = [f for f in file.flows if f.tables and word.startswith(f"{f.name}.")]
        if owners:
            owner = max(owners, key=lambda flow: len(flow.name))
            yield owner, word[len(owner.name) + 1 :]
        return
    for flow in file.flows:
        if fnmatchcase(flow.name, word):
            yield flow, ""
        elif flow.tables is not None:
            for rest in _patterns_of_tables(flow.name, word):
                yield flow, rest


def _patterns_of_tables(flow: str, word: str) -> Iterator[str]:
    """Yield what a pattern leaves for the tables of `flow`: it is cut at each dot and each `*`.

    What is left is a pattern as well, `[o]rders`, as none of the tables needs to be like it.
    """
    for at, letter in enumerate(word):
        rest = word[at + 1 :]
        if letter == "." and rest and fnmatchcase(flow, word[:at]):
            yield rest if is_pattern(rest) else f"[{rest[0]}]{rest[1:]}"
        elif letter == "*" and fnmatchcase(flow, word[: at + 1]):
            yield word[at:]


def _nothing(file: FlowsFile, word: str) -> UsageError:
    if word.startswith(_TAG):
        tags = sorted({f"{name}={value}" for f in file.flows for name, value in f.tags.items()})
        hint = f"tags: {', '.join(tags)}" if tags else "no flow has `tags:`; tags: {team: shop}"
        return UsageError(f"{file.path} has no flow with the tag '{word.removeprefix(_TAG)}'", hint)
    known = [flow.name for flow in file.flows]
    if is_pattern(word):
        return UsageError(f"no flow of {file.path} is like '{word}'", suggest("flows", word, known))
    return UsageError(f"{file.path} has no flow '{word}'", suggest("flows", word, known))
