"""The rules of a table that a database looks at in the commit, as questions about staged rows.

A rule is CHECK, UNIQUE (a primary key, too) or a foreign key. `trial` asks the database which rows
of a batch would break one, so that a flow can set them aside. What cannot be asked beforehand is
left to the commit: unique indexes of an expression or of a part of the rows, exclusion constraints,
keys of the table to itself, and what triggers refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hygge.connectors.sql.target import ORDINAL, Target

if TYPE_CHECKING:
    import sqlalchemy as sa

SCRATCH = "_hygge_trial"
"""The table of the session that holds the rows of a trial."""
_MARIADB_CHECKS = (
    "SELECT constraint_name, check_clause FROM information_schema.check_constraints "
    "WHERE constraint_schema = {schema} AND table_name = :table"
)


@dataclass(frozen=True)
class Rule:
    """One rule, and the condition for a row `s` that breaks it."""

    said: str
    """What the reason says of a row that breaks it."""
    columns: tuple[str, ...]
    broken: str
    """SQL about the row `s` of the scratch table."""
    is_firm: bool = False
    """True if the answer is the same at any time: it is about the row alone."""
    is_within: bool = False
    """True if it compares a row with earlier ones of its split."""


def check_rule(name: str | None, text: str, names: Collection[str]) -> Rule:
    """Return the rule of a CHECK; `names` are the columns of the rows."""
    columns = tuple(each for each in names if each.lower() in text.lower())
    called = f" '{name}'" if name else ""
    return Rule(
        f"the check{called} of the table refuses it: {text}", columns, f"NOT ({text})", True
    )


def unique_rules(columns: Sequence[str], table: str, quote: Callable[[str], str]) -> list[Rule]:
    """Return the rules of a unique key: no row of the table has it, nor an earlier one."""
    listed = ", ".join(columns)

    def same(other: str) -> str:
        return " AND ".join(f"{other}.{quote(name)} = s.{quote(name)}" for name in columns)

    number = quote(ORDINAL)
    return [
        Rule(
            f"the table has a row of this key ({listed}) already",
            tuple(columns),
            f"EXISTS (SELECT 1 FROM {table} t WHERE {same('t')})",
        ),
        Rule(
            f"an earlier row of the same split has this key ({listed})",
            tuple(columns),
            f"EXISTS (SELECT 1 FROM {quote(SCRATCH)} o WHERE {same('o')} "
            f"AND o.{number} < s.{number})",
            is_within=True,
        ),
    ]


def reference_rule(
    columns: Sequence[str], table: str, others: Sequence[str], quote: Callable[[str], str]
) -> Rule:
    """Return the rule of a foreign key to the columns `others` of `table`."""
    there = " AND ".join(f"s.{quote(name)} IS NOT NULL" for name in columns)
    same = " AND ".join(
        f"p.{quote(other)} = s.{quote(name)}" for name, other in zip(columns, others, strict=True)
    )
    return Rule(
        f"{table} has no row that it refers to ({', '.join(columns)})",
        tuple(columns),
        f"{there} AND NOT EXISTS (SELECT 1 FROM {table} p WHERE {same})",
    )


def rules_of(
    connection: sa.Connection, target: Target, names: Sequence[str], adds: bool
) -> list[Rule]:
    """Return the rules of a table that are about columns of `names`.

    `adds`: every row is added, so that it must have keys of its own; a merge updates rows. None
    are known of a table whose triggers may change a row before the rules are looked at.
    """
    import sqlalchemy as sa

    dialect = connection.dialect.name
    if dialect not in ("postgresql", "mysql", "mariadb"):
        return []
    if _has_early_triggers(connection, target):
        return []
    inspector, preparer = sa.inspect(connection), connection.dialect.identifier_preparer
    where = {"schema": target.schema}

    def table_name(name: str, schema: str | None) -> str:
        return str(preparer.format_table(sa.table(name, schema=schema)))

    quote = preparer.quote_identifier
    checks = [
        (each["name"], str(each["sqltext"]))
        for each in inspector.get_check_constraints(target.name, **where)
    ]
    if getattr(connection.dialect, "is_mariadb", False):
        checks = _mariadb_checks(connection, target)
    rules = [check_rule(name, text, names) for name, text in checks]
    rules += [
        reference_rule(
            key["constrained_columns"],
            table_name(key["referred_table"], key["referred_schema"]),
            key["referred_columns"],
            quote,
        )
        for key in inspector.get_foreign_keys(target.name, **where)
        if not _is_to_itself(key, target) and not (key.get("options") or {}).get("match")
    ]
    if adds:
        keys = {tuple(inspector.get_pk_constraint(target.name, **where)["constrained_columns"])}
        for index in inspector.get_indexes(target.name, **where):
            if index["unique"] and _is_plain(index):
                keys.add(tuple(str(name) for name in index["column_names"]))
        table = table_name(target.name, target.schema)
        for key in sorted(filter(None, keys)):
            rules += unique_rules(key, table, quote)
    return [rule for rule in rules if rule.columns and set(rule.columns) <= set(names)]


def _has_early_triggers(connection: sa.Connection, target: Target) -> bool:
    import sqlalchemy as sa

    default = "current_schema()" if connection.dialect.name == "postgresql" else "DATABASE()"
    schema = default if target.schema is None else ":schema"
    found = connection.execute(
        sa.text(
            f"SELECT 1 FROM information_schema.triggers WHERE event_object_schema = {schema} "
            "AND event_object_table = :table AND action_timing = 'BEFORE'"
        ),
        {"table": target.name} | ({} if target.schema is None else {"schema": target.schema}),
    )
    return found.first() is not None


def _mariadb_checks(connection: sa.Connection, target: Target) -> list[tuple[str | None, str]]:
    """Return name and text of the checks of a table, those of a column, too."""
    import sqlalchemy as sa

    schema = "DATABASE()" if target.schema is None else ":schema"
    found = connection.execute(
        sa.text(_MARIADB_CHECKS.format(schema=schema)),
        {"table": target.name} | ({} if target.schema is None else {"schema": target.schema}),
    )
    return [(name, text) for name, text in found]


def _is_to_itself(key: Any, target: Target) -> bool:
    is_same = key["referred_table"].lower() == target.name.lower()
    return is_same and key["referred_schema"] in (None, target.schema)


def _is_plain(index: Any) -> bool:
    """True for an index of whole columns and of all rows."""
    options = index.get("dialect_options") or {}
    special = ("where", "nulls_not_distinct", "length", "prefix")
    is_special = any(value for name, value in options.items() if name.endswith(special))
    return not index.get("expressions") and not is_special and None not in index["column_names"]
