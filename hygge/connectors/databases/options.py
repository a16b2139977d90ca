"""The refusal of options that only some databases support."""

from __future__ import annotations

from hygge.connectors.databases.known import unsupported
from hygge.connectors.sql.ask import SQLHomeOptions
from hygge.connectors.sql.database import Database
from hygge.connectors.sql.goal import SQLStoreOptions
from hygge.errors import ConfigError


def refuse_unsupported(
    database: Database, options: SQLHomeOptions | SQLStoreOptions, who: str
) -> None:
    """Raise ConfigError for an option that is set, and that this database does not support."""
    is_set = {"on_value": options.on_value not in ("error", {})}
    if isinstance(options, SQLHomeOptions):
        is_set["consistency"] = options.consistency != "snapshot"
    else:
        is_set["create_types"] = bool(options.create_types)
    heeds = database.heeds
    if isinstance(options, SQLHomeOptions):
        heeds |= database.home_heeds
    for option in is_set:
        if not is_set[option] or option in heeds:
            continue
        message, hints = unsupported(database, option)
        if isinstance(options, SQLHomeOptions):
            hints.append("read a column as text: `types: {column: string}`")
        raise ConfigError(f"{who}: {message}", ", or ".join(hints))
