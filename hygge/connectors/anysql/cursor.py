"""The table or query that is read through SQLAlchemy Core, and its cursor.

`upper_bound` is the highest value of the cursor as of the plan, `Reached` that of a split which is
read in one SELECT, by that very SELECT. `conditions` are those of the rows between two runs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hygge.connectors.anysql.mysql_columns import exact
from hygge.connectors.anysql.values import Infinity, refuse_infinity
from hygge.connectors.sql.ask import Ask, null_note, tie_note
from hygge.connectors.sql.connection import split_name
from hygge.connectors.sql.lag import lowered
from hygge.connectors.sql.plain_sql import quoted_table
from hygge.connectors.sql.ties import MOST_ROWS
from hygge.connectors.sql.types import column_for, from_json, to_json
from hygge.connectors.sql.watermarks import (
    IS_UUID,
    IS_UUID_7,
    MOST_FORMS,
    UUID,
    UUID_7,
    check_end,
    check_forms,
)
from hygge.model import Watermark

if TYPE_CHECKING:
    import sqlalchemy as sa

# A partitioned table has no rows of its own, so it is never read ONLY.
_HAS_INHERITORS = (
    "SELECT relkind = 'r' AND relhassubclass FROM pg_class WHERE oid = to_regclass(:name)"
)


def source_of(connection: sa.Connection, ask: Ask, names: list[str]) -> Any:
    import sqlalchemy as sa

    if ask.query is None:
        schema, name = split_name(ask.table or "")
        if ask.only and (named := inheritors(connection, ask)):
            return sa.table(sa.sql.quoted_name(f"ONLY {named}", quote=False))
        return sa.table(name, schema=schema)
    return sa.text(escaped(ask.query)).columns(*map(sa.column, names)).subquery("h")


def inheritors(connection: sa.Connection, ask: Ask) -> str:
    """Return the name of the table, as SQL, if tables inherit from it (PostgreSQL); else ""."""
    import sqlalchemy as sa

    if connection.dialect.name != "postgresql":
        return ""
    quote = connection.dialect.identifier_preparer.quote_identifier
    named = ".".join(quote(part) for part in split_name(ask.table or "") if part is not None)
    name = quoted_table(connection, *split_name(ask.table or ""))
    has_inheritors = connection.execute(sa.text(_HAS_INHERITORS), {"name": name}).scalar()
    return named if has_inheritors else ""


def escaped(sql: str) -> str:
    """The user's SQL for `sa.text`, which would take `:name` as a parameter."""
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", sql.strip().rstrip(";"))


def typed(name: str, kinds: pa.Schema, dialect: str) -> Any:
    import sqlalchemy as sa

    field = kinds.field(name)
    return exact(sa.column(name, column_for(field.type, dialect, name)), field)


def conditions(
    ask: Ask,
    kinds: pa.Schema,
    dialect: str,
    since: Any,
    upper: Any,
    reads_ties: bool,
    leaves_upper: bool = False,
) -> list[Any]:
    """Return the conditions of a run's rows: `where`, and the cursor's window (since, upper].

    Without `upper` the window has no end. `reads_ties`: the rows at `since` are in the window;
    `leaves_upper`: those at `upper` are not, since the boundary has them.
    """
    import sqlalchemy as sa

    filters: list[Any] = [sa.text(f"({escaped(ask.where)})")] if ask.where else []
    if ask.cursor is None or (since is None and upper is None):
        return filters
    column, kind = typed(ask.cursor, kinds, dialect), kinds.field(ask.cursor).type
    inside: Any = sa.true()
    if upper is not None:
        inside = column <= from_json(upper, kind)
        if leaves_upper:
            inside = column < from_json(lowered(ask, upper), kind)
    if since is not None:
        above = column > from_json(since, kind)
        if reads_ties:
            above = column >= from_json(lowered(ask, since), kind)
        inside = sa.and_(above, inside)
    if since is None or ask.options.null_cursor == "read":
        inside = sa.or_(inside, column.is_(None))
    return [*filters, inside]


def at(
    ask: Ask, kinds: pa.Schema, dialect: str, value: Watermark, since: Watermark = None
) -> list[Any]:
    """Return the conditions of the rows at a watermark: down to the lag, above `since`."""
    import sqlalchemy as sa

    column, kind = typed(ask.cursor or "", kinds, dialect), kinds.field(ask.cursor or "").type
    filters: list[Any] = [sa.text(f"({escaped(ask.where)})")] if ask.where else []
    if ask.lag is None:
        return [*filters, column == from_json(value, kind)]
    if since is not None:
        filters.append(column > from_json(since, kind))
    low = from_json(lowered(ask, value), kind)
    return [*filters, column >= low, column <= from_json(value, kind)]


def remembers(
    connection: sa.Connection, ask: Ask, kinds: pa.Schema, since: Watermark, upper: Watermark
) -> bool:
    """Return whether the rows at the next watermark are remembered: the boundary has them."""
    import sqlalchemy as sa

    if not ask.remembers_ties or upper in (None, since):
        return False
    rows: Any = sa.select(sa.literal_column("1").label("n"))
    rows = rows.select_from(source_of(connection, ask, kinds.names))
    rows = rows.where(*at(ask, kinds, connection.dialect.name, upper, since)).limit(MOST_ROWS + 1)
    count = connection.execute(sa.select(sa.func.count()).select_from(rows.subquery("h"))).scalar()
    return int(count or 0) <= MOST_ROWS


class Reached:
    """The upper bound of a split that is read in one SELECT, by that very SELECT."""

    def __init__(self, ask: Ask, since: Watermark, is_text: bool) -> None:
        self.ask, self.since, self.is_text = ask, since, is_text
        self.upper: Watermark = since

    def column(self, connection: sa.Connection, kinds: pa.Schema) -> Any:
        """Return a column: the cursor in the rows that have its highest value, else NULL."""
        import sqlalchemy as sa

        highest = _highest(connection, self.ask, kinds, self.since).scalar_subquery()
        column = typed(self.ask.cursor or "", kinds, connection.dialect.name)
        return sa.case((column == highest, column)).label("_hygge_reached")

    def marks(self, kinds: pa.Schema, dialect: str, upper: Watermark) -> list[Any]:
        """Return two columns that are 1 in some rows, else NULL: see `Ties.keep`.

        One marks the rows up to `since`, one those that are remembered: at least those at `upper`
        as of the plan.
        """
        import sqlalchemy as sa

        cursor = self.ask.cursor or ""
        column, kind = typed(cursor, kinds, dialect), kinds.field(cursor).type
        at_since: Any = sa.null()
        if self.since is not None:
            at_since = sa.case((column <= from_json(self.since, kind), sa.literal(1)))
        low: Any = column.is_not(None)
        if upper is not None:
            low = column >= from_json(lowered(self.ask, upper), kind)
        at_upper = sa.case((low, sa.literal(1)))
        return [at_since.label("_hygge_since"), at_upper.label("_hygge_upper")]

    def add(self, values: list[Any]) -> None:
        """Take that column of some rows. Raises HomeError where nothing can come above it."""
        upper = next((value for value in values if value is not None), None)
        if upper is not None:
            self.upper = _in_json(self.ask, upper)
            check_end(self.ask, self.upper, self.is_text)


def upper_bound(
    connection: sa.Connection, ask: Ask, kinds: pa.Schema, texts: set[str], since: Watermark
) -> tuple[Watermark, list[str]]:
    import sqlalchemy as sa

    if ask.cursor is None:
        return None, []
    column = typed(ask.cursor, kinds, connection.dialect.name)
    absent = sa.func.count() - sa.func.count(column)
    asked = _highest(connection, ask, kinds, since).add_columns(absent)
    upper, absent = connection.execute(asked).one()
    upper = since if upper is None else _in_json(ask, upper)
    is_text = holds_texts(ask, kinds, texts)
    check_end(ask, upper, is_text)
    if is_text:
        _check_forms(connection, ask, column, kinds, since)
    return upper, [*null_note(ask, since, absent), *tie_note(ask, upper)]


def _in_json(ask: Ask, value: Any) -> Watermark:
    if isinstance(value, Infinity) and value.text == "infinity":
        return value.text  # which `check_end` refuses, and says what to do
    refuse_infinity([value], ask.who, ask.cursor or "")
    return to_json(value)


def _highest(
    connection: sa.Connection, ask: Ask, kinds: pa.Schema, since: Watermark
) -> sa.Select[Any]:
    """Return the SELECT of the cursor's highest value.

    Only values beyond `since` count, so that deleted rows do not take the watermark back.
    """
    import sqlalchemy as sa

    cursor = ask.cursor or ""
    column = typed(cursor, kinds, connection.dialect.name)
    beyond = column.is_not(None)
    if since is not None:
        beyond = column > from_json(since, kinds.field(cursor).type)
    asked = sa.select(sa.func.max(sa.case((beyond, column)))).select_from(
        source_of(connection, ask, kinds.names)
    )
    return asked.where(sa.text(f"({escaped(ask.where)})")) if ask.where else asked


def holds_texts(ask: Ask, kinds: pa.Schema, texts: set[str]) -> bool:
    """Return whether the cursor's column holds texts that are no other type's."""
    return bool(kinds.field(ask.cursor or "").type == pa.string() and ask.cursor not in texts)


def _check_forms(
    connection: sa.Connection, ask: Ask, column: Any, kinds: pa.Schema, since: Watermark
) -> None:
    """Raise HomeError if the texts of the cursor do not sort as what they mean."""
    import sqlalchemy as sa

    text = sa.cast(column, sa.Text)

    def over(*expressions: Any) -> Any:
        select = sa.select(*expressions).select_from(source_of(connection, ask, kinds.names))
        select = select.where(column.is_not(None))
        return select if not ask.where else select.where(sa.text(f"({escaped(ask.where)})"))

    form: Any = text
    for digit in "123456789":
        form = sa.func.replace(form, digit, "0")
    inner = over(text.label("v"), form.label("f")).subquery("q")
    is_uuid = inner.c.v.like(IS_UUID)
    kind = sa.case(
        (sa.and_(is_uuid, inner.c.v.like(IS_UUID_7)), UUID_7),
        (is_uuid, UUID),
        (inner.c.f.like("0%"), inner.c.f),
    ).label("k")
    kinds_of = sa.select(kind, inner.c.v).subquery("r")
    by_kind = sa.select(kinds_of.c.k, sa.func.min(kinds_of.c.v), sa.func.max(kinds_of.c.v))

    def zones(at: int) -> Any:
        end = sa.func.substr(text, at)
        return connection.execute(over(sa.func.min(end), sa.func.max(end))).one()

    result = connection.execute(by_kind.group_by(kinds_of.c.k).limit(MOST_FORMS))
    check_forms(ask, [tuple(row) for row in result], since, zones)
