"""Paths and URLs of flows.yml, made absolute.

A relative path is below `root`, which by default is the folder of the file. Either may be in an
object store; then relative paths are in it too. A path that begins with / or ~ is on this machine,
wherever the root is. A database that is a file must be on this machine.
"""

from __future__ import annotations

import os
import posixpath
import re

from hygge.config.document import Node
from hygge.config.environment import shorten
from hygge.config.problems import Problem
from hygge.config.specs import GOES_WITH_THE_JOB, Side
from hygge.connectors.databases.known import database_of, is_of_service
from hygge.places.names import unexpanded
from hygge.places.shipped import SHIPPED

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
OBJECT_STORES = ("s3", "gs", "az", "abfss")
"""The schemes of URLs at which homes, stores, the state and flows.yml itself may be."""
BUCKET_URLS = ", ".join(f"{scheme}://" for scheme in OBJECT_STORES)
"""The same, for messages."""
_WRITTEN_AS = {
    "s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss", "wasb": "abfss", "wasbs": "abfss",
}  # fmt: skip
_NOT_BUILT = ("adl", "http", "https", "hdfs", "ftp", "sftp", "hf")


def is_bucket_url(path: str) -> bool:
    """Return whether `path` is the URL of an object, of a prefix or of a whole bucket."""
    scheme = URL.match(path)
    return scheme is not None and scheme[1].lower() in OBJECT_STORES


def folder_of(file: str) -> str:
    """Return the folder of flows.yml: an absolute path, or the URL of a prefix."""
    return os.path.dirname(file if is_bucket_url(file) else os.path.abspath(file))


def absolute(path: str, root: str, line: int) -> str:
    """Return `path` as an absolute path, or as a URL where it or its root is one."""
    if is_bucket_url(path):
        if re.search(r"\$[A-Z_][A-Z0-9_]*\b", path):  # `_$folder$` is a name that Hadoop gives
            _refuse_variable(path, line)
        return path
    text = os.path.expanduser(path.removeprefix("file://"))
    _refuse_variable(text, line, root)
    if not is_bucket_url(root) or os.path.isabs(text):
        return os.path.normpath(os.path.join(root, text))
    scheme, _, rest = root.partition("://")
    bucket, _, prefix = rest.partition("/")
    key = posixpath.normpath(posixpath.join(prefix, text))
    if key.split("/")[0] == "..":
        raise Problem(
            line,
            f"'{shorten(path)}' leads out of the bucket {scheme}://{bucket}",
            "write the URL",
        )
    return f"{scheme}://{bucket}/{key}".removesuffix("/.")


def absolute_url(url: str, root: str, line: int) -> str:
    """Return the URL of a database with an absolute path, where the database is a file."""
    match = re.match(r"(\w+(?:\+\w+)?:///)([^/?#:][^?]*)(.*)", url, re.DOTALL)
    if match is None or match[2].startswith("file:"):
        return url
    database = database_of(url)
    if not database.is_file or is_of_service(match[2], database):
        return url
    path = os.path.expanduser(match[2])
    _refuse_variable(path, line, root)
    if is_bucket_url(root):
        raise Problem(
            line,
            f"the database {shorten(match[2])} would lie in {root}, and it has to be on a disk",
            f"give an absolute path: {match[1]}/path/to/{shorten(match[2])}",
        )
    return match[1] + os.path.normpath(os.path.join(root, path)) + match[3]


def _refuse_variable(path: str, line: int, root: str = "") -> None:
    """Raise Problem for `$VAR` or `~name` in a path, which would be the name of a folder."""
    name = unexpanded(path)
    if name is None or os.path.lexists(os.path.join(root, path)):
        return
    filled = "write the folder itself"
    if name.startswith("$"):
        filled = f'write "{shorten(path.replace(name, f"${{{name[1:]}}}"))}", with the quotes'
    raise Problem(
        line,
        f"the path {shorten(path)} holds {name}, which would be the name of a folder",
        f"{filled}; where a folder has that name indeed, make it first",
    )


def refuse_scheme(node: Node, scheme: str) -> None:
    """Raise Problem for a URL of a place that hygge does not know, or that is written otherwise."""
    scheme = scheme.lower()
    if scheme in _WRITTEN_AS:
        message = f"{scheme}:// is written {_WRITTEN_AS[scheme]}:// here: {shorten(node.text)}"
        raise Problem(node.line, message, f"object stores: {BUCKET_URLS}")
    if scheme in _NOT_BUILT:
        raise Problem(
            node.line,
            f"{scheme}:// is not built yet: {shorten(node.text)}",
            "use a local path, or a folder where it is mounted",
        )


def refuse_shipped_store(side: Side, node: Node, place: str) -> None:
    """Raise Problem for a store in the folder that Ray unpacks for a job and deletes after it."""
    if side == "store" and SHIPPED in place:
        raise Problem(
            node.line,
            f"the store {GOES_WITH_THE_JOB}",
            "give an absolute path on a disk that stays, or set `root` to one",
        )


def read_root(node: Node, folder: str) -> str:
    """Return the value of `root:`: an absolute folder, or the URL of a prefix."""
    if not isinstance(node.value, str) or not node.value:
        raise Problem(node.line, f"'root' is {node.describe()}, not a path", "root: .")
    _refuse_other_urls(node, "root", node.value)
    root = absolute(node.value, folder, node.line)
    if not is_bucket_url(root) and os.path.exists(root) and not os.path.isdir(root):
        raise Problem(node.line, f"'root' is {node.describe()}, which is not a folder")
    return root.rstrip("/") or "/"


def read_state(node: Node, root: str) -> str:
    """Return the value of `state:`, where the journal is: an absolute folder, or a URL."""
    text = text_of(node)
    _refuse_other_urls(node, "state", text)
    place = absolute(text, root, node.line)
    if SHIPPED in place:
        raise Problem(
            node.line,
            f"the state, {shorten(text)}, {GOES_WITH_THE_JOB}",
            "give an absolute path on a disk that stays, or a URL: `state: s3://bucket/hygge`",
        )
    return place


def _refuse_other_urls(node: Node, key: str, text: str) -> None:
    scheme = URL.match(text)
    if scheme and scheme[1].lower() != "file" and not is_bucket_url(text):
        message = f"'{key}' is {node.describe()}"
        raise Problem(node.line, message, f"a folder, or one of {BUCKET_URLS}")


def text_of(node: Node) -> str:
    """Return a text, or a number as it is written; raise Problem for anything else."""
    value = node.value
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return node.text
    raise Problem(node.line, f"{node.describe()} where text is needed")
