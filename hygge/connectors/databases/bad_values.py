"""What a database refuses of a row, as far as that is known before the row is staged.

The values that no table of the database holds (`check_batch` of its `store.py`), and what the table
itself refuses: NULL where it is NOT NULL, a text that is too long, and a row that breaks a rule of
it (`hygge.connectors.sql.rules`), about which the database is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from hygge.bad_rows import BadRows
from hygge.connectors.anysql.session import connected
from hygge.connectors.databases.known import database_of
from hygge.connectors.sql.database import Database
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.ledger import target_of
from hygge.connectors.sql.rules import Rule
from hygge.connectors.sql.target import exists, reflected_columns
from hygge.connectors.sql.trial import Trial
from hygge.errors import HyggeError, StoreError, UnfitValue
from hygge.type_words import value_text


@dataclass(frozen=True)
class TableLimits:
    """The limits of the columns of a table, by name."""

    who: str
    not_null: frozenset[str] = frozenset()
    lengths: dict[str, int] = field(default_factory=dict)
    """Characters that a text of the column may have."""

    def check(self, batch: pa.Table) -> None:
        """Raise UnfitValue for the first row that the table refuses."""
        import pyarrow.compute as pc

        for name, column in zip(batch.column_names, batch.columns, strict=True):
            if name in self.not_null and column.null_count:
                raise UnfitValue(
                    f"{self.who}: column '{name}' is NULL, and the table has it NOT NULL",
                    "fill it in at the source, or let the table have it NULL",
                ).at(name)
            most = self.lengths.get(name)
            if most is None or not (
                pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            ):
                continue
            is_long = pc.greater(pc.utf8_length(column), most)
            if pc.any(is_long).as_py():
                value = value_text(column.filter(pc.fill_null(is_long, False))[0])
                raise UnfitValue(
                    f"{self.who}: column '{name}' holds {value}, and the table has at most {most} "
                    "characters for it",
                    "widen the column in the database, or shorten the text at the source",
                ).at(name)


def checks_of(
    goal: Goal, own: Callable[[Goal, pa.Table], None], is_kept: bool
) -> Callable[[pa.Table], None]:
    """Return what raises UnfitValue for a row that the database refuses.

    `own` looks at the values that no table of it holds; `is_kept`: the rows are added to the table
    that is there, with its columns as they are.
    """
    limits = _limits(goal) if is_kept else TableLimits(goal.who)

    def check(batch: pa.Table) -> None:
        own(goal, batch)
        limits.check(batch)

    return check


@contextmanager
def trial_of(
    goal: Goal, database: Database, bad_rows: BadRows, adds: bool
) -> Iterator[Trial | None]:
    """Open the trial of one split's rows; None where the table has no rule that can be asked for.

    `adds`: each row is added; a merge updates rows.
    """
    names = bad_rows.schema.names if bad_rows.schema is not None else []
    rules = [] if goal.evolves or database.own_catalog else _rules(goal, database, names, adds)
    with ExitStack() as stack:
        trial = None
        if rules:
            columns = sorted({name for rule in rules for name in rule.columns})
            try:
                scratch = stack.enter_context(database.trial().scratch(goal, columns))
            except HyggeError:  # this user may not read the table, or make a temporary one
                scratch = None
            trial = None if scratch is None else Trial(scratch, rules, bad_rows, goal.who)
        yield trial


def _rules(goal: Goal, database: Database, names: list[str], adds: bool) -> list[Rule]:
    with connected(goal.url, goal.who, StoreError) as connection:
        target = target_of(goal)
        if not exists(connection, target):
            return []
        return database.trial().rules_of(connection, target, names, adds)


def _limits(goal: Goal) -> TableLimits:
    import sqlalchemy as sa

    database = database_of(goal.url)
    if database.own_catalog:
        return TableLimits(goal.who, database.own_trial().not_null(goal))
    with connected(goal.url, goal.who, StoreError) as connection:
        target = target_of(goal)
        if not exists(connection, target):
            return TableLimits(goal.who)
        columns = reflected_columns(connection, target)
    kinds = {column["name"]: column["type"] for column in columns}
    return TableLimits(
        goal.who,
        frozenset(column["name"] for column in columns if not column["nullable"]),
        {
            name: kind.length
            for name, kind in kinds.items()
            if isinstance(kind, sa.String) and kind.length and not isinstance(kind, sa.Text)
        },
    )
