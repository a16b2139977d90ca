"""A flow of many tables: each table becomes a flow of its own, and all are read at one moment.

    catalog    the tables that the connection has when the flow begins; patterns choose from it
    flows      one a table, such as `shop.public.orders`, each with its own place in the store
    snapshot   one for all of them, held until the last has ended, where the database can do that

A place is made of a table's own name alone, so that it stays the same when other tables come and
go. A word of a path keeps `a-z`, `0-9`, `_` and `-`. A name with another letter, or with a capital
where the database distinguishes `Users` from `users`, ends in eight digits of its hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from hygge.config import connectors
from hygge.config.checks import Places
from hygge.config.problems import Problem, paragraph
from hygge.config.selection import is_pattern
from hygge.config.selection import takes as takes_table
from hygge.config.specs import EndSpec, FlowSpec, Tables
from hygge.config.tables import WORD, override_of, patterns_of, single_names
from hygge.connectors.databases.connection import connection_url
from hygge.connectors.databases.known import database_of
from hygge.connectors.sql.catalog import Catalog, catalog_of, chosen, takes
from hygge.connectors.sql.connection import shown, split_name
from hygge.connectors.sql.listing import Table
from hygge.connectors.sql.names import fault_of
from hygge.coordinator.fitting import fitted
from hygge.errors import ConfigError, SourceMissing, Transient, one_of
from hygge.run.engines import backoff_s
from hygge.run.stall import StallGuard

_LONGEST_NAME = 100
_LONGEST_WORD = 80
_HASHED = re.compile(r"-[0-9a-f]{8}")
_TRIES = 3


@contextmanager
def open_tables(
    spec: FlowSpec,
    identity: str,
    places: Places[str],
    readers: Callable[[Sequence[FlowSpec]], int],
) -> Iterator[tuple[FlowSpec, ...]]:
    """Return the flows of the tables of `spec`; their snapshot is held until it is closed.

    `identity` names the session that holds the snapshot. `places` maps the place of a store to the
    flow of the file that writes there; the places of the tables are added. `readers` returns how
    many lanes of such flows may read at once, as a database may need a session for each.
    Raises SourceMissing or ConfigError.
    """
    guard = StallGuard(spec.limits, lambda text: None)
    with contextlib.ExitStack() as stack:
        for tries_left in reversed(range(_TRIES)):
            flows, tables, catalog = guard.call(
                f"the connection of '{spec.name}' (the list of its tables)",
                lambda: _find_flows(spec),
            )
            _check_places(spec, flows, places)
            try:
                names = [catalog.setting(table) for table in tables if table.readable]
                snapshot, reason = guard.call(
                    f"the connection of '{spec.name}' (the snapshot of its tables)",
                    partial(_hold_snapshot, stack, spec, identity, names, partial(readers, flows)),
                )
                break
            except (SourceMissing, Transient):  # a table was dropped just now, or is locked
                if not tries_left:
                    raise
                time.sleep(backoff_s(_TRIES - tries_left))
        yield tuple(replace(flow, snapshot=snapshot, no_snapshot_reason=reason) for flow in flows)


def _find_flows(spec: FlowSpec) -> tuple[tuple[FlowSpec, ...], list[Table], Catalog]:
    """Return the flows of the tables of `spec`, the tables, and the catalog that has them."""
    catalog, tables = _find_tables(spec)
    flows = [_flow_of(spec, catalog, table) for table in tables]
    url = connection_url(spec.home.settings.get("connection"), "SQLHome")
    names = [(table.schema, table.name) for table in tables]
    is_whole = spec.tables is None or not (spec.tables.selected or spec.tables.excluded)
    return tuple(fitted(flows, url, names, is_whole)), tables, catalog


def places_of(spec: FlowSpec) -> dict[str, str]:
    """Return where the tables of `spec` are written: place → name of the table's flow.

    Raises what the catalog of its connection raises.
    """
    catalog, tables = _find_tables(spec)
    places = {}
    for table in tables:
        flow = _flow_of(spec, catalog, table)
        place = connectors.build(flow)[1].place()
        if place is not None:
            places[place] = flow.name
    return places


def _find_tables(spec: FlowSpec) -> tuple[Catalog, list[Table]]:
    """Return the catalog of the connection, and the tables of it that `spec` takes."""
    wanted = spec.tables
    assert wanted is not None  # it is called only then
    url = connection_url(spec.home.settings.get("connection"), "SQLHome")
    catalog = catalog_of(database_of(url), url, wanted.include)
    tables = chosen(catalog, wanted.include, wanted.exclude, wanted.views)
    names = [table.text for table in tables]
    for name in single_names(wanted):
        if catalog.named(name) not in tables:
            hint = one_of("tables", ".".join(catalog.full(name)), names)
            raise _problem(wanted.overrides[name], f"no pattern takes the table '{name}'", hint)
    for pattern in patterns_of(wanted):
        if not any(takes(catalog, pattern, table) for table in tables):
            raise _problem(
                wanted.overrides[pattern],
                f"'{pattern}' of `tables:` matches none of the tables that the flow takes",
                one_of("tables", ".".join(catalog.full(pattern)), names),
            )
    return catalog, _select(spec, wanted, tables)


def _select(spec: FlowSpec, wanted: Tables, tables: list[Table]) -> list[Table]:
    """Return those of `tables` that `--select` takes and `--exclude` does not."""
    taken = tables
    if wanted.selected:
        taken = _matching(spec, wanted.selected, tables)
    dropped = _matching(spec, wanted.excluded, tables)
    left = [table for table in taken if table not in dropped]
    if not left:
        raise _problem(spec, "--exclude leaves no table of it", f"--exclude {spec.name}")
    return left


def _matching(spec: FlowSpec, patterns: Sequence[str], tables: list[Table]) -> list[Table]:
    """Return the tables that the words of an option take; ConfigError where none is like one."""
    matches: set[Table] = set()
    for pattern in patterns:
        found = {table for table in tables if _goes_by(spec, table, pattern)}
        if not found and not is_pattern(pattern):
            raise _no_table(spec, pattern, tables)
        matches |= found
    if patterns and not matches:
        raise _no_table(spec, patterns[0], tables)
    return [table for table in tables if table in matches]


def _no_table(spec: FlowSpec, name: str, tables: Sequence[Table]) -> ConfigError:
    names = [f"{_name_part(table.schema)}.{_name_part(table.name)}" for table in tables]
    return _problem(spec, f"it has no table '{name}'", one_of("tables", name, names))


def _goes_by(spec: FlowSpec, table: Table, pattern: str) -> bool:
    """Return whether a name or pattern takes a table.

    Reports show a long name cut, and one with strange letters hashed; both are taken as well.
    """
    by_flow = flow_name(spec.name, table).removeprefix(f"{spec.name}.")
    by_name = f"{_name_part(table.schema)}.{_name_part(table.name)}"
    return any(takes_table(pattern, name) for name in (table.text, by_name, by_flow))


def flow_name(flow: str, table: Table) -> str:
    """Return the unique name of a table's flow: `<flow>.<schema>.<table>`.

    Letters that no flow's name may have, and names over 100 letters, become a part of a hash.
    """
    name = f"{flow}.{_name_part(table.schema)}.{_name_part(table.name)}"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}-{_hash(table.text + name)}"


def _flow_of(spec: FlowSpec, catalog: Catalog, table: Table) -> FlowSpec:
    """Return the flow of one table."""
    assert spec.tables is not None
    found, columns = override_of(
        spec.tables,
        lambda name: catalog.named(name) == table,
        lambda pattern: takes(catalog, pattern, table),
    )
    own = found or spec
    home = replace(own.home, settings={**own.home.settings, "table": catalog.setting(table)})
    return replace(
        own, name=flow_name(spec.name, table), of=spec.name, tables=None, depends_on=(),
        columns=columns, home=home, store=_store_of(own.store, catalog, table),
    )  # fmt: skip


def _store_of(store: EndSpec, catalog: Catalog, table: Table) -> EndSpec:
    """Return the store with the table's names in the place of `{schema}` and `{table}`."""
    is_cased = catalog.database.is_cased
    words = {"schema": path_word(table.schema, is_cased), "table": path_word(table.name, is_cased)}
    settings = {
        key: _fill(value, words) if isinstance(value, str) and key != "connection" else value
        for key, value in store.settings.items()
    }
    if store.kind == "sql" and "table" in store.settings:
        settings["table"] = _table_setting(store, table)
    name = None if store.name is None else _fill(store.name, words)
    return replace(store, name=name, settings=settings)


def _fill(text: str, words: Mapping[str, str]) -> str:
    """Return `text` with `{schema}` and `{table}` replaced by `words`."""
    return WORD.sub(lambda match: words.get(match[1], match[0]), text)


def _table_setting(store: EndSpec, table: Table) -> str:
    """Return the `table` of a SQLStore: each part filled, and quoted where it must be."""
    url = connection_url(store.settings.get("connection"), "SQLStore")
    names = {"schema": table.schema, "table": table.name}
    setting = str(store.settings["table"])
    database = database_of(url)
    if database.is_file:
        parts, unquoted = [_fill(setting, names)], r"\w+"
    else:
        schema, name = split_name(setting)
        parts = [_fill(part, names) for part in (schema, name) if part is not None]
        unquoted = r"[^.\"]+"
    for part in parts:
        fault = fault_of(database.names, part)
        if fault is not None:
            raise ConfigError(
                f"the name '{part}' that {table.text} would have in the store {fault}",
                "write `table` of the store otherwise, or leave this table out with `exclude`",
            )
    return ".".join(
        part if re.fullmatch(unquoted, part) else '"' + part.replace('"', '""') + '"'
        for part in parts
    )


def path_word(name: str, is_cased: bool = True) -> str:
    """Return a table's name as a unique word of a path that every disk can hold.

    `is_cased`: the database distinguishes `Users` from `users`, which many disks do not.
    """
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-").lstrip("_-") or "t"
    is_safe = name == safe and len(name) <= _LONGEST_WORD
    is_ambiguous = (is_cased and name != name.lower()) or _HASHED.search(name[-9:])
    if is_safe and not is_ambiguous:
        return name
    return f"{safe[:_LONGEST_WORD]}-{_hash(name)}"


def _name_part(name: str) -> str:
    """Return a name as one part of a flow's name, which has dots between its parts."""
    if re.fullmatch(r"[\w-]+", name) and not _HASHED.search(name[-9:]):
        return name
    return re.sub(r"[^\w-]+", "_", name) + f"-{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _check_places(spec: FlowSpec, flows: Sequence[FlowSpec], places: Places[str]) -> None:
    """Add the places of `flows` to `places`.

    Raises ConfigError where a table would be written to the place of another, or onto itself.
    """
    for flow in flows:
        home, store = connectors.build(flow)
        if home.holds(store):
            raise _problem(spec, f"{store.describe()} would be written onto itself", None)
        place = store.place()
        if place is None:
            continue
        first = places.user_of(store, place) or flow.name
        places.add(place, flow.name)
        if first != flow.name:
            raise _problem(
                spec,
                f"'{first}' and '{flow.name}' would come to one place, {store.describe()}",
                "put {schema} into the store's place, or give it another one",
            )


def _hold_snapshot(
    stack: contextlib.ExitStack,
    spec: FlowSpec,
    identity: str,
    names: list[str],
    readers: Callable[[], int],
) -> tuple[str | None, str]:
    """Return the snapshot of all tables, or None, and why there is none where that is not obvious.

    `stack` holds it. `names` are the tables that this user may read: a table that may not be read
    fails alone, and not all others with it.
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
    return ConfigError(paragraph(spec.file, Problem(spec.line, text), spec.name_in_file), hint)
