"""The rules of a table that a database looks at in the commit, as questions about staged rows.

A rule is CHECK, UNIQUE (a primary key, too) or a foreign key. `trial` asks the database which rows
of a batch would break one, so that a flow can set them aside. A rule that cannot be asked for
exactly is left to the commit (`refusing`, where the database has it): no row that the table takes
is ever set aside. These are rules of columns that the rows lack or the table generates, unique
indexes of an expression or of a part of the rows, exclusion constraints, keys of the table to
itself, all rules where a trigger may mend a row before they are looked at, and what triggers
refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hygge.connectors.sql.plain_sql import quoted_table, quoter
from hygge.connectors.sql.table_facts import checks_of, has_own_rows, mended_by
from hygge.connectors.sql.target import ORDINAL, Target, reflected_columns

if TYPE_CHECKING:
    import sqlalchemy as sa

SCRATCH = "_hygge_trial"
"""The table of the session that holds the rows of a trial."""
ROW = "_hygge_s"
"""The name of its rows in a question; no table that a CHECK could mean is named so."""


@dataclass(frozen=True)
class Rule:
    """One rule, and the condition for a row of the scratch table, `ROW`, that breaks it."""

    name: str
    """The rule, for people."""
    said: str = ""
    """What the reason says of a row that breaks it."""
    columns: tuple[str, ...] = ()
    broken: str = ""
    """SQL about the row; empty for a rule that cannot be asked for."""
    is_firm: bool = False
    """True if the answer is the same at any time: it is about the row alone."""
    first: str = ""
    """Of a rule that compares a row with earlier ones of its split: SQL for the number of the first
    row of its key."""


def check_rule(name: str | None, text: str, columns: Collection[str]) -> Rule:
    """Return the rule of a CHECK on these columns."""
    called = f" '{name}'" if name else ""
    return Rule(
        f"check{called or f' ({text})'}",
        f"the check{called} of the table refuses it: {text}",
        tuple(columns),
        f"NOT ({text}\n)",  # it may end with a comment
        True,
    )


def unique_rules(columns: Sequence[str], table: str, quote: Callable[[str], str]) -> list[Rule]:
    """Return the rules of a unique key: no row of the table has it, nor an earlier one.

    `table` is what stands behind FROM: on PostgreSQL, ONLY the table itself has that key.
    """
    listed = ", ".join(columns)

    def same(other: str) -> str:
        return " AND ".join(f"{other}.{quote(name)} = {ROW}.{quote(name)}" for name in columns)

    number, scratch = quote(ORDINAL), quote(SCRATCH)
    name = f"unique ({listed})"
    return [
        Rule(
            name,
            f"the table has a row of this key ({listed}) already",
            tuple(columns),
            f"EXISTS (SELECT 1 FROM {table} t WHERE {same('t')})",
        ),
        Rule(
            name,
            f"an earlier row of the same split has this key ({listed})",
            tuple(columns),
            f"EXISTS (SELECT 1 FROM {scratch} o WHERE {same('o')} AND o.{number} < {ROW}.{number})",
            first=f"(SELECT MIN(o.{number}) FROM {scratch} o WHERE {same('o')})",
        ),
    ]


def reference_rule(
    columns: Sequence[str], shown: str, table: str, others: Sequence[str], quote: Callable[..., str]
) -> Rule:
    """Return the rule of a foreign key to the columns `others` of `table`, as `unique_rules`.

    `shown` is the name of that table for people.
    """
    there = " AND ".join(f"{ROW}.{quote(name)} IS NOT NULL" for name in columns)
    same = " AND ".join(
        f"p.{quote(other)} = {ROW}.{quote(name)}"
        for name, other in zip(columns, others, strict=True)
    )
    listed = ", ".join(columns)
    return Rule(
        f"foreign key ({listed})",
        f"it refers to a row that {shown} does not have ({listed})",
        tuple(columns),
        f"{there} AND NOT EXISTS (SELECT 1 FROM {table} p WHERE {same})",
    )


def about(rules: Iterable[Rule], names: Collection[str]) -> list[Rule]:
    """Return the rules that are about rows with these columns.

    Of a rule that needs others, too, only the name is left: nobody knows what the rows have there.
    """
    known = set(names)
    return [
        rule if known.issuperset(rule.columns) else replace(rule, broken="")
        for rule in rules
        if known.intersection(rule.columns) or not (rule.columns or rule.broken)
    ]


def unasked(name: str) -> Rule:
    """Return a rule that cannot be asked for."""
    return Rule(name)


_ASKED = ("postgresql", "mysql", "mariadb")


def may_mend(connection: sa.Connection, target: Target) -> bool:
    """True if a trigger of the table may change a row before rules are looked at."""
    if connection.dialect.name in _ASKED:
        return bool(mended_by(connection, target))
    return connection.dialect.name != "duckdb"  # which has no triggers; of others nobody knows


def rules_of(
    connection: sa.Connection, target: Target, names: Sequence[str], adds: bool
) -> list[Rule]:
    """Return the rules of a table that are about columns of `names`.

    `adds`: every row is added, so that it must have keys of its own; a merge updates rows.
    """
    import sqlalchemy as sa

    if connection.dialect.name not in _ASKED:
        return [unasked(f"every rule of the table, which hygge cannot ask {target.dialect} for")]
    if mended := mended_by(connection, target):
        return [unasked(f"every rule of the table, since {mended}")]
    inspector, quote = sa.inspect(connection), quoter(connection)
    where = {"schema": target.schema}

    def behind_from(schema: str | None, name: str) -> str:
        only = "ONLY " if has_own_rows(connection, schema, name) else ""
        return only + quoted_table(connection, schema, name)

    rules = [check_rule(*check) for check in checks_of(connection, target)]
    for key in inspector.get_foreign_keys(target.name, **where):
        columns, other = key["constrained_columns"], key["referred_table"]
        if _is_to_itself(key, target) or (key.get("options") or {}).get("match"):
            rules.append(unasked(f"foreign key ({', '.join(columns)})"))
            continue
        table = behind_from(key["referred_schema"], other)
        rules.append(reference_rule(columns, other, table, key["referred_columns"], quote))
    if adds:
        keys = {tuple(inspector.get_pk_constraint(target.name, **where)["constrained_columns"])}
        for index in inspector.get_indexes(target.name, **where):
            if index["unique"] and _is_plain(index):
                keys.add(tuple(str(name) for name in index["column_names"]))
            elif index["unique"]:
                rules.append(unasked(f"unique index {index['name']}"))
        table = behind_from(target.schema, target.name)
        for unique in sorted(filter(None, keys)):
            rules += unique_rules(unique, table, quote)
    generated = {
        each["name"] for each in reflected_columns(connection, target) if each.get("computed")
    }
    return about(rules, set(names) - generated)


def _is_to_itself(key: Any, target: Target) -> bool:
    is_same = key["referred_table"].lower() == target.name.lower()
    return is_same and key["referred_schema"] in (None, target.schema)


def _is_plain(index: Any) -> bool:
    """True for an index of whole columns and of all rows."""
    options = index.get("dialect_options") or {}
    special = ("where", "nulls_not_distinct", "length", "prefix")
    is_special = any(value for name, value in options.items() if name.endswith(special))
    return not index.get("expressions") and not is_special and None not in index["column_names"]
