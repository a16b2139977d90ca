"""Many tables of one flow: each becomes a flow of its own, and all are read as of one moment.

    catalog    what there is, asked when the flow begins; patterns take from it
    members    `shop.public.orders` and its sisters, each with a place of its own in the store
    snapshot   one for all of them, held until the last one ended, where the database can do that

A place is made of a table's name alone, so that it stays when other tables come and go. Words of a
path keep `a-z`, `0-9`, `_` and `-`; a name with anything else, or with a capital where the
database tells `Users` from `users`, keeps what it can and ends in eight digits of its hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from hygge.config import connectors
from hygge.config.problems import Wrong, paragraph
from hygge.config.specs import EndSpec, FlowSpec, Tables
from hygge.config.tables import WORD
from hygge.connectors.databases.connection import connection_url
from hygge.connectors.databases.known import database_of
from hygge.connectors.sql.catalog import Catalog, catalog_of, chosen
from hygge.connectors.sql.connection import shown, split_name
from hygge.connectors.sql.listing import Table
from hygge.errors import ConfigError, SourceMissing, Transient, one_of
from hygge.run.engines import backoff_s

_LONGEST_NAME = 100
_LONGEST_WORD = 80
_HASHED = re.compile(r"-[0-9a-f]{8}")
_TRIES = 3


@contextmanager
def opened(
    spec: FlowSpec,
    identity: str,
    places: dict[str, str],
    readers: Callable[[Sequence[FlowSpec]], int],
) -> Iterator[tuple[FlowSpec, ...]]:
    """The flows that the tables of `spec` come to; holds their snapshot until it is closed.

    `identity` names the session that holds it. `places` says which flow of the file writes where;
    those of the tables are added. `readers` says how many lanes of such flows may read at once,
    for which a database may need a session each. Raises SourceMissing or ConfigError.
    """
    with contextlib.ExitStack() as stack:
        for left in reversed(range(_TRIES)):
            there, taken = _taken(spec)
            members = tuple(_member(spec, there, table) for table in taken)
            _check_places(spec, members, places)
            try:
                names = [there.setting(each) for each in taken if each.readable]
                snapshot, apart = _held(stack, spec, identity, names, partial(readers, members))
                break
            except (SourceMissing, Transient):  # a table was dropped in this moment, or is locked
                if not left:
                    raise
                time.sleep(backoff_s(_TRIES - left))
        yield tuple(replace(each, snapshot=snapshot, apart=apart) for each in members)


def places_of(spec: FlowSpec) -> dict[str, str]:
    """Where the tables of `spec` come to → which of them; raises what its catalog raises."""
    there, taken = _taken(spec)
    found = {}
    for each in taken:
        member = _member(spec, there, each)
        place = connectors.build(member)[1].place()
        if place is not None:
            found[place] = member.name
    return found


def _taken(spec: FlowSpec) -> tuple[Catalog, list[Table]]:
    tables = spec.tables
    assert tables is not None  # asked only then
    url = connection_url(spec.home.settings.get("connection"), "SQLHome")
    there = catalog_of(database_of(url), url, tables.include)
    taken = chosen(there, tables.include, tables.exclude, tables.views)
    names = [each.text for each in taken]
    for written, own in tables.alone.items():
        if there.named(written) not in taken:
            hint = one_of("tables", ".".join(there.full(written)), names)
            raise _problem(own, f"no pattern takes the table '{written}'", hint)
    return there, _selected(spec, tables, taken)


def _selected(spec: FlowSpec, tables: Tables, taken: list[Table]) -> list[Table]:
    if not tables.only:
        return taken
    by_name = {f"{_word(t.schema)}.{_word(t.name)}": t for t in taken}
    by_text = {each.text: each for each in taken}
    kept = []
    for name in tables.only:
        # A long name was cut, and a strange one was hashed; both stand in reports.
        table = by_text.get(name) or by_name.get(name)
        cut = [t for t in taken if member_name(spec.name, t) == f"{spec.name}.{name}"]
        if table is None and not cut:
            raise _problem(spec, f"it has no table '{name}'", one_of("tables", name, [*by_name]))
        kept.append(table or cut[0])
    return [each for each in taken if each in kept]


def member_name(flow: str, table: Table) -> str:
    """`<flow>.<schema>.<table>`, in letters that a flow's name may have; no two are the same."""
    name = f"{flow}.{_word(table.schema)}.{_word(table.name)}"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}-{_hash(table.text + name)}"


def _member(spec: FlowSpec, there: Catalog, table: Table) -> FlowSpec:
    assert spec.tables is not None
    own = next((o for w, o in spec.tables.alone.items() if there.named(w) == table), spec)
    home = replace(own.home, settings={**own.home.settings, "table": there.setting(table)})
    return replace(
        own, name=member_name(spec.name, table), of=spec.name, tables=None, depends_on=(),
        home=home, store=_placed(own.store, there, table),
    )  # fmt: skip


def _placed(store: EndSpec, there: Catalog, table: Table) -> EndSpec:
    """The store with the table's names in the place of `{schema}` and `{table}`."""
    cased = there.database.is_cased
    safe = {"schema": file_word(table.schema, cased), "table": file_word(table.name, cased)}

    def filled(text: str) -> str:
        return WORD.sub(lambda match: safe.get(match[1], match[0]), text)

    settings = {
        key: filled(value) if isinstance(value, str) and key != "connection" else value
        for key, value in store.settings.items()
    }
    if store.kind == "sql" and "table" in store.settings:
        settings["table"] = _table(store, table)
    name = None if store.name is None else filled(store.name)
    return replace(store, name=name, settings=settings)


def _table(store: EndSpec, table: Table) -> str:
    """The `table` of a SQLStore: each part with its words, in quotes where it needs them."""
    url = connection_url(store.settings.get("connection"), "SQLStore")
    names = {"schema": table.schema, "table": table.name}

    def filled(text: str) -> str:
        return WORD.sub(lambda match: names.get(match[1], match[0]), text)

    written = str(store.settings["table"])
    database = database_of(url)
    if database.is_file:
        parts, plain = [filled(written)], r"\w+"
    else:
        schema, name = split_name(written)
        parts, plain = [filled(each) for each in (schema, name) if each is not None], r"[^.\"]+"
    longest = database.longest_name_bytes
    for each in parts:
        if longest and len(each.encode()) > longest:
            raise ConfigError(
                f"the table '{each}' would have a name of {len(each.encode())} bytes in the store, "
                f"and {longest} are possible",
                "make the `table` of the store shorter, or leave this table out with `exclude`",
            )
    return ".".join(
        each if re.fullmatch(plain, each) else '"' + each.replace('"', '""') + '"' for each in parts
    )


def file_word(name: str, cased: bool = True) -> str:
    """A table's name as a word of a path: safe on every disk, and of no other table.

    `cased`: whether the database tells `Users` from `users`, which many a disk does not.
    """
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-").lstrip("_-") or "t"
    plain = name == kept and not (cased and name != name.lower()) and len(name) <= _LONGEST_WORD
    if plain and not _HASHED.search(name[-9:]):
        return name
    return f"{kept[:_LONGEST_WORD]}-{_hash(name)}"


def _word(name: str) -> str:
    """A name as a part of a flow's name, which has dots between its parts."""
    if re.fullmatch(r"[\w-]+", name) and not _HASHED.search(name[-9:]):
        return name
    return re.sub(r"[^\w-]+", "_", name) + f"-{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _check_places(spec: FlowSpec, members: Sequence[FlowSpec], places: dict[str, str]) -> None:
    """Raise ConfigError where a table would come to where another is, or to where it came from."""
    for each in members:
        home, store = connectors.build(each)
        if home.holds(store):
            raise _problem(spec, f"{store.describe()} would be written onto itself", None)
        place = store.place()
        first = each.name if place is None else places.setdefault(place, each.name)
        if first != each.name:
            raise _problem(
                spec,
                f"'{first}' and '{each.name}' would come to one place, {store.describe()}",
                "put {schema} into the store's place, or give it another one",
            )


def _held(
    stack: contextlib.ExitStack,
    spec: FlowSpec,
    identity: str,
    names: list[str],
    readers: Callable[[], int],
) -> tuple[str | None, str]:
    """The one snapshot, if there can be one, and why there is none, if that is not for all to see.

    `names`: what this user may not read fails by itself, and not all the others with it.
    """
    url = connection_url(spec.home.settings.get("connection"), "SQLHome")
    options = spec.home.settings.get("options") or {}
    if options.get("consistency", "snapshot") != "snapshot":
        return None, ""
    verbs = database_of(url).snapshots()
    if verbs is None:
        return None, ""
    return stack.enter_context(verbs.held(url, shown(url), identity, names, readers))


def _problem(spec: FlowSpec, text: str, hint: str | None) -> ConfigError:
    return ConfigError(paragraph(spec.file, Wrong(spec.line, text), spec.root), hint)
