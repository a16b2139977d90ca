"""The type of a home by what lies at its path: the files in a directory or behind a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping

from hygge.config.document import Node
from hygge.config.environment import masked
from hygge.config.problems import Wrong, meant
from hygge.connectors.files.listing import find_files
from hygge.errors import HyggeError, nearest
from hygge.places.names import hint_for_missing
from hygge.places.objects import is_object_url
from hygge.registry import by_suffix, suffixes

_LOOKED_AT = 20_000
"""Files of a directory that are looked at; `check` has to stay quick."""


def kind_of_contents(
    node: Node,
    path: str,
    file: str,
    environ: Mapping[str, str],
    made: Mapping[str, str],
    hidden: Mapping[str, str],
) -> str:
    """The one kind of file that is at `path`, else Wrong. `made`: what this file's stores write."""
    if is_object_url(path):
        return _kind_of_objects(node, path, made)
    found: dict[str, str] = {}
    for count, each in enumerate(_files(path)):
        if count >= _LOOKED_AT:
            break
        if kind := by_suffix("home", each):
            inside = os.path.isdir(path)
            found.setdefault(kind, os.path.relpath(each, path if inside else _fixed(path)))
    if len(found) == 1:
        return next(iter(found))
    if not found and path in made:
        return made[path]
    shown, text = node.shown(), node.text
    if len(found) > 1:
        seen = " and ".join(f"{kind} ({masked(each, hidden)})" for kind, each in found.items())
        raise Wrong(
            node.line,
            f"{shown} holds files of more than one type: {seen}",
            f"home: {{type: {next(iter(found))}, path: {text}}} reads those alone",
        )
    known = f"endings: {', '.join(suffixes('home'))}"
    if os.path.isdir(path):
        raise Wrong(
            node.line,
            f"{shown} holds no file of a known type",
            f"{known}; or say the type: home: {{type: csv, path: {text}}}",
        )
    if os.path.exists(path):
        ending = os.path.splitext(text)[1]
        said = f"no home ends in '{ending}'" if ending else "it has no ending"
        raise Wrong(
            node.line,
            f"what type is {shown}? {said[:1].upper()}{said[1:]}",
            f"{meant('endings', ending, suffixes('home'))}; "
            f"or write home: {{type: csv, path: {text}}}",
        )
    if glob.has_magic(path):
        raise Wrong(node.line, f"no file matches {shown}", "** matches folders at any depth")
    hint = ray_hint(masked(_near(path), hidden), file, environ)
    raise Wrong(node.line, f"there is no {shown}", hint)


def _kind_of_objects(node: Node, url: str, made: Mapping[str, str]) -> str:
    if url in made:
        return made[url]
    try:
        names = [each.path for each in find_files(url, tuple(suffixes("home")))]
    except HyggeError as error:
        raise Wrong(node.line, error.message, error.hint) from error
    found = {kind: name for name in names if (kind := by_suffix("home", name))}
    if len(found) == 1:
        return next(iter(found))
    what = f"objects of more than one type: {', '.join(found)}" if found else "no known ending"
    raise Wrong(node.line, f"{node.shown()} has {what}", "say the type: home: {type: csv, path: …}")


def ray_hint(hint: str, file: str, environ: Mapping[str, str]) -> str:
    """`hint`, and inside a Ray job also how the files that are missing get there."""
    if "RAY_JOB_ID" in environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in environ:
        return (
            f"{hint}; a Ray job sees only what is shipped with it: "
            f"ray job submit --working-dir . -- hygge {file}"
        )
    return hint


def _near(path: str) -> str:
    """A hint for a path that is not there; `users` may also have been meant as `users.parquet`."""
    folder, name = os.path.split(path)
    stems = {}
    if os.path.isdir(folder):
        stems = {each.partition(".")[0]: each for each in sorted(os.listdir(folder))}
    close = nearest(name, [stem for stem in stems if stem])
    return (
        f"did you mean {os.path.join(folder, stems[close])}?" if close else hint_for_missing(path)
    )


def _fixed(pattern: str) -> str:
    """The folder above the first part of a pattern that has a wildcard."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def _files(path: str) -> Iterator[str]:
    if os.path.isdir(path):
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(each for each in folders if each[:1] not in "._")
            yield from (os.path.join(folder, n) for n in sorted(names) if n[:1] not in "._")
    elif os.path.isfile(path):
        yield path
    elif glob.has_magic(path):
        yield from filter(os.path.isfile, sorted(glob.glob(path, recursive=True)))
