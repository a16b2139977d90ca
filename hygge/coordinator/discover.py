"""What a connection, a URL, a folder or a bucket has: `hygge discover`. It writes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hygge.config.hidden import Hidden
from hygge.config.named import Named, connections_of
from hygge.config.paths import is_bucket_url
from hygge.config.written import (
    as_yaml,
    as_yaml_word,
    connection_name,
    flow_name,
    with_variables,
)
from hygge.connectors.databases.discovery import describe_tables, list_tables
from hygge.connectors.databases.known import SERVER, database_in
from hygge.connectors.files.discovery import data_sets
from hygge.connectors.sql.catalog import chosen
from hygge.connectors.sql.connection import shown
from hygge.connectors.sql.listing import TableFacts
from hygge.errors import UsageError, nearest
from hygge.places.names import expanded
from hygge.places.objects import is_object_url
from hygge.report.discover import Found


@dataclass(frozen=True)
class Place:
    """What a word of the command line means."""

    url: str = field(repr=False)
    """The URL of a database, or the path of files; empty for a catalog."""
    is_database: bool
    named: Named | None = None


def find_place(what: str, file: str) -> Place:
    """Return what `what` means: a URL, a path, the file of a database, or a connection of `file`.

    Raises UsageError with the nearest name where it is none of these.
    """
    if "://" in what:
        return Place(what, not is_bucket_url(what))
    path = expanded(what, "hygge discover")
    if os.path.exists(path):
        if os.path.isfile(path) and (database := database_in(path)):
            return Place(f"{database.backends[0]}:///{path}", True)
        return Place(path, False)
    names = connections_of(file) if os.path.exists(file) else {}
    if what in names:
        url = names[what].url
        return Place(url, not is_object_url(url), names[what])
    beside = sorted(os.listdir(os.path.dirname(path) or "."))
    close = nearest(what, [*names, *(os.path.join(os.path.dirname(what), one) for one in beside)])
    hint = f"did you mean '{close}'?\n" if close else ""
    hint += f"connections of {file}: {', '.join(names)}" if names else f"{file} has no connections"
    raise UsageError(
        f"'{what}' is no file or folder, no URL, and no connection of {file}",
        f"{hint}; or give a URL ({SERVER.example}, s3://bucket/prefix), or --file",
    )


def discover(
    place: Place, include: Sequence[str], exclude: Sequence[str], views: bool, count: bool
) -> Found:
    """Return what there is at a place. Raises SourceMissing, or HomeError where it cannot be read.

    `include` and `exclude` are patterns of tables or files, `views` takes views as well, and
    `count` counts the rows of every table.
    """
    hidden = Hidden()
    if place.named is not None and place.named.catalog is not None:
        return _in_catalog(place.named, place.named.catalog, include, exclude, hidden)
    if not place.is_database:
        files = data_sets(place.url, include, exclude)
        named = place.named
        return Found(
            str(place.url), files=tuple(files), name=named.name if named else "",
            written=hidden.connection(named) if named else None, variables=hidden.variables,
        )  # fmt: skip
    catalog, tables, url = list_tables(place.url, include, exclude, views)
    facts = describe_tables(url, tables, count)
    taken = {table.schema for table in tables}
    others = {table.schema for table in catalog.tables} - taken
    left_out = sum(table.view and table.schema in taken for table in catalog.tables)
    if place.named is not None:
        name, written = place.named.name, hidden.connection(place.named)
    else:
        name = connection_name(place.url)
        written = hidden.url(place.url, name)
    return Found(
        shown(url), tuple(facts), is_database=True, default_schema=catalog.default,
        other_schemas=tuple(sorted(others)), views=0 if views else left_out, name=name,
        patterns=tuple(include), excluded=tuple(exclude), written=written,
        variables=hidden.variables,
    )  # fmt: skip


def _in_catalog(
    named: Named,
    catalog: Mapping[str, str],
    include: Sequence[str],
    exclude: Sequence[str],
    hidden: Hidden,
) -> Found:
    """Return the tables of a catalog of Iceberg."""
    from hygge.connectors.iceberg.lake import Lake
    from hygge.connectors.iceberg.listing import facts_about, tables_in

    lake = Lake(catalog, "")
    listed = tables_in(lake, include or ["*.*"])
    tables = chosen(listed, include or ["*.*"], exclude, False) if listed.tables else []
    return Found(
        listed.who, tuple(facts_about(lake, tables)), is_database=True, name=named.name,
        patterns=tuple(include), excluded=tuple(exclude), written=hidden.connection(named),
        variables=hidden.variables,
    )  # fmt: skip


def flows_yaml(found: Found, views: bool) -> str:
    """Return a flows.yml that moves all of it into Parquet below `lake`; `plan` accepts it."""
    if found.is_database:
        return _yaml_of_tables(found, views)
    parts: dict[str, object] = {}
    if found.written is not None:
        parts["connections"] = {found.name: found.written}
    flows: dict[str, object] = {}
    target = _target(found.what)
    for each in found.files:
        if each.is_readable:
            name = flow_name(re.sub(r"\.[A-Za-z0-9.]+$|/\*.*$", "", each.name).replace("/", "_"))
            while name in flows:
                name += f"_{each.kind}"
            path = with_variables(str(each.path))
            home: object = path
            if is_bucket_url(each.path) and found.written is not None:
                home = {"connection": found.name, "path": path}
            flows[name] = {"home": home, "store": f"{target}/{name}"}
    parts["flows"] = flows
    return as_yaml(parts)


def _target(path: str) -> str:
    """Return a folder that is not inside of `path`, for what is moved from there."""
    source, here = os.path.abspath(path), os.getcwd()
    is_beside = is_bucket_url(path) or not f"{here}/lake/".startswith(f"{source.rstrip('/')}/")
    if is_beside:
        return "lake"
    return "copies" if source == os.path.join(here, "lake") else f"{os.path.dirname(source)}/lake"


def _yaml_of_tables(found: Found, views: bool) -> str:
    readable = [facts for facts in found.tables if facts.table.readable]
    schemas = list(dict.fromkeys(facts.table.schema for facts in readable))
    home: dict[str, object] = {"connection": found.name}
    patterns = list(found.patterns) or [f"{schema}.*" for schema in schemas]
    home["tables"] = [with_variables(pattern) for pattern in patterns]
    refused = [_pattern_of(each) for each in found.tables if not each.table.readable]
    if found.excluded or refused:
        home["exclude"] = [with_variables(pattern) for pattern in (*found.excluded, *refused)]
    if views:
        home["views"] = True
    place = "{schema}/{table}" if schemas != [found.default_schema] else "{table}"
    flow = {"home": home, "store": f"lake/{flow_name(found.name)}/{place}"}
    text = as_yaml({"connections": {found.name: found.written}, "flows": {found.name: flow}})
    with_cursor = [facts for facts in readable if facts.cursors and facts.key]
    if with_cursor:
        text += (
            "    # Each run replaces the tables. A cursor moves only what is new:\n    # tables:\n"
        )
        for facts in with_cursor:
            name = as_yaml_word(_pattern_of(facts))  # a key: no variable is looked for in it
            cursor = as_yaml_word(with_variables(facts.cursors[0]))
            text += f"    #   {name}: {{cursor: {cursor}, mode: append}}\n"
    return text


def _pattern_of(facts: TableFacts) -> str:
    """Return a pattern that takes exactly this table."""
    return re.sub(r"([*?\[])", r"[\1]", facts.table.text)
