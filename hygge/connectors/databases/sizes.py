"""About how large tables are, as a database knows it without reading their rows."""

from __future__ import annotations

from collections.abc import Sequence

from hygge.connectors.databases.known import reached
from hygge.errors import HomeError


def table_sizes(url: str, who: str, tables: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each table (`table` or `schema.table`) of which the database knows them.

    One connection asks for all of them. A view has no size, and a database that is reached through
    SQLAlchemy is not asked. Raises HyggeError where it does not answer.
    """
    verbs = reached(url, who, HomeError).sizes()
    return {} if verbs is None else verbs.sizes(url, who, tables)
