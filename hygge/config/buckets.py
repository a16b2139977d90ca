"""Object stores among the `connections:` of a file, and the paths that are reached by them.

    connections:
      lake: {url: "s3://lake/raw", endpoint: "https://…", access_key_id: …, secret_access_key: …}
      open: {url: "s3://", anonymous: true}      # every bucket that no other connection is of
    flows:
      a: {home: {connection: lake, path: users}, store: "s3://lake/raw/out"}

A path below the URL of one is reached by it, whether the end names it or not; of several the one
with the longest URL. Where none is, the environment says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hygge.config.document import Node
from hygge.config.paths import OBJECT_STORES, absolute, on_objects, text_of
from hygge.config.problems import Problems, Wrong, meant
from hygge.config.specs import Side
from hygge.errors import ConfigError
from hygge.places import access as object_access
from hygge.places.access import Access, ObjectUrl


@dataclass(frozen=True)
class Reach:
    """One of them: what it is of, and how that is reached; its repr holds no secret."""

    name: str
    url: str
    access: Access = field(repr=False)


def read(name: str, node: Node, root: str, problems: Problems) -> Reach:
    """The connection of a bucket, or of a prefix in it."""
    given: Mapping[str, Node] = node.value if node.is_mapping else {"url": node}
    url = text_of(given["url"])
    scheme, _, rest = url.partition("://")
    url = f"{scheme.lower()}://{rest.rstrip('/')}"
    known = object_access.keys_of(url)
    said: dict[str, str | bool] = {}
    for key, each in given.items():
        with problems.collect():
            if key == "url" or each.is_broken():
                continue
            if key not in known:
                text = f"connection '{name}' does not know '{key}'"
                raise Wrong(each.line, text, meant(f"of {scheme}:// it knows", key, known))
            if key == "anonymous":
                if not isinstance(each.value, bool):
                    raise Wrong(each.line, f"'{key}' is {each.shown()}", f"{key}: true, or false")
                said[key] = each.value
            elif key == "service_account":
                said[key] = absolute(text_of(each), root, each.line)
            else:
                said[key] = text_of(each)
    access = Access(**said)
    try:
        object_access.check(url, access)
    except ConfigError as error:
        text = f"connection '{name}': {error.message}"
        raise Wrong(given["url"].line, text, error.hint) from error
    return Reach(name, url, access)


def reached(url: str, reaches: Mapping[str, Reach | None], line: int) -> str:
    """A URL of an object store with how it is reached; what is on a disk as it is."""
    if not on_objects(url):
        return url
    fitting = [each for each in reaches.values() if each is not None and _holds(each.url, url)]
    longest = max((len(each.url) for each in fitting), default=0)
    found = [each for each in fitting if len(each.url) == longest]
    if len(found) > 1:
        names = " and ".join(f"'{each.name}'" for each in found)
        raise Wrong(
            line,
            f"{url} is reached by {names} alike",
            f"say which: {{connection: {found[0].name}, path: …}}, or give one a longer URL",
        )
    return ObjectUrl(url, found[0].access if found else None)


def below(side: Side, own: Node, reaches: Mapping[str, Reach | None]) -> Node:
    """An end that names the connection of an object store, with its path as a whole URL."""
    node = own.value.get("connection")
    reach = reaches.get(node.value) if node and isinstance(node.value, str) else None
    kind = own.value.get("type")
    if node is None or reach is None or (kind is not None and ":" in kind.text):
        return own
    example = f"{side}: {{connection: {reach.name}, path: users}}"
    for key in ("table", "query", "tables"):
        if key in own.value:
            text = f"'{reach.name}' is an object store, and has no '{key}'"
            raise Wrong(own.value[key].line, text, example)
    if "path" not in own.value:
        text = f"'{reach.name}' is an object store, and '{side}' needs a path in it"
        raise Wrong(node.line, text, example)
    path = own.value["path"]
    url = text = text_of(path)
    if not on_objects(text):
        if reach.url.endswith("://"):
            hint = f"path: {reach.url}bucket/{text.lstrip('/')}"
            raise Wrong(
                path.line, f"'{reach.name}' is of every bucket, and 'path' names none", hint
            )
        url = f"{reach.url}/{text.lstrip('/')}"
    elif not _holds(reach.url, text):
        text = f"{path.shown()} is not below {reach.url}, which '{reach.name}' is of"
        raise Wrong(path.line, text, "leave `connection` out, or name the one that reaches it")
    return replace(own, value={**own.value, "path": replace(path, value=url)})


def access(
    named: object, path: str, reaches: Mapping[str, Reach | None], line: int
) -> Access | None:
    """How an end's path is reached: as the connection that it names says, else as one above it."""
    if isinstance(named, str):
        reach = reaches.get(named)
        if reach is None or not on_objects(path):
            known = ", ".join(f"{each}://" for each in OBJECT_STORES)
            raise Wrong(
                line,
                f"'connection' of files names '{named}', which is no object store",
                meant("object stores among the connections", named, reaches)
                if reaches
                else f"its `url` begins with one of {known}",
            )
        return reach.access
    return object_access.access_of(reached(path, reaches, line))


def _holds(url: str, path: str) -> bool:
    scheme, _, rest = path.partition("://")
    path = f"{scheme.lower()}://{rest}"
    return path == url or path.startswith(url if url.endswith("://") else f"{url}/")
