"""`tables:` and `files:` of a home: patterns of what to move, each of which is a flow of its own.

    home: {connection: shop, tables: ["public.*"], exclude: ["public.tmp_*"], views: true}
    store: data/lake/{schema}/{table}
    tables:
      "*": {types: {price: "decimal(12,2)"}}               # of every table that it matches
      public.orders: {key: [id], mode: merge}              # of one table

    home: {files: "in/*/*.csv", exclude: ["*/tmp_*"], rename: {eu/Orders 2024: eu/orders}}
    store: data/lake/{folder}/{file}
    files:
      eu/Orders 2024: {types: {zip: string}}

Neither the database nor the folder is asked here: the Coordinator finds them when the flow begins.
The settings of a pattern and of one table are merged into those of the flow, and checked as a flow.
Of several patterns the first that matches a table counts, and what stands at the table itself comes
over it. `rename` and `names` say what `{schema}`, `{table}`, `{folder}` and `{file}` are in the
store; all settings go by the names of the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from hygge.config import connectors, lakes
from hygge.config.document import Node, merge
from hygge.config.ends import End
from hygge.config.problems import Problem, Problems, suggest
from hygge.config.shapes import COLUMNS_OF_ONE_TABLE
from hygge.config.specs import LIMIT_KEYS, WORDS_OF, EndSpec, FamilyKind, FlowSpec, Tables

_SHARED_HOME_KEYS = ("columns", "exclude", "where", "types", "max_bytes_per_second")
HOME_KEYS = {
    "tables": (*_SHARED_HOME_KEYS, "cursor", "lag", "split_by"),
    "files": (*_SHARED_HOME_KEYS, "options"),
}
FLOW_KEYS = (
    "mode", "key", "mask", "add", "names", "flatten", "transform", "on_value", "schema", "adopt",
    *LIMIT_KEYS,
)  # fmt: skip
_HOME_EXAMPLE = {
    "tables": 'home: {connection: …, tables: ["public.*"]}',
    "files": 'home: {files: "in/*.csv"}',
}
_EXAMPLE = {
    "tables": "tables: {public.orders: {key: [id], lanes: 8}}",
    "files": "files: {orders: {types: {zip: string}}}",
}
_STORE_EXAMPLE = {
    "tables": 'store: "data/lake/{schema}/{table}", or table: "{schema}.{table}"',
    "files": 'store: "data/lake/{file}", or table: "{file}"',
}
_OVER = "\0"
"""Between a table and a pattern, in the name of the override that has the settings of both: no name
of a table holds it."""
_WILDCARD = re.compile(r"[*?\[]")
WORD = re.compile(r"\{(\w*)\}")
"""`{schema}` and `{table}`, or `{folder}` and `{file}`, in a store."""


def family_of(flow: Node) -> FamilyKind | None:
    """Return whether the home of a flow names patterns of tables, or one of files; else None."""
    home = flow.mapping.get("home")
    keys = home.mapping if home is not None else {}
    if "tables" in keys:
        return "tables"
    return "files" if "files" in keys and not _is_own_class(keys) else None


def _is_own_class(keys: dict[str, Node]) -> bool:
    return "type" in keys and ":" in keys["type"].text


def files_as_path(home: Node) -> tuple[Node, Node | None]:
    """Return a home with the pattern of its `files` as its path, and what `files` says, or None."""
    keys = home.mapping
    files = keys.get("files")
    if files is None or _is_own_class(keys):
        return home, None
    for key in ("path", "table", "query", "tables"):
        if key in keys:
            message = f"'files' and '{key}' both say what to move"
            raise Problem(files.line, message, "keep one of them")
    if not isinstance(files.value, str) or not files.value:
        message = f"'files' is {files.describe()}, not a pattern"
        raise Problem(files.line, message, 'files: "in/*.csv"')
    rest = {key: node for key, node in keys.items() if key not in ("files", *_FAMILY_KEYS)}
    return replace(home, value={**rest, "path": files}), home


_FAMILY_KEYS = ("exclude", "rename", "names")
"""Keys of a home of many that are about its tables or files."""


def take_files(end: End, home: Node, default: Node) -> Tables:
    """Return the files that a home takes, as it is written; `end` has the pattern as its path."""
    keys = home.mapping
    if not connectors.is_of_files(end.cls):
        raise Problem(
            keys["files"].line,
            f"'files' is for homes of files, and this one is of type {end.kind}",
            _HOME_EXAMPLE["files"],
        )
    is_stated = "type" in keys or "type" in default.mapping
    return Tables(
        (str(keys["files"].value),),
        _texts(keys["exclude"], "exclude", "tmp_*") if "exclude" in keys else (),
        of="files",
        kind=end.kind if is_stated else "",
        **_new_names(keys, "files"),
    )


def take_patterns(home: End) -> tuple[End, Tables | None]:
    """Return the home of one table, `{table}`, and the patterns; None where it has no patterns."""
    keys = home.node.mapping
    table = keys.get("table")
    is_lake = home.kind == lakes.KIND
    has_tables = home.kind == "sql" or is_lake
    if has_tables and table is not None and "*" in table.text and '"' not in table.text:
        pattern = table.text.rpartition("#")[2]
        raise Problem(
            table.line,
            f"'table' is the pattern '{pattern}', and means one table",
            f'home: {{connection: …, tables: ["{pattern}"]}}',
        )
    if "tables" not in keys or "tables" in (connectors.keys_of(home.cls) or ()):
        return home, None
    line = keys["tables"].line
    if not has_tables:
        raise Problem(
            line,
            f"'tables' is for homes of databases and catalogs, and this one is of type {home.kind}",
            "a directory or a pattern of files is one `path`, and `files` where each is a table",
        )
    for key in ("table", "query"):
        if key in keys:
            raise Problem(line, f"'tables' and '{key}' both say what to move", "keep one of them")
    views = keys.get("views")
    if views is not None and is_lake:
        raise Problem(views.line, "'views' of a catalog are not read", "take 'views' out")
    if views is not None and not isinstance(views.value, bool):
        raise Problem(views.line, f"'views' is {views.describe()}", "views: true, or false")
    tables = Tables(
        _texts(keys["tables"], "tables", "public.*"),
        _texts(keys["exclude"], "exclude", "public.*") if "exclude" in keys else (),
        bool(views and views.value),
        **_new_names(keys, "tables"),
    )
    bare = [name for name in (*tables.include, *tables.exclude) if is_lake and "." not in name]
    if bare:
        message = f"'{bare[0]}' names no namespace of the catalog"
        raise Problem(line, message, f'tables: ["sales.{bare[0]}"]')
    taken = ("tables", "views", *_FAMILY_KEYS)
    rest = {key: node for key, node in keys.items() if key not in taken}
    name = "{schema}.{table}" if is_lake else "{table}"
    rest["table"] = Node(name, line, name)
    return replace(home, node=Node(rest, home.node.line)), tables


def _new_names(keys: dict[str, Node], family: FamilyKind) -> dict[str, Any]:
    """Return what `rename` and `names` of a home of many say."""
    new: dict[str, Any] = {}
    names = keys.get("names")
    if names is not None:
        if names.value not in ("as_is", "snake"):
            raise Problem(names.line, f"'names' is {names.describe()}", "names: snake, or as_is")
        new["names"] = names.value
    renamed = keys.get("rename")
    if renamed is not None:
        old = {"tables": "public.order_lines", "files": "order lines 2024"}[family]
        example = f"rename: {{{old}: orders}}"
        if not renamed.is_mapping:
            message = f"'rename' is {renamed.describe()}, not a mapping of old names to new ones"
            raise Problem(renamed.line, message, example)
        for name, node in renamed.mapping.items():
            if _WILDCARD.search(name):
                message = f"'rename' gives one name to '{name}', which is a pattern"
                raise Problem(node.line, message, f"name each: {example}")
            if not isinstance(node.value, str) or not node.value.strip("./ "):
                raise Problem(node.line, f"the new name of '{name}' is {node.describe()}", example)
        new["rename"] = {name: node.value for name, node in renamed.mapping.items()}
    return new


def overrides(flow: Node, problems: Problems, name: str) -> Iterator[tuple[str, Node]]:
    """Yield each table with settings of its own, and its flow, into which they are merged."""
    family = family_of(flow)
    _check_settings_of_family(flow, family, problems, name)
    node = flow.mapping.get(family or "")
    if family is None or node is None or node.is_broken():
        return
    noun, example = family.removesuffix("s"), _EXAMPLE[family]
    if not node.is_mapping:
        problems.add(node.line, f"'{family}' is {node.describe()}, not a mapping", example, name)
        return
    shared = Node({key: n for key, n in flow.mapping.items() if key != family}, flow.line)
    patterns: dict[str, Node] = {}
    for table, settings in node.mapping.items():
        if not settings.is_mapping:
            message = f"{noun} '{table}' is {settings.describe()}, not a mapping"
            problems.add(settings.line, message, example, name)
            continue
        known = (*HOME_KEYS[family], *FLOW_KEYS)
        for key, value in settings.mapping.items():
            if key not in known:
                hint = suggest(f"keys of one {noun}", key, known)
                if key in ("home", "store", "consistency", "depends_on"):
                    hint = f"it is set once, for all {family} of the flow; {hint}"
                message = f"{noun} '{table}' cannot have its own '{key}'"
                problems.add(value.line, message, hint, name)
        home = {key: value for key, value in settings.mapping.items() if key in HOME_KEYS[family]}
        if types := home.pop("types", None):
            stated = Node({"types": types}, types.line)
            home["options"] = merge(home["options"], stated) if "options" in home else stated
        if exclude := home.pop("exclude", None):
            home[COLUMNS_OF_ONE_TABLE] = exclude
        override = {key: value for key, value in settings.mapping.items() if key in FLOW_KEYS}
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


def _check_settings_of_family(
    flow: Node, family: FamilyKind | None, problems: Problems, name: str
) -> None:
    """Add a problem for `tables:` or `files:` of a flow whose home has no such patterns."""
    for key in _EXAMPLE:
        node = flow.mapping.get(key)
        if node is None or key == family or node.is_broken():
            continue
        if family is not None:
            message = f"'{key}' of a flow is for single {key}, and its home has '{family}'"
            problems.add(node.line, message, f"write `{family}:`; {_EXAMPLE[family]}", name)
            continue
        message = f"'{key}' of a flow is for single {key}, and its home has no patterns of {key}"
        hint = f"{_HOME_EXAMPLE[key]}, and `{key}:` beside it for single {key}"
        problems.add(node.line, message, hint, name)


def named_columns(flow: Node) -> dict[str, tuple[str, ...]]:
    """Return the columns that the settings of one table name: these must be there."""
    node = flow.mapping.get(family_of(flow) or "")
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
    settings = flow.mapping[family_of(flow) or ""].mapping[name].mapping
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
    known = tables.words if tables is not None else ()
    for key, names in words.items():
        for name in names:
            if name in known or (tables is None and ":" in store.kind):
                continue
            says = "of the store means nothing"
            family = next((of for of, words in WORDS_OF.items() if name in words), None)
            if tables is None and family is not None:
                says = f"stands in the store, and the home has no `{family}`"
            line = store.lines.get(key, store.line)
            raise Problem(line, f"'{{{name}}}' {says}", _hint_for_word(name, tables, family))
    if tables is not None and not any(tables.words[1] in names for names in words.values()):
        raise Problem(
            store.line,
            f"the home takes many {tables.of}, and the store has one place for all of them",
            _STORE_EXAMPLE[tables.of],
        )


def _hint_for_word(word: str, tables: Tables | None, family: FamilyKind | None) -> str:
    """Return what fills a word of a store, or which homes do."""
    if tables is not None:
        return suggest("a store knows", word, tables.words)
    if family is not None:
        return _HOME_EXAMPLE[family]
    return (
        "take the braces out; {schema} and {table} are for a home with `tables`, {folder} and "
        "{file} for one with `files`"
    )


def _texts(node: Node, key: str, example: str) -> tuple[str, ...]:
    texts = tuple(item.value for item in node.elements if isinstance(item.value, str))
    if not texts or len(texts) < len(node.elements) or not all(texts):
        raise Problem(node.line, f"'{key}' is not a list of patterns", f'{key}: ["{example}"]')
    return texts
