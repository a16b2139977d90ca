"""The Home that reads what a file Store has written: of the same format, with the same options."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hygge import registry
from hygge.errors import ConfigError
from hygge.home import Home
from hygge.store import Store
from hygge.type_words import word_of


def reader(store: Store, path: str, schema: pa.Schema) -> Home | None:
    """Return the Home that reads `path`; None for the Store of a plug-in without such a Home.

    A format without types gets those of `schema`.
    """
    try:
        cls = registry.find("home", registry.type_of("store", type(store)))
    except ConfigError:
        return None
    fields = cls.Settings.model_fields
    known = getattr(fields["options"].annotation, "model_fields", {})
    given = store.settings.options
    options: dict[str, Any] = {
        name: getattr(given, name) for name in given.model_fields_set if name in known
    }
    if "types" in known:
        options["types"] = {field.name: word_of(field.type) for field in schema}
    if options.get("header") is False:
        options["column_names"] = schema.names
    settings: dict[str, Any] = {"path": path, "options": options}
    if store.settings.connection is not None:
        settings["connection"] = store.settings.connection
    if "together" in fields:
        settings["schema"] = "union"  # `schema: evolve` adds columns in later files
    home = cls(**settings)
    assert isinstance(home, Home)
    return home
