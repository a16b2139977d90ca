"""The two ends that a Flow is given: their classes, and the names of flows without one."""

from __future__ import annotations

import re

from hygge.errors import ConfigError
from hygge.home import Home
from hygge.store import Store


def check_type(given: object, wanted: type, argument: str) -> None:
    """Raise ConfigError unless `given` is an instance of `wanted`."""
    if isinstance(given, wanted):
        return
    hint = "give an instance: MyHome(...)" if isinstance(given, type) else None
    name = given.__name__ if isinstance(given, type) else type(given).__name__
    raise ConfigError(f"{argument}= is {name}, which is not a {wanted.__name__}", hint)


def writes_what_it_locks(home: Home, store: Store) -> bool:
    """Return whether the file that is to be written is locked as long as the plan is open."""
    locked = home.locks()
    return locked is not None and locked == store.on_disk()


def short_name(end: Home | Store) -> str:
    """Return the name of an end, else the last word of its place: `users` of `lake/users.csv`."""
    if end.name:
        return end.name
    last = re.split(r"[/#\\]", end.describe().rstrip("/"))[-1].split(".")[0]
    return re.sub(r"\W+", "_", last).strip("_") or type(end).__name__.lower()
