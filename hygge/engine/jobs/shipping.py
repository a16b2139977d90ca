"""The folder that is shipped with a run to its cluster: that of flows.yml, without secrets.

Ray keeps a job's working directory in the head node's memory and on every node's disk, in clear,
for everybody who reaches its ports. So files that are named like a secret or contain a private key
stay here; on the cluster, their variables are set on the nodes or read from files (`${file:…}`).
What `.gitignore` and `.rayignore` name stays here as well: Ray leaves it out.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hygge.errors import HyggeError

SECRETS = (
    ".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".pgpass", "pgpass.conf",
    ".my.cnf", ".mylogin.cnf", ".git-credentials", ".pypirc", ".npmrc", ".ssh/", ".aws/", ".azure/",
    ".gnupg/", ".kube/", ".docker/", "auth_token",
)  # fmt: skip
"""Patterns as in a .gitignore."""
RUBBISH = (
    ".git", ".hg/", ".svn/", ".venv", "venv", "__pycache__", "*.pyc", ".mypy_cache/",
    ".pytest_cache/", ".ruff_cache/", ".hypothesis/", ".ipynb_checkpoints/", ".tox/", ".nox/",
    "node_modules/", "*.egg-info/", ".hygge/", "*.hygge/", ".DS_Store",
)  # fmt: skip
_KEY_BYTES = 16_384
"""Larger files are not searched for a private key."""
_NAMED = 5


@dataclass(frozen=True)
class Package:
    """The files that are shipped: `folder` without the files that the patterns `excludes` match.

    `secrets`: the files that stay here because they may be secret.
    """

    folder: Path
    excludes: tuple[str, ...]
    secrets: tuple[str, ...]


def make_package(file: Path) -> Package:
    """Return what is shipped with the flows.yml `file`.

    Raises HyggeError where the folder is a home directory or `/`, where it is larger than Ray
    accepts, and where `file` itself would be left out.
    """
    folder = file.absolute().parent
    if folder in (Path.home(), Path(folder.anchor)):
        raise HyggeError(
            f"the folder of {file.name} is {folder}, and all of it would be shipped to the cluster",
            f"move {file.name} and what it needs into a folder of its own",
        )
    excludes = [*RUBBISH, *SECRETS, *_find_environments(folder)]
    if not _heeds_rayignore():
        excludes += _find_rayignored(folder)
    sizes = dict(_list_shipped(folder, excludes))
    keys = [
        name
        for name, size in sizes.items()
        if size <= _KEY_BYTES and _has_private_key(folder / name)
    ]
    excludes += [_as_pattern(name) for name in keys]
    for name in keys:
        del sizes[name]
    if file.name not in sizes:
        raise HyggeError(
            f"{file.name} would not be shipped: a .gitignore or .rayignore names it, or it is "
            "named like a secret",
            "give it another name, or take it out there",
        )
    _check_size(folder, sizes)
    secrets = sorted({*_find_secrets(folder), *keys})
    return Package(folder, tuple(excludes), tuple(secrets))


def _check_size(folder: Path, sizes: dict[str, int]) -> None:
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

    total = sum(sizes.values())
    if total < GCS_STORAGE_MAX_SIZE:
        return
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:_NAMED]
    listed = ", ".join(f"{name} ({sizes[name] / 1e6:.1f} MB)" for name in largest)
    raise HyggeError(
        f"{folder} holds {total / 1e6:,.1f} MB to be shipped with the job, and Ray takes "
        f"{GCS_STORAGE_MAX_SIZE / 1e6:,.1f} MB; the largest: {listed}",
        "put data where the cluster reads it (s3://…, a shared disk), and name what is not needed "
        "in a .rayignore",
    )


def _list_shipped(folder: Path, excludes: list[str]) -> Iterator[tuple[str, int]]:
    """Yield the path and the size in bytes of every file that Ray would ship, by Ray's own walk."""
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    files: list[Path] = []
    options: dict[str, object] = {"logger": logging.getLogger(__name__)}
    if _heeds_rayignore():  # an older Ray reads the variable in there
        ignores_gitignore = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") == "1"
        options["include_gitignore"] = not ignores_gitignore
    _dir_travel(folder, [_get_excludes(folder, excludes)], files.append, **options)
    for path in files:
        if path.is_file():
            yield str(path.relative_to(folder)), path.stat().st_size


def _heeds_rayignore() -> bool:
    """Return whether this Ray reads `.rayignore`: 2.52, for one, reads only `.gitignore`."""
    from ray._private.runtime_env.packaging import _dir_travel

    return "include_gitignore" in inspect.signature(_dir_travel).parameters


def _find_rayignored(folder: Path) -> list[str]:
    """Return a pattern for each folder and file that a `.rayignore` names, as a newer Ray does."""
    from ray._private.thirdparty.pathspec import PathSpec

    patterns = []
    for file in [path for path in _walk(folder) if path.name == ".rayignore"]:
        ignored = PathSpec.from_lines("gitwildmatch", file.read_text().splitlines())
        for parent, folders, files in os.walk(file.parent):
            inside = Path(parent).relative_to(file.parent)
            names = {name: f"{inside / name}/" for name in folders}
            names |= {name: str(inside / name) for name in files}
            left_out = [name for name, path in names.items() if ignored.match_file(path)]
            patterns += [
                _as_pattern(str(Path(parent, name).relative_to(folder))) for name in left_out
            ]
            folders[:] = [name for name in folders if name not in left_out]
    return patterns


def _find_environments(folder: Path) -> list[str]:
    """Return a pattern for each virtual environment, whatever its name."""
    return [
        _as_pattern(str(path.parent.relative_to(folder)))
        for path in _walk(folder)
        if path.name == "pyvenv.cfg"
    ]


def _find_secrets(folder: Path) -> list[str]:
    """Return the files that are named like a secret, also those that a .gitignore leaves out.

    They are shown to people, because a flow may need one of them.
    """
    from ray._private.thirdparty.pathspec import PathSpec

    secret = PathSpec.from_lines("gitwildmatch", SECRETS)
    names = (str(path.relative_to(folder)) for path in _walk(folder))
    return [name for name in names if secret.match_file(name)]


def _walk(folder: Path) -> Iterator[Path]:
    from ray._private.thirdparty.pathspec import PathSpec

    rubbish = PathSpec.from_lines("gitwildmatch", RUBBISH)
    for parent, folders, files in os.walk(folder):
        inside = Path(parent)
        if "pyvenv.cfg" in files and inside != folder:
            folders.clear()
            files = ["pyvenv.cfg"]
        folders[:] = [name for name in folders if not rubbish.match_file(name + "/")]
        yield from (inside / name for name in files)


def _has_private_key(path: Path) -> bool:
    try:
        return b"PRIVATE KEY-----" in path.read_bytes()
    except OSError:
        return False


def _as_pattern(name: str) -> str:
    """Return the pattern of a .gitignore that matches exactly this path."""
    return "/" + "".join(f"\\{letter}" if letter in "*?[]!#\\ " else letter for letter in name)
