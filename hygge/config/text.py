"""The text of a flows.yml, read from a file of this machine or from an object store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hygge.config import paths
from hygge.config.infer import with_ray_hint
from hygge.errors import ConfigError, nearest, without_password
from hygge.places import objects


def read_text(file: str, environ: Mapping[str, str]) -> str:
    """Return the text of a file or an object; raise ConfigError where it cannot be read."""
    if "://" in file and not paths.is_bucket_url(file):
        raise ConfigError(
            f"{without_password(file)} is no URL that hygge reads a file from",
            f"name a file, or the URL of an object: {paths.BUCKET_URLS}",
        )
    try:
        if paths.is_bucket_url(file):
            with objects.open_object(file) as opened:
                return opened.read().decode("utf-8-sig")
        return Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text", "save the file as UTF-8") from None
    except FileNotFoundError:
        if paths.is_bucket_url(file):
            raise ConfigError(f"there is no file {file}", objects.hint_for_missing(file)) from None
        hint = with_ray_hint(_suggest_file(Path(file)), os.path.basename(file), environ)
        raise ConfigError(f"there is no file {file}", hint) from None
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}", "name the YAML file itself"
        ) from None


def _suggest_file(file: Path) -> str:
    """Return a hint that names the nearest YAML file of the same folder."""
    folder = file.parent
    if not folder.is_dir():
        return f"there is no .yml file in {folder.parent}"
    names = sorted(path.name for path in folder.glob("*.y*ml"))
    if not names:
        return f"there is no .yml file in {folder}"
    return f"did you mean {folder / (nearest(file.name, names) or names[0])}?"
