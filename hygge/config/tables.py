"""`tables:` of a home: patterns of the tables to move, each of them a flow of its own.

    home: {connection: shop, tables: ["public.*"], exclude: ["public.tmp_*"], views: true}
    store: data/lake/{schema}/{table}
    tables: {public.orders: {key: [id], mode: merge}}      # what one table has for itself

Nothing is asked of the database here: which tables there are is known when the connection is
reached. What one table says for itself is read as if it were a flow, so it is checked as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from hygge.config import connectors
from hygge.config.document import Node, merge
from hygge.config.ends import End
from hygge.config.problems import Problems, Wrong, meant
from hygge.config.specs import LIMIT_KEYS, EndSpec, Tables

_OF_HOME = ("columns", "where", "cursor", "split_by", "max_bytes_per_second")
_OF_FLOW = ("mode", "key", "on_value", *LIMIT_KEYS)
_EXAMPLE = 'tables: ["public.*"]'
WORD = re.compile(r"\{(\w*)\}")
"""`{schema}` and `{table}` in a store."""


def takes_many(flow: Node) -> bool:
    """Whether a flow's own words name patterns of tables."""
    home = flow.value.get("home")
    return home is not None and home.is_mapping and "tables" in home.value


def patterns(end: End) -> tuple[End, Tables | None]:
    """The home of one table of many, and which those are; a home of one table as it is."""
    own = end.own.value
    one = own.get("table")
    if end.kind == "sql" and one is not None and "*" in one.text and '"' not in one.text:
        pattern = one.text.rpartition("#")[2]
        raise Wrong(
            one.line,
            f"'table' is the pattern '{pattern}', and means one table",
            f'home: {{connection: …, tables: ["{pattern}"]}}',
        )
    if "tables" not in own or "tables" in (connectors.keys_of(end.cls) or ()):
        return end, None
    line = own["tables"].line
    if end.kind != "sql":
        raise Wrong(
            line,
            f"'tables' is for homes of databases, and this one is of type {end.kind}",
            "a directory or a pattern of files is one `path`",
        )
    for key in ("table", "query"):
        if key in own:
            raise Wrong(line, f"'tables' and '{key}' both say what to move", "keep one of them")
    views = own.get("views")
    if views is not None and not isinstance(views.value, bool):
        raise Wrong(views.line, f"'views' is {views.shown()}", "views: true, or false")
    found = Tables(
        _texts(own["tables"], "tables"),
        _texts(own["exclude"], "exclude") if "exclude" in own else (),
        bool(views and views.value),
    )
    rest = {key: node for key, node in own.items() if key not in ("tables", "exclude", "views")}
    rest["table"] = Node("{table}", line, "{table}")
    return replace(end, own=Node(rest, end.own.line)), found


def alone(flow: Node, problems: Problems, name: str) -> Iterator[tuple[str, Node]]:
    """(table, its flow) for each table that says something for itself."""
    node = flow.value.get("tables")
    if node is None or node.is_broken():
        return
    if not takes_many(flow):
        hint = f"home: {{connection: shop, {_EXAMPLE}}}, and `tables:` beside it for single ones"
        text = "'tables' of a flow is for single ones of many tables, and its home names no many"
        problems.add(node.line, text, hint, name)
        return
    example = "tables: {public.orders: {key: [id], lanes: 8}}"
    if not node.is_mapping:
        problems.add(node.line, f"'tables' is {node.shown()}, not a mapping", example, name)
        return
    below = Node({key: each for key, each in flow.value.items() if key != "tables"}, flow.line)
    for table, said in node.value.items():
        if not said.is_mapping:
            text = f"table '{table}' is {said.shown()}, not a mapping"
            problems.add(said.line, text, example, name)
            continue
        for key, each in said.value.items():
            if key not in (*_OF_HOME, *_OF_FLOW):
                hint = meant("one table may say", key, (*_OF_HOME, *_OF_FLOW))
                if key in ("home", "store", "consistency", "depends_on"):
                    hint = f"it is said once, for all tables of the flow; {hint}"
                text = f"table '{table}' cannot say '{key}' for itself"
                problems.add(each.line, text, hint, name)
        home = {key: each for key, each in said.value.items() if key in _OF_HOME}
        own = {key: each for key, each in said.value.items() if key in _OF_FLOW}
        if home:
            own["home"] = Node(home, flow.value["home"].line)
        yield table, replace(merge(below, Node(own, said.line)), line=said.line)


def check_store(store: EndSpec, tables: Tables | None) -> None:
    """Raise Wrong unless every table gets a place of its own in the store."""
    texts = {key: value for key, value in store.settings.items() if isinstance(value, str)}
    words = {key: WORD.findall(value) for key, value in texts.items() if key != "connection"}
    found = {word for each in words.values() for word in each}
    if tables is None:
        for key, each in words.items():
            if {"schema", "table"} & set(each):
                raise Wrong(
                    store.lines.get(key, store.line),
                    f"'{{{each[0]}}}' stands in the store, and the home has no `tables`",
                    f"home: {{connection: …, {_EXAMPLE}}}",
                )
        return
    for key, each in words.items():
        for word in each:
            if word not in ("schema", "table"):
                hint = meant("a store knows", word, ("schema", "table"))
                line = store.lines.get(key, store.line)
                raise Wrong(line, f"'{{{word}}}' of the store means nothing", hint)
    if "table" not in found:
        raise Wrong(
            store.line,
            "the home takes many tables, and the store has one place for all of them",
            'store: "data/lake/{schema}/{table}", or table: "{schema}.{table}"',
        )


def _texts(node: Node, key: str) -> tuple[str, ...]:
    items = node.value if node.is_list else [node]
    if not items or any(not isinstance(each.value, str) or not each.value for each in items):
        raise Wrong(node.line, f"'{key}' is not a list of patterns", f'{key}: ["public.*"]')
    return tuple(each.value for each in items)
