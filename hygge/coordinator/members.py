"""The members of a family: a flow of many tables, or of many files, is one flow for each of them.

    choice     `--select` and `--exclude` take some of them
    settings   those of a pattern or of one member are merged into those of the flow
    names      one of its own in the store: `rename` and `names` may give it another
    places     no two of them may be written to one place

A flow is called by the name that its member has at the source, so that another name in the store
leaves the flow what it is. A place is made of a member's own name alone, so that it stays the same
when other members come and go. A word of a path keeps `a-z`, `0-9`, `_` and `-`. A name with
another letter, or with a capital where the source distinguishes `Users` from `users`, ends in eight
digits of its hash, and so does the flow's name where it cannot have a letter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from hygge.config import connectors
from hygge.config.checks import Places
from hygge.config.problems import Problem, paragraph
from hygge.config.selection import is_pattern
from hygge.config.selection import takes as takes_word
from hygge.config.specs import EndSpec, FlowSpec, Tables
from hygge.config.tables import WORD, override_of, patterns_of, single_names
from hygge.connectors.databases.connection import connection_url
from hygge.connectors.databases.known import database_of
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.names import fault_of
from hygge.errors import ConfigError, one_of
from hygge.shape.names import snake

_LONGEST_NAME = 100
_LONGEST_WORD = 80
_HASHED = re.compile(r"-[0-9a-f]{8}")


class Member(Protocol):
    """A table of a database, or a file of a folder."""

    @property
    def schema(self) -> str:
        """The schema of a table; the folder of a file, "" for the folder of the pattern."""
        ...

    @property
    def name(self) -> str: ...

    @property
    def text(self) -> str:
        """For people, and what patterns are compared with."""
        ...


Kind = TypeVar("Kind", bound=Member)


@dataclass(frozen=True)
class Family(Generic[Kind]):
    """All members that the patterns of a flow take, and what its settings say of them."""

    spec: FlowSpec
    members: Sequence[Kind]
    named: Callable[[str], Kind | None]
    """Returns the member of exactly this name, as settings write it."""
    takes: Callable[[str, Kind], bool]
    """Whether a pattern of settings takes a member."""
    full: Callable[[str], str]
    """Returns a name or a pattern of settings as `text` writes it."""
    is_cased: bool
    """Whether the source distinguishes `Users` from `users`, which many disks do not."""
    was_there: Callable[[str], bool] = lambda name: False
    """Whether a name or pattern of settings takes a member of an earlier run."""

    @property
    def tables(self) -> Tables:
        assert self.spec.tables is not None  # it is made only then
        return self.spec.tables

    @property
    def noun(self) -> str:
        return self.tables.of.removesuffix("s")

    def check_settings(self) -> None:
        """Raise ConfigError for settings of a member, or of a pattern, that is not there."""
        texts = [member.text for member in self.members]
        for name in (*single_names(self.tables), *self.tables.rename):
            if self.named(name) not in self.members and not self.was_there(name):
                own = self.tables.overrides.get(name, self.spec)
                hint = one_of(self.tables.of, self.full(name), texts)
                raise problem(own, f"no pattern takes the {self.noun} '{name}'", hint)
        for pattern in patterns_of(self.tables):
            taken = any(self.takes(pattern, member) for member in self.members)
            if not taken and not self.was_there(pattern):
                raise problem(
                    self.tables.overrides[pattern],
                    f"'{pattern}' of `{self.tables.of}:` matches none of the {self.tables.of} that "
                    "the flow takes",
                    one_of(self.tables.of, self.full(pattern), texts),
                )

    def selected(self) -> list[Kind]:
        """Return the members that `--select` takes and `--exclude` does not."""
        taken = list(self.members)
        if self.tables.selected:
            taken = self._matching(self.tables.selected)
        dropped = self._matching(self.tables.excluded)
        left = [member for member in taken if member not in dropped]
        if not left:
            name = self.spec.name
            raise problem(self.spec, f"--exclude leaves no {self.noun} of it", f"--exclude {name}")
        return left

    def _matching(self, patterns: Sequence[str]) -> list[Kind]:
        """Return the members that the words of an option take; ConfigError where none is so."""
        matches: list[Kind] = []
        for pattern in patterns:
            found = [member for member in self.members if self._goes_by(member, pattern)]
            if not found and not is_pattern(pattern):
                raise self._missing(pattern)
            matches += found
        if patterns and not matches:
            raise self._missing(patterns[0])
        return [member for member in self.members if member in matches]

    def _missing(self, name: str) -> ConfigError:
        names = [_dotted(member) for member in self.members]
        hint = one_of(self.tables.of, name, names)
        return problem(self.spec, f"it has no {self.noun} '{name}'", hint)

    def _goes_by(self, member: Kind, pattern: str) -> bool:
        """Return whether a name or pattern of an option takes a member.

        Reports show a long name cut, and folders one with strange letters hashed: both are taken.
        """
        by_flow = flow_name(self.spec.name, member).removeprefix(f"{self.spec.name}.")
        words = (member.schema, member.name) if member.schema else (member.name,)
        by_place = ".".join(path_word(word, self.is_cased) for word in words)
        names = (member.text, _dotted(member), by_flow, by_place)
        return any(takes_word(pattern, name) for name in names)

    def flow_of(self, member: Kind, settings: Mapping[str, object], kind: str = "") -> FlowSpec:
        """Return the flow of one member; `settings` are those of its home over the family's.

        Raises ConfigError where the store cannot have its name.
        """
        found, columns = override_of(
            self.tables,
            lambda name: self.named(name) == member,
            lambda pattern: self.takes(pattern, member),
        )
        own = found or self.spec
        home = replace(
            own.home, kind=kind or own.home.kind, settings={**own.home.settings, **settings}
        )
        new = self._new_names(member)
        renamed = ""
        if new != (member.schema, member.name):
            is_same = new[0] == member.schema
            shown = new[1] if is_same else ".".join(filter(None, new))
            renamed = f"{member.name if is_same else member.text} is named {shown} in the store"
        return replace(
            own, name=flow_name(self.spec.name, member), of=self.spec.name, tables=None,
            depends_on=(), columns=columns, home=home, store=self._store_of(own.store, member, new),
            renamed=renamed,
        )  # fmt: skip

    def _new_names(self, member: Kind) -> tuple[str, str]:
        """Return the schema and the name that a member has in the store."""
        schema, name = member.schema, member.name
        if self.tables.names == "snake":
            schema, name = snake(schema), snake(name)
        for old, new in self.tables.rename.items():
            if self.named(old) != member:
                continue
            above, separator, below = (
                new.partition(".") if self.noun == "table" else new.rpartition("/")
            )
            return (above, below) if separator else (schema, new)
        return schema, name

    def _store_of(self, store: EndSpec, member: Kind, new: tuple[str, str]) -> EndSpec:
        """Return the store with the member's names in the place of `{schema}` and `{table}`."""
        keys = self.tables.words
        texts = [value for value in store.settings.values() if isinstance(value, str)]
        if not new[0] and any(keys[0] in WORD.findall(text) for text in texts):
            raise problem(
                self.spec,
                f"'{{{keys[0]}}}' of the store means nothing for {member.text}, which lies in no "
                "folder below that of the pattern",
                f"take {{{keys[0]}}} out, or take files in folders alone: `*/*` in the pattern",
            )
        # A name that somebody chose is taken as it is; whether two are one, the places tell.
        is_cased = [
            self.is_cased and name == old
            for name, old in zip(new, (member.schema, member.name), strict=True)
        ]
        above = new[0].split("/") if self.noun == "file" else [new[0]]
        words = {
            keys[0]: "/".join(path_word(word, is_cased[0]) for word in above),
            keys[1]: path_word(new[1], is_cased[1]),
        }
        settings = {
            key: _fill(value, words) if isinstance(value, str) and key != "connection" else value
            for key, value in store.settings.items()
        }
        if store.kind == "sql" and "table" in store.settings:
            names = dict(zip(keys, new, strict=True))
            settings["table"] = _table_setting(store, names, member.text)
        name = None if store.name is None else _fill(store.name, words)
        return replace(store, name=name, settings=settings)

    def check_places(
        self, flow_of: Callable[[Kind], FlowSpec], flows: Sequence[FlowSpec], places: Places[str]
    ) -> None:
        """Add the places of all members to `places`; `flows` are those that will run.

        Raises ConfigError where one of these would be written to the place of another member or
        flow, inside it, or onto itself.
        """
        will_run = {flow.name for flow in flows}
        own: dict[str, str] = {}
        for member in self.members:
            name = flow_name(self.spec.name, member)
            try:
                home, store = connectors.build(flow := flow_of(member))
            except ConfigError:
                if name not in will_run:
                    continue  # it is said when that one runs
                raise
            if home.holds(store) and name in will_run:
                text = f"{store.describe()} would be written onto itself"
                raise problem(self.spec, text, None)
            place = store.place() or repr((flow.store.kind, flow.store.name, flow.store.settings))
            first = places.user_of(store, place) or own.get(place) or name
            places.add(place, name)
            own[place] = name
            if first != name and will_run & {first, name}:
                raise problem(
                    self.spec,
                    f"'{first}' and '{name}' would come to one place, {store.describe()}",
                    self._hint_for_place(first, name),
                )
        for place, name in own.items():
            parts = place.split("/")
            for end in range(1, len(parts)):
                other = own.get("/".join(parts[:end]))
                if other is not None and will_run & {name, other}:
                    raise problem(
                        self.spec,
                        f"'{name}' would be written into the place of '{other}', which is replaced "
                        "as a whole",
                        self._rename_hint(name),
                    )

    def _hint_for_place(self, first: str, name: str) -> str:
        """Return what to do about two that come to one place."""
        by_flow = {flow_name(self.spec.name, member): member for member in self.members}
        group = self.tables.words[0]
        texts = [text for text in self.spec.store.settings.values() if isinstance(text, str)]
        has_group = any(group in WORD.findall(text) for text in texts)
        if first not in by_flow or (
            by_flow[first].schema != by_flow[name].schema and not has_group
        ):
            return f"put {{{group}}} into the store's place, or give it another one"
        return self._rename_hint(name)

    def _rename_hint(self, name: str) -> str:
        text = next(m.text for m in self.members if flow_name(self.spec.name, m) == name)
        return f"give one of them another name, under `home:`: rename: {{{text}: another}}"


def problem(spec: FlowSpec, text: str, hint: str | None) -> ConfigError:
    """Return the error of a flow, with its line."""
    return ConfigError(paragraph(spec.file, Problem(spec.line, text), spec.name_in_file), hint)


def flow_name(flow: str, member: Member) -> str:
    """Return the unique name of a member's flow: `<flow>.<schema>.<table>`, `<flow>.<file>`.

    Letters that no flow's name may have, and names over 100 letters, become a part of a hash.
    """
    name = f"{flow}.{_dotted(member)}"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}-{_hash(member.text + name)}"


def path_word(name: str, is_cased: bool = True) -> str:
    """Return a member's name as a unique word of a path that every disk can hold.

    `is_cased`: the source distinguishes `Users` from `users`, which many disks do not.
    """
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-").lstrip("_-") or "t"
    is_safe = name == safe and len(name) <= _LONGEST_WORD
    is_ambiguous = (is_cased and name != name.lower()) or _HASHED.search(name[-9:])
    if is_safe and not is_ambiguous:
        return name
    return f"{safe[:_LONGEST_WORD]}-{_hash(name)}"


def _dotted(member: Member) -> str:
    """Return the names of a member as the parts of a flow's name."""
    names = (member.schema, member.name) if member.schema else (member.name,)
    return ".".join(map(_name_part, names))


def _name_part(name: str) -> str:
    """Return a name as one part of a flow's name, which has dots between its parts."""
    if re.fullmatch(r"[\w-]+", name) and not _HASHED.search(name[-9:]):
        return name
    return re.sub(r"[^\w-]+", "_", name) + f"-{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _fill(text: str, words: Mapping[str, str]) -> str:
    """Return `text` with `{schema}` and `{table}` replaced by `words`."""
    return WORD.sub(lambda match: words.get(match[1], match[0]), text)


def _table_setting(store: EndSpec, names: Mapping[str, str], member: str) -> str:
    """Return the `table` of a SQLStore: each part filled, and quoted where it must be."""
    url = connection_url(store.settings.get("connection"), "SQLStore")
    setting = str(store.settings["table"])
    database = database_of(url)
    if not database.has_schemas:
        parts, unquoted = [_fill(setting, names)], r"\w+"
    else:
        schema, name = split_name(setting)
        parts = [_fill(part, names) for part in (schema, name) if part is not None]
        unquoted = r"[^.\"]+"
    for part in parts:
        fault = fault_of(database.names, part)
        if fault is not None:
            raise ConfigError(
                f"the name '{part}' that {member} would have in the store {fault}",
                "write `table` of the store otherwise, or leave this table out with `exclude`",
            )
    return ".".join(
        part if re.fullmatch(unquoted, part) else '"' + part.replace('"', '""') + '"'
        for part in parts
    )
