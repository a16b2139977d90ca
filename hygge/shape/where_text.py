"""The text of a `where` as a tree: the subset of SQL that files know, or an error with the place.

comparison (= <> < <= > >=)   and, or, not   in (…)   is [not] null, true, false
[not] like, ilike   [not] between   columns, "columns", literals: 1.5  'text'  true  null
date '2024-01-31'  timestamp '2024-01-31 12:00:00'  timestamptz '2024-01-31 12:00:00Z'  time '…'
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from hygge.errors import ConfigError

if TYPE_CHECKING:
    from sqlglot import exp

SUBSET = (
    "a `where` of files knows = <> < <= > >=, and, or, not, in, is null, like, ilike, between, "
    "columns and literals ('text', 1.5, true, date '2024-01-31')"
)
_TYPED = {
    "DATE": "date", "TIMESTAMP": "timestamp", "TIMESTAMPNTZ": "timestamp",
    "TIMESTAMPTZ": "timestamptz", "TIME": "time", "TEXT": "text", "VARCHAR": "text",
    "DECIMAL": "number", "INT": "number", "BIGINT": "number", "DOUBLE": "number",
}  # fmt: skip


_CLOSED = re.compile(r"""(?:[^'"]|'(?:[^']|'')*'|"(?:[^"]|"")*")*""")
"""A text up to a quote that is not closed."""


class Literal(NamedTuple):
    """A literal: its kind, and its text; of NULL the text is empty."""

    kind: str
    text: str


@lru_cache(maxsize=64)
def parsed(text: str) -> exp.Expr:
    """Return the tree of a condition; raise ConfigError for what the subset does not have."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        trees = sqlglot.parse(text, dialect="postgres")
    except SqlglotError as error:
        details = (getattr(error, "errors", None) or [{}])[0]
        near, place = details.get("highlight"), ""
        if "col" in details:
            line = f"line {details['line']}, " if details["line"] > 1 else ""
            place = f" at {line}character {max(1, details['col'] - len(near or '.') + 1)}"
        closed = _CLOSED.match(text)
        if closed is not None and closed.end() < len(text):
            place = f": a quote at character {closed.end() + 1} is not closed"
        raise ConfigError(
            f"'where' cannot be read{place}{f', near {near!r}' if near else ''}: {text}", SUBSET
        ) from None
    tree = trees[0] if len(trees) == 1 else None
    if tree is None:
        tokens = sqlglot.tokenize(text, dialect="postgres")
        ends = [each.start for each in tokens if each.token_type.name == "SEMICOLON"]
        place = f", but ends at character {ends[0] + 1}" if ends else ""
        raise ConfigError(f"'where' is not one condition{place}: {text}", SUBSET)
    _check(text, tree)
    return tree.unnest() if isinstance(tree, exp.Paren) else tree


def columns_in(text: str) -> list[str]:
    """Return the columns that a condition names, each once."""
    from sqlglot import exp

    return list(dict.fromkeys(column.name for column in parsed(text).find_all(exp.Column)))


def literal(text: str) -> Literal | None:
    """Return what a text says if it is a literal of SQL, and not NULL."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        trees = sqlglot.parse(text, dialect="postgres")
    except SqlglotError:
        return None
    found = literal_of(trees[0]) if len(trees) == 1 and trees[0] is not None else None
    return None if found is None or found.kind == "null" else found


def wrong(text: str, node: exp.Expr, what: str, hint: str = SUBSET) -> ConfigError:
    """Return the error for a part of a condition, with its place in the text."""
    starts = [each.meta["start"] for each in node.walk() if "start" in each.meta]
    at = f" at character {min(starts) + 1}" if starts else ""
    return ConfigError(f"'where'{at}: {what}, in: {text}", hint)


def literal_of(node: exp.Expr) -> Literal | None:
    """Return what a node says if it is a literal."""
    from sqlglot import exp

    if isinstance(node, exp.Null):
        return Literal("null", "")
    if isinstance(node, exp.Boolean):
        return Literal("bool", "true" if node.this else "false")
    if isinstance(node, exp.Neg):
        inner = literal_of(node.this)
        is_number = inner is not None and inner.kind == "number" and inner.text[:1] != "-"
        return Literal("number", f"-{inner.text}") if inner and is_number else None
    if isinstance(node, exp.Literal):
        return Literal("text" if node.is_string else "number", str(node.this))
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.this.is_string:
        kind = _TYPED.get(getattr(node.to.this, "name", ""))
        return Literal(kind, str(node.this.this)) if kind and not node.to.expressions else None
    return None


def _check(text: str, node: exp.Expr) -> None:
    """Raise ConfigError unless a node is a condition of the subset."""
    from sqlglot import exp

    comparisons = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
    if isinstance(node, exp.And | exp.Or):
        _check(text, node.left)
        _check(text, node.right)
    elif isinstance(node, exp.Not | exp.Paren):
        _check(text, node.this)
    elif isinstance(node, comparisons):
        if isinstance(node.left, exp.Column):
            _check_operand(text, node.left)
            _check_operand(text, node.right)
        else:
            _check_operand(text, node.left)
            _check_column(text, node.right)
    elif isinstance(node, exp.Is):
        if isinstance(node.expression, exp.Boolean) and not isinstance(node.this, exp.Column):
            _check(text, node.this)
        elif isinstance(node.expression, exp.Null | exp.Boolean):
            _check_column(text, node.this)
        else:
            raise wrong(text, node, f"`{node.sql()}` is not of the subset")
    elif isinstance(node, exp.In):
        _check_column(text, node.this)
        if not node.expressions or any(literal_of(item) is None for item in node.expressions):
            raise wrong(text, node, "`in` takes a list of literals here")
    elif isinstance(node, exp.Like | exp.ILike):
        _check_column(text, node.this)
        pattern = literal_of(node.expression)
        if pattern is None or pattern.kind != "text":
            raise wrong(text, node, "`like` takes a pattern in quotes here")
    elif isinstance(node, exp.Between):
        _check_column(text, node.this)
        if node.args.get("symmetric"):
            raise wrong(text, node, f"`{node.sql()}` is not of the subset")
        _check_operand(text, node.args["low"])
        _check_operand(text, node.args["high"])
    else:
        _check_column(text, node)


def _check_operand(text: str, node: exp.Expr) -> None:
    if literal_of(node) is None:
        _check_column(text, node)


def _check_column(text: str, node: exp.Expr) -> None:
    from sqlglot import exp

    if not isinstance(node, exp.Column) or len(node.parts) != 1 or node.name == "*":
        raise wrong(text, node, f"`{node.sql()}` is not of the subset")
