"""The text of a flows.yml: a file of this machine, or an object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hygge.config import paths
from hygge.config.infer import ray_hint
from hygge.errors import ConfigError, nearest, without_password
from hygge.places import objects


def content(file: str, environ: Mapping[str, str]) -> str:
    """What stands in it; ConfigError where it cannot be read."""
    if "://" in file and not paths.on_objects(file):
        known = ", ".join(f"{each}://" for each in paths.OBJECT_STORES)
        raise ConfigError(
            f"{without_password(file)} is no URL that hygge reads a file from",
            f"name a file, or the URL of an object: {known}",
        )
    try:
        if paths.on_objects(file):
            with objects.open_object(file) as opened:
                return opened.read().decode("utf-8-sig")
        return Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text", "save the file as UTF-8") from None
    except FileNotFoundError:
        if paths.on_objects(file):
            raise ConfigError(f"there is no file {file}", objects.hint_for_missing(file)) from None
        hint = _near(Path(file))
        name = os.path.basename(file)
        raise ConfigError(f"there is no file {file}", ray_hint(hint, name, environ)) from None
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}", "name the YAML file itself"
        ) from None


def _near(file: Path) -> str:
    folder = file.parent
    there = sorted(p.name for p in folder.glob("*.y*ml")) if folder.is_dir() else []
    close = nearest(file.name, there)
    if close or there:
        return f"did you mean {folder / (close or there[0])}?"
    return f"there is no .yml file in {folder if folder.is_dir() else folder.parent}"
