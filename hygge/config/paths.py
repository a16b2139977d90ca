"""Where things lie: paths and URLs of flows.yml as absolute ones.

A relative path lies below `root`, which is the file's own folder where nothing else is said. Either
may be in an object store; then so is what is below it. A database that is a file, and a path that
begins with / or ~, are on this machine wherever the root is.
"""

from __future__ import annotations

import os
import posixpath
import re

from hygge.config.document import Node
from hygge.config.environment import node_text
from hygge.config.problems import Wrong
from hygge.config.specs import GOES_WITH_THE_JOB, SHIPPED, Side
from hygge.connectors.databases.known import database_of

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
OBJECT_STORES = ("s3", "gs", "az", "abfss")
"""Where homes, stores, the state and flows.yml itself may lie."""
_WRITTEN_AS = {
    "s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss", "wasb": "abfss", "wasbs": "abfss",
}  # fmt: skip
_NOT_BUILT = ("adl", "http", "https", "hdfs", "ftp", "sftp", "hf")


def on_objects(path: str) -> bool:
    """Whether it is a URL of an object store."""
    scheme = URL.match(path)
    return scheme is not None and scheme[1].lower() in OBJECT_STORES


def folder_of(file: str) -> str:
    """The folder of flows.yml, absolute."""
    return os.path.dirname(file if on_objects(file) else os.path.abspath(file))


def absolute(path: str, root: str, line: int) -> str:
    """A path, or the URL of an object store, as an absolute one."""
    if on_objects(path):
        return path
    text = os.path.expanduser(path.removeprefix("file://"))
    if not on_objects(root) or os.path.isabs(text):
        return os.path.normpath(os.path.join(root, text))
    scheme, _, rest = root.partition("://")
    bucket, _, prefix = rest.partition("/")
    key = posixpath.normpath(posixpath.join(prefix, text))
    if key.split("/")[0] == "..":
        raise Wrong(
            line,
            f"'{node_text(path)}' leads out of the bucket {scheme}://{bucket}",
            "write the URL",
        )
    return f"{scheme}://{bucket}/{key}".removesuffix("/.")


def absolute_url(url: str, root: str, line: int) -> str:
    """A URL of a database that is a file, with its path absolute; any other one unchanged."""
    match = re.match(r"(\w+(?:\+\w+)?:///)([^/?#:][^?]*)(.*)", url, re.DOTALL)
    if match is None or match[2].startswith("file:") or not database_of(url).is_file:
        return url
    if on_objects(root):
        raise Wrong(
            line,
            f"the database {node_text(match[2])} would lie in {root}, and it has to be on a disk",
            f"give an absolute path: {match[1]}/path/to/{node_text(match[2])}",
        )
    return match[1] + os.path.normpath(os.path.join(root, match[2])) + match[3]


def refuse_scheme(node: Node, scheme: str) -> None:
    """Raise Wrong for a URL of a place that is none of ours."""
    scheme = scheme.lower()
    if scheme in _WRITTEN_AS:
        text = f"{scheme}:// is written {_WRITTEN_AS[scheme]}:// here: {node_text(node.text)}"
        known = ", ".join(f"{each}://" for each in OBJECT_STORES)
        raise Wrong(node.line, text, f"object stores: {known}")
    if scheme in _NOT_BUILT:
        raise Wrong(
            node.line,
            f"{scheme}:// is not built yet: {node_text(node.text)}",
            "use a local path, or a folder where it is mounted",
        )


def kept(side: Side, node: Node, place: str) -> str:
    """`place`, unless a store would lie in what Ray unpacks for a job and deletes after it."""
    if side == "store" and SHIPPED in place:
        raise Wrong(
            node.line,
            f"the store {GOES_WITH_THE_JOB}",
            "give an absolute path on a disk that stays, or set `root` to one",
        )
    return place


def root(node: Node, folder: str) -> str:
    """What relative paths lie below: a folder, or a prefix of an object store."""
    if not isinstance(node.value, str) or not node.value:
        raise Wrong(node.line, f"'root' is {node.shown()}, not a path", "root: .")
    scheme = URL.match(node.value)
    if scheme and scheme[1].lower() != "file" and not on_objects(node.value):
        known = ", ".join(f"{each}://" for each in OBJECT_STORES)
        raise Wrong(node.line, f"'root' is {node.shown()}", f"a folder, or one of {known}")
    found = absolute(node.value, folder, node.line)
    if not on_objects(found) and os.path.exists(found) and not os.path.isdir(found):
        raise Wrong(node.line, f"'root' is {node.shown()}, which is not a folder")
    return found.rstrip("/") or "/"


def state(node: Node, root: str) -> str:
    """Where the journal lies: a folder below `root`, or a URL of an object store."""
    text = text_of(node)
    scheme = URL.match(text)
    if scheme and scheme[1].lower() != "file" and not on_objects(text):
        known = ", ".join(f"{each}://" for each in OBJECT_STORES)
        raise Wrong(node.line, f"'state' is {node.shown()}", f"a folder, or one of {known}")
    place = absolute(text, root, node.line)
    if SHIPPED in place:
        raise Wrong(
            node.line,
            f"the state, {node_text(text)}, {GOES_WITH_THE_JOB}",
            "give an absolute path on a disk that stays, or a URL: `state: s3://bucket/hygge`",
        )
    return place


def text_of(node: Node) -> str:
    """A scalar as text; Wrong where it is none."""
    if not isinstance(node.value, str) or not node.value.strip():
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return node.text
        raise Wrong(node.line, f"{node.shown()} where text is needed")
    return node.value
