"""A flow of many tables or files is opened: what it takes now, and what it no longer has.

The state keeps the names that the last run found, so that the next one can say which table or file
is gone: its rows stay in the store, and nothing moves any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from hygge.config import lakes
from hygge.config.checks import Places
from hygge.config.connectors import build
from hygge.config.specs import EndSpec, FlowSpec
from hygge.errors import HyggeError
from hygge.journal.entries import Facts, decode, encode
from hygge.places.names import file_name
from hygge.places.place import Place

_KIND = "family"
_KEPT_FOR = timedelta(days=30)
_NAMED = 5
Readers = Callable[[Sequence[FlowSpec]], int]
"""Returns how many lanes of such flows may read at once."""


@dataclass
class Seen:
    """The names of a family's members that the runs of the last weeks found."""

    place: Place
    identity: str
    found: dict[str, str]
    """Name → when a run found it last."""
    last: str
    """When the last run was; "": there was none."""

    def gone(self, now: Sequence[str]) -> list[str]:
        """Return the names that the last run found, and that are not among those of `now`."""
        return [name for name, when in self.found.items() if when == self.last and name not in now]

    def was_there(self, pattern: str) -> bool:
        """Return whether a name or pattern takes one that was found."""
        return any(name == pattern or fnmatchcase(name, pattern) for name in self.found)

    def note(self, names: Sequence[str]) -> None:
        """Note what this run finds."""
        now = datetime.now(UTC)
        since = (now - _KEPT_FOR).isoformat()
        kept = {name: when for name, when in self.found.items() if when > since}
        facts: Facts = {
            "last": now.isoformat(),
            "found": kept | dict.fromkeys(names, now.isoformat()),
        }
        self.place.put(_key(self.identity), encode(_KIND, self.identity, facts))


def seen_at(place: Place, identity: str) -> Seen:
    """Return what the runs before have found; nothing where the state does not answer."""
    with suppress(HyggeError):  # each flow reports that its state cannot be reached
        content = place.get(_key(identity))
        if content is not None:
            where = f"{place.describe().rstrip('/')}/{_key(identity)}"
            facts = decode(content, _KIND, identity, where)
            return Seen(place, identity, dict(facts["found"]), str(facts["last"]))
    return Seen(place, identity, {}, "")


def _key(identity: str) -> str:
    return f"families/{file_name(identity)}.json"


@contextmanager
def open_family(
    spec: FlowSpec,
    all_flows: Sequence[FlowSpec],
    seen: Seen,
    places: Places[str],
    readers: Readers | None,
    say: Callable[[str], None],
) -> Iterator[tuple[FlowSpec, ...]]:
    """Return the flows of the members of `spec`; what they share is held until it is closed.

    The places of `all_flows`, and of the members, are added to `places`. `readers` is None where no
    row will be read: then nothing is noted. `say` is told what a person should know.
    Raises SourceMissing, ConfigError and what the source raises.
    """

    def look(names: Sequence[str]) -> None:
        gone = seen.gone(names)
        if gone:
            more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
            say(
                f"no longer at the source: {', '.join(gone[:_NAMED])}{more}; what was moved of it "
                "stays in the store"
            )
        if readers is not None:
            with suppress(HyggeError):  # each flow reports that its state cannot be reached
                seen.note(names)

    _add_places(spec, all_flows, places)
    assert spec.tables is not None  # it is called only then
    opened: AbstractContextManager[tuple[FlowSpec, ...]]
    if spec.tables.of == "files":
        from hygge.coordinator.files import open_files

        opened = open_files(spec, places, seen.was_there, say, look)
    elif spec.home.kind == lakes.KIND:
        from hygge.coordinator.lakes import open_lake

        opened = open_lake(spec, places, look)
    else:
        from hygge.coordinator.tables import open_tables  # loads SQLAlchemy

        opened = open_tables(spec, seen.identity, places, readers or (lambda flows: 1), look)
    with opened as flows:
        yield flows


def check_files(spec: FlowSpec) -> None:
    """Raise what opening a flow of many files raises, as far as their names and settings tell."""
    from hygge.coordinator.files import open_files

    with open_files(spec, Places(), lambda name: True, lambda text: None, lambda names: None):
        pass


def _places_of(spec: FlowSpec) -> dict[str, str]:
    """Return where the members of `spec` are written: place → name of the member's flow."""
    assert spec.tables is not None  # it is called only then
    if spec.tables.of == "files":
        from hygge.coordinator import files

        return files.places_of(spec)
    if spec.home.kind == lakes.KIND:
        from hygge.coordinator.lakes import places_of

        return places_of(spec)
    from hygge.coordinator import tables  # loads SQLAlchemy

    return tables.places_of(spec)


def _add_places(spec: FlowSpec, all_flows: Sequence[FlowSpec], places: Places[str]) -> None:
    """Add the places of all flows of the file.

    Where two flows meet, the one that is first in the file has the place, in every process.
    """
    comes_before = True
    for flow in all_flows:
        comes_before = comes_before and flow.name != spec.name
        with suppress(HyggeError):  # that flow reports it itself
            if flow.tables is None:
                if (place := build(flow)[1].place()) is not None:
                    places.add(place, flow.name)
            elif comes_before and _have_same_places(flow.store, spec.store):
                for place, member in _places_of(flow).items():
                    places.add(place, member)


def _have_same_places(one: EndSpec, other: EndSpec) -> bool:
    """Return whether two stores write a table of the same name to the same place."""
    settings, other_settings = ({**end.settings, "options": None} for end in (one, other))
    return (one.kind, settings) == (other.kind, other_settings)
