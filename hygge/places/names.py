"""Names of files and folders: the one of a flow, the fixed part of a pattern, the nearest one."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Sequence

from hygge.errors import ConfigError, nearest

_SHOWN = 8
"""How many entries of a folder a hint shows."""
_VARIABLE = re.compile(r"\$[A-Za-z_]\w*|^~[^/]*")


def file_name(flow: str) -> str:
    """Return a name for files and folders of a flow; two flows never share one."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", flow)
    # A name of dots alone is no file's, and a very long one is refused by the disk.
    if name != flow or not name.strip(".") or len(name) > 150:
        name = f"{name[:150]}-{hashlib.sha256(flow.encode()).hexdigest()[:8]}"
    return name


def fixed_prefix(pattern: str) -> str:
    """Return the folder that every match of a glob lies in; a path without wildcards as it is."""
    parts = pattern.split(os.sep)
    for index, part in enumerate(parts):
        if glob.has_magic(part):
            return os.sep.join(parts[:index])
    return pattern


def unexpanded(path: str) -> str | None:
    """Return the `$VAR` or `~name` of a path that would become the name of a folder; else None.

    A path that is there has such a name indeed.
    """
    found = _VARIABLE.search(path)
    return None if found is None or os.path.lexists(path) else found[0]


def expanded(path: str, who: str) -> str:
    """Return `path` with `~` as the home folder; ConfigError for `$VAR`, which nobody fills in."""
    path = os.path.expanduser(path)
    if name := unexpanded(path):
        raise ConfigError(
            f"{who}: the path {path} holds {name}, which would be the name of a folder",
            "fill it in: os.path.expandvars(path), in flows.yml ${VAR}; or make that folder first",
        )
    return path


def refuse_nul(path: str, who: str) -> None:
    """Raise ConfigError for a path with the character NUL, which no file can have."""
    if "\0" in path:
        raise ConfigError(
            f"{who}: the path {path!r} holds the character NUL, which no name may hold",
            "choose another path",
        )


def hint_for_missing(path: str) -> str:
    """Return a hint for a path that is not there: the nearest name, or what its folder holds."""
    path = path.rstrip(os.sep)
    if os.path.exists(path):
        kind = "a folder" if os.path.isdir(path) else "a pipe, a device or a socket"
        return f"{path} is {kind}, and no file: give the path of a file"
    folder = os.path.dirname(path) or "."
    missing_folder = ""
    while not os.path.isdir(folder):
        path, folder = folder, os.path.dirname(folder) or "."
        missing_folder = f"there is no folder {path}; "
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return f"{folder} cannot be listed: {error.strerror}"
    close = nearest(os.path.basename(path), names)
    if close:
        return f"did you mean {os.path.join(folder, close)}?"
    return f"{missing_folder}{contents(folder, names)}"


def contents(folder: str, names: Sequence[str]) -> str:
    """Return `folder holds a, b, …` for a hint."""
    if not names:
        return f"{folder} is empty"
    more = ", …" if len(names) > _SHOWN else ""
    return f"{folder} holds {', '.join(names[:_SHOWN])}{more}"
