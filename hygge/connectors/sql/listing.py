"""The tables of a database, as `catalog.py` of each database lists them, and facts about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_CHANGES = re.compile(r"(?i)updat|modif|chang|mtime|last_")
_CREATED = re.compile(
    r"(?i)creat|insert|add|load|ingest|event|occur|sold|placed|_at$|time|^ts|_ts$"
)
_MOST_CURSORS = 3


@dataclass(frozen=True, order=True)
class Table:
    """A table or view, by its names as the database has them."""

    schema: str
    name: str
    view: bool = False
    readable: bool = True
    """True if this user may read all of it, as far as the catalog tells."""
    parent: tuple[str, str] | None = None
    """The names of the table that it is a partition of."""

    @property
    def text(self) -> str:
        """For people, and what patterns are compared with."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Listing:
    """What `catalog.py` of a database lists."""

    default: str
    """The schema of names without one."""
    tables: Sequence[Table]
    schemas: Sequence[str] = ()
    """Schemas that may have no tables."""


@dataclass(frozen=True)
class Described:
    """The names of a table's columns, in order, and of those of its primary key, in its order."""

    columns: tuple[str, ...]
    key: tuple[str, ...]


@dataclass(frozen=True)
class TableFacts:
    """What `hygge discover` tells of a table."""

    table: Table
    rows: int | None = None
    """Number of rows; None: not known."""
    is_exact: bool = False
    """True if they were counted; False: the database estimates them."""
    bytes: int | None = None
    """Bytes that the table takes, without its indexes; None: not known."""
    key: tuple[str, ...] = ()
    """The columns of its primary key."""
    cursors: tuple[str, ...] = ()
    """Columns by which new rows may be told from old ones, the likeliest first."""
    columns: tuple[str, ...] = ()
    """Names of its columns; (): the database does not tell them to this user."""
    is_locked: bool = False
    """True if another program has locked it, so that it was not asked for all of this."""


def cursors_of(columns: Sequence[tuple[str, str]], key: Sequence[str]) -> tuple[str, ...]:
    """Return the columns by which new rows may be told: the likeliest first.

    `columns` are names, and `moment`, `integer` or anything else.
    """

    def rank(name: str, kind: str) -> int:
        if kind == "moment":
            return 0 if _CHANGES.search(name) else 2 if _CREATED.search(name) else 3
        return 1 if kind == "integer" and list(key) == [name] else 4

    ranked = sorted((rank(name, kind), at) for at, (name, kind) in enumerate(columns))
    return tuple(columns[at][0] for number, at in ranked if number < 4)[:_MOST_CURSORS]
