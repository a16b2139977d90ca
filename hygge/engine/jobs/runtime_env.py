"""The file of `hygge submit --runtime-env`: what Ray installs on the nodes for the jobs of a run.

It is a YAML mapping with the keys of Ray's `runtime_env`: `py_modules`, `pip`, `uv`, `conda`,
`env_vars` and so on. Paths in `py_modules` start at the file's folder. The working directory is
hygge's: the folder of flows.yml.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from hygge.engine.jobs.instructions import is_named_like_a_secret
from hygge.errors import UsageError

_OF_HYGGE = ("working_dir", "excludes")


def read_runtime_env(file: str) -> dict[str, Any]:
    """Return the runtime_env in `file`; raises UsageError for what cannot be submitted.

    Ray shows it to whoever asks for its jobs, so it may contain no secret.
    """
    try:
        runtime_env = yaml.safe_load(Path(file).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"{file} cannot be read as a runtime_env: {str(error).splitlines()[0]}",
            "it is YAML with the keys of Ray's runtime_env: py_modules, pip, env_vars, …",
        ) from error
    if not isinstance(runtime_env, dict):
        raise UsageError(f"{file} is no runtime_env: it holds no mapping", "py_modules: [../hygge]")
    for key in _OF_HYGGE:
        if key in runtime_env:
            raise UsageError(
                f"{file}: '{key}' is not yours to set: hygge ships the folder of flows.yml",
                "py_modules ships further folders; a .rayignore names what stays here",
            )
    variables = runtime_env.get("env_vars") or {}
    if not isinstance(variables, dict):
        raise UsageError(f"{file}: env_vars is no mapping", "env_vars: {NAME: value}")
    secret = [str(name) for name in variables if is_named_like_a_secret(str(name))]
    if secret:
        raise UsageError(
            f"{file}: {', '.join(secret)} would be shown to whoever asks Ray for its jobs",
            "set secrets on the nodes, or have them read there with ${file:/run/secrets/…}",
        )
    folder = Path(file).absolute().parent
    modules = [_from_folder(str(path), folder) for path in runtime_env.get("py_modules") or ()]
    if modules:
        runtime_env["py_modules"] = modules
    return runtime_env


def _from_folder(path: str, folder: Path) -> str:
    """Return a path that starts at `folder`, or the URL as it is; raise UsageError without it."""
    if "://" in path:
        return path
    there = os.path.normpath(folder / path)
    if not os.path.exists(there):
        raise UsageError(
            f"py_modules: there is no {there}",
            "paths start at the folder of the file that names them",
        )
    return there
