"""What goes with a run to its cluster: the folder of flows.yml, without secrets and rubbish.

Ray keeps a job's working directory in the head node's memory and on every node's disk, in clear,
for whoever comes to its ports. So what is named like a secret, or holds a private key, stays here:
on the cluster, its variables are set on the nodes or come out of files (`${file:…}`). What
`.gitignore` and `.rayignore` name stays as well, as Ray has it.
"""

from __future__ import annotations

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
"""In the words of a .gitignore."""
RUBBISH = (
    ".git", ".hg/", ".svn/", ".venv", "venv", "__pycache__", "*.pyc", ".mypy_cache/",
    ".pytest_cache/", ".ruff_cache/", ".hypothesis/", ".ipynb_checkpoints/", ".tox/", ".nox/",
    "node_modules/", "*.egg-info/", ".hygge/", "*.hygge/", ".DS_Store",
)  # fmt: skip
_KEY_BYTES = 16_384
"""A file with a private key in it is small."""
_NAMED = 5


@dataclass(frozen=True)
class Package:
    """What is shipped: `folder` without `excludes`, and the secrets that stay here."""

    folder: Path
    excludes: tuple[str, ...]
    secrets: tuple[str, ...]


def packed(file: Path) -> Package:
    """What goes with the flows.yml `file`; raises HyggeError where that is too much, or not it."""
    folder = file.absolute().parent
    if folder in (Path.home(), Path(folder.anchor)):
        raise HyggeError(
            f"the folder of {file.name} is {folder}, and all of it would be shipped to the cluster",
            f"move {file.name} and what it needs into a folder of its own",
        )
    excludes = [*RUBBISH, *SECRETS, *_environments(folder)]
    sizes = dict(_shipped(folder, excludes))
    keys = [name for name, size in sizes.items() if size <= _KEY_BYTES and _has_key(folder / name)]
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
    secrets = sorted({*_named_like_secrets(folder), *keys})
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


def _shipped(folder: Path, excludes: list[str]) -> Iterator[tuple[str, int]]:
    """Each file that Ray would take with it, by its own walk, and its size in bytes."""
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    files: list[Path] = []
    ignored = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"
    _dir_travel(
        folder,
        [_get_excludes(folder, excludes)],
        files.append,
        ignored,
        logging.getLogger(__name__),
    )
    for each in files:
        if each.is_file():
            yield str(each.relative_to(folder)), each.stat().st_size


def _environments(folder: Path) -> list[str]:
    """Virtual environments, whatever they are called."""
    return [_as_pattern(str(each.parent.relative_to(folder))) for each in _walk(folder)
            if each.name == "pyvenv.cfg"]  # fmt: skip


def _named_like_secrets(folder: Path) -> list[str]:
    """Also those that a .gitignore keeps here: a flow may have wanted them."""
    from ray._private.thirdparty.pathspec import PathSpec

    secret = PathSpec.from_lines("gitwildmatch", SECRETS)
    names = (str(each.relative_to(folder)) for each in _walk(folder))
    return [name for name in names if secret.match_file(name)]


def _walk(folder: Path) -> Iterator[Path]:
    from ray._private.thirdparty.pathspec import PathSpec

    rubbish = PathSpec.from_lines("gitwildmatch", RUBBISH)
    for where, folders, files in os.walk(folder):
        inside = Path(where)
        if "pyvenv.cfg" in files and inside != folder:
            folders.clear()
            files = ["pyvenv.cfg"]
        folders[:] = [each for each in folders if not rubbish.match_file(each + "/")]
        yield from (inside / each for each in files)


def _has_key(path: Path) -> bool:
    try:
        return b"PRIVATE KEY-----" in path.read_bytes()
    except OSError:
        return False


def _as_pattern(name: str) -> str:
    """Exactly this path, in the words of a .gitignore."""
    return "/" + "".join(f"\\{letter}" if letter in "*?[]!#\\ " else letter for letter in name)
