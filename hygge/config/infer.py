"""The type of a home that names only a path: found from the files at that path."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from hygge.config.document import Node
from hygge.config.environment import mask, shorten
from hygge.config.problems import Problem, suggest
from hygge.connectors.files.lake_tables import is_delta_table
from hygge.connectors.files.listing import find_files, matches
from hygge.connectors.files.source_file import COMPRESSED, is_hidden
from hygge.errors import HyggeError, nearest
from hygge.places.names import hint_for_missing
from hygge.places.objects import is_object_url
from hygge.registry import by_suffix, suffixes

_MAX_FILES = 20_000
"""At most so many files of a directory are looked at; `check` has to stay quick."""


def infer_kind(
    node: Node,
    path: str,
    file: str,
    environ: Mapping[str, str],
    written: Mapping[str, str],
    hidden: Mapping[str, str],
    several: bool = False,
) -> str:
    """Return the one kind of the files at `path`; raise Problem where there is none, or several.

    `several` may be there: then it is the kind of the first.

    `written`: the paths that this file's stores write → their kinds. `file` is the name of the
    flows.yml, for a hint.
    """
    if not several and not glob.has_magic(path) and is_delta_table(path):
        return "delta"
    if is_object_url(path):
        return _kind_of_objects(node, path, written, several)
    if glob.glob(os.path.join(glob.escape(path), "metadata", "*.metadata.json*")):
        return "iceberg"
    examples: dict[str, str] = {}
    for number, name in enumerate(_files(path)):
        if number >= _MAX_FILES:
            break
        if kind := by_suffix("home", name):
            folder = path if os.path.isdir(path) else _folder_above(path)
            examples.setdefault(kind, os.path.relpath(name, folder))
    if len(examples) == 1 or (examples and several):
        return next(iter(examples))
    if not examples and path in written:
        return written[path]
    shown, text = node.describe(), node.text
    if len(examples) > 1:
        seen = " and ".join(f"{kind} ({mask(name, hidden)})" for kind, name in examples.items())
        raise Problem(
            node.line,
            f"{shown} holds files of more than one type: {seen}",
            f"home: {{type: {next(iter(examples))}, path: {text}}} reads those alone",
        )
    if os.path.isdir(path):
        raise Problem(
            node.line,
            f"{shown} holds no file of a known type",
            f"endings: {', '.join(suffixes('home'))}; "
            f"or say the type: home: {{type: csv, path: {text}}}",
        )
    if os.path.exists(path):
        ending = os.path.splitext(text)[1]
        if COMPRESSED.search(text):
            raise Problem(
                node.line,
                f"{shown} is compressed as {ending}, which is not read",
                "decompress it first; .csv and .jsonl files are read as .gz and .zst, too",
            )
        reason = f"No home ends in '{ending}'" if ending else "It has no ending"
        raise Problem(
            node.line,
            f"what type is {shown}? {reason}",
            f"{suggest('endings', ending, suffixes('home'))}; "
            f"or write home: {{type: csv, path: {text}}}",
        )
    if glob.has_magic(path):
        raise Problem(node.line, f"no file matches {shown}", "** matches folders at any depth")
    hint = with_ray_hint(mask(_suggest_path(path), hidden), file, environ)
    raise Problem(node.line, f"there is no {shown}", hint)


def kind_of_new(node: Node, path: str) -> str:
    """Return parquet or delta for a store that is a folder; raise Problem for another ending."""
    if not is_object_url(path) and is_delta_table(path):
        return "delta"
    ending = re.search(r"\.[A-Za-z]\w{0,7}$", os.path.basename(path))
    if ending is None or os.path.isdir(path):
        return "parquet"
    written = os.path.splitext(node.text)[1]
    raise Problem(
        node.line,
        f"what type is {node.describe()}? No store ends in '{written}'",
        f"{suggest('endings', ending[0], suffixes('store'))}; "
        f"or write store: {{type: parquet, path: {shorten(node.text)}}}",
    )


def _kind_of_objects(node: Node, url: str, written: Mapping[str, str], several: bool) -> str:
    if url in written:
        return written[url]
    try:
        names = [found.path for found in find_files(url, tuple(suffixes("home")))]
    except HyggeError as error:
        raise Problem(node.line, error.message, error.hint) from error
    kinds = dict.fromkeys(kind for name in names if (kind := by_suffix("home", name)))
    if len(kinds) == 1 or (kinds and several):
        return next(iter(kinds))
    what = f"objects of more than one type: {', '.join(kinds)}" if kinds else "no known ending"
    hint = "say the type: home: {type: csv, path: …}"
    raise Problem(node.line, f"{node.describe()} has {what}", hint)


def with_ray_hint(hint: str, file: str, environ: Mapping[str, str]) -> str:
    """Return `hint`; inside a Ray job it also says how missing files get there."""
    if "RAY_JOB_ID" in environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in environ:
        return (
            f"{hint}; a Ray job sees only what is shipped with it: "
            f"ray job submit --working-dir . -- hygge {file}"
        )
    return hint


def _suggest_path(path: str) -> str:
    """Return a hint for a path that does not exist: `users` may mean `users.parquet`."""
    folder, name = os.path.split(path)
    by_stem = {}
    if os.path.isdir(folder):
        by_stem = {entry.partition(".")[0]: entry for entry in sorted(os.listdir(folder))}
    close = nearest(name, [stem for stem in by_stem if stem])
    if close:
        return f"did you mean {os.path.join(folder, by_stem[close])}?"
    return hint_for_missing(path)


def _folder_above(pattern: str) -> str:
    """Return the folder above the first part of a pattern that has a wildcard."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def _files(path: str) -> Iterator[str]:
    if os.path.isdir(path):
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            yield from (os.path.join(folder, n) for n in sorted(names) if not is_hidden(n))
    elif os.path.isfile(path):
        yield path
    elif glob.has_magic(path):
        with suppress(OSError, HyggeError):  # the run says what it is
            yield from sorted(set(matches(path, suffixes("home"))))
