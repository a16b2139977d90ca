"""`where` for rows of Arrow: a condition in SQL becomes an Arrow expression.

NULL is as in SQL: a comparison with it is neither true nor false, and only rows where the condition
is true are moved. NaN is as in PostgreSQL and DuckDB: equal to itself, and above every number. A
literal takes the type of the column that it stands beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, InvalidOperation, localcontext
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from hygge.batches import widens
from hygge.shape.settings import missing
from hygge.shape.step import Reading
from hygge.shape.where_text import SUBSET, Literal, literal_of, parsed, wrong
from hygge.type_words import word_of

if TYPE_CHECKING:
    from sqlglot import exp

_OPERATORS = {"EQ": "=", "NEQ": "<>", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_FEW = 20
"""Items of an `in` that are compared one by one, by which Parquet row groups are left out too."""
_MOST_DIGITS = 80


@dataclass(frozen=True)
class Filter:
    """The step that keeps the rows for which a condition is true."""

    schema: pa.Schema
    condition: pc.Expression
    columns: tuple[str, ...]
    """The columns that it looks at."""

    def apply(self, table: pa.Table, reading: Reading) -> pa.Table:
        from pyarrow import acero

        source = acero.TableSourceNodeOptions(table.select(list(self.columns)))
        # Of several threads the rows would come in another order.
        mask = acero.Declaration.from_sequence(
            [
                acero.Declaration("table_source", source),
                acero.Declaration("project", acero.ProjectNodeOptions([self.condition], ["keep"])),
            ]
        ).to_table(use_threads=False)["keep"]
        if pc.all(mask, skip_nulls=False, min_count=0).as_py():
            return table
        return table.filter(mask)


def expression(text: str, schema: pa.Schema, who: str) -> pc.Expression:
    """Return a condition for columns of `schema`; raise ConfigError for what does not fit them."""
    return _Compiler(text, schema, who).condition(parsed(text))


def for_statistics(text: str, schema: pa.Schema, who: str) -> pc.Expression | None:
    """Return a condition that is true wherever `text` is; None: there is none.

    It looks at no floats: statistics know nothing of NaN, and Arrow takes the least and the
    greatest value for all that there are.
    """
    from sqlglot import exp

    compiler, parts = _Compiler(text, schema, who), [parsed(text)]
    found: pc.Expression | None = None
    while parts:
        node = parts.pop()
        if isinstance(node, exp.And):
            parts += [node.left, node.right]
            continue
        if isinstance(node, exp.Paren):
            parts.append(node.this)
            continue
        kinds = [schema.field(column.name).type for column in node.find_all(exp.Column)]
        if not any(map(pa.types.is_floating, kinds)):
            part = compiler.condition(node)
            found = part if found is None else found & part
    return found


class _Compiler:
    """Makes the expression of one condition for one schema."""

    def __init__(self, text: str, schema: pa.Schema, who: str) -> None:
        self.text, self.schema, self.who = text, schema, who

    def condition(self, node: exp.Expr) -> pc.Expression:
        from sqlglot import exp

        is_negated = bool(node.args.get("negate"))
        if isinstance(node, exp.Paren):
            return self.condition(node.this)
        if isinstance(node, exp.And):
            return self.condition(node.left) & self.condition(node.right)
        if isinstance(node, exp.Or):
            return self.condition(node.left) | self.condition(node.right)
        if isinstance(node, exp.Not):
            return ~self.condition(node.this)
        if isinstance(node, exp.Is):
            found = self._is(node)
        elif isinstance(node, exp.In):
            found = self._in(node)
        elif isinstance(node, exp.Like | exp.ILike):
            found = self._like(node)
        elif isinstance(node, exp.Between):
            low, high = node.args["low"], node.args["high"]
            found = self._compare(">=", node.this, low) & self._compare("<=", node.this, high)
        elif isinstance(node, exp.Column):
            found, kind = self._column(node)
            if not pa.types.is_boolean(kind):
                raise wrong(self.text, node, f"'{node.name}' is {word_of(kind)}, no condition")
        else:
            operator = _OPERATORS[type(node).__name__]
            found = self._compare(operator, node.this, node.expression)
        return ~found if is_negated else found

    def _column(self, node: exp.Expr) -> tuple[pc.Expression, pa.DataType]:
        if self.schema.get_field_index(node.name) < 0:
            raise missing(f"{self.who}: 'where'", node.name, self.schema.names)
        return pc.field(node.name), self.schema.field(node.name).type

    def _is(self, node: exp.Expr) -> pc.Expression:
        from sqlglot import exp

        if isinstance(node.expression, exp.Null):
            return self._column(node.this)[0].is_null()
        value = self.condition(node.this)
        return (value if node.expression.this else ~value) & value.is_valid()

    def _like(self, node: exp.Expr) -> pc.Expression:
        column, kind = self._column(node.this)
        if not _is_text(kind):
            raise wrong(self.text, node, f"'{node.this.name}' is {word_of(kind)}, not text")
        ignores_case = type(node).__name__ == "ILike"
        return pc.match_like(column, str(node.expression.this), ignore_case=ignores_case)

    def _in(self, node: exp.Expr) -> pc.Expression:
        column, kind = self._column(node.this)
        known = [item for item in node.expressions if not _is_null(item)]
        found: pc.Expression
        if len(known) > _FEW and (_is_text(kind) or pa.types.is_integer(kind)):
            found = self._in_many(node, column, kind, known)
        else:
            found = _any([self._compare("=", node.this, item) for item in known])
        return found if len(known) == len(node.expressions) else found | _NULL

    def _in_many(
        self,
        node: exp.Expr,
        column: pc.Expression,
        kind: pa.DataType,
        items: Sequence[exp.Expr],
    ) -> pc.Expression:
        """Return a condition that looks items up at once; a NULL is in none, and not in none."""
        values = []
        for item in items:
            literal = literal_of(item)
            assert literal is not None  # `where_text` has checked it
            if _is_text(kind):
                values.append(str(self._scalar(item, literal, kind).as_py()))
            else:
                least, is_exact = self._grid(item, literal, kind)
                scalar = _fitting(least, kind) if is_exact else None
                values += [] if scalar is None else [scalar.as_py()]
        if not values:
            return _never(column)
        found = column.isin(pa.array(values, kind)) | (column != column)
        low, high = (pa.scalar(end(values), kind) for end in (min, max))
        return found & (column >= low) & (column <= high)

    def _compare(self, operator: str, left: exp.Expr, right: exp.Expr) -> pc.Expression:
        literal = literal_of(left)
        if literal is not None:
            return self._compare(_MIRRORED[operator], right, left)
        column, kind = self._column(left)
        literal = literal_of(right)
        if literal is None:
            return self._compare_columns(operator, left, right)
        if literal.kind == "null" or pa.types.is_null(kind):
            return _NULL
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            floor, is_exact = self._grid(right, literal, kind)
            return _compare_number(operator, column, kind, floor, is_exact)
        if pa.types.is_floating(kind):
            return self._compare_float(operator, column, kind, right, literal)
        return _apply(operator, column, self._scalar(right, literal, kind))

    def _compare_columns(self, operator: str, left: exp.Expr, right: exp.Expr) -> pc.Expression:
        (one, kind), (other, other_kind) = self._column(left), self._column(right)
        if not (widens(kind, other_kind) or widens(other_kind, kind)) or pa.types.is_nested(kind):
            what = f"'{left.name}' is {word_of(kind)}, and '{right.name}' is {word_of(other_kind)}"
            raise wrong(self.text, left, f"{what}: they are not compared", "compare equal types")
        wide = other_kind if widens(kind, other_kind) else kind
        one, other = (each if wide == mine else each.cast(wide)
                      for each, mine in ((one, kind), (other, other_kind)))  # fmt: skip
        if not pa.types.is_floating(wide):
            return _apply(operator, one, other)
        if operator in ("<", "<="):
            operator, one, other = _MIRRORED[operator], other, one
        both = pc.is_nan(one) & pc.is_nan(other)
        if operator in ("=", "<>"):
            equal = (one == other) | both
            return equal if operator == "=" else ~equal
        above = (one > other) | (pc.is_nan(one) & ~pc.is_nan(other))
        return above if operator == ">" else above | (one == other) | both

    def _compare_float(
        self,
        operator: str,
        column: pc.Expression,
        kind: pa.DataType,
        node: exp.Expr,
        literal: Literal,
    ) -> pc.Expression:
        try:
            value = float(literal.text) if literal.kind in ("number", "text") else None
        except ValueError:
            value = None
        if value is None:
            raise self._unfit(node, literal, kind)
        if pa.types.is_float16(kind):
            column, kind = column.cast(pa.float32()), pa.float32()
        is_nan = pc.is_nan(column)
        if value != value:
            if operator in ("<=", ">"):
                return _always(column) if operator == "<=" else _never(column)
            return is_nan if operator in ("=", ">=") else ~is_nan
        found = _apply(operator, column, pa.scalar(value, kind))
        return found | is_nan if operator in (">", ">=") else found

    def _grid(self, node: exp.Expr, literal: Literal, kind: pa.DataType) -> tuple[Decimal, bool]:
        """Return the greatest number of a type's scale that is not above a literal; if equal."""
        try:
            value = Decimal(literal.text) if literal.kind in ("number", "text") else None
        except InvalidOperation:
            value = None
        if value is None or not value.is_finite():
            raise self._unfit(node, literal, kind)
        if value.adjusted() > _MOST_DIGITS:
            return Decimal(10) ** _MOST_DIGITS * (1 if value > 0 else -1), True
        scale = kind.scale if pa.types.is_decimal(kind) else 0
        with localcontext(prec=4 * _MOST_DIGITS):
            floor = value.quantize(Decimal(1).scaleb(-scale), ROUND_FLOOR)
            return floor, floor == value

    def _scalar(self, node: exp.Expr, literal: Literal, kind: pa.DataType) -> pa.Scalar:
        """Return a literal as a value of a type that is no number."""
        t = pa.types
        taken: tuple[str, ...] = ()
        if _is_text(kind):
            taken = ("text",)
        elif t.is_boolean(kind):
            taken = ("bool", "text")
        elif t.is_date(kind):
            taken = ("text", "date")
        elif t.is_timestamp(kind):
            taken = ("text", "timestamptz") if kind.tz else ("text", "timestamp", "date")
        elif t.is_time(kind):
            taken = ("text", "time")
        try:
            if literal.kind in taken:
                return pa.scalar(literal.text).cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
        raise self._unfit(node, literal, kind)

    def _unfit(self, node: exp.Expr, literal: Literal, kind: pa.DataType) -> Exception:
        shown = literal.text if literal.kind in ("number", "bool") else f"'{literal.text}'"
        hint = SUBSET
        if pa.types.is_timestamp(kind) and kind.tz:
            hint = "the column has a time zone: write '2024-01-31 12:00:00Z', or +02:00 for Z"
        return wrong(
            self.text, node, f"{shown} is no value of a column that is {word_of(kind)}", hint
        )


_NULL = pc.scalar(pa.scalar(None, pa.bool_()))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_null(node: exp.Expr) -> bool:
    literal = literal_of(node)
    return literal is not None and literal.kind == "null"


def _never(column: pc.Expression) -> pc.Expression:
    """Return false, and NULL where the column is."""
    return pc.if_else(column.is_null(), _NULL, pc.scalar(False))


def _always(column: pc.Expression) -> pc.Expression:
    """Return true, and NULL where the column is."""
    return pc.if_else(column.is_null(), _NULL, pc.scalar(True))


def _any(conditions: list[pc.Expression]) -> pc.Expression:
    """Return whether one of them is true; halved, since a long chain nests too deeply."""
    if not conditions:
        return pc.scalar(False)
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    return _any(conditions[:half]) | _any(conditions[half:])


def _apply(operator: str, column: pc.Expression, value: pa.Scalar | pc.Expression) -> pc.Expression:
    functions = {
        "=": pc.equal, "<>": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater,
        ">=": pc.greater_equal,
    }  # fmt: skip
    operand = value if isinstance(value, pc.Expression) else pc.scalar(value)
    found: pc.Expression = functions[operator](column, operand)
    return found


def _compare_number(
    operator: str, column: pc.Expression, kind: pa.DataType, floor: Decimal, is_exact: bool
) -> pc.Expression:
    """Compare with a number that the column's type may not hold."""
    if not is_exact:  # it lies between `floor` and the next number of the type
        if operator in ("=", "<>"):
            return _never(column) if operator == "=" else _always(column)
        operator = ">" if operator in (">", ">=") else "<="
    scalar = _fitting(floor, kind)
    if scalar is not None:
        return _apply(operator, column, scalar)
    is_above = operator in ("<", "<=", "<>") if floor > 0 else operator in (">", ">=", "<>")
    return _always(column) if is_above else _never(column)


def _fitting(value: Decimal, kind: pa.DataType) -> pa.Scalar | None:
    try:
        return pa.scalar(int(value) if pa.types.is_integer(kind) else value, kind)
    except (pa.ArrowInvalid, OverflowError):
        return None
