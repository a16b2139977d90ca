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
from hygge.changes import upserts
from hygge.connectors.anysql.session import connected
from hygge.connectors.sql.database import Database
from hygge.connectors.sql.goal import Goal
from hygge.connectors.sql.ledger import target_of
from hygge.connectors.sql.rules import Rule
from hygge.connectors.sql.target import exists, reflected_columns
from hygge.connectors.sql.trial import Trial, columns_of
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
    goal: Goal, own: Callable[[Goal, pa.Table], None], database: Database | None
) -> Callable[[pa.Table], None]:
    """Return what raises UnfitValue for a row that the database refuses.

    `own` looks at the values that no table of it holds. `database` is that of a table that is
    there, to which the rows are added as it is.
    """
    limits = TableLimits(goal.who) if database is None else _limits(goal, database)

    def check(batch: pa.Table) -> None:
        batch = upserts(batch)  # a change that deletes a row brings no other values
        own(goal, batch)
        limits.check(batch)

    return check


@contextmanager
def trial_of(
    goal: Goal, database: Database, bad_rows: BadRows, adds: bool, only_firm: bool = False
) -> Iterator[Trial | None]:
    """Open the trial of one split's rows; None where the table has no rule that can be asked for.

    `adds`: each row is added; a merge updates rows. `only_firm`: other rows of the table are going.
    """
    names = bad_rows.schema.names if bad_rows.schema is not None else []
    rules = [rule for rule in _rules(goal, database, names, adds) if rule.broken]
    if only_firm:
        rules = [rule for rule in rules if rule.is_firm]
    with ExitStack() as stack:
        trial = None
        if rules:
            try:
                scratch = stack.enter_context(database.trial().scratch(goal, columns_of(rules)))
            except HyggeError:  # this user may not read the table, or make a temporary one
                scratch = None
            trial = None if scratch is None else Trial(scratch, rules, bad_rows, goal.who)
        yield trial


def remarks(goal: Goal, database: Database, names: list[str], adds: bool) -> list[str]:
    """Return what to say of rules that nobody can ask for before the commit, nor in it."""
    if database.sets_aside:
        return []
    rules = _rules(goal, database, names, adds)
    left = dict.fromkeys(rule.name for rule in rules if not rule.broken)
    if not left:
        return []
    return [
        f"a row that breaks one of these is not set aside, but fails the run: {', '.join(left)}"
    ]


def _rules(goal: Goal, database: Database, names: list[str], adds: bool) -> list[Rule]:
    if goal.evolves:
        return []
    if database.own_catalog:
        return database.own_trial().own_rules(goal, names, adds)
    with connected(goal.url, goal.who, StoreError) as connection:
        target = target_of(goal)
        if not exists(connection, target):
            return []
        return database.trial().rules_of(connection, target, names, adds)


def _limits(goal: Goal, database: Database) -> TableLimits:
    """Return the limits of the columns whose values are written, and kept to as they are."""
    import sqlalchemy as sa

    if database.own_catalog:
        return TableLimits(goal.who, database.own_trial().not_null(goal))
    with connected(goal.url, goal.who, StoreError) as connection:
        target = target_of(goal)
        if not exists(connection, target):
            return TableLimits(goal.who)
        columns = reflected_columns(connection, target)
        is_mended = database.trial().may_mend(connection, target)
        ignores_lengths = connection.dialect.name == "sqlite"
    columns = [column for column in columns if not column.get("computed")]
    kinds = {} if ignores_lengths else {column["name"]: column["type"] for column in columns}
    needed = [column["name"] for column in columns if not column["nullable"]]
    return TableLimits(
        goal.who,
        frozenset() if is_mended else frozenset(needed),
        {
            name: kind.length
            for name, kind in kinds.items()
            if isinstance(kind, sa.String) and kind.length and not isinstance(kind, sa.Text)
        },
    )
