"""`tables:` of a home: patterns of the tables to move, each of which becomes a flow of its own.

    home: {connection: shop, tables: ["public.*"], exclude: ["public.tmp_*"], views: true}
    store: data/lake/{schema}/{table}
    tables:
      "*": {types: {price: "decimal(12,2)"}}               # of every table that it matches
      public.orders: {key: [id], mode: merge}              # of one table

The database is not asked here: the Coordinator finds the tables when the flow begins. The settings
of a pattern and of one table are merged into those of the flow, and checked as a flow. Of several
patterns the first that matches a table counts, and what stands at the table itself comes over it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from hygge.config import connectors
from hygge.config.document import Node, merge
from hygge.config.ends import End
from hygge.config.problems import Problem, Problems, suggest
from hygge.config.shapes import COLUMNS_OF_ONE_TABLE
from hygge.config.specs import LIMIT_KEYS, EndSpec, FlowSpec, Tables

_HOME_KEYS = (
    "columns", "exclude", "where", "cursor", "lag", "split_by", "types", "max_bytes_per_second",
)  # fmt: skip
_FLOW_KEYS = (
    "mode", "key", "mask", "add", "names", "flatten", "transform", "on_value", "schema", "adopt",
    *LIMIT_KEYS,
)  # fmt: skip
_EXAMPLE = 'tables: ["public.*"]'
_OVER = "\n"
"""Between a table and a pattern, in the name of the override that has the settings of both."""
_WILDCARD = re.compile(r"[*?\[]")
WORD = re.compile(r"\{(\w*)\}")
"""`{schema}` and `{table}` in a store."""


def has_patterns(flow: Node) -> bool:
    """Return whether the home of a flow names patterns of tables."""
    home = flow.mapping.get("home")
    return home is not None and "tables" in home.mapping


def take_patterns(home: End) -> tuple[End, Tables | None]:
    """Return the home of one table, `{table}`, and the patterns; None where it has no patterns."""
    keys = home.node.mapping
    table = keys.get("table")
    if home.kind == "sql" and table is not None and "*" in table.text and '"' not in table.text:
        pattern = table.text.rpartition("#")[2]
        raise Problem(
            table.line,
            f"'table' is the pattern '{pattern}', and means one table",
            f'home: {{connection: …, tables: ["{pattern}"]}}',
        )
    if "tables" not in keys or "tables" in (connectors.keys_of(home.cls) or ()):
        return home, None
    line = keys["tables"].line
    if home.kind != "sql":
        raise Problem(
            line,
            f"'tables' is for homes of databases, and this one is of type {home.kind}",
            "a directory or a pattern of files is one `path`",
        )
    for key in ("table", "query"):
        if key in keys:
            raise Problem(line, f"'tables' and '{key}' both say what to move", "keep one of them")
    views = keys.get("views")
    if views is not None and not isinstance(views.value, bool):
        raise Problem(views.line, f"'views' is {views.describe()}", "views: true, or false")
    tables = Tables(
        _texts(keys["tables"], "tables"),
        _texts(keys["exclude"], "exclude") if "exclude" in keys else (),
        bool(views and views.value),
    )
    rest = {key: node for key, node in keys.items() if key not in ("tables", "exclude", "views")}
    rest["table"] = Node("{table}", line, "{table}")
    return replace(home, node=Node(rest, home.node.line)), tables


def overrides(flow: Node, problems: Problems, name: str) -> Iterator[tuple[str, Node]]:
    """Yield each table with settings of its own, and its flow, into which they are merged."""
    node = flow.mapping.get("tables")
    if node is None or node.is_broken():
        return
    if not has_patterns(flow):
        message = "'tables' of a flow is for single tables, and its home has no patterns of tables"
        hint = f"home: {{connection: shop, {_EXAMPLE}}}, and `tables:` beside it for single tables"
        problems.add(node.line, message, hint, name)
        return
    example = "tables: {public.orders: {key: [id], lanes: 8}}"
    if not node.is_mapping:
        problems.add(node.line, f"'tables' is {node.describe()}, not a mapping", example, name)
        return
    shared = Node({key: n for key, n in flow.mapping.items() if key != "tables"}, flow.line)
    patterns: dict[str, Node] = {}
    for table, settings in node.mapping.items():
        if not settings.is_mapping:
            message = f"table '{table}' is {settings.describe()}, not a mapping"
            problems.add(settings.line, message, example, name)
            continue
        for key, value in settings.mapping.items():
            if key not in (*_HOME_KEYS, *_FLOW_KEYS):
                hint = suggest("keys of one table", key, (*_HOME_KEYS, *_FLOW_KEYS))
                if key in ("home", "store", "consistency", "depends_on"):
                    hint = f"it is set once, for all tables of the flow; {hint}"
                message = f"table '{table}' cannot have its own '{key}'"
                problems.add(value.line, message, hint, name)
        home = {key: value for key, value in settings.mapping.items() if key in _HOME_KEYS}
        if types := home.pop("types", None):
            home["options"] = Node({"types": types}, types.line)
        if exclude := home.pop("exclude", None):
            home[COLUMNS_OF_ONE_TABLE] = exclude
        override = {key: value for key, value in settings.mapping.items() if key in _FLOW_KEYS}
        if home:
            override["home"] = Node(home, flow.mapping["home"].line)
        own = Node(override, settings.line)
        merged = replace(merge(shared, own), line=settings.line)
        yield table, merged
        if _WILDCARD.search(table):
            patterns[table] = merged
            continue
        for pattern, under in patterns.items():
            both = merge(_without_choice(under, home), own)
            yield f"{table}{_OVER}{pattern}", replace(both, line=settings.line)


def named_columns(flow: Node) -> dict[str, tuple[str, ...]]:
    """Return the columns that the settings of one table name: these must be there."""
    node = flow.mapping.get("tables")
    tables = node.mapping if node is not None and node.is_mapping else {}
    return {
        table: _columns_of(settings)
        for table, settings in tables.items()
        if not _WILDCARD.search(table)
    }


def _columns_of(settings: Node) -> tuple[str, ...]:
    keys = settings.mapping if settings.is_mapping else {}
    columns = [
        column for key in ("types", "on_value") if key in keys for column in keys[key].mapping
    ]
    if "cursor" in keys and isinstance(keys["cursor"].value, str):
        columns.append(keys["cursor"].value)
    return tuple(columns)


def _without_choice(flow: Node, home: dict[str, Node]) -> Node:
    """Return a flow of a pattern without what chooses columns, where one table chooses its own."""
    choices = ("columns", COLUMNS_OF_ONE_TABLE)
    if not any(key in home for key in choices):
        return flow
    end = flow.mapping["home"]
    rest = {key: node for key, node in end.mapping.items() if key not in choices}
    return replace(flow, value={**flow.mapping, "home": replace(end, value=rest)})


def excluded_columns(flow: Node, table: str) -> tuple[str, ...]:
    """Return the columns that one table leaves out or masks; () for the settings of a pattern."""
    name = table.partition(_OVER)[0]
    if _WILDCARD.search(name):
        return ()
    settings = flow.mapping["tables"].mapping[name].mapping
    names = settings["exclude"].elements if "exclude" in settings else []
    masked = settings["mask"].mapping if "mask" in settings else {}
    return (*(item.value for item in names if isinstance(item.value, str)), *masked)


def override_of(
    tables: Tables, is_table: Callable[[str], bool], matches: Callable[[str], bool]
) -> tuple[FlowSpec | None, tuple[str, ...]]:
    """Return the settings of one table, and the columns that they name; None: it has none.

    `is_table` says whether a name is the table's, `matches` whether a pattern takes it.
    """
    names = [name for name in tables.overrides if _OVER not in name]
    patterns = [name for name in names if _WILDCARD.search(name)]
    table = next((name for name in names if name not in patterns and is_table(name)), None)
    pattern = next((name for name in patterns if matches(name)), None)
    key = _OVER.join(name for name in (table, pattern) if name is not None)
    # A pattern behind the table is not below it: the first in the file counts.
    own = tables.overrides.get(key) or tables.overrides.get(table or "")
    return own, tables.columns.get(table or "", ())


def single_names(tables: Tables) -> list[str]:
    """Return the tables that have settings of their own, without patterns."""
    return [n for n in tables.overrides if not _WILDCARD.search(n) and _OVER not in n]


def patterns_of(tables: Tables) -> list[str]:
    """Return the patterns of tables that have settings of their own."""
    return [n for n in tables.overrides if _WILDCARD.search(n) and _OVER not in n]


def check_store(store: EndSpec, tables: Tables | None) -> None:
    """Raise Problem unless every table gets a place of its own in the store."""
    words = {
        key: WORD.findall(value)
        for key, value in store.settings.items()
        if isinstance(value, str) and key != "connection"
    }
    if tables is None:
        for key, names in words.items():
            if {"schema", "table"} & set(names):
                raise Problem(
                    store.lines.get(key, store.line),
                    f"'{{{names[0]}}}' stands in the store, and the home has no `tables`",
                    f"home: {{connection: …, {_EXAMPLE}}}",
                )
        return
    for key, names in words.items():
        for name in names:
            if name not in ("schema", "table"):
                hint = suggest("a store knows", name, ("schema", "table"))
                line = store.lines.get(key, store.line)
                raise Problem(line, f"'{{{name}}}' of the store means nothing", hint)
    if not any("table" in names for names in words.values()):
        raise Problem(
            store.line,
            "the home takes many tables, and the store has one place for all of them",
            'store: "data/lake/{schema}/{table}", or table: "{schema}.{table}"',
        )


def _texts(node: Node, key: str) -> tuple[str, ...]:
    texts = tuple(item.value for item in node.elements if isinstance(item.value, str))
    if not texts or len(texts) < len(node.elements) or not all(texts):
        raise Problem(node.line, f"'{key}' is not a list of patterns", f'{key}: ["public.*"]')
    return texts
