"""Object stores among the `connections:` of a file, and the paths that are reached through them.

    connections:
      lake: {url: "s3://lake/raw", endpoint: "https://…", access_key_id: …, secret_access_key: …}
      open: {url: "s3://", anonymous: true}      # every bucket that has no other connection
    flows:
      a: {home: {connection: lake, path: users}, store: "s3://lake/raw/out"}

A path is reached through the connection whose URL it is below, whether the end names that or not.
Where several fit, the one with the longest URL is taken. Where none fits, the access comes from the
environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hygge.config.document import Node
from hygge.config.paths import BUCKET_URLS, absolute, is_bucket_url, text_of
from hygge.config.problems import Problem, Problems, suggest
from hygge.config.specs import Side
from hygge.errors import ConfigError
from hygge.places import access as object_access
from hygge.places.access import Access, ObjectUrl


@dataclass(frozen=True)
class BucketConnection:
    """A connection of a bucket, of a prefix in it, or of every bucket (`s3://`)."""

    name: str
    url: str
    access: Access = field(repr=False)


def read(name: str, node: Node, root: str, problems: Problems) -> BucketConnection:
    """Return the connection that a node under `connections:` describes."""
    keys = node.mapping or {"url": node}
    scheme, _, rest = text_of(keys["url"]).partition("://")
    url = f"{scheme.lower()}://{rest.rstrip('/')}"
    known = object_access.keys_of(url)
    settings: dict[str, str | bool] = {}
    for key, value in keys.items():
        with problems.collect():
            if key == "url" or value.is_broken():
                continue
            if key not in known:
                message = f"connection '{name}' does not know '{key}'"
                hint = suggest(f"of {scheme}:// it knows", key, known)
                raise Problem(value.line, message, hint)
            if key == "anonymous":
                if not isinstance(value.value, bool):
                    message = f"'{key}' is {value.describe()}"
                    raise Problem(value.line, message, f"{key}: true, or false")
                settings[key] = value.value
            elif key == "service_account":
                settings[key] = absolute(text_of(value), root, value.line)
            else:
                settings[key] = text_of(value)
    access = Access.model_validate(settings)
    try:
        object_access.check(url, access)
    except ConfigError as error:
        message = f"connection '{name}': {error.message}"
        raise Problem(keys["url"].line, message, error.hint) from error
    return BucketConnection(name, url, access)


def with_access(url: str, buckets: Mapping[str, BucketConnection | None], line: int) -> str:
    """Return the URL of an object store together with its access; any other path unchanged."""
    if not is_bucket_url(url):
        return url
    fitting = [bucket for bucket in buckets.values() if bucket and _contains(bucket.url, url)]
    longest = max((len(bucket.url) for bucket in fitting), default=0)
    nearest = [bucket for bucket in fitting if len(bucket.url) == longest]
    if len(nearest) > 1:
        names = " and ".join(f"'{bucket.name}'" for bucket in nearest)
        raise Problem(
            line,
            f"{url} is reached by {names} alike",
            f"say which: {{connection: {nearest[0].name}, path: …}}, or give one a longer URL",
        )
    return ObjectUrl(url, nearest[0].access if nearest else None)


def with_whole_path(side: Side, end: Node, buckets: Mapping[str, BucketConnection | None]) -> Node:
    """Return an end whose `path` is a whole URL, where its `connection` is an object store."""
    keys = end.mapping
    node, kind = keys.get("connection"), keys.get("type")
    bucket = buckets.get(node.value) if node and isinstance(node.value, str) else None
    if node is None or bucket is None or (kind is not None and ":" in kind.text):
        return end
    example = f"{side}: {{connection: {bucket.name}, path: users}}"
    for key in ("table", "query", "tables"):
        if key in keys:
            message = f"'{bucket.name}' is an object store, and has no '{key}'"
            raise Problem(keys[key].line, message, example)
    if "path" not in keys:
        message = f"'{bucket.name}' is an object store, and '{side}' needs a path in it"
        raise Problem(node.line, message, example)
    path = keys["path"]
    url = text_of(path)
    if not is_bucket_url(url):
        if bucket.url.endswith("://"):
            hint = f"path: {bucket.url}bucket/{url.lstrip('/')}"
            message = f"'{bucket.name}' is for every bucket, and 'path' names none"
            raise Problem(path.line, message, hint)
        url = f"{bucket.url}/{url.lstrip('/')}"
    elif not _contains(bucket.url, url):
        message = f"{path.describe()} is not below {bucket.url}, the URL of '{bucket.name}'"
        raise Problem(path.line, message, "leave `connection` out, or name the one that reaches it")
    return replace(end, value={**keys, "path": replace(path, value=url)})


def access_of(
    connection: object, path: str, buckets: Mapping[str, BucketConnection | None], line: int
) -> Access | None:
    """Return the access of an end's path: that of the connection it names, else of one above it.

    None leaves it to the environment.
    """
    if not isinstance(connection, str):
        return object_access.access_of(with_access(path, buckets, line))
    bucket = buckets.get(connection)
    if bucket is None or not is_bucket_url(path):
        hint = f"its `url` begins with one of {BUCKET_URLS}"
        if buckets:
            hint = suggest("object stores among the connections", connection, buckets)
        message = f"'connection' of files names '{connection}', which is no object store"
        raise Problem(line, message, hint)
    return bucket.access


def _contains(url: str, path: str) -> bool:
    scheme, _, rest = path.partition("://")
    path = f"{scheme.lower()}://{rest}"
    return path == url or path.startswith(url if url.endswith("://") else f"{url}/")
