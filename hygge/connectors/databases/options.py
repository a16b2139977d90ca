"""Options that only some databases heed."""

from __future__ import annotations

from hygge.connectors.databases.known import driver_that_heeds, that_heed
from hygge.connectors.sql.ask import SQLHomeOptions
from hygge.connectors.sql.database import Database
from hygge.connectors.sql.goal import SQLStoreOptions
from hygge.errors import ConfigError


def refuse_unheeded(
    database: Database, options: SQLHomeOptions | SQLStoreOptions, who: str
) -> None:
    """Raise ConfigError for an option that is set, and that this database would ignore."""
    is_set = {"on_value": options.on_value not in ("error", {})}
    if isinstance(options, SQLHomeOptions):
        is_set["consistency"] = options.consistency != "snapshot"
    for option in is_set:
        if not is_set[option] or option in database.heeds:
            continue
        hints = [f"take `{option}` out"]
        if driver := driver_that_heeds(database, option):
            hints.append(f"connect through the driver {driver}")
        if isinstance(options, SQLHomeOptions):
            hints.append("read a column as text: `types: {column: string}`")
        raise ConfigError(
            f"{who}: {database.name} does not heed `{option}`; {that_heed(option)} do",
            ", or ".join(hints),
        )
