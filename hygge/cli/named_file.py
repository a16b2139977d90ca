"""The file of flows that a command names."""

from __future__ import annotations

import os

from hygge.errors import UsageError, nearest


def check_file(file: str) -> None:
    """Raise UsageError unless `file` is there, or is a URL."""
    if "://" not in file and not os.path.exists(file):
        hint = _nearest_yaml(file)
        if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
            hint += (
                "\ninside a Ray job the file must be shipped: "
                f"ray job submit --working-dir . -- hygge {file}"
            )
        raise UsageError(f"there is no file {file}", hint)
    if os.path.isdir(file):
        raise UsageError(f"{file} is a directory", _nearest_yaml(os.path.join(file, "flows.yml")))


def _nearest_yaml(file: str) -> str:
    """Return a hint for a YAML file that is not there: the nearest one in its folder."""
    folder = os.path.dirname(file)
    names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    files = sorted(name for name in names if name.endswith((".yml", ".yaml")))
    close = files[0] if len(files) == 1 else nearest(os.path.basename(file), files)
    if close:
        return f"did you mean `hygge {os.path.join(folder, close)}`?"
    if files:
        return f"YAML files there: {', '.join(files)}"
    return "name a YAML file of flows: hygge flows.yml"
